"""Spell each row as a product of three small tensor cores (tensor train, TT-SVD).

The idea
--------
The number of a row is written in three digits and the row itself as a small three-way block. Each
digit chooses a slice of one core, and the product of the three slices is the row. All rows share
the slices, so that millions of rows are spelled with a few hundred slices; the rank says how much
the slices may say.

Equations
---------
For V <= n1 n2 n3, D = d1 d2 d3, and ranks r1 and r2::

    i1, i2, i3  =  x mod n1,  (x // n1) mod n2,  x // (n1 n2)
    e(x)        =  G1[i1] . G2[i2] . G3[i3],     (d1, r1) . (r1, d2, r2) . (r2, d3), flattened
    numbers     =  n1 d1 r1 + r1 n2 d2 r2 + r2 n3 d3

The n are near the cube root of V, smallest first; the d are powers of two dealt from the last
where D is one (16 = 2 . 2 . 4), else the divisors nearest to a cube. r1 = r2 = r is the largest
that fits, and r2 is then raised as far as it goes; neither exceeds what its core can use.

Of a finished table, seen as a tensor (n1 d1, n2 d2, n3 d3), the cores are those of the TT-SVD:
G1 holds the r1 leading left singular vectors of the first unfolding, G3 the r2 leading right
singular vectors of G1's projection, and G2 what is left. With full ranks the table comes back.

Before training all numbers are z (s / sqrt(r1 r2))^(1/3) / 2.397, where z is a normal draw that is
repeated until |z| >= 2 (of standard deviation 2.397) and s is ``init_std``: a number of a row sums
r1 r2 products of three, so that its standard deviation is s.

Departures from the paper
-------------------------
The survey's scale, (3 / (n1 n2 n3))^(1/6), does not know the rank and makes rows some fifty times
too long; ours gives rows of the length that is asked for. r1 and r2 may differ, to use the budget.

Cost
----
As above, 4 bytes a number. A row costs r1 d1 d2 r2 + r2 D multiplications, so that high ranks are
slow: this is for small budgets. The TT-SVD reads the table twice and takes eigenvectors of two
Gram matrices, (n1 d1, n1 d1) and (n3 d3, n3 d3).

When not to use it
------------------
Above a tenth of the table, where `compo` and `robe` are as good and far quicker. Of a finished
table whose rows are in no order, digits mean nothing, and `pq` or `svd` keep more.

Reference
---------
C. Yin, B. Acun, X. Liu, C.-J. Wu: TT-Rec: Tensor Train Compression for Deep Learning
Recommendation Models. MLSys 2021, arXiv:2101.11714; I. Oseledets: Tensor-Train
Decomposition. SIAM J. Sci. Comput. 33 (2011), algorithm 1 (TT-SVD).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle, islice
from math import ceil, isqrt
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats2d, Ids
from tokenspace.recipe import Range, Recipe

from ._budget import largest
from .table import CompressedTable, Tensors, check_source

if TYPE_CHECKING:
    from .ttrec_net import TtrecEmbedding

__all__ = ["Sizes", "TTRec"]

_BLOCK = 1 << 12  # rows that are spelled at a time
Triple = tuple[int, int, int]
Wide = npt.NDArray[np.float64]


class Sizes(NamedTuple):
    """How a table is cut: n1 n2 n3 >= V, d1 d2 d3 = D, and the ranks r1 and r2."""

    n: Triple
    d: Triple
    r: tuple[int, int]

    @property
    def numbers(self) -> int:
        """How many numbers the three cores have."""
        (n1, n2, n3), (d1, d2, d3), (r1, r2) = self
        return n1 * d1 * r1 + r1 * n2 * d2 * r2 + r2 * n3 * d3

    def digits(self, ids: Any) -> tuple[Any, Any, Any]:
        """Return the three digits of ids, of numpy or torch."""
        n1, n2, _ = self.n
        return ids % n1, ids // n1 % n2, ids // (n1 * n2)


@dataclass(frozen=True, kw_only=True)
class TTRec(Recipe):
    """Spell each row as a product of three small tensor cores (tensor train, TT-SVD)."""

    budget: Annotated[float, Range(1e-6, 1), "share of the table's float32 bytes"] = 0.1

    tiny: ClassVar[Mapping[str, Any]] = {"budget": 0.6}

    def __call__(self, source: Floats2d, /) -> CompressedTable:
        """Return the cores of the TT-SVD; ``source`` is (V, D), maybe memory-mapped.

        Raises :class:`InputError` for a table without rows or with values that are not finite,
        and :class:`ConfigError` where the budget is less than the cores of rank 1.
        """
        size, width = check_source(source, self.name)
        sizes = self.sizes(size, width)
        first, second, third = _tt_svd(source, sizes)
        tensors = {
            "first": first.astype(np.float32),
            "second": second.astype(np.float32),
            "third": third.astype(np.float32),
        }
        return CompressedTable(self.name, (size, width), tensors).measured(source)

    def sizes(self, size: int, width: int) -> Sizes:
        """Return how the table is cut, with the largest ranks that fit."""
        n, d = _rows(size), _columns(width)
        most = n[0] * d[0], n[2] * d[2]

        def both(r: int) -> Sizes:
            return Sizes(n, d, (min(r, most[0]), min(r, most[1])))

        def second(r: int) -> Sizes:
            return Sizes(n, d, (both(rank).r[0], r))

        given = (self.budget, size, width, self.name)
        rank = largest(lambda r: 4 * both(r).numbers, 1, max(most), *given)
        return second(
            largest(lambda r: 4 * second(r).numbers, both(rank).r[1], most[1], *given)
        )  # fmt: skip

    @staticmethod
    def read(tensors: Tensors, settings: Mapping[str, Any], ids: Ids) -> Floats2d:
        """Return the rows of ``ids`` (n,), (n, D) float32."""
        first, second, third = tensors["first"], tensors["second"], tensors["third"]
        (n1, d1, r1), (n2, _, d2, r2), (n3, _, d3) = first.shape, second.shape, third.shape
        sizes = Sizes((n1, n2, n3), (d1, d2, d3), (r1, r2))
        found = np.empty((len(ids), d1 * d2 * d3), np.float32)
        for start in range(0, len(ids), _BLOCK):
            i1, i2, i3 = sizes.digits(ids[start : start + _BLOCK])
            rows = np.empty((len(i1), d1, d2 * r2), np.float32)
            for digit in np.unique(i2):  # one product for all that share the largest slice
                rows[i2 == digit] = first[i1[i2 == digit]] @ second[digit].reshape(r1, d2 * r2)
            rows = rows.reshape(-1, d1 * d2, r2) @ third[i3]
            found[start : start + _BLOCK] = rows.reshape(len(rows), -1)
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
    ) -> TtrecEmbedding:
        """Return a layer of three cores that are yet to be trained."""
        from .ttrec_net import TtrecEmbedding

        return TtrecEmbedding(self.sizes(size, width), size, width, init_std, seed)


def _rows(size: int) -> Triple:
    """Return n1 <= n2 <= n3 near the cube root of ``size``, whose product is no less."""
    third = next(n for n in range(max(1, round(size ** (1 / 3)) - 1), size + 2) if n**3 >= size)
    rest = -(-size // third)
    second = isqrt(rest - 1) + 1 if rest > 1 else 1
    first, second, third = sorted((ceil(rest / second), second, third))
    return first, second, third


def _columns(width: int) -> Triple:
    """Return d1 <= d2 <= d3 whose product is ``width``."""
    if width & (width - 1) == 0:
        found = [1, 1, 1]
        for place in islice(cycle((2, 1, 0)), width.bit_length() - 1):
            found[place] *= 2
        return found[0], found[1], found[2]
    splits = (
        (a, b, width // (a * b))
        for a in range(1, width + 1)
        if width % a == 0
        for b in range(a, isqrt(width // a) + 1)
        if width // a % b == 0
    )
    return min(splits, key=sum)


def _tt_svd(source: Floats2d, sizes: Sizes) -> tuple[Wide, Wide, Wide]:
    """Return G1 (n1, d1, r1), G2 (n2, r1, d2, r2) and G3 (n3, r2, d3)."""
    (n1, n2, n3), (d1, d2, d3), (r1, r2) = sizes
    gram = np.zeros((n1 * d1, n1 * d1))
    for block in _slabs(source, sizes):
        gram += block @ block.T
    left = _leading(gram, r1)  # (n1 d1, r1)
    projected = np.empty((r1 * n2 * d2, n3, d3))
    for digit, block in enumerate(_slabs(source, sizes)):
        projected[:, digit] = (left.T @ block).reshape(r1 * n2 * d2, d3)
    flat = projected.reshape(len(projected), -1)
    right = _leading(flat.T @ flat, r2)  # (n3 d3, r2)
    return (
        left.reshape(n1, d1, r1),
        (flat @ right).reshape(r1, n2, d2, r2).transpose(1, 0, 2, 3),
        right.reshape(n3, d3, r2).transpose(0, 2, 1),
    )


def _slabs(source: Floats2d, sizes: Sizes) -> Iterator[Wide]:
    """Yield the rows of each third digit as a matrix (n1 d1, n2 d2 d3); missing rows are zero."""
    (n1, n2, n3), (d1, d2, d3), _ = sizes
    for digit in range(n3):
        rows = np.asarray(source[digit * n1 * n2 : (digit + 1) * n1 * n2], np.float64)
        whole = np.pad(rows, ((0, n1 * n2 - len(rows)), (0, 0)))
        cut = whole.reshape(n2, n1, d1, d2, d3)
        yield cut.transpose(1, 2, 0, 3, 4).reshape(n1 * d1, n2 * d2 * d3)


def _leading(gram: Wide, count: int) -> Wide:
    """Return the eigenvectors of the ``count`` largest eigenvalues, as columns."""
    _, vectors = np.linalg.eigh(gram)
    found: Wide = vectors[:, ::-1][:, :count]
    return found
