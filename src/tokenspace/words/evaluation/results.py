"""What one measure gave on one set: the figure, its interval, and every item behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenspace.metrics import Score
from tokenspace.resampling import Kind

__all__ = ["Result"]

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Result:
    """A measure of one table on one set.

    ``task`` says what was asked (``"similarity"``), ``set`` on which data, ``measure`` how
    (``"spearman"``, ``"3cosadd"``). ``items`` holds one row for each of the set's T items, NaN
    where it was left out, and its :func:`~tokenspace.resampling.figure` by ``kind`` is
    ``score.value``. ``also`` are further figures; ``unknown`` the words that the table lacks.
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
