"""Passages: pieces of about 120 words that a search can point at, with their title and line.

A document is cut at its headings first (Markdown ``#``, underlines of reStructuredText and of
Python's help topics), then between paragraphs, and inside a paragraph only between sentences.
What belongs together stays together: a code block or a list with the sentence that announces
it, a definition (``object.__iter__(self)``) with its first lines. The passages of a section
have about the same size, so that no section ends in a scrap.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tokenspace.errors import ConfigError

__all__ = ["Document", "Passage", "sentences", "split"]

_FENCE = re.compile(r"\s*(```+|~~~+)")
_HASHES = re.compile(r"(#{1,6})\s+(\S.*?)\s*#*\s*$")
_UNDERLINE = re.compile(r"([=\-~^\"'*+#.:_`])\1{2,}\s*$")
_CJK = "\u2e80-\u2fff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+")
_SENTENCE = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+(?=[\"'“‘(\[*`]*[^\Wa-z_])|(?<=[。！？])")
_MARKUP = re.compile(r"[*_`]{1,2}(?=\S)|(?<=\S)[*_`]{1,2}")


@dataclass(frozen=True)
class Document:
    """A text and where it came from; one file may come as several documents in a row.

    ``source`` names the page, ``title`` what stands above the text (a qualified name, or empty),
    ``line`` the 1-based line of the text's first line in the source. ``lines`` gives the source
    line of every line where they do not simply follow ``line`` (text taken out of HTML);
    ``headings`` is False where ``#`` and underlines are not headings (program code).
    """

    source: str
    title: str
    text: str
    line: int = 1
    lines: Sequence[int] = ()
    headings: bool = True

    def line_of(self, index: int) -> int:
        """Return the source line of the text's line ``index`` (from 0)."""
        return self.lines[index] if self.lines else self.line + index


@dataclass(frozen=True)
class Passage:
    """A piece of a document: its text, the source, the path of headings, the first line."""

    text: str
    source: str
    title: str
    line: int


@dataclass
class _Block:
    """Lines that stay together: ``first`` is the index of the first one in the document."""

    lines: list[str]
    first: int
    size: int = 0

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def split(document: Document, words: int = 120) -> Iterator[Passage]:
    """Cut a document into passages of about ``words`` words.

    Yields the passages in order. A sentence is never cut unless it alone is longer than
    ``words``. A heading becomes part of the title, ``outer > inner``, and is not repeated in the
    text; a heading with nothing under it is a passage of its own.
    """
    if words < 8:
        raise ConfigError(f"words={words} is outside [8, 100000]")
    for title, blocks in _sections(document):
        pieces = [piece for block in _joined(blocks) for piece in _pieces(block, words)]
        for group in _packed(pieces, words):
            text = _dedent([line for block in group for line in [*block.lines, ""]])
            yield Passage(text, document.source, title, document.line_of(group[0].first))


def sentences(text: str) -> list[str]:
    """Return the sentences of a text, without the white space around them."""
    return [part.strip() for part in _SENTENCE.split(text) if part.strip()]


def count_words(text: str) -> int:
    """Count words; an ideograph is a word, and so is every dozen letters of unbroken text."""
    return max(len(_WORD.findall(text)), len(text.strip()) // 12 if " " not in text else 0)


def _sections(document: Document) -> Iterator[tuple[str, list[_Block]]]:
    """Yield (title, paragraphs) between headings."""
    rows = document.text.split("\n")
    path: list[tuple[int, str]] = []
    styles: list[str] = []
    blocks: list[_Block] = []
    lone: _Block | None = None  # the last heading, as long as nothing stands under it
    index = 0
    while index < len(rows):
        found = _heading(rows, index, styles) if document.headings else None
        if found is None:
            block, index = _paragraph(rows, index, fences=document.headings)
            if block.lines:
                blocks.append(block)
            continue
        level, name, used = found
        if blocks or (lone is not None and level <= path[-1][0]):
            yield _title(document, path), blocks or [lone] if lone else blocks
        blocks, lone = [], _Block([name], index)
        path = [entry for entry in path if entry[0] < level] + [(level, name)]
        index += used
    if blocks or lone is not None:
        yield _title(document, path), blocks or ([lone] if lone else [])


def _title(document: Document, path: list[tuple[int, str]]) -> str:
    return " > ".join(filter(None, [document.title, *(name for _, name in path)]))


def _heading(rows: list[str], index: int, styles: list[str]) -> tuple[int, str, int] | None:
    """Return (level, text, lines used) if a heading starts at ``index``."""
    row = rows[index]
    if match := _HASHES.match(row):
        return len(match[1]), _MARKUP.sub("", match[2]), 1
    over = bool(_UNDERLINE.match(row)) and index + 2 < len(rows)
    at = index + over
    if at + 1 >= len(rows) or not rows[at].strip() or rows[at][0].isspace() > over:
        return None
    if index and rows[index - 1].strip():
        return None
    rule = _UNDERLINE.match(rows[at + 1])
    name = rows[at].strip()
    if rule is None or _UNDERLINE.match(name) or len(rows[at + 1].strip()) < 0.8 * len(name):
        return None
    if over and rows[index].strip()[0] != rule[1]:
        return None
    style = rule[1] * (1 + over)
    if style not in styles:
        styles.append(style)
    return styles.index(style) + 1, _MARKUP.sub("", name), 2 + over


def _paragraph(rows: list[str], index: int, *, fences: bool) -> tuple[_Block, int]:
    """Return the block that starts at ``index`` (fenced code is one) and the index after it."""
    first = index
    if fences and (fence := _FENCE.match(rows[index])):
        index += 1
        while index < len(rows) and not rows[index].strip().startswith(fence[1]):
            index += 1
        return _Block([row.rstrip() for row in rows[first : index + 1]], first), index + 1
    while index < len(rows) and rows[index].strip():
        if index > first and fences and (_FENCE.match(rows[index]) or _HASHES.match(rows[index])):
            break
        index += 1
    return _Block([row.rstrip() for row in rows[first:index]], first), max(index, first + 1)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _joined(blocks: list[_Block]) -> Iterator[_Block]:
    """Join what announces with what is announced: ``for example:`` and its code block."""
    held: _Block | None = None
    for block in blocks:
        if held is None:
            held = _Block(list(block.lines), block.first)
        elif _announces(held, block):
            held.lines += [""] * (block.first - held.first - len(held.lines)) + block.lines
        else:
            yield held
            held = _Block(list(block.lines), block.first)
    if held is not None:
        yield held


def _announces(held: _Block, block: _Block) -> bool:
    last, deeper = held.lines[-1].strip(), _indent(block.lines[0]) > _indent(held.lines[0])
    if _FENCE.match(block.lines[0]):
        return not _FENCE.match(last)
    if last.endswith(":"):
        return True
    return deeper and len(held.lines) == 1 and not last.endswith((".", "!", "?", "。"))


def _pieces(block: _Block, words: int) -> Iterator[_Block]:
    """Cut a block that is longer than ``words``: between paragraphs, lines of code, sentences."""
    block.size = count_words(block.text)
    if block.size <= 1.5 * words:
        yield block
        return
    units = list(_units(block, words))
    total = sum(unit.size for unit in units)
    goal = total / max(1, round(total / words))
    held: _Block | None = None
    seen, mark = 0, goal  # words before this unit, and where the next cut is due
    for unit in units:
        if held is not None and seen + unit.size / 2 > mark:
            yield held
            held = None
            mark += goal
        seen += unit.size
        if held is None:
            held = unit
        elif unit.first == held.first + len(held.lines) - 1:  # both on one line of the source
            held.lines[-1] += " " + unit.lines[0].strip()
            held.lines += unit.lines[1:]
            held.size += unit.size
        else:
            held.lines += [""] * (unit.first - held.first - len(held.lines)) + unit.lines
            held.size += unit.size
    if held is not None:
        yield held


def _units(block: _Block, words: int) -> Iterator[_Block]:
    """Yield the sentences of a block, none longer than ``words``."""
    text = block.text
    start, line = 0, block.first  # where the next piece begins
    ends = [match.end() for match in _SENTENCE.finditer(text)]
    ends += [match.end() for match in re.finditer(r"\n\s*\n", text)]
    if not ends or len(text) / (len(ends) + 1) > 40 * words:  # code, tables, logs: lines
        ends += [match.end() for match in re.finditer(r"\n", text)]
    for end in [*sorted(set(ends)), len(text)]:
        while start < end:
            stop = _limit(text, start, end, words)
            piece = text[start:stop]
            if piece.strip():
                indent = text.rfind("\n", 0, start) + 1
                lead = text[indent:start] if not text[indent:start].strip() else ""
                rows = (lead + piece).rstrip().split("\n")
                skipped = next(i for i, row in enumerate(rows) if row.strip())
                yield _Block(rows[skipped:], line + skipped, count_words(piece))
            line += piece.count("\n")
            start = stop


def _limit(text: str, start: int, end: int, words: int) -> int:
    """Return where a sentence that is longer than ``words`` has to be cut."""
    limit = start + 12 * words
    for taken, match in enumerate(_WORD.finditer(text, start, min(end, limit))):
        if taken == words:
            return match.start()
    if end <= limit:
        return end
    space = max(text.rfind(" ", start + 1, limit), text.rfind("\n", start + 1, limit))
    return space + 1 if space > start else limit


def _packed(pieces: list[_Block], words: int) -> Iterator[list[_Block]]:
    """Group blocks into passages of nearly equal size."""
    total = sum(piece.size for piece in pieces)
    goal = total / max(1, round(total / words))
    group: list[_Block] = []
    seen, mark = 0, goal
    for piece in pieces:
        if group and seen + piece.size / 2 > mark:
            yield group
            group = []
            mark += goal
        group.append(piece)
        seen += piece.size
    if group:
        yield group


def _dedent(rows: list[str]) -> str:
    filled = [row for row in rows if row.strip()]
    margin = min(map(_indent, filled), default=0)
    return "\n".join(row[margin:] if row.strip() else "" for row in rows).strip("\n")
