"""Make each row of two shared ones: the quotient's and the remainder's.

The idea
--------
With m rows for the remainders of an id divided by m, and another table for its quotients, every
id has its own pair of rows although both tables together are far smaller than the whole. The two
rows are multiplied number by number (or added), so that no two ids get the same row.

Equations
---------
With V rows of width D and a budget that allows N rows::

    m     =  the least m <= sqrt(V) with  ceil(V/m) + m <= N
    e(x)  =  Q[x // m] * R[x mod m]             product, elementwise; Q (ceil(V/m), D), R (m, D)
    e(x)  =  Q[x // m] + R[x mod m]             sum

Of a finished table X, for every column apart, the best Q and R by turns, with the weights w(x) of
``counts`` (alternating least squares, ``sweeps`` times)::

    Q[a]  =  sum_b w R[b] X[am + b] / sum_b w R[b]^2          and the same for R over a

which for the product is the leading singular pair of the column written as a (V/m, m) matrix.
R begins as the group of m rows of the largest norm in that column.

Before training both tables are normal with the standard deviation s^(1/2) for the product, where
s is ``init_std``, and s/sqrt(2) for the sum: a row that is looked up has that of s.

Departures from the paper
-------------------------
Two tables, and products by default, which the survey takes as well; the paper also has paths of
layers and more than two parts. The initial scale is ours: the survey's makes the product of two
Xavier draws. The fit of a finished table is ours.

Cost
----
4 D (ceil(V/m) + m) bytes, at the least about 8 D sqrt(V). A row is two look-ups. The fit reads
the table ``sweeps`` times, block by block.

When not to use it
------------------
Below 2 / sqrt(V) of the table nothing is left to give; `robe` and `ttrec` go lower. Of a finished
table whose rows are in no order there is little that groups of m rows share, and most is lost:
`pq` and `int8` are for those.

Reference
---------
H.-J. M. Shi, D. Mudigere, M. Naumov, J. Yang: Compositional Embeddings Using Complementary
Partitions for Memory-Efficient Recommendation Systems. KDD 2020, arXiv:1909.02107.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats2d, Ids
from tokenspace.recipe import Range, Recipe

from ._budget import largest
from .table import CompressedTable, Tensors, check_counts, check_source

if TYPE_CHECKING:
    from .compo_net import CompoEmbedding

__all__ = ["Compo"]

_BLOCK = 1 << 20  # values that are held in float64 at a time
Wide = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Compo(Recipe):
    """Make each row of two shared ones: the quotient's and the remainder's."""

    budget: Annotated[float, Range(1e-6, 1), "share of the table's float32 bytes"] = 0.1
    combine: Annotated[Literal["product", "sum"], "how the two rows become one"] = "product"
    sweeps: Annotated[int, Range(1, 1000), "passes over a finished table to fit it"] = 10

    tiny: ClassVar[Mapping[str, Any]] = {"budget": 0.5}

    def __call__(self, source: Floats2d, /, *, counts: Ids | None = None) -> CompressedTable:
        """Return the two tables that come closest; ``source`` is (V, D), maybe memory-mapped.

        Raises :class:`InputError` for a table without rows or with values that are not finite,
        and :class:`ConfigError` where the budget is less than about 2 / sqrt(V).
        """
        size, width = check_source(source, self.name)
        m = self.divisor(size, width)
        weights: Wide = np.ones(size)
        if counts is not None:
            weights = np.maximum(check_counts(counts, size, self.name), 1e-9, dtype=np.float64)
        fit = _products if self.combine == "product" else _sums
        quotients, remainders = fit(source, weights, m, self.sweeps)
        tensors = {
            "quotients": quotients.astype(np.float32),
            "remainders": remainders.astype(np.float32),
        }
        settings = {"combine": self.combine}
        return CompressedTable(self.name, (size, width), tensors, settings).measured(source)

    def divisor(self, size: int, width: int) -> int:
        """Return m, the number of remainders."""
        root = isqrt(size)

        def cost(step: int) -> int:  # the fewer remainders, the more rows
            m = root + 1 - step
            return 4 * width * (-(-size // m) + m)

        return root + 1 - largest(cost, 1, root, self.budget, size, width, self.name)

    @staticmethod
    def read(tensors: Tensors, settings: Mapping[str, Any], ids: Ids) -> Floats2d:
        """Return the rows of ``ids`` (n,), (n, D) float32."""
        m = len(tensors["remainders"])
        quotients, remainders = tensors["quotients"][ids // m], tensors["remainders"][ids % m]
        product = settings["combine"] == "product"
        found: Floats2d = quotients * remainders if product else quotients + remainders
        return found

    def embedding(
        self,
        size: int,
        width: int,
        *,
        counts: Ids | None = None,
        fields: Ids | None = None,
        init_std: float = 0.05,
        seed: int = 0,
    ) -> CompoEmbedding:
        """Return a layer of two tables that are yet to be trained."""
        from .compo_net import CompoEmbedding

        m = self.divisor(size, width)
        return CompoEmbedding(m, self.combine, size, width, init_std, seed)


def _blocks(source: Floats2d, weights: Wide, m: int) -> Any:
    """Yield (first group, X (g, m, D), w (g, m, 1)) for some groups of m rows at a time.

    What the last group lacks has the weight zero.
    """
    size, width = source.shape
    step = m * max(1, _BLOCK // (m * width))
    for start in range(0, size, step):
        rows = np.asarray(source[start : start + step], np.float64)
        given = weights[start : start + step]
        lack = -len(rows) % m
        rows = np.pad(rows, ((0, lack), (0, 0))).reshape(-1, m, width)
        yield start // m, rows, np.pad(given, (0, lack)).reshape(-1, m, 1)


def _products(source: Floats2d, weights: Wide, m: int, sweeps: int) -> tuple[Wide, Wide]:
    """Return Q and R whose products come closest to the rows."""
    size, width = source.shape
    quotients, remainders = np.zeros((-(-size // m), width)), np.ones((m, width))
    largest_norm = np.zeros(width)
    for _, rows, w in _blocks(source, weights, m):
        norms = (w * rows**2).sum(axis=1)
        best = norms.argmax(axis=0)
        columns = np.arange(width)
        better = norms[best, columns] > largest_norm
        largest_norm = np.maximum(largest_norm, norms[best, columns])
        remainders[:, better] = rows[best, :, columns].T[:, better]
    for _ in range(sweeps):
        above, below = np.zeros((m, width)), np.zeros((m, width))
        for first, rows, w in _blocks(source, weights, m):
            q = _over((w * rows * remainders).sum(axis=1), (w * remainders**2).sum(axis=1))
            quotients[first : first + len(rows)] = q
            above += np.einsum("amo,amd,ad->md", w, rows, q)
            below += np.einsum("amo,ad->md", w, q**2)
        remainders = _over(above, below)
    return quotients, remainders


def _sums(source: Floats2d, weights: Wide, m: int, sweeps: int) -> tuple[Wide, Wide]:
    """Return Q and R whose sums come closest to the rows."""
    size, width = source.shape
    quotients, remainders = np.zeros((-(-size // m), width)), np.zeros((m, width))
    for _ in range(sweeps):
        above, below = np.zeros((m, width)), np.zeros((m, 1))
        for first, rows, w in _blocks(source, weights, m):
            q = _over((w * (rows - remainders)).sum(axis=1), w.sum(axis=1))
            quotients[first : first + len(rows)] = q
            above += (w * (rows - q[:, None])).sum(axis=0)
            below += w.sum(axis=0)
        remainders = _over(above, below)
    return quotients, remainders


def _over(above: Wide, below: Wide) -> Wide:
    """Return the quotient, zero where nothing was weighed."""
    found: Wide = above / np.where(below > 0, below, 1)
    return found
