"""Give rare values narrower rows than frequent ones, and a matrix back to the width.

The idea
--------
A film that was rated a thousand times can fill sixteen numbers, one that was rated twice cannot.
Ids are grouped, by the field that they are values of or by how often they occur; the rows of a
large group are narrow, and a matrix a group turns them into rows of the common width.

Equations
---------
Group f has n_f rows, the smallest n_min::

    d_f   =  D (n_f / n_min)^-α,    rounded, at least 1
    e(x)  =  T_f[place of x in f] P_f,      T_f (n_f, d_f),  P_f (d_f, D)
    Σ_f 4 (n_f d_f + d_f D) + bytes of the membership  <=  4 c V D

α in [0, 1] is the smallest, in steps of a thousandth, within the budget. Without P_f where d_f = D,
and a group is left at D where narrowing would not make it smaller. Without ``fields``, or where
α = 1 misses the budget with them, the groups are ``buckets`` by ``counts``: the first holds the
most frequent ids, each next four times as many.

Of a finished table, T_f and P_f are the best of their rank, by the singular vectors of the group.

Departures from the paper
-------------------------
The reference leaves the projections out of its ratio; here they are counted, and so is the
membership: a few bits a row where the rows of a group are not neighbours. Widths are whole numbers
and not powers of two, which would leave up to half of the budget unused.

Cost
----
A training step looks up once a group and multiplies by P_f: d_f D per row. For a finished table as
`svd`. Reading costs d_f D multiplications a row.

When not to use it
------------------
Below 1 / D of the table, which no width of 1 reaches; there `robe`, `compo` or `ttrec` share. Where
all ids are about equally frequent, the groups say nothing.

Reference
---------
A. Ginart, M. Naumov, D. Mudigere, J. Yang, J. Zou: Mixed Dimension Embeddings with Application to
Memory-Efficient Recommendation Systems. ISIT 2021, arXiv:1909.11810, section 3. H. Zhang and
others: arXiv:2311.15578, section 3.2.2.
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
    buckets,
    effective,
    factored,
    grouped,
    membership_bytes,
    mixed_bytes,
    read_mixed,
)
from .table import CompressedTable, Tensors, check_counts, check_source

if TYPE_CHECKING:
    from ._mixed_net import MixedEmbedding

__all__ = ["MDE"]


@dataclass(frozen=True, kw_only=True)
class MDE(Recipe):
    """Give rare values narrower rows than frequent ones, and a matrix back to the width.

    One of ``fields`` and ``counts`` is needed.
    """

    budget: Annotated[float, Range(1e-6, 1), "share of the table's float32 bytes"] = 0.25
    buckets: Annotated[int, Range(2, 16), "groups by frequency, where fields do not serve"] = 6

    tiny: ClassVar[Mapping[str, Any]] = {"budget": 0.6, "buckets": 3}

    def __call__(
        self, source: Floats2d, /, *, counts: Ids | None = None, fields: Ids | None = None
    ) -> CompressedTable:
        """Return narrow tables and projections; ``source`` is (V, D), maybe memory-mapped.

        Raises :class:`InputError` for a table without rows or with values that are not finite, and
        for counts or fields that do not fit it; :class:`MissingEvidence` where both are absent;
        and :class:`ConfigError` where α = 1 misses the budget.
        """
        size, width = check_source(source, self.name)
        group, widths = self.plan(size, width, counts, fields)
        tensors = factored(source, group, widths)
        settings = {"width": width}
        return CompressedTable(self.name, (size, width), tensors, settings).measured(source)

    def plan(
        self, size: int, width: int, counts: Ids | None, fields: Ids | None
    ) -> tuple[Ids, list[int]]:
        """Return the group of every row, (V,), and the width of every group."""
        first = grouped(size, counts, fields, self.buckets, self.name)
        tried = [np.zeros(size, np.int64)] if self.budget == 1 else [first]
        if fields is not None and counts is not None:
            tried.append(buckets(check_counts(counts, size, self.name), self.buckets))
        limit, least = allowed(self.budget, size, width), 4 * size * width
        for group in tried:
            rows = np.bincount(group)
            member = membership_bytes(size, len(rows), neighbours=bool((np.diff(group) >= 0).all()))
            for alpha in np.arange(1001) / 1000:
                widths = effective(rows, _widths(rows, float(alpha), width), width)
                cost = member + mixed_bytes(rows, widths, width)
                if cost <= limit:
                    return group, widths
                least = min(least, cost)
        raise unreachable(self.name, self.budget, least, size, width)

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
    ) -> MixedEmbedding:
        """Return narrow tables and projections that are yet to be trained."""
        from ._mixed_net import MixedEmbedding

        group, widths = self.plan(size, width, counts, fields)
        return MixedEmbedding(self.name, group, widths, width, init_std=init_std, seed=seed)


def _widths(rows: Ids, alpha: float, width: int) -> list[int]:
    exact = width * (rows / rows.min()) ** -alpha
    return [int(w) for w in np.maximum(np.rint(exact), 1)]
