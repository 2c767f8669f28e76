"""Give frequent rows to themselves and let the rare ones share.

The idea
--------
Most look-ups ask for few rows. Those keep a row each, and all others, which are asked for so
rarely that little can be learned about each, are folded into the rows that are left.

Equations
---------
Of V rows by falling ``counts`` (ties by id), the first n_hot own a row; R is the table of both
kinds, and N rows are what the budget c allows::

    c >= 2/D   e(x) = R[t(x)]                  t: V indices of 4 bytes, the rank of x where it is
                                               hot, else n_hot + (rank - n_hot) mod n_rare
               n_hot = p V, n_rare = N - V/D - n_hot;     p = ``hot``, or the smaller of 0.1 and c/2
    c <  2/D   e(x) = R[place of x among hot]  the hot ids, sorted, 4 bytes each, and
               e(x) = R[n_hot + h(x)]          h(x) = ((a x + b) mod (2^31 - 1)) mod n_rare
               n_hot (D + 1) + n_rare D = N D, both sides equally dear unless ``hot`` is given

Of a finished table, a hot row is copied and a shared one is the mean of those that share it,
weighted by ``counts``.

Departures from the paper
-------------------------
An index for every row takes 1/D of the table, which the survey does not charge; where that is
half the budget or more, we keep the hot ids alone and hash the others, and charge both.

Cost
----
Within the budget, with all indices. A row is one look-up after one index, or after a binary
search among the hot ids.

When not to use it
------------------
Where look-ups are spread evenly. At a tenth of the bytes and less, `robe`, `compo` and `ttrec`
do not give up telling rare ids apart. Needs counts.

Reference
---------
H. Zhang, P. Zhao, X. Miao, Y. Shao, Z. Liu, T. Yang, B. Cui: Experimental Analysis of Large-scale
Learnable Vector Storage Compression. PVLDB 2024, arXiv:2311.15578; the method is the
adaptive embedding of the DeepRec framework.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats2d, Ids
from tokenspace.errors import ConfigError
from tokenspace.recipe import Range, Recipe
from tokenspace.rng import stream

from ._budget import allowed, unreachable
from .table import CompressedTable, Tensors, check_source, needed_counts

if TYPE_CHECKING:
    from .adaptemb_net import AdaptembEmbedding

__all__ = ["AdaptEmb"]

_PRIME = 2**31 - 1
_HASH_BYTES = 16
_BLOCK = 1 << 20  # values that are held in float64 at a time


@dataclass(frozen=True, kw_only=True)
class AdaptEmb(Recipe):
    """Give frequent rows to themselves and let the rare ones share."""

    budget: Annotated[float, Range(1e-6, 1), "share of the table's float32 bytes"] = 0.1
    hot: Annotated[float, Range(0, 1), "share of the rows that keep their own; 0: chosen"] = 0.0

    tiny: ClassVar[Mapping[str, Any]] = {"budget": 0.6, "hot": 0.5}

    def __call__(self, source: Floats2d, /, *, counts: Ids) -> CompressedTable:
        """Return hot rows as they are and means of rare ones; ``source`` is (V, D).

        Raises :class:`InputError` for a table without rows or with values that are not finite,
        and :class:`ConfigError` where the budget is less than one shared row and its index.
        """
        size, width = check_source(source, self.name)
        counts = needed_counts(counts, size, self.name)
        index, place, rows = self.places(counts, width)
        weights = counts + 1e-9
        sums, total = np.zeros((rows, width)), np.zeros(rows)
        step = max(1, _BLOCK // width)
        for start in range(0, size, step):
            part = slice(start, start + step)
            np.add.at(sums, place[part], weights[part, None] * source[part])
            np.add.at(total, place[part], weights[part])
        tensors = {"rows": (sums / np.where(total > 0, total, 1)[:, None]).astype(np.float32)}
        return CompressedTable(self.name, (size, width), {**tensors, **index}).measured(source)

    def split(self, size: int, width: int) -> tuple[bool, int, int]:
        """Return whether every row has an index, and the numbers of hot and of shared rows."""
        limit, row = allowed(self.budget, size, width), 4 * width
        indexed = self.budget * width >= 2
        spare = limit - (4 * size if indexed else _HASH_BYTES)
        hot_row = row if indexed else row + 4
        chosen = min(0.1 * size, spare / 2 / row) if indexed else spare / 2 / hot_row
        hot = min(int(self.hot * size if self.hot else max(0, chosen)), size)
        rare = min((spare - hot * hot_row) // row, size - hot)
        if spare < row:
            least = row + (4 * size if indexed else _HASH_BYTES)
            raise unreachable(self.name, self.budget, least, size, width)
        if rare < min(1, size - hot):
            most = (spare - row) // hot_row / size
            raise ConfigError(
                f"{self.name}: hot={self.hot:g} leaves nothing to share of budget={self.budget:g}",
                hint=f"give hot at most {most:.4g}, or 0",
            )
        return indexed, hot, max(rare, 0)

    def places(self, counts: Ids, width: int) -> tuple[dict[str, npt.NDArray[Any]], Ids, int]:
        """Return what finds a row, the row of every id (V,), and how many rows there are."""
        size = len(counts)
        indexed, hot, rare = self.split(size, width)
        order = np.argsort(-counts, kind="stable")
        if indexed:
            rank = np.arange(size)
            place = np.empty(size, np.int64)
            place[order] = np.where(rank < hot, rank, hot + (rank - hot) % max(rare, 1))
            return {"index": place.astype(np.int32)}, place, hot + rare
        own = np.sort(order[:hot]).astype(np.int32)
        hashes = stream(0, "adaptemb", size, width).integers(1, _PRIME, 2)
        index: dict[str, npt.NDArray[Any]] = {"hot": own, "hashes": hashes}
        return index, _found(own, hashes, hot + rare, np.arange(size)), hot + rare

    @staticmethod
    def read(tensors: Tensors, settings: Mapping[str, Any], ids: Ids) -> Floats2d:
        """Return the rows of ``ids`` (n,), (n, D) float32."""
        rows: Floats2d = tensors["rows"]
        if "index" in tensors:
            return rows[tensors["index"][ids]]
        return rows[_found(tensors["hot"], tensors["hashes"], len(rows), ids)]

    def embedding(
        self,
        size: int,
        width: int,
        *,
        counts: Ids | None = None,
        fields: Ids | None = None,
        init_std: float = 0.05,
        seed: int = 0,
    ) -> AdaptembEmbedding:
        """Return a layer of hot and shared rows that are yet to be trained."""
        from .adaptemb_net import AdaptembEmbedding

        index, place, rows = self.places(needed_counts(counts, size, self.name), width)
        return AdaptembEmbedding(index, place, rows, width, init_std, seed)


def _found(hot: npt.NDArray[Any], hashes: Ids, rows: int, ids: Ids) -> Ids:
    """Return the rows of ``ids``: their places among the hot ones, else where they are hashed."""
    rare = rows - len(hot)
    shared = len(hot) + (hashes[0] * ids + hashes[1]) % _PRIME % max(rare, 1)
    if len(hot) == 0:
        return np.asarray(shared, np.int64)
    place = np.minimum(np.searchsorted(hot, ids), len(hot) - 1)
    return np.where(hot[place] == ids, place, shared)
