"""Spell rows by shared vectors: frequent rows choose among all, rare ones among a quarter.

The idea
--------
Rows of product codes need not be equally exact. The frequent ones are asked for often and have
been learned well: they choose among all K vectors of each part. The others choose among the first
K / 4, which takes two bits less a part. One set of vectors serves both.

Equations
---------
For q(x) in parts q_j, vectors C_j of (K, D / parts), and the ``hot`` most frequent rows by
``counts`` (ties by id)::

    k_j(x)  =  argmax_(k < K(x))  - |q_j(x) - C_j[k]|^2,     K(x) = K where x is hot, else K / 4
    e(x)    =  C_j[k_j(x)], joined;    its gradient is that of  q + sg(e - q)
    loss    =  task + mean (e - sg(q))^2

    bytes   =  4 K D + hot ceil(parts log2(K) / 8) + cold ceil(parts log2(K/4) / 8) + V (1 + 1/16)/8

The last term tells which rows are hot: one bit a row, and after every 512 rows how many were hot
before, in 4 bytes. Left at 0, ``parts`` and ``centroids`` are those of most bits a row within the
budget. Of a finished table, the vectors are those of Lloyd's algorithm in each part under the same
restriction, ``sweeps`` times.

Departures from the paper
-------------------------
The survey keeps an index of 4 bytes for the flag, which is more than the shorter codes save; ours
is a bit. No batch normalization of the distances, which would change no choice. All codes are
computed at export, those of rows that no batch held as well. Two groups, of K and K / 4, as in
the paper's experiments.

Cost
----
As above; while the layer is trained the rows take 4 V D bytes more. A row is a bit, a count and
``parts`` look-ups.

When not to use it
------------------
Where look-ups are spread evenly, or there are no counts: `dpq`. Where the table must be small in
training too: `robe` or `compo`.

Reference
---------
W.-C. Kang, D. Z. Cheng, T. Chen, X. Yi, D. Lin, L. Hong, E. H. Chi: Learning Multi-granular
Quantized Embeddings for Large-Vocab Categorical Features in Recommender Systems. WWW 2020
companion, arXiv:2002.08530.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats2d, Ids
from tokenspace.recipe import Range, Recipe

from ._codes import Books, chosen, fitted, joined, nearest
from ._packing import pack, unpack
from .table import CompressedTable, Tensors, check_source, needed_counts

if TYPE_CHECKING:
    from ._codes_net import CodedEmbedding

__all__ = ["MGQE"]

_SPAN = 512  # rows of which the hot ones are counted together
_LESS = 2  # bits that a rare row's code is shorter by
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class MGQE(Recipe):
    """Spell rows by shared vectors: frequent rows choose among all, rare ones among a quarter."""

    budget: Annotated[float, Range(1e-6, 1), "share of the table's float32 bytes"] = 0.1
    parts: Annotated[int, Range(0, 65536), "codes of a row; 0: chosen"] = 0
    centroids: Annotated[int, Range(0, 65536), "vectors of each part; 0: chosen"] = 0
    hot: Annotated[float, Range(0, 1), "share of rows that may use all vectors"] = 0.1
    sweeps: Annotated[int, Range(1, 1000), "passes over a finished table to fit it"] = 10
    seed: Annotated[int, Range(0, 2**63 - 1), "seed of the first vectors of the fit"] = 0

    tiny: ClassVar[Mapping[str, Any]] = {"budget": 0.6, "parts": 4}

    def __call__(self, source: Floats2d, /, *, counts: Ids) -> CompressedTable:
        """Return codes and vectors; ``source`` is (V, D), maybe memory-mapped.

        Raises :class:`InputError` for a table without rows or with values that are not finite,
        and :class:`ConfigError` where D is not a multiple of ``parts`` or no code fits the budget.
        """
        size, width = check_source(source, self.name)
        flags = self.frequent(needed_counts(counts, size, self.name))
        parts, centroids = self.form(flags, width)
        groups = [(np.flatnonzero(flags), centroids), (np.flatnonzero(~flags), centroids >> _LESS)]
        books = fitted(source, parts, centroids, groups, self.sweeps, self.seed)
        return self.stored(flags, source, books).measured(source)

    def frequent(self, counts: Ids) -> Flags:
        """Return which rows may use all vectors, (V,): at least one."""
        flags = np.zeros(len(counts), bool)
        flags[np.argsort(-counts, kind="stable")[: max(1, int(self.hot * len(counts)))]] = True
        return flags

    def form(self, flags: Flags, width: int) -> tuple[int, int]:
        """Return the number of parts, and of vectors of each."""
        form = self.parts, max(2 << _LESS, self.centroids) if self.centroids else 0
        heights = [(int(flags.sum()), 0), (int((~flags).sum()), _LESS)]
        beside = sum(array.nbytes for array in _marked(flags).values())
        return chosen(*form, heights, beside, self.budget, len(flags), width, self.name)

    def stored(self, flags: Flags, source: Floats2d, books: Books) -> CompressedTable:
        """Return the table of the nearest vectors of ``books`` to the rows of ``source``."""
        centroids = books.shape[1]
        bits = (centroids - 1).bit_length()
        tensors: dict[str, npt.NDArray[Any]] = {
            "books": books,
            "hot": pack(nearest(source[flags], books, centroids), bits),
            "cold": pack(nearest(source[~flags], books, centroids >> _LESS), bits - _LESS),
            **_marked(flags),
        }
        return CompressedTable(self.name, (len(source), source.shape[1]), tensors)

    @staticmethod
    def read(tensors: Tensors, settings: Mapping[str, Any], ids: Ids) -> Floats2d:
        """Return the rows of ``ids`` (n,), (n, D) float32."""
        books = tensors["books"]
        parts, bits = len(books), (books.shape[1] - 1).bit_length()
        hot, rank = _ranked(tensors["flags"], tensors["ranks"], ids)
        codes = np.empty((len(ids), parts), np.int64)
        codes[hot] = unpack(tensors["hot"], bits, parts, rank[hot])
        codes[~hot] = unpack(tensors["cold"], bits - _LESS, parts, (ids - rank)[~hot])
        return joined(books, codes)

    def embedding(
        self,
        size: int,
        width: int,
        *,
        counts: Ids | None = None,
        fields: Ids | None = None,
        init_std: float = 0.05,
        seed: int = 0,
    ) -> CodedEmbedding:
        """Return a layer of rows and vectors that are yet to be trained."""
        from ._codes_net import CodedEmbedding

        flags = self.frequent(needed_counts(counts, size, self.name))
        parts, centroids = self.form(flags, width)
        return CodedEmbedding(
            parts, centroids, ~flags, centroids >> _LESS, width, init_std, seed,
            partial(self.stored, flags),
        )  # fmt: skip


def _marked(flags: Flags) -> dict[str, npt.NDArray[Any]]:
    """Return the flags as bits, and how many hot rows come before every 512th row."""
    whole = np.pad(flags, (0, -len(flags) % _SPAN)).reshape(-1, _SPAN)
    ranks = np.cumsum(whole.sum(axis=1)) - whole.sum(axis=1)
    return {
        "flags": np.packbits(whole, axis=1, bitorder="little"),
        "ranks": ranks.astype(np.int32),
    }


def _ranked(
    bits: npt.NDArray[Any], ranks: npt.NDArray[Any], ids: Ids
) -> tuple[Flags, Ids]:  # fmt: skip
    """Return whether ids are hot, and how many hot ones come before each."""
    span, (byte, bit) = bits[ids // _SPAN], np.divmod(ids % _SPAN, 8)
    each = np.arange(len(ids))
    before = np.cumsum(np.bitwise_count(span), axis=1, dtype=np.int64) - np.bitwise_count(span)
    own = span[each, byte].astype(np.int64)
    partly = np.bitwise_count(own & ((1 << bit) - 1))
    return (own >> bit & 1).astype(bool), ranks[ids // _SPAN].astype(np.int64) + before[
        each, byte
    ] + partly
