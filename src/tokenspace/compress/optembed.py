"""Drop rows that stay short, and search for how many numbers each field's rows need.

The idea
--------
One table is trained so that it works however much of it is cut off: at every look-up only the
first few numbers of a row are shown, how many is drawn anew; and a threshold for every field, that
is learned, blanks rows shorter than it. Then an evolutionary search on held-out rows finds the
widths that serve best within the budget, and the rows that are left are trained again at those.

Equations
---------
With the threshold t_f of the field f of id x and the drawn width k (uniform in 1 ... D)::

    e(x)  =  [‖E[x]‖_1 > t_f] * (E[x]_1 ... E[x]_k, 0 ... 0)
    loss  +  ``weight`` * Σ_f exp(-t_f)

The bracket's derivative at u = ‖E[x]‖_1 - t_f is taken as 2 - 4 |u| up to |u| = 0.4, 0.4 up to 1,
and else 0. t begins at 0 and moves at 0.05 of the table's rate. Search: 30 ``generations`` of 10
mutants (each width drawn anew with probability 0.1) and 10 crossovers of the 10 best width
vectors; one that is over the budget is narrowed at random widths until it fits.

Of a finished table, where nothing says which rows matter, no row is dropped, and the widths are
those whose leading numbers hold the most squared length within the budget.

Departures from the paper
-------------------------
The reference's search changes parents in place, lets the best vector change after it was noted, and
draws the crossover point by the width although a vector has one entry a field; here mutants and
children are copies and the point is a field. The budget bounds the search, which the paper leaves
to chance. It must hold every row at width 1, so that it is known before the training to be within
reach. Groups are ``fields``, or without them ``buckets`` by ``counts``. The last training begins
with the values that were found.

Cost
----
Two trainings, and ``generations`` * 20 + 10 evaluations on held-out rows. All V D values are held
in float32 until the end. Reading a row copies its numbers.

When not to use it
------------------
Without a task that can be evaluated: on a finished table the leading numbers are no better than
any others, and `svd` turns the table first. With one field there is one width to choose.

Reference
---------
F. Lyu, X. Tang, H. Zhu, H. Guo, Y. Zhang, R. Tang, X. Liu: OptEmbed: Learning Optimal Embedding
Table for Click-through Rate Prediction. CIKM 2022, arXiv:2208.04482. H. Zhang and others:
arXiv:2311.15578.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np

from tokenspace.arrays import Floats2d, Ids
from tokenspace.recipe import Range, Recipe

from ._budget import allowed, unreachable
from ._mixed import (
    allocate,
    gram,
    grouped,
    members,
    membership_bytes,
    read_mixed,
    store_mixed,
)
from .table import CompressedTable, Tensors, check_source

if TYPE_CHECKING:
    from .optembed_net import OptEmbedSupernet

__all__ = ["OptEmbed"]


@dataclass(frozen=True, kw_only=True)
class OptEmbed(Recipe):
    """Drop rows that stay short, and search for how many numbers each field's rows need.

    One of ``fields`` and ``counts`` is needed.
    """

    budget: Annotated[float, Range(1e-6, 1), "share of the table's float32 bytes"] = 0.25
    buckets: Annotated[int, Range(2, 15), "groups by frequency, without fields"] = 6
    weight: Annotated[float, Range(0, 1), "weight of Σ exp(-t) in the loss"] = 1e-5
    generations: Annotated[int, Range(0, 1000), "rounds of the search for widths"] = 30

    tiny: ClassVar[Mapping[str, Any]] = {"budget": 0.7, "buckets": 3, "generations": 2}

    def __call__(
        self, source: Floats2d, /, *, counts: Ids | None = None, fields: Ids | None = None
    ) -> CompressedTable:
        """Return each group's leading numbers; ``source`` is (V, D), maybe memory-mapped.

        Raises :class:`InputError` for a table without rows or with values that are not finite, and
        for counts or fields that do not fit it; :class:`MissingEvidence` where both are absent;
        and :class:`ConfigError` where widths of 1 miss the budget.
        """
        size, width = check_source(source, self.name)
        group, member = self.plan(size, width, counts, fields)
        limit = allowed(self.budget, size, width) - member
        rows = members(group)
        gains = np.empty((len(rows), width))
        for g, chosen in enumerate(rows):
            gains[g] = np.cumsum(np.diag(gram(source, chosen)))
        costs = (4.0 * np.bincount(group)[:, None] * np.arange(1, width + 1)).astype(np.float64)
        found = allocate(gains, costs, limit)
        assert found is not None  # the plan has checked that widths of 1 fit
        tables = [source[chosen][:, : c + 1] for chosen, c in zip(rows, found, strict=True)]
        tensors, settings = store_mixed(group, tables), {"width": width}
        return CompressedTable(self.name, (size, width), tensors, settings).measured(source)

    def plan(
        self, size: int, width: int, counts: Ids | None, fields: Ids | None
    ) -> tuple[Ids, int]:
        """Return the group of every row, and the bytes of the membership if rows are dropped."""
        group = grouped(size, counts, fields, self.buckets, self.name)
        if self.budget == 1:
            return np.zeros(size, np.int64), 0
        member = membership_bytes(size, int(group.max()) + 2)
        if member + 4 * size > allowed(self.budget, size, width):
            raise unreachable(self.name, self.budget, member + 4 * size, size, width)
        return group, member

    @staticmethod
    def read(tensors: Tensors, settings: Mapping[str, Any], ids: Ids) -> Floats2d:
        """Return the rows of ``ids`` (n,), (n, D) float32."""
        return read_mixed(tensors, settings["width"], ids)

    def embedding(
        self,
        size: int,
        width: int,
        *,
        counts: Ids | None = None,
        fields: Ids | None = None,
        init_std: float = 0.05,
        seed: int = 0,
    ) -> OptEmbedSupernet:
        """Return a whole table under thresholds and drawn widths."""
        from .optembed_net import OptEmbedSupernet

        group, member = self.plan(size, width, counts, fields)
        limit = allowed(self.budget, size, width) - member
        return OptEmbedSupernet(group, limit, width, init_std, seed, self.weight, self.generations)
