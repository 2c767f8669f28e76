"""A dictionary: entries, and what it says that they mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Self

from .errors import ConfigError, FormatError, InputError
from .text_files import is_table, lines, table_rows

__all__ = ["SEPARATOR", "Definitions"]

SEPARATOR = "<|list_more_def|>"
"""What stands between the definitions of an entry where they share a line."""

_KNOWN: Mapping[str, tuple[str, ...]] = {
    "entry": ("entry", "word", "headword", "lemma", "term", "members"),
    "definition": ("definition", "definitions", "gloss", "meaning"),
}
_MEMBERS, _AMONG = "members", " | "  # a column of words with one meaning, and what parts them


class Definitions:
    """An immutable dictionary: for each of its ``entries`` the ``meanings``, one or more texts.

    Made of (entry, definition) rows. Rows of one entry come together, in the order in which they
    stand, and a definition that an entry has already is left out. ``skipped`` counts the entries of
    a file that have no definition.

    Raises :class:`InputError` for an entry or a definition that is no string or is blank, and for a
    definition that holds ``<|list_more_def|>``, which parts definitions in files.
    """

    def __init__(self, rows: Iterable[tuple[str, str]], *, skipped: int = 0) -> None:
        found: dict[str, dict[str, None]] = {}
        for row, (entry, definition) in enumerate(rows):
            for what, text in (("entry", entry), ("definition", definition)):
                if not isinstance(text, str) or not text.strip():
                    raise InputError(
                        f"row {row}: the {what} is {text!r}", hint="give a text that is not blank"
                    )
            if SEPARATOR in definition:
                raise InputError(
                    f"row {row}: the definition of {entry[:40]!r} holds {SEPARATOR}",
                    hint="give each definition a row of its own",
                )
            found.setdefault(entry.strip(), {})[definition.strip()] = None
        if not found:
            raise InputError("no definition", hint="give at least one entry and its definition")
        self.entries = tuple(found)
        self.meanings = tuple(tuple(texts) for texts in found.values())
        self.skipped = skipped

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        return zip(self.entries, self.meanings, strict=True)

    def __repr__(self) -> str:
        return f"Definitions({len(self)} entries, {sum(map(len, self.meanings))} definitions)"

    @classmethod
    def load(cls, *paths: str | Path) -> Self:
        """Read tables, or lines of an entry, a tab and its definitions.

        A table (``.csv``, ``.tsv``, ``.jsonl``, ``.parquet``, also packed) has a column ``entry``
        (or ``word``, ``headword``, ``lemma``, ``term``) and a column ``definition`` (or ``gloss``,
        ``meaning``), or it is said which: ``file.csv#entry=lemma,definition=sense``. A column
        ``members`` holds several entries of one meaning, apart by `` | ``. Any other file, also a
        ``.tsv`` whose first line names no such columns, has an entry a line. In both,
        ``<|list_more_def|>`` parts several definitions, and the text may be UTF-16.

        Raises :class:`InputError` where columns are missing or nothing is defined, and
        :class:`FormatError` for a line that cannot be read.
        """
        rows: list[tuple[str, str]] = []
        skipped = 0
        for path in paths:
            for entry, meanings in _read(path):
                texts = [text for text in meanings.split(SEPARATOR) if text.strip()]
                rows += [(entry, text) for text in texts]
                skipped += not texts
        if not rows:
            named = ", ".join(map(str, paths)) or "no file"
            raise InputError(
                f"{named}: no definition in it",
                hint="write lines of an entry, a tab and its definition",
            )
        return cls(rows, skipped=skipped)


def _read(path: str | Path) -> Iterator[tuple[str, str]]:
    """Yield every entry that a file has, with its definitions in one text, perhaps an empty one."""
    name, _, given = str(path).partition("#")
    file = Path(path) if Path(path).exists() else Path(name)
    if given and file == Path(name):
        return _of_table(file, given)
    if is_table(file) and (".tsv" not in file.suffixes or _named(file)):
        return _of_table(file, "")
    return _of_lines(file)


def _named(file: Path) -> bool:
    """Tell whether the first line of a file names the columns."""
    first = next(islice(lines(file), 1), "")
    names = {_plain(name) for name in first.split("\t")}
    return all(names & set(known) for known in _KNOWN.values())


def _of_lines(file: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(lines(file), 1):
        if not line.strip("\ufeff \t"):
            continue
        entry, tab, rest = line.strip("\ufeff").partition("\t")
        if not tab or not entry.strip() or "\t" in rest.rstrip("\t"):
            fault = "a second tab" if tab and entry.strip() else "no entry and a tab after it"
            raise FormatError(
                f"{file}: line {number}: {fault}",
                hint=f"write an entry, a tab, and definitions with {SEPARATOR} between them",
            )
        yield entry, rest


def _of_table(file: Path, given: str) -> Iterator[tuple[str, str]]:
    places: dict[str, str] = {}
    for row in table_rows(file):
        if not places:
            places = _places([str(name) for name in row.fields], given, row.place)
        values = [row.fields.get(places[role]) for role in _KNOWN]
        if not isinstance(values[0], str) or not values[0].strip():
            raise FormatError(f"{row.place}: no entry", hint="mend or remove that row")
        if values[1] is not None and not isinstance(values[1], str):
            raise FormatError(
                f"{row.place}: the definition is {type(values[1]).__name__}, not text",
                hint="mend or remove that row",
            )
        several = _plain(places["entry"]) == _MEMBERS
        for entry in values[0].split(_AMONG) if several else [values[0]]:
            yield entry, values[1] or ""


def _places(names: list[str], given: str, place: str) -> dict[str, str]:
    """Return the column of the entry and of its definition, as ``given`` or as it is known."""
    known = {_plain(name): name for name in names}
    places = {
        role: next((known[name] for name in usual if name in known), "")
        for role, usual in _KNOWN.items()
    }
    for item in filter(None, given.split(",")):
        role, equals, column = (part.strip() for part in item.partition("="))
        if not equals or role not in _KNOWN:
            raise ConfigError(
                f"#{given}: {item!r} does not say which column is which",
                hint="write #entry=COLUMN,definition=COLUMN",
            )
        if column not in names:
            raise InputError(
                f"{place}: no column {column!r}; it has: {', '.join(names)}", hint="check the name"
            )
        places[role] = column
    for role, column in places.items():
        if not column:
            raise InputError(
                f"{place}: no column for the {role}; it has: {', '.join(names)}",
                hint=f"call it {_KNOWN[role][0]}, or say which it is: FILE#{role}=COLUMN,...",
            )
    return places


def _plain(name: str) -> str:
    return name.strip("\ufeff ").lower()
