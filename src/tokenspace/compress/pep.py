"""Learn by descent how large a value must be to be kept, then train the kept ones again.

The idea
--------
Values below a threshold are zero, and the threshold is a parameter like any other: the loss itself
raises it where small values only add noise. When enough is zero, the places of the rest are fixed
and the table is trained again from its first values.

Equations
---------
With thresholds s of the whole table, of every column or of every row, beginning at ``start``::

    e  =  sign(w) max(|w| - sigmoid(s), 0)
    M  =  [e != 0],  of which the n largest |e| are kept;    n as for `magnitude`
    e(x)  =  W_0[x] * M[x],   trained again from the first values W_0

Of a finished table: sigmoid(s) is the threshold that leaves n values, and those are stored shorter
by it, as the equation has it.

Departures from the paper
-------------------------
The paper stops where training first comes to the number of values that are asked for. A short
training may end with more of them, of which the largest are kept here, so that the budget holds;
with fewer, those are all. The reference begins at s = -150, where the threshold and its gradient
are exactly zero in float32; -5 is 0.007, a seventh of the first values' size.

Cost
----
Two trainings, the first with one more multiplication and subtraction a value. All V D values are
held in float32 until the end.

When not to use it
------------------
On a finished table: `magnitude` keeps the same places and does not shorten the values. Below a
fifth of the table, where places cost more than they save.

Reference
---------
S. Liu, C. Gao, Y. Chen, D. Jin, Y. Li: Learnable Embedding Sizes for Recommender Systems. ICLR
2021, arXiv:2101.07577, section 3. H. Zhang and others: arXiv:2311.15578.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np

from tokenspace.arrays import Floats2d, Ids
from tokenspace.recipe import Range, Recipe

from ._sparse import capacity, kept, read_sparse, store_sparse
from .table import CompressedTable, Tensors, check_source

if TYPE_CHECKING:
    from .pep_net import PEPEmbedding

__all__ = ["PEP"]


@dataclass(frozen=True, kw_only=True)
class PEP(Recipe):
    """Learn by descent how large a value must be to be kept, then train the kept ones again."""

    budget: Annotated[float, Range(1e-6, 1), "share of the table's float32 bytes"] = 0.25
    start: Annotated[float, Range(-15, -1), "first threshold, before the sigmoid"] = -5.0
    per: Annotated[Literal["table", "column", "row"], "what has a threshold of its own"] = "column"

    tiny: ClassVar[Mapping[str, Any]] = {"budget": 0.6}

    def __call__(self, source: Floats2d, /) -> CompressedTable:
        """Return the values above one threshold, less it; ``source`` is (V, D).

        Raises :class:`InputError` for a table without rows or with values that are not finite,
        and :class:`ConfigError` where the budget does not hold a single value.
        """
        size, width = check_source(source, self.name)
        count = capacity(self.budget, size, width, self.name)
        values = np.array(source, np.float32)
        mask = kept(np.abs(values), count)
        threshold = np.float32(np.abs(values[~mask]).max(initial=0.0))
        values = np.sign(values) * np.maximum(np.abs(values) - threshold, 0)
        tensors, settings = store_sparse(values, mask & (values != 0)), {"width": width}
        return CompressedTable(self.name, (size, width), tensors, settings).measured(source)

    @staticmethod
    def read(tensors: Tensors, settings: Mapping[str, Any], ids: Ids) -> Floats2d:
        """Return the rows of ``ids`` (n,), (n, D) float32."""
        return read_sparse(tensors, settings["width"], ids)

    def embedding(
        self,
        size: int,
        width: int,
        *,
        counts: Ids | None = None,
        fields: Ids | None = None,
        init_std: float = 0.05,
        seed: int = 0,
    ) -> PEPEmbedding:
        """Return a whole table under thresholds that are yet to be trained."""
        from .pep_net import PEPEmbedding

        keep = capacity(self.budget, size, width, self.name)
        return PEPEmbedding(keep, size, width, init_std, seed, self.start, self.per)
