"""What one measure gave on one set: the figure, its interval, and every item behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tokenspace.metrics import Score, pearson, spearman

__all__ = ["Kind", "Result", "figure", "kept"]

Values = npt.NDArray[np.float64]
Kind = Literal["spearman", "pearson", "share", "f1"]


@dataclass(frozen=True, eq=False)
class Result:
    """A measure of one table on one set.

    ``task`` says what was asked (``"similarity"``), ``set`` on which data, ``measure`` how
    (``"spearman"``, ``"3cosadd"``). ``items`` holds one row for each of the set's T items, NaN
    where it was left out, and :func:`figure` of it by ``kind`` is ``score.value``: the rows are
    (given, predicted) for a correlation, 1 or 0 for a share, (right, predicted, given) entities
    for an F1. ``also`` are further figures; ``unknown`` the words that the table lacks.
    """

    task: str
    set: str
    measure: str
    score: Score
    kind: Kind
    items: Values
    unknown: tuple[str, ...] = ()
    also: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def row(self) -> dict[str, Any]:
        """Return plain data without the items."""
        return {
            "task": self.task,
            "set": self.set,
            "measure": self.measure,
            "value": self.score.value,
            "low": self.score.low,
            "high": self.score.high,
            "used": self.score.used,
            "total": self.score.total,
            "also": dict(self.also),
            "unknown": list(self.unknown),
            "notes": [*self.notes, *self._undefined()],
        }

    def _undefined(self) -> tuple[str, ...]:
        """Say why there is no figure, where there is none."""
        if not np.isnan(self.score.value):
            return ()
        few = "no item is" if self.score.used == 0 else "one item is"
        return ("no figure: all values are equal" if self.score.used > 1 else f"{few} known",)


def figure(kind: Kind, items: Values) -> float:
    """Return the figure of the items, none of which is NaN; NaN where it is not defined."""
    if len(items) == 0:
        return float("nan")
    if kind == "share":
        return float(items.mean())
    if kind == "f1":
        right, predicted, given = items.sum(axis=0).tolist()
        return 2 * right / (predicted + given) if predicted + given else float("nan")
    correlation = spearman if kind == "spearman" else pearson
    return correlation(items[:, 0], items[:, 1])


def kept(items: Values) -> Values:
    """Return the items that are not NaN."""
    used: Values = items[~np.isnan(items).any(axis=tuple(range(1, items.ndim)))]
    return used
