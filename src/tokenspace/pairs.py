"""Pairs of texts: the entries of a bilingual dictionary, or the aligned sentences of two texts."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from .errors import FormatError, InputError
from .text_files import lines

__all__ = ["Pairs"]


class Pairs(Sequence[tuple[str, str]]):
    """An immutable list of (source, target) texts, neither of them empty.

    ``skipped`` counts the lines of a file that held no pair.

    Raises :class:`InputError` where an item is not a pair of strings.
    """

    def __init__(self, pairs: Sequence[tuple[str, str]], *, skipped: int = 0) -> None:
        self._pairs = tuple((source, target) for source, target in pairs)
        self.skipped = skipped
        for index, pair in enumerate(self._pairs):
            if not all(isinstance(side, str) and side for side in pair):
                raise InputError(
                    f"pair {index} is {pair!r}", hint="give two texts that are not empty"
                )

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: Any) -> Any:
        return self._pairs[index]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._pairs)

    @classmethod
    def load(cls, *paths: str | Path) -> Self:
        """Read one file of pairs, or two files of which line ``i`` belongs to line ``i``.

        One file: two fields a line, apart by a tab (``.tsv``, ``.txt``) or, where a line has no
        tab, by white space; further fields are ignored. ``.jsonl``: the first two strings of
        every object or array. ``.csv``: the first two columns, below a line of their names. Each
        may be gzipped. Lines without two fields are counted in ``skipped``.

        Raises :class:`InputError` for more than two files, for two files of different lengths, and
        where no pair is found, and :class:`FormatError` for a damaged line of CSV.
        """
        if len(paths) == 2:
            sides = [[line.strip() for line in lines(Path(path))] for path in paths]
            if len(sides[0]) != len(sides[1]):
                raise InputError(
                    f"{paths[0]} has {len(sides[0])} lines and {paths[1]} has {len(sides[1])}",
                    hint="give two files of which every line translates the other",
                )
            found: list[tuple[str, str] | None] = [
                (s, t) if s and t else None for s, t in zip(*sides, strict=True)
            ]
        elif len(paths) == 1:
            kinds = Path(paths[0]).suffixes
            if ".csv" in kinds:
                found = _from_csv(paths[0])
            else:
                read = _from_json if ".jsonl" in kinds else _from_line
                found = [read(line) for line in lines(Path(paths[0])) if line.strip()]
        else:
            raise InputError(f"{len(paths)} files of pairs", hint="give one file or two")
        pairs = [pair for pair in found if pair]
        if not pairs:
            raise InputError(
                f"{paths[0]}: no pair in it", hint="write two fields a line, apart by a tab"
            )
        return cls(pairs, skipped=len(found) - len(pairs))


def _from_line(line: str) -> tuple[str, str] | None:
    return _two(line.split("\t") if "\t" in line else line.split())


def _two(fields: Sequence[str]) -> tuple[str, str] | None:
    both = [field.strip() for field in fields[:2]]
    return (both[0], both[1]) if len(both) == 2 and all(both) else None


def _from_csv(path: str | Path) -> list[tuple[str, str] | None]:
    csv.field_size_limit(1 << 30)  # a text may well be longer than the usual 131,072 characters
    reader = csv.reader((f"{line}\n" for line in lines(Path(path))), strict=True)
    try:
        rows = [row for row in reader if row]
    except csv.Error as fault:
        raise FormatError(
            f"{path}: line {reader.line_num} is not CSV ({fault})", hint="mend or remove that line"
        ) from fault
    return [_two(row) for row in rows[1:]]


def _from_json(line: str) -> tuple[str, str] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    values = entry.values() if isinstance(entry, dict) else entry
    texts = [value for value in values if isinstance(value, str) and value.strip()]
    return (texts[0], texts[1]) if len(texts) >= 2 else None
