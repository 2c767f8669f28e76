"""Keep only the largest values of a table, and say where they are.

The idea
--------
Most numbers of a table are small and matter little in an inner product. All but the largest are
dropped, whichever rows they are in, and the rest is stored with the place of each.

Equations
---------
With the n-th largest |x| of the whole table as τ::

    x'_ij  =  x_ij  if  |x_ij| >= τ,  else 0

n is the largest for which values and places fit in 4 c V D bytes: 4 (V + 1) + 5 n as compressed
rows (a pointer a row, and for every value its column in a byte; two bytes above 256 columns), or
9 n as coordinates (row and column of every value), whichever holds more.

Departures from the paper
-------------------------
The survey counts 32 bits for every index; a column needs 8 up to 256 columns, and gets no more.
Of equal values at the edge the first are kept, so that the budget holds.

Cost
----
One pass and a partial sort of V D absolute values in float32, which are held. Reading a row
touches its values alone.

When not to use it
------------------
For dense tables, that is nearly always: places cost more than they save, and whole rows of small
values vanish. `int8` keeps every value in a quarter of the bytes. Use it where rows are sparse
already.

Reference
---------
S. Han, J. Pool, J. Tran, W. Dally: Learning both Weights and Connections for Efficient Neural
Networks. NeurIPS 2015, arXiv:1506.02626, section 3. H. Zhang and others: arXiv:2311.15578.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from tokenspace.arrays import Floats2d, Ids
from tokenspace.recipe import Range, Recipe

from ._sparse import capacity, kept, read_sparse, store_sparse
from .table import CompressedTable, Tensors, check_source

__all__ = ["Magnitude"]


@dataclass(frozen=True, kw_only=True)
class Magnitude(Recipe):
    """Keep only the largest values of a table, and say where they are."""

    budget: Annotated[float, Range(1e-6, 1), "share of the table's float32 bytes"] = 0.25

    tiny: ClassVar[Mapping[str, Any]] = {"budget": 0.6}

    def __call__(self, source: Floats2d, /) -> CompressedTable:
        """Return the kept values with their places; ``source`` is (V, D), maybe memory-mapped.

        Raises :class:`InputError` for a table without rows or with values that are not finite,
        and :class:`ConfigError` where the budget does not hold a single value.
        """
        size, width = check_source(source, self.name)
        count = capacity(self.budget, size, width, self.name)
        mask = kept(np.abs(source, dtype=np.float32), count)
        tensors, settings = store_sparse(source, mask), {"width": width}
        return CompressedTable(self.name, (size, width), tensors, settings).measured(source)

    @staticmethod
    def read(tensors: Tensors, settings: Mapping[str, Any], ids: Ids) -> Floats2d:
        """Return the rows of ``ids`` (n,), (n, D) float32."""
        return read_sparse(tensors, settings["width"], ids)
