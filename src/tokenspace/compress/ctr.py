"""The task that tables of ids are for: will this user click, like, earn? One row, a few ids.

Claims and the common study train every method on the same rows, with the same small network on
top, and measure the exported table (:func:`tokenspace.compress.ctr_net.train`).
"""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tokenspace import data
from tokenspace.arrays import Ids, Ids2d
from tokenspace.errors import ConfigError
from tokenspace.rng import stream

__all__ = ["SETS", "Clicks", "load"]

SETS = ("movietweetings", "adult", "zipf")
_YEAR = re.compile(r"\((\d{4})\)$")
_ADULT = ("age", "workclass", "education", "marital_status", "occupation", "relationship", "race",
          "sex", "hours_per_week", "native_country")  # fmt: skip
_SMOKE = 2_000  # rows


@dataclass(frozen=True, eq=False)
class Clicks:
    """Rows of ids with a label each, in three parts.

    ``ids`` is (N, F) int64, one id a field, all fields numbered together in [0, V) and in no
    order; ``labels`` (N,) int64 of 0 and 1. ``train``, ``valid`` and ``test`` are the numbers of
    the rows of each part. ``counts`` (V,) says how often an id is in the training rows, and
    ``fields`` (V,) the field it is of.
    """

    name: str
    ids: Ids2d
    labels: Ids
    train: Ids
    valid: Ids
    test: Ids
    counts: Ids
    fields: Ids

    @property
    def size(self) -> int:
        """The number V of ids."""
        return len(self.fields)


def load(name: str, seed: int = 0, *, smoke: bool = False) -> Clicks:
    """Return one of :data:`SETS`, split at random into 80, 10 and 10 % of its rows.

    ``movietweetings``: did a user give a movie 8 or more of 10; user, movie, its first genre and
    its year (V = 23,720). ``adult``: is an income above 50,000; ten categorical features.
    ``zipf``: made by :func:`tokenspace.data.zipf_ctr`, of movietweetings' size. ``seed`` is that of
    the split and of the numbering; ``smoke`` keeps 2,000 rows and the ids in them.

    Raises :class:`ConfigError` for another name, and :class:`InputError` where the files are
    neither on this machine nor elsewhere (see :func:`tokenspace.data.find`).
    """
    if name not in SETS:
        raise ConfigError(f"there is no click data {name!r}", hint=f"choose one of {SETS}")
    if name == "zipf":
        columns, labels, fields = data.zipf_ctr(4, 24_000, 80_000, 4, seed=seed)
        if smoke:
            columns, labels = columns[:_SMOKE], labels[:_SMOKE]
            used, inverse = np.unique(columns, return_inverse=True)
            columns, fields = inverse.reshape(columns.shape).astype(np.int64), fields[used]
    else:
        rows, labels = _movies() if name == "movietweetings" else _adult()
        columns, fields = _numbered(rows[:_SMOKE] if smoke else rows)
        labels = labels[: len(columns)]
    draw = stream(seed, "clicks", name)
    place = draw.permutation(len(fields))
    ids, order = place[columns], draw.permutation(len(columns))
    tenth = len(order) // 10
    valid, test, train = order[:tenth], order[tenth : 2 * tenth], order[2 * tenth :]
    counts = np.bincount(ids[train].ravel(), minlength=len(fields))
    of = np.empty_like(fields)
    of[place] = fields
    return Clicks(name, ids, labels, train, valid, test, counts, of)


def _numbered(rows: Sequence[Sequence[str]]) -> tuple[Ids2d, Ids]:
    """Give the values of all fields numbers, field after field; return the field of each too."""
    columns: list[Ids] = []
    fields: list[int] = []
    for field, values in enumerate(zip(*rows, strict=True)):
        known, inverse = np.unique(values, return_inverse=True)
        columns.append(len(fields) + inverse.astype(np.int64))
        fields += [field] * len(known)
    return np.stack(columns, axis=1), np.array(fields, np.int64)


@lru_cache(maxsize=1)
def _movies() -> tuple[list[tuple[str, str, str, str]], Ids]:
    about = {}
    for line in _lines("movietweetings_movies")[1:]:
        movie, title, genres = line.split("\t")
        year = _YEAR.search(title.strip())
        about[movie] = genres.split("|")[0], year[1] if year else ""
    rows, labels = [], []
    for line in _lines("movietweetings_100k_dev")[1:]:
        user, movie, rating, _ = line.split("\t")
        rows.append((user, movie, *about.get(movie, ("", ""))))
        labels.append(int(rating) >= 8)
    return rows, np.array(labels, np.int64)


@lru_cache(maxsize=1)
def _adult() -> tuple[list[tuple[str, ...]], Ids]:
    found = list(csv.DictReader(_lines("adult_dev")))
    rows = [tuple(row[field] for field in _ADULT) for row in found]
    return rows, np.array([row["income"] == ">50K" for row in found], np.int64)


def _lines(name: str) -> list[str]:
    return gzip.decompress(data.find(name).read_bytes()).decode("utf-8").rstrip("\n").split("\n")
