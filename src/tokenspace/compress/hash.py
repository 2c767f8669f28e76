"""Let rows share: row x is shared row x mod m.

The idea
--------
A table of V rows that may hold only m is kept as m rows, and every id takes the one that its
remainder names. Ids that share a row cannot be told apart. It costs nothing to look up and is
what every other method of sharing has to beat.

Equations
---------
With a budget of c (a share of the table in float32)::

    m     =  floor(c V)
    e(x)  =  H[x mod m],            H (m, D) float32

Of a finished table, H[j] is the mean of the rows whose id leaves the remainder j, weighted by
``counts`` where they are given: the least squared error that such a form can have.

Departures from the paper
-------------------------
None. The survey's baseline has no form for a finished table; the mean is ours.

Cost
----
4 m D bytes. One pass over a finished table; a row is one look-up.

When not to use it
------------------
Nearly always: `robe`, `compo` and `ttrec` share parts of rows instead of whole ones and keep ids
apart at the same size, and `adaptemb` gives at least the frequent ids a row of their own. Of a
finished table, sharing whole rows loses most of what it held.

Reference
---------
H. Zhang, P. Zhao, X. Miao, Y. Shao, Z. Liu, T. Yang, B. Cui: Experimental Analysis of Large-scale
Learnable Vector Storage Compression. PVLDB 2024, arXiv:2311.15578, section 3.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np

from tokenspace.arrays import Floats2d, Ids
from tokenspace.recipe import Range, Recipe

from ._budget import largest
from .table import CompressedTable, Tensors, check_counts, check_source

if TYPE_CHECKING:
    from .hash_net import HashEmbedding

__all__ = ["Hash"]


@dataclass(frozen=True, kw_only=True)
class Hash(Recipe):
    """Let rows share: row x is shared row x mod m."""

    budget: Annotated[float, Range(1e-6, 1), "share of the table's float32 bytes"] = 0.1

    tiny: ClassVar[Mapping[str, Any]] = {"budget": 0.5}

    def __call__(self, source: Floats2d, /, *, counts: Ids | None = None) -> CompressedTable:
        """Return the table of shared rows; ``source`` is (V, D), maybe memory-mapped.

        Raises :class:`InputError` for a table without rows or with values that are not finite,
        and :class:`ConfigError` where the budget is less than one row.
        """
        size, width = check_source(source, self.name)
        m = self.shared(size, width)
        weights = np.ones(size) if counts is None else check_counts(counts, size, self.name) + 1e-9
        sums, total = np.zeros((m, width)), np.zeros(m)
        for start in range(0, size, m):  # ids start ... start + m - 1 have the remainders 0 ... m-1
            stop = min(start + m, size)
            sums[: stop - start] += weights[start:stop, None] * source[start:stop]
            total[: stop - start] += weights[start:stop]
        shared = (sums / total[:, None]).astype(np.float32)
        return CompressedTable(self.name, (size, width), {"shared": shared}).measured(source)

    def shared(self, size: int, width: int) -> int:
        """Return m, the number of shared rows."""
        return largest(lambda m: 4 * m * width, 1, size, self.budget, size, width, self.name)

    @staticmethod
    def read(tensors: Tensors, settings: Mapping[str, Any], ids: Ids) -> Floats2d:
        """Return the rows of ``ids`` (n,), (n, D) float32."""
        shared: Floats2d = tensors["shared"]
        return shared[ids % len(shared)]

    def embedding(
        self,
        size: int,
        width: int,
        *,
        counts: Ids | None = None,
        fields: Ids | None = None,
        init_std: float = 0.05,
        seed: int = 0,
    ) -> HashEmbedding:
        """Return a layer of m shared rows that is yet to be trained."""
        from .hash_net import HashEmbedding

        return HashEmbedding(self.shared(size, width), size, width, init_std, seed)
