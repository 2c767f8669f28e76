"""Examples to learn from: rows of texts that belong together, apart, or to a class."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

from .arrays import Ids
from .errors import ConfigError, FormatError, InputError
from .rng import stream
from .rows import Row
from .text_files import TextFiles, is_table, table_rows

__all__ = ["KNOWN", "Examples", "Kind"]

Kind = Literal["texts", "pairs", "triplets", "scored", "labelled"]

KNOWN: Mapping[str, tuple[str, ...]] = {
    "anchor": ("anchor", "query", "question", "sentence1", "text1", "a"),
    "positive": ("positive", "answer", "document", "passage", "sentence2", "text2", "b"),
    "negative": ("negative", "hard_negative"),
    "score": ("score", "similarity"),
    "label": ("label", "class"),
    "text": ("text", "sentence"),
}
"""What a column is for, and the names by which a file's columns are known."""

_ROLES: Mapping[Kind, tuple[str, ...]] = {
    "scored": ("anchor", "positive", "score"),
    "labelled": ("text", "label"),
    "triplets": ("anchor", "positive", "negative"),
    "pairs": ("anchor", "positive"),
    "texts": ("text",),
}
_NEGATIVE = re.compile(r"negative(_\d+)?")


class Examples:
    """An immutable table of texts to learn from, one example a row.

    ``columns`` are its texts by what they are for, and tell its ``kind``:

    ============ ================================================================
    ``texts``    ``text``
    ``pairs``    ``anchor`` and the ``positive`` that belongs to it
    ``triplets`` the same, and a ``negative`` that does not; further ones are
                 ``negative_2``, ``negative_3``, ..., where a row may have none
    ``scored``   ``anchor`` and ``positive``, with ``scores``: how alike they are
    ``labelled`` ``text`` and its ``label``
    ============ ================================================================

    Raises
    ------
    InputError
        Columns that make none of these, or are of different lengths; no row; a text that is not
        a string or is blank (but of the negatives), a score that is not a finite number, and a row
        whose positive is its negative.
    """

    def __init__(
        self, columns: Mapping[str, Sequence[str]], *, scores: Sequence[float] | None = None
    ) -> None:
        self.columns = {name: tuple(column) for name, column in columns.items()}
        self.scores = None if scores is None else tuple(float(score) for score in scores)
        self.kind = _kind({*self.columns, *(["score"] if scores is not None else [])})
        lengths = {len(column) for column in self.columns.values()}
        lengths |= {len(self.scores)} if self.scores is not None else set()
        if len(lengths) != 1:
            raise InputError(
                f"columns of {', '.join(map(str, sorted(lengths)))} rows",
                hint="give every column a value in every row",
            )
        if not max(lengths):
            raise InputError("no example", hint="give at least one row")
        for name, column in self.columns.items():
            for row, text in enumerate(column):
                if not isinstance(text, str) or not (text.strip() or _NEGATIVE.fullmatch(name)):
                    raise InputError(
                        f"row {row}: {name} is {text!r}", hint="give a text that is not blank"
                    )
        for row, score in enumerate(self.scores or ()):
            if not math.isfinite(score):
                raise InputError(f"row {row}: the score is {score}", hint="give a finite number")
        if self.kind == "triplets":
            for row, (positive, *negatives) in enumerate(
                zip(self.columns["positive"], *self.negative_columns, strict=True)
            ):
                if positive in negatives:
                    raise InputError(
                        f"row {row}: the positive is also a negative ({positive[:40]!r})",
                        hint="a text cannot be both: leave that row out",
                    )

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __repr__(self) -> str:
        return f"Examples({len(self)} {self.kind})"

    @property
    def negative_columns(self) -> tuple[tuple[str, ...], ...]:
        """The columns of negatives, in order; where a row has none there, the text is blank."""
        named = sorted(
            (name for name in self.columns if _NEGATIVE.fullmatch(name)),
            key=lambda name: int(name.partition("_")[2] or 1),
        )
        return tuple(self.columns[name] for name in named)

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """Every text once, in the order in which they first stand, labels and blanks left out."""
        columns = [column for name, column in self.columns.items() if name != "label"]
        return tuple(
            dict.fromkeys(text for row in zip(*columns, strict=True) for text in row if text)
        )

    def take(self, rows: Sequence[int] | Ids) -> Self:
        """Return the examples of these rows, in this order."""
        chosen = [int(row) for row in rows]
        return type(self)(
            {name: [column[row] for row in chosen] for name, column in self.columns.items()},
            scores=None if self.scores is None else [self.scores[row] for row in chosen],
        )

    def divided(self, share: float, *, seed: int = 0) -> tuple[Self, Self]:
        """Return two parts, drawn by ``seed``: the second is ``share`` of the rows.

        Rows that have an anchor (or a text) in common go to the same part, so that nothing which
        is held out was seen. Raises :class:`ConfigError` for a share outside (0, 1), and
        :class:`InputError` where a part would be empty.
        """
        if not 0 < share < 1:
            raise ConfigError(f"share={share} is outside (0, 1)")
        key = self.columns.get("anchor") or self.columns["text"]
        groups = list(dict.fromkeys(key))
        order = stream(seed, "held out").permutation(len(groups))
        held = {groups[i] for i in order[: max(1, round(share * len(groups)))]}
        second = [row for row, text in enumerate(key) if text in held]
        first = [row for row, text in enumerate(key) if text not in held]
        if not first:
            raise InputError(
                f"{len(groups)} different examples cannot be divided in two", hint="give more"
            )
        return self.take(first), self.take(second)

    @classmethod
    def load(cls, *paths: str | Path) -> Self:
        """Read tables (``.csv``, ``.tsv``, ``.jsonl``, ``.parquet``, also packed) or lines of text.

        The columns are known by the names in :data:`KNOWN`, others are ignored; or say which is
        which: ``faq.csv#anchor=title,positive=body``. Several files must be of one kind.

        Raises :class:`InputError` where columns are missing, and :class:`FormatError` for a
        damaged file.
        """
        parts = [_read(path) for path in paths]
        if not parts:
            raise InputError("no file of examples", hint="give at least one")
        names = list(dict.fromkeys(name for columns, _ in parts for name in columns))
        for path, (columns, scores) in zip(paths, parts, strict=True):
            lacking = [n for n in names if n not in columns and not _NEGATIVE.fullmatch(n)]
            if lacking or (scores is None) != (parts[0][1] is None):
                raise InputError(
                    f"{path}: no column {(lacking or ['score'])[0]!r}, which another file has",
                    hint="give files with the same columns",
                )
        columns = {
            name: [text for part, _ in parts for text in part.get(name, [""] * _height(part))]
            for name in names
        }
        scored = [score for _, scores in parts for score in scores or ()]
        try:
            return cls(columns, scores=scored if parts[0][1] is not None else None)
        except InputError as fault:
            raise InputError(f"{paths[0]}: {fault}", hint=fault.hint or "mend the file") from fault


def _height(columns: Mapping[str, Sequence[str]]) -> int:
    return len(next(iter(columns.values())))


def _kind(names: set[str]) -> Kind:
    plain = {"negative" if _NEGATIVE.fullmatch(name) else name for name in names}
    for kind, roles in _ROLES.items():
        if plain == set(roles):
            return kind
    raise InputError(
        f"columns {', '.join(sorted(names)) or 'none'} are no examples",
        hint="; ".join(f"{kind}: {', '.join(roles)}" for kind, roles in _ROLES.items()),
    )


def _read(path: str | Path) -> tuple[dict[str, list[str]], list[float] | None]:
    name, _, given = str(path).partition("#")
    file = Path(path) if Path(path).exists() else Path(name)
    if not is_table(file):
        texts = [text for text in TextFiles([path]) if text.strip()]
        if not texts:
            raise InputError(f"{path}: no text in it", hint="write one text a line")
        return {"text": texts}, None
    columns: dict[str, list[str]] = {}
    scores: list[float] = []
    places: dict[str, str] = {}
    for row in table_rows(file):
        if not places:
            places = _places(row, given)
            columns = {role: [] for role in places if role != "score"}
        for role, column in places.items():
            if role == "score":
                scores.append(_number(row, column))
            else:
                columns[role].append(_text(row, column, role))
    if not places:
        raise InputError(f"{file}: no row in it", hint="write rows below the line of names")
    return columns, scores if "score" in places else None


def _places(row: Row, given: str) -> dict[str, str]:
    """Return the column of every role, as ``given`` or as the names are known."""
    names = {str(name).strip().lower(): str(name) for name in row.fields}
    places: dict[str, str] = {}
    if given:
        for item in given.split(","):
            role, equals, column = (part.strip() for part in item.partition("="))
            if not equals or not (role in KNOWN or _NEGATIVE.fullmatch(role)):
                raise ConfigError(
                    f"#{given}: {item!r} does not say which column is which",
                    hint=f"write ROLE=COLUMN; roles: {', '.join(KNOWN)}",
                )
            if column not in row.fields:
                raise InputError(
                    f"{row.place}: no column {column!r}; it has: {', '.join(names.values())}",
                    hint="check the name",
                )
            places[role] = column
    else:
        for role, known in KNOWN.items():
            found = next((names[name] for name in known if name in names), None)
            if found is not None:
                places[role] = found
        places |= {name: names[name] for name in names if _NEGATIVE.fullmatch(name)}
        if "anchor" in places:  # a text beside pairs is not one of them
            places.pop("text", None)
        if "score" in places:
            places = {role: places[role] for role in _ROLES["scored"] if role in places}
        if not {"anchor", "text"} & places.keys() and {"positive", "score"} & places.keys():
            raise _missing(row, "anchor")
        if "anchor" in places and "positive" not in places:
            raise _missing(row, "positive")
        if "label" in places and "anchor" in places and "score" not in places:
            raise InputError(
                f"{row.place}: pairs with a {places['label']} are no examples",
                hint="keep the pairs that belong together, without that column",
            )
        if "text" not in places:
            places.pop("label", None)
    if not places:
        raise _missing(row, "text")
    return places


def _missing(row: Row, role: str) -> InputError:
    return InputError(
        f"{row.place}: no column for the {role}; it has: {', '.join(map(str, row.fields))}",
        hint=f"call it {' or '.join(KNOWN[role][:3])}, or say which it is: FILE#{role}=COLUMN,...",
    )


def _text(row: Row, column: str, role: str) -> str:
    value = row.fields.get(column)
    if isinstance(value, str):
        return value
    if value is None and _NEGATIVE.fullmatch(role):
        return ""
    if role == "label" and isinstance(value, (int, bool)):
        return str(value)
    found = "missing" if value is None else type(value).__name__
    raise FormatError(
        f"{row.place}: {column} is {found}, not text",
        hint="mend or remove that row",
    )


def _number(row: Row, column: str) -> float:
    try:
        return float(str(row.fields.get(column)))
    except ValueError:
        raise FormatError(
            f"{row.place}: {column} is {row.fields.get(column)!r}, not a number",
            hint="mend or remove that row",
        ) from None
