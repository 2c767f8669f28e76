"""Turn columns down by what held-out rows say of them, then keep the largest values.

The idea
--------
Frequent ids can use many columns, rare ones overfit them. Ids are grouped by how often they occur;
every group has a gate for each column, which scales it. The table descends on the training rows
and the gates on held-out rows, so that a column that only memorises is turned down. Then the
largest gated values are kept, and training goes on with the rest at zero.

Equations
---------
With the group g(x) of id x, in ``groups`` groups of which each next has four times as many ids, and
gates α (groups, D) that begin at 1::

    e(x)  =  α[g(x)] * E[x]
    α     <- clip(α - 0.001 (∇α / mean_d |∇α|), 0, 1),     ∇α of held-out loss + 1e-5 Σ |α|
    keep the n largest |α[g(x)]_d E[x]_d|,                 n as for `magnitude`

Of a finished table, nothing can be learned about the gates; each is the root of its group's mean
count over the greatest, which keeps the values whose loss would cost the most at the ids' own
frequencies, and values are stored as they are.

Departures from the paper
-------------------------
The gates' step is that of the trainer (plain descent, rate 0.001), on the gradient divided by its
mean over the row. The groups grow by four, as ids of equal count fill most groups of equal size.
Training after pruning begins with the values that were found. Places are counted as bytes.

Cost
----
A training step runs the model twice, once on a held-out batch. Two stages. All V D values are
held in float32 until the end.

When not to use it
------------------
Where there are no counts, and below a fifth of the table, where places cost more than they save.
`deeplight` prunes as well in one stage where all ids are about equally frequent.

Reference
---------
S. Kong, W. Cheng, Y. Shen, L. Huang: AutoSrh: An Embedding Dimensionality Search Framework for
Tabular Data Prediction. IEEE Transactions on Knowledge and Data Engineering, 2022. H. Zhang and
others: arXiv:2311.15578.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np

from tokenspace.arrays import Floats2d, Ids
from tokenspace.errors import MissingEvidence
from tokenspace.recipe import Range, Recipe

from ._mixed import buckets
from ._sparse import capacity, kept, read_sparse, store_sparse
from .table import CompressedTable, Tensors, check_counts, check_source

if TYPE_CHECKING:
    from .autosrh_net import AutoSrhEmbedding

__all__ = ["AutoSrh"]


@dataclass(frozen=True, kw_only=True)
class AutoSrh(Recipe):
    """Turn columns down by what held-out rows say of them, then keep the largest values.

    ``counts`` are needed.
    """

    budget: Annotated[float, Range(1e-6, 1), "share of the table's float32 bytes"] = 0.25
    groups: Annotated[int, Range(1, 16), "groups of ids by frequency, with gates each"] = 6
    sparsity: Annotated[float, Range(0, 1), "weight of the sum of gates in the loss"] = 1e-5

    tiny: ClassVar[Mapping[str, Any]] = {"budget": 0.6, "groups": 3}

    def __call__(self, source: Floats2d, /, *, counts: Ids) -> CompressedTable:
        """Return the values that matter at these frequencies; ``source`` is (V, D).

        Raises :class:`InputError` for a table without rows or with values that are not finite and
        for counts that do not fit it, and :class:`ConfigError` where the budget does not hold a
        single value.
        """
        size, width = check_source(source, self.name)
        counts = check_counts(counts, size, self.name)
        group = buckets(counts, self.groups)
        mean = np.bincount(group, counts) / np.bincount(group)
        gates = np.sqrt(mean / max(mean.max(), 1))[group] if mean.any() else np.ones(size)
        count = capacity(self.budget, size, width, self.name)
        importance = np.abs(source, dtype=np.float32) * gates[:, None].astype(np.float32)
        tensors, settings = store_sparse(source, kept(importance, count)), {"width": width}
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
    ) -> AutoSrhEmbedding:
        """Return a whole table with gates; :class:`MissingEvidence` without ``counts``."""
        from .autosrh_net import AutoSrhEmbedding

        if counts is None:
            raise MissingEvidence(
                f"{self.name} needs counts", hint="give how often each row is asked for"
            )
        group = buckets(check_counts(counts, size, self.name), self.groups)
        keep = capacity(self.budget, size, width, self.name)
        return AutoSrhEmbedding(keep, group, width, init_std, seed, self.sparsity)
