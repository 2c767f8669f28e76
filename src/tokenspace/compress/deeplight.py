"""Drop the smallest values while the table is trained, a few more every ten steps.

The idea
--------
Pruned at the end, a table loses values that the rest of the model counted on. Here the smallest
are set to zero early and again and again, and training goes on around them. A dropped value still
receives gradients, so one that matters grows back and another falls in its place.

Equations
---------
With p = 1 - n / (V D) the share to drop in the end (n as for `magnitude`), T steps in all and a
warm-up of w T::

    p_t  =  p (1 - 0.001^((t - w T) / (0.9 T - w T))),     every 10 steps after the warm-up
    x_ij =  0  for the p_t V D smallest |x_ij|

In the last step exactly n are kept. Of a finished table, this is what is left of `magnitude`.

Departures from the paper
-------------------------
The reference's schedule, 1 - 0.99^(t / 100), takes 69,000 steps to come within a thousandth of the
target; ours comes as near at nine tenths of the training, however short. The paper also prunes
the other layers of its model; this is the table alone. Places are counted as bytes.

Cost
----
Beside plain training one partial sort of V D values every ten steps. All V D values are held in
float32 until the end.

When not to use it
------------------
Where the bytes of places hurt, below a fifth of the table: at 4 (V + 1) bytes of pointers and 5
bytes a value, ids that share (`robe`, `compo`) get further. Without training, see `magnitude`.

Reference
---------
W. Deng, J. Pan, T. Zhou, D. Kong, A. Flores, G. Lin: DeepLight: Deep Lightweight Feature
Interactions for Accelerating CTR Predictions in Ad Serving. WSDM 2021, arXiv:2002.06987, section
4.2. H. Zhang and others: arXiv:2311.15578.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np

from tokenspace.arrays import Floats2d, Ids
from tokenspace.recipe import Range, Recipe

from ._sparse import capacity, kept, read_sparse, store_sparse
from .table import CompressedTable, Tensors, check_source

if TYPE_CHECKING:
    from .deeplight_net import DeepLightEmbedding

__all__ = ["DeepLight"]


@dataclass(frozen=True, kw_only=True)
class DeepLight(Recipe):
    """Drop the smallest values while the table is trained, a few more every ten steps."""

    budget: Annotated[float, Range(1e-6, 1), "share of the table's float32 bytes"] = 0.25
    warmup: Annotated[float, Range(0, 0.8), "share of the steps before the first pruning"] = 0.1

    tiny: ClassVar[Mapping[str, Any]] = {"budget": 0.6}

    def __call__(self, source: Floats2d, /) -> CompressedTable:
        """Return the largest values with their places; ``source`` is (V, D), maybe memory-mapped.

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

    def embedding(
        self,
        size: int,
        width: int,
        *,
        counts: Ids | None = None,
        fields: Ids | None = None,
        init_std: float = 0.05,
        seed: int = 0,
    ) -> DeepLightEmbedding:
        """Return a whole table that is pruned as it is trained."""
        from .deeplight_net import DeepLightEmbedding

        keep = capacity(self.budget, size, width, self.name)
        return DeepLightEmbedding(keep, size, width, init_std, seed, self.warmup)
