"""Sources: files, folders, tables and standard input, read as a stream of documents.

Nothing is held whole: a text file comes in pieces of about a million characters that end where
a section or a paragraph ends, a table comes row by row.
"""

from __future__ import annotations

import ast
import codecs
import io
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import BinaryIO, NamedTuple

from tokenspace.errors import ConfigError, FormatError, InputError
from tokenspace.rows import TABLES, Row, csv_rows, json_rows, parquet_rows, text_of

from .passages import Document

__all__ = ["PROSE", "STDIN", "read"]

PROSE = (".txt", ".md", ".rst", ".html", ".htm", ".py")
STDIN = ("standard-input.txt", "standard-input.jsonl")
"""What standard input is called: text, and rows of which one field is the text."""

_BLOCK = 1 << 20  # bytes read at a time, and the size at which a text is cut
_KEPT = 1 << 22  # a Python file up to this size is parsed; larger ones are read as plain text


class _Options(NamedTuple):
    text_field: str | None
    encoding: str
    errors: str


def read(
    texts: Sequence[str | Path],
    *,
    text_field: str | None = None,
    encoding: str = "utf-8",
    errors: str = "strict",
) -> Iterator[Document]:
    """Read files and folders (``-`` is standard input) as a stream of documents.

    Parameters
    ----------
    texts
        ``.txt .md .rst .html .py`` files, tables (``.jsonl .csv .tsv .parquet``) and folders of
        them; a file of another name is read as plain text. In a folder, hidden files are
        skipped, links are followed once, and the order is that of the sorted paths.
    text_field
        The field or column of a table that holds the text. A field called ``title``, where there
        is one, becomes the title. Tables in folders are skipped without it.
    encoding, errors
        As for :meth:`bytes.decode`; ``errors`` is ``strict``, ``replace`` or ``ignore``.

    Returns
    -------
    iterator
        Documents. ``source`` is the path relative to the given folder, or the file's name;
        for standard input it is one of :data:`STDIN`.

    Raises
    ------
    InputError
        At once for a path that does not exist, a folder without readable files and a table
        without ``text_field``; while reading for invalid bytes, a missing field, a damaged row,
        and, at the end, if no file held any text.
    """
    if not texts:
        raise InputError("no text was given", hint="name files or folders, or - for standard input")
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise ConfigError(
            f"encoding={encoding!r} is not known", hint="utf-8, latin-1, utf-16, cp1252 ..."
        ) from None
    if errors not in ("strict", "replace", "ignore"):
        raise ConfigError(
            f"errors={errors!r} is not one of strict, replace, ignore", hint="choose one of these"
        )
    options = _Options(text_field, encoding, errors)
    return _documents(_plan([str(text) for text in texts], options), options)


def _plan(texts: Sequence[str], options: _Options) -> list[tuple[str, Path | None]]:
    """List (source, path) of everything to read; path None is standard input."""
    plan: list[tuple[str, Path | None]] = []
    taken: set[str] = set()
    for text in dict.fromkeys(texts):
        found: list[tuple[str, Path | None]]
        path = Path(text)
        if text == "-":
            found = [(STDIN[options.text_field is not None], None)]
        elif path.is_dir():
            found = [(file.relative_to(path).as_posix(), file) for file in _walk(path, options)]
        elif path.is_file():
            if path.suffix.lower() in TABLES:
                _need_field(path, options)
            found = [(path.name, path)]
        else:
            raise InputError(f"{text}: no such file or folder", hint="check the path")
        for source, file in found:
            name = source if source not in taken else file.as_posix() if file else text
            if name not in taken:
                taken.add(name)
                plan.append((name, file))
    return plan


def _walk(folder: Path, options: _Options) -> list[Path]:
    """Return the readable files under a folder, sorted; a linked folder is entered once."""
    wanted = PROSE + TABLES if options.text_field else PROSE
    seen: set[str] = set()
    files: dict[str, Path] = {}
    skipped: set[str] = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(root, name)
            if name.startswith(".") or not path.is_file():
                continue
            if path.suffix.lower() in wanted:
                files.setdefault(os.path.realpath(path), path)
            else:
                skipped.add(path.suffix.lower() or name)
    if not files:
        table = not options.text_field and sorted(skipped & set(TABLES))
        held = f"; it has only {', '.join(sorted(skipped)[:5])}" if skipped else ": it is empty"
        raise InputError(
            f"{folder}: no readable text in this folder{held}",
            hint=f"say which field of the {table[0]} files holds the text with --text-field"
            if table
            else f"readable are {' '.join(PROSE)}, and {' '.join(TABLES)} with --text-field",
        )
    return sorted(files.values(), key=lambda path: path.relative_to(folder).parts)


def _documents(plan: list[tuple[str, Path | None]], options: _Options) -> Iterator[Document]:
    empty = True
    for source, path in plan:
        for document in _file(source, path, options):
            if document.text.strip():
                empty = False
                yield document
    if empty:
        named = ", ".join(source for source, _ in plan[:3])
        raise InputError(
            f"no readable text: {len(plan)} file(s) without a word ({named})",
            hint="name files or folders that hold text",
        )


def _file(source: str, path: Path | None, options: _Options) -> Iterator[Document]:
    suffix = path.suffix.lower() if path else ".jsonl" if options.text_field else ""
    if suffix == ".parquet":
        assert path is not None
        rows = parquet_rows(path, options.text_field or "", ("title",))
        yield from _table(source, rows, options)
        return
    name = str(path or "standard input")
    stream: BinaryIO = path.open("rb") if path else sys.stdin.buffer
    try:
        blocks = _decoded(stream, name, options)
        if suffix == ".jsonl":
            yield from _table(source, json_rows(_lines(blocks), name), options)
        elif suffix in (".csv", ".tsv"):
            delimiter = "\t" if suffix == ".tsv" else ","
            rows = csv_rows(_lines(blocks), name, options.text_field or "", delimiter)
            yield from _table(source, rows, options, spread=True)
        elif suffix in (".html", ".htm"):
            yield from _html(source, blocks)
        elif suffix == ".py" and path is not None and path.stat().st_size <= _KEPT:
            yield from _python(source, "".join(blocks))
        else:
            yield from _plain(source, blocks, headings=suffix != ".py")
    finally:
        if path:
            stream.close()


def _decoded(stream: BinaryIO, name: str, options: _Options) -> Iterator[str]:
    """Yield decoded text with Unix line ends; say where the first invalid byte stands."""
    decoder = codecs.getincrementaldecoder(options.encoding)(options.errors)
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    offset = 0
    while True:
        block = stream.read(_BLOCK)
        pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as fault:
            raise InputError(
                f"{name}: byte {offset - pending + fault.start} is not valid {options.encoding}"
                f" ({fault.reason})",
                hint="give the file's --encoding, or --errors replace",
            ) from fault
        if offset == 0:
            text = text.removeprefix("\ufeff")
        if "\0" in text:
            raise FormatError(
                f"{name}: not a text file (it holds zero bytes)",
                hint="give its --encoding if it is UTF-16, otherwise convert it to text",
            )
        offset += len(block)
        yield newlines.decode(text, final=not block)
        if not block:
            return


def _plain(source: str, blocks: Iterable[str], *, headings: bool = True) -> Iterator[Document]:
    """Cut a text of any length where a section, a paragraph, a line or a word ends."""
    held, line = "", 1
    for block in blocks:
        held += block
        while len(held) >= _BLOCK:
            end = _cut(held)
            yield Document(source, "", held[:end], line, headings=headings)
            line += held.count("\n", 0, end)
            held = held[end:]
    yield Document(source, "", held, line, headings=headings)


def _cut(text: str) -> int:
    half = len(text) // 2
    for mark in ("\n# ", "\n## ", "\n\n", "\n", " "):
        end = text.rfind(mark, half)
        if end > 0:
            return end + (2 if mark == "\n\n" else 1)
    return len(text)


def _lines(blocks: Iterable[str]) -> Iterator[str]:
    held = ""
    for block in blocks:
        rows = (held + block).split("\n")
        held = rows.pop()
        yield from (row + "\n" for row in rows)
    if held:
        yield held


def _need_field(path: Path, options: _Options) -> None:
    if options.text_field:
        return
    raise InputError(
        f"{path}: which field holds the text?", hint="name it with --text-field, e.g. text"
    )


def _table(
    source: str, rows: Iterable[Row], options: _Options, *, spread: bool = False
) -> Iterator[Document]:
    """Yield the texts of rows; ``spread`` says that their lines are lines of the file, too."""
    field = options.text_field or ""
    for row in rows:
        text = text_of(row, field, "see --text-field")
        if text is None:
            continue
        title = row.fields.get("title") if field != "title" else None
        lines = () if spread else [row.line] * (text.count("\n") + 1)
        shown = title.strip() if isinstance(title, str) else ""
        yield Document(source, shown, text, row.line, lines)


_INLINE = frozenset(
    {
        "a",
        "abbr",
        "b",
        "bdi",
        "bdo",
        "cite",
        "code",
        "data",
        "del",
        "dfn",
        "em",
        "font",
        "i",
        "img",
        "ins",
        "kbd",
        "mark",
        "q",
        "s",
        "samp",
        "small",
        "span",
        "strike",
        "strong",
        "sub",
        "sup",
        "time",
        "tt",
        "u",
        "var",
        "wbr",
        "input",
        "label",
    }
)


class _Stripper(HTMLParser):
    """Collects the text of HTML as lines, each with the source line that it began on."""

    hidden = frozenset({"script", "style", "template", "noscript", "svg", "head"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.rows: list[str] = []
        self.lines: list[int] = []
        self.size = 0
        self._row = ""
        self._at = 1
        self._hidden = 0
        self._verbatim = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self.hidden:
            self._hidden += 1
        elif tag == "body":
            self._hidden = 0
        if tag == "br":
            self._close()
        elif tag not in _INLINE:
            self._close(paragraph=True)
        if tag in ("h1", "h2", "h3", "h4", "h5", "h6"):
            self._row, self._at = "#" * int(tag[1]) + " ", self.getpos()[0]
        elif tag == "li":
            self._row, self._at = "- ", self.getpos()[0]
        elif tag == "pre":
            self._verbatim += 1

    def handle_endtag(self, tag: str) -> None:
        if tag in self.hidden:
            self._hidden = max(0, self._hidden - 1)
        if tag not in _INLINE and tag != "br":
            self._close(paragraph=True)
        if tag == "pre":
            self._verbatim = max(0, self._verbatim - 1)

    def handle_data(self, data: str) -> None:
        if self._hidden:
            return
        line = self.getpos()[0]
        if self._verbatim:
            for index, row in enumerate(data.split("\n")):
                if index:
                    self._close()
                if not self._row.strip():
                    self._at = line + index
                    self._row = self._row or "    "  # as code: indented
                self._row += row
            return
        if not self._row.strip():
            self._at = line + data[: len(data) - len(data.lstrip())].count("\n")
        self._row = re.sub(r"\s+", " ", self._row + data)
        if not self._row.startswith(("# ", "##", "- ")):
            self._row = self._row.lstrip()

    def _close(self, *, paragraph: bool = False) -> None:
        row = self._row.rstrip()
        if row.strip("#- "):
            self.rows.append(row)
            self.lines.append(self._at)
            self.size += len(row)
        if paragraph and self.rows and self.rows[-1] and not self._verbatim:
            self.rows.append("")
            self.lines.append(self._at)
        self._row = ""

    def take(self) -> tuple[str, list[int]]:
        """Return and forget what was collected."""
        taken = "\n".join(self.rows), self.lines
        self.rows, self.lines, self.size = [], [], 0
        return taken

    def finish(self) -> None:
        """Take in what the end of the file leaves open."""
        self.close()
        self._close(paragraph=True)


def _html(source: str, blocks: Iterable[str]) -> Iterator[Document]:
    stripper = _Stripper()
    for block in blocks:
        stripper.feed(block)
        if stripper.size >= _BLOCK:
            text, lines = stripper.take()
            yield Document(source, "", text, lines[0], lines)
    stripper.finish()
    text, lines = stripper.take()
    if lines:
        yield Document(source, "", text, lines[0], lines)


def _python(source: str, text: str) -> Iterator[Document]:
    """Yield every class, function and stretch between them, under its qualified name."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a file's own odd escapes are not our business
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        yield Document(source, "", text, headings=False)
        return
    rows = text.split("\n")
    owner = [""] * len(rows)
    _own(tree, "", owner)
    start = 0
    for index in range(1, len(rows) + 1):
        if index == len(rows) or owner[index] != owner[start]:
            piece = "\n".join(rows[start:index])
            yield Document(source, owner[start], piece, start + 1, headings=False)
            start = index


def _own(node: ast.AST, name: str, owner: list[str]) -> None:
    """Write the qualified name over the lines of every class and of every function outside one."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            inner = f"{name}.{child.name}" if name else child.name
            first = min([child.lineno, *(mark.lineno for mark in child.decorator_list)])
            for line in range(first - 1, child.end_lineno or child.lineno):
                owner[line] = inner
            if isinstance(child, ast.ClassDef):
                _own(child, inner, owner)
        elif isinstance(child, ast.If | ast.Try | ast.With):
            _own(child, name, owner)
