"""Text as people have it: files, folders, packed files, fields of tables, standard input."""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from functools import cache
from io import BufferedReader
from pathlib import Path
from typing import Literal

from .errors import ConfigError, FormatError, InputError
from .rows import TABLES, Row, csv_rows, json_rows, parquet_rows, text_of

__all__ = ["BLOCK", "Errors", "TextFiles", "is_table", "lines", "standard_input", "table_rows"]

Errors = Literal["strict", "replace"]

BLOCK = 1 << 20  # bytes that are held at a time
PACKED = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz"}


class TextFiles:
    """The texts of files, read again at each iteration, a block at a time.

    A table (``.jsonl``, ``.csv``, ``.tsv``, ``.parquet``) gives the field ``text`` of every row,
    or the one that is named after a ``#``: ``reviews.csv#body``; any other file one text a line.
    A file may be packed (``.gz``, ``.bz2``, ``.xz``), and is UTF-8, or UTF-16 where its first two
    bytes say so. Of a folder, the text files are taken, in the order of their names: those that end
    in ``.txt`` or are packed. ``-`` is standard input.

    A row whose field is null has no text and is left out, or is an empty text where ``whole`` is
    given, so that texts have the numbers of the rows.

    Raises :class:`InputError` where a path does not exist or a folder has no text file and, when
    the text is read, where a byte is not UTF-8 (unless ``errors="replace"``).
    """

    def __init__(
        self, paths: Sequence[str | Path], errors: Errors = "strict", *, whole: bool = False
    ) -> None:
        if errors not in ("strict", "replace"):
            raise ConfigError(f"errors={errors!r} is not 'strict' or 'replace'")
        self.errors, self.whole = errors, whole
        self.fields = [part for path in paths for part in _parts(path)]
        self.paths = tuple(path for path, _ in self.fields)

    def __iter__(self) -> Iterator[str]:
        for path, field in self.fields:
            if is_table(path):
                rows = _rows(path, field, self.errors)
                mend = f"name the field that holds the text: {path}#NAME"
                for row in rows:
                    text = text_of(row, field, mend)
                    if text is not None or self.whole:
                        yield text or ""
            else:
                yield from lines(path, self.errors)


def _parts(given: str | Path) -> list[tuple[Path, str]]:
    """Return the files that a path stands for, each with the field that is its text."""
    name, _, field = str(given).partition("#")
    if str(given) == "-":
        return [(standard_input(), "")]
    if field and not Path(given).exists() and _kind(Path(name)) in TABLES:
        path = Path(name)
    else:
        path, field = Path(given), "text"
    if not path.exists():
        raise InputError(f"{given}: no such file or directory", hint="check the path")
    if not path.is_dir():
        return [(path, field)]
    found = sorted(file for file in path.rglob("*") if file.is_file() and _is_text(file))
    if not found:
        raise InputError(
            f"{path}: no text file",
            hint=f"expected .txt, or packed ({', '.join(PACKED)}); name tables one by one",
        )
    return [(file, "") for file in found]


def _is_text(path: Path) -> bool:
    packed = path.suffix.lower() in PACKED
    return (packed or path.suffix.lower() == ".txt") and _kind(path) not in TABLES


def _kind(path: Path) -> str:
    """Return the suffix of a file, of a packed file the one before."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in PACKED else suffix


@cache  # it can be read only once
def standard_input() -> Path:
    """Return a temporary copy of standard input, which can be read again until the process ends."""
    import atexit

    with tempfile.NamedTemporaryFile("wb", suffix=".txt", delete=False) as file:
        atexit.register(Path(file.name).unlink, missing_ok=True)
        while block := sys.stdin.buffer.read(BLOCK):
            file.write(block)
    return Path(file.name)


def lines(path: Path, errors: Errors = "strict") -> Iterator[str]:
    """Yield the lines of a file without their ends; one longer than 1 MiB comes in pieces."""
    for text in _decoded(path, errors):
        for line in text.removesuffix("\n").split("\n"):
            yield line.removesuffix("\r")


def table_rows(path: Path, errors: Errors = "strict") -> Iterator[Row]:
    """Yield the rows of a table, whatever its fields; see :class:`TextFiles` for the kinds."""
    return _rows(path, None, errors)


def is_table(path: Path) -> bool:
    """Tell whether a file's name is that of a table."""
    return _kind(path) in TABLES


def _rows(path: Path, field: str | None, errors: Errors) -> Iterator[Row]:
    kind = _kind(path)
    if kind == ".parquet":
        return parquet_rows(path, field)
    whole = (
        f"{line}\n"
        for text in _decoded(path, errors, cut=False)
        for line in text.removesuffix("\n").split("\n")
    )
    if kind == ".jsonl":
        return json_rows(whole, str(path))
    return csv_rows(whole, str(path), field, "\t" if kind == ".tsv" else ",")


def _decoded(path: Path, errors: Errors, *, cut: bool = True) -> Iterator[str]:
    """Yield the text of a file in blocks of whole lines; where it is not UTF-8, say so."""
    offset = 0
    for block in _blocks(path, cut):
        try:
            yield block.decode("utf-8", errors)
        except UnicodeDecodeError as fault:
            raise InputError(
                f"{path}: byte {block[fault.start]:#04x} at offset {offset + fault.start}"
                " is not UTF-8",
                hint="convert the file, or give errors='replace'",
            ) from fault
        offset += len(block)


def _blocks(path: Path, cut: bool) -> Iterator[bytes]:
    """Yield a file in blocks of whole lines; to ``cut`` is to end one in a very long line."""
    try:
        with _opened(path) as packed:
            wide = packed.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
            file = codecs.EncodedFile(packed, "utf-8", "utf-16") if wide else packed
            rest = b""
            while read := file.read(BLOCK):
                rest += read
                end = rest.rfind(b"\n") + 1
                if cut and not end and len(rest) > BLOCK:
                    end = max(rest.rfind(b" "), rest.rfind(b"\t")) + 1
                if end:
                    yield rest[:end]
                    rest = rest[end:]
            if rest:
                yield rest
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as fault:
        raise _damaged(path, fault) from fault
    except UnicodeError as fault:
        raise InputError(
            f"{path}: begins as UTF-16 and goes on otherwise ({fault})",
            hint="convert the file to UTF-8",
        ) from fault
    except OSError as fault:
        if path.suffix.lower() != ".bz2" or fault.errno is not None:
            raise
        raise _damaged(path, fault) from fault


def _damaged(path: Path, fault: Exception) -> FormatError:
    return FormatError(
        f"{path}: not a whole {PACKED[path.suffix.lower()]} file ({fault})",
        hint="the file is damaged or truncated",
    )


def _opened(path: Path) -> BufferedReader | gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile:
    if not path.is_file():
        raise InputError(f"{path}: no such file", hint="check the path")
    match path.suffix.lower():
        case ".gz":
            return gzip.open(path)
        case ".bz2":
            return bz2.open(path)
        case ".xz":
            return lzma.open(path)
    return path.open("rb")
