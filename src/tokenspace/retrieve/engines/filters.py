"""Filters by metadata: one small form, read alike by every engine.

A filter is a dictionary, so it can be written as JSON:

=============================================  =====================================================
``{"lang": "en"}``                             the field equals; of a list, one of its items does
``{"lang": {"$in": ["en", "de"]}}``            the field, or one of its items, is among these
``{"year": {"$gte": 1990, "$lt": 2000}}``      the field is a number between: $gt, $gte, $lt, $lte
``{"lang": "en", "year": {"$gte": 1990}}``     all of it
``{"$and": [..]}``, ``{"$or": [..]}``          all, or at least one, of these filters
``{"$not": {..}}``                             whatever the filter inside does not let through
=============================================  =====================================================

Values are strings of at most 256 characters, numbers, and true or false. 1 and 1.0 are one
number; 1 and true are not the same. A field that is missing, or null, equals nothing and lies
between nothing, so ``$not`` lets it through.

Every engine stores, beside the metadata, what filters ask for: the *terms* of a document, such
as ``lang="en"`` and ``year=1994``, and its *numbers*. Equality is the presence of a term.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenspace.errors import InputError

__all__ = [
    "FIELD",
    "Columns",
    "Either",
    "Every",
    "Filter",
    "Has",
    "Not",
    "Range",
    "mask",
    "numbers",
    "read",
    "terms",
]

Mask = npt.NDArray[np.bool_]
FIELD = re.compile(r"[A-Za-z0-9_-]{1,64}")
LONGEST = 256  # characters of a string that filters compare
_COMPARE = {"gt": np.greater, "gte": np.greater_equal, "lt": np.less, "lte": np.less_equal}
_BOUNDS = {f"${name}": name for name in _COMPARE}
_FORM = 'a filter looks like {"lang": "en", "year": {"$gte": 1990}}'


@dataclass(frozen=True)
class Has:
    """The document has one of these terms."""

    terms: tuple[str, ...]


@dataclass(frozen=True)
class Range:
    """The number in ``field`` is within all bounds; a bound that is None does not bind."""

    field: str
    gt: float | None = None
    gte: float | None = None
    lt: float | None = None
    lte: float | None = None


@dataclass(frozen=True)
class Every:
    """Every part holds; without parts it lets everything through."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class Either:
    """At least one part holds; without parts it lets nothing through."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class Not:
    """The part does not hold."""

    part: Filter


Filter = Has | Range | Every | Either | Not


class Columns:
    """Terms and numbers of ``count`` documents, by term and by field."""

    def __init__(self, records: Sequence[Mapping[str, Any]]) -> None:
        self.count = len(records)
        self.terms: dict[str, list[int]] = {}
        self.numbers: dict[str, tuple[list[int], list[float]]] = {}
        for document, metadata in enumerate(records):
            for term in terms(metadata):
                self.terms.setdefault(term, []).append(document)
            for field, value in numbers(metadata).items():
                documents, values = self.numbers.setdefault(field, ([], []))
                documents.append(document)
                values.append(value)


def mask(condition: Filter, columns: Columns) -> Mask:
    """Tell which documents a filter lets through, (N,)."""
    if isinstance(condition, Not):
        return ~mask(condition.part, columns)
    if isinstance(condition, (Every, Either)):
        join = np.logical_and if isinstance(condition, Every) else np.logical_or
        found = np.full(columns.count, isinstance(condition, Every))
        for part in condition.parts:
            found = join(found, mask(part, columns))
        return found
    found = np.zeros(columns.count, np.bool_)
    if isinstance(condition, Has):
        for term in condition.terms:
            found[columns.terms.get(term, [])] = True
        return found
    documents, values = columns.numbers.get(condition.field, ([], []))
    value = np.array(values, np.float64)
    inside = np.ones(len(value), np.bool_)
    for name, compare in _COMPARE.items():
        bound = getattr(condition, name)
        if bound is not None:
            inside &= compare(value, bound)
    found[np.array(documents, np.int64)[inside]] = True
    return found


def terms(metadata: Mapping[str, Any]) -> list[str]:
    """Return what equality can ask of a document, each once."""
    found: dict[str, None] = {}
    for field, value in metadata.items():
        for item in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(item, (int, float)) or (isinstance(item, str) and len(item) <= LONGEST):
                found[_term(field, item)] = None
    return list(found)


def numbers(metadata: Mapping[str, Any]) -> dict[str, float]:
    """Return the fields of a document that hold one number."""
    return {field: float(value) for field, value in metadata.items() if _is_number(value)}


def read(where: Mapping[str, Any]) -> Filter:
    """Read a filter. Raises :class:`InputError` for anything that is not one."""
    if not isinstance(where, Mapping):
        raise InputError(f"where: {where!r} is not a filter", hint=_FORM)
    return Every(tuple(_condition(str(name), value) for name, value in where.items()))


def _condition(name: str, value: Any) -> Filter:
    if name == "$not":
        return Not(read(value))
    if name in ("$and", "$or"):
        if not isinstance(value, (list, tuple)):
            raise InputError(f"where: {name} takes a list of filters", hint=_FORM)
        parts = tuple(read(part) for part in value)
        return Every(parts) if name == "$and" else Either(parts)
    if not FIELD.fullmatch(name):
        raise InputError(
            f"where: {name!r} is neither a field nor one of $and, $or, $not",
            hint="fields have letters, digits, - and _, at most 64 of them",
        )
    if not isinstance(value, Mapping):
        return Has((_compared(name, value),))
    found: list[Filter] = []
    bounds: dict[str, float] = {}
    for word, given in value.items():
        if word == "$in":
            if not isinstance(given, (list, tuple)):
                raise InputError(f"where: {name}: $in takes a list of values", hint=_FORM)
            found.append(Has(tuple(_compared(name, item) for item in given)))
        elif word not in _BOUNDS:
            allowed = ", ".join(["$in", *_BOUNDS])
            raise InputError(f"where: {name}: {word!r} is not one of {allowed}", hint=_FORM)
        elif not _is_number(given):
            raise InputError(f"where: {name}: {word} takes a number, not {given!r}", hint=_FORM)
        else:
            bounds[_BOUNDS[word]] = float(given)
    if bounds:
        found.append(Range(name, **bounds))
    if not found:
        raise InputError(f"where: {name}: no condition", hint=_FORM)
    return found[0] if len(found) == 1 else Every(tuple(found))


def _compared(field: str, value: Any) -> str:
    """Return the term that a value of a filter stands for."""
    short = isinstance(value, str) and len(value) <= LONGEST
    if not (short or isinstance(value, bool) or _is_number(value)):
        raise InputError(
            f"where: {field}: cannot compare with {value!r}",
            hint=f"compare with a string of at most {LONGEST} characters, a number, true or false",
        )
    return _term(field, value)


def _term(field: str, value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"{field}={json.dumps(value, ensure_ascii=False)}"


def _is_number(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
