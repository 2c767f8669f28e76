"""Tables of rows, read as a stream: JSON lines, CSV and Parquet. One field of a row is the text."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from .errors import FormatError, InputError, MissingExtra

__all__ = ["TABLES", "Row", "csv_rows", "json_rows", "parquet_rows", "text_of"]

TABLES = (".jsonl", ".csv", ".tsv", ".parquet")
"""The suffixes of files that are tables."""


class Row(NamedTuple):
    """The fields of a row; ``line`` is where it begins, and ``place`` says so in messages."""

    place: str
    line: int
    fields: Mapping[str, object]


def text_of(row: Row, field: str, mend: str) -> str | None:
    """Return the text of a row, or None where it has none.

    Raises :class:`InputError`, with ``mend`` as its hint, where there is no such field, or it is
    not text.
    """
    if field not in row.fields:
        names = ", ".join(str(name) for name in row.fields)
        raise InputError(f"{row.place}: no field {field!r}; it has: {names}", hint=mend)
    text = row.fields[field]
    if text is None or isinstance(text, str):
        return text
    raise InputError(
        f"{row.place}: field {field!r} is {type(text).__name__}, not text",
        hint=f"{mend}, or mend the row",
    )


def json_rows(lines: Iterable[str], name: str) -> Iterator[Row]:
    """Read one JSON object a line; empty lines are skipped."""
    for line, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            value = json.loads(text)
        except ValueError as fault:
            raise FormatError(
                f"{name}: line {line} is not JSON ({fault})", hint="mend or remove that line"
            ) from fault
        if not isinstance(value, dict):
            raise FormatError(
                f"{name}: line {line} is {type(value).__name__}, not an object",
                hint='each line should look like {"text": "..."}',
            )
        yield Row(f"{name}: line {line}", line, value)


def csv_rows(lines: Iterable[str], name: str, field: str | None, delimiter: str) -> Iterator[Row]:
    """Read the rows below a line of names; ``lines`` keep their ends.

    Where ``field`` is given and none of the names, the one row is that of the names. Without it
    every row has every name, with None where the row is too short.
    """
    csv.field_size_limit(1 << 30)  # a text may well be longer than the usual 131,072 characters
    reader = csv.reader(lines, delimiter=delimiter)
    names: list[str] = []
    line = 1
    try:
        for cells in reader:
            if not names:
                names = cells
                if field is not None and field not in names:
                    yield Row(name, 1, dict.fromkeys(names))
            elif cells:
                blank = dict.fromkeys(names) if field is None else {}
                found = blank | dict(zip(names, cells, strict=False))
                yield Row(f"{name}: line {line}", line, found)
            line = reader.line_num + 1
    except csv.Error as fault:
        raise FormatError(
            f"{name}: line {line} is not CSV ({fault})", hint="mend or remove that line"
        ) from fault


def parquet_rows(path: Path, field: str | None, more: Sequence[str] = ()) -> Iterator[Row]:
    """Read ``field`` of every row, and what the file has of the fields ``more``; None: all fields.

    Where it has no ``field``, the one row is that of all names. Raises :class:`MissingExtra`
    without pyarrow.
    """
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise MissingExtra.named("parquet", f"reading {path.name}") from None
    try:
        with ParquetFile(path) as file:
            names = file.schema_arrow.names
            if field is not None and field not in names:
                yield Row(str(path), 1, dict.fromkeys(names))
            wanted = [name for name in names if field is None or name in (field, *more)]
            line = 0
            for batch in file.iter_batches(batch_size=1024, columns=wanted):
                for values in batch.to_pylist():
                    line += 1
                    yield Row(f"{path}: row {line}", line, values)
    except (ArrowException, OSError) as fault:
        raise FormatError(
            f"{path}: not a whole parquet file ({fault})", hint="write or download it again"
        ) from fault
