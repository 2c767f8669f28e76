"""Cut rows into parts, and store for each part which of 2^b centroids is nearest.

The idea
--------
The parts of many rows look alike. The columns are cut into M parts; in each, k-means finds K
typical parts, the code book, and a row is the numbers of its M nearest ones: a byte a part. With M
parts a row can be any of K^M combinations, of which only M K parts are stored.

Equations
---------
Part j of row x is x_j, of D / M numbers, with the code book C_j (K, D / M), K = 2^bits::

    q_j   =  argmin_k ‖x_j - C_jk‖
    x'    =  (C_1q_1, ..., C_Mq_M)
    V ceil(M bits / 8) + 4 K D  <=  4 c V D,       M the largest divisor of D

Departures from the paper
-------------------------
k-means is that of faiss, 25 rounds on at most 65,536 rows, and one round of ours at the end; what
is stored and how it is read are ours. Codes of fewer than 8 bits are packed without gaps. Code
books count as bytes. Where every row's parts are among K different ones, the table is exact.

Cost
----
O(V K D) time a round. Reading a row copies M parts.

When not to use it
------------------
Where neighbouring columns differ much in size, parts are unequally hard: `opq` turns the table
first, at D² floats more. Small tables cannot pay for code books of 2^8 parts: give fewer ``bits``.
A ranking by such rows needs a second look at the candidates.

Reference
---------
H. Jégou, M. Douze, C. Schmid: Product Quantization for Nearest Neighbor Search. IEEE Transactions
on Pattern Analysis and Machine Intelligence 33, 2011, section II. M. Douze and others: The Faiss
library, arXiv:2401.08281.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from tokenspace.arrays import Floats2d, Ids
from tokenspace.recipe import Range, Recipe

from ._product import codes_of, parts_within, read_parts, trained
from .table import CompressedTable, Tensors, check_source

__all__ = ["PQ"]


@dataclass(frozen=True, kw_only=True)
class PQ(Recipe):
    """Cut rows into parts, and store for each part which of 2^b centroids is nearest."""

    budget: Annotated[float, Range(1e-6, 1), "share of the table's float32 bytes"] = 0.1
    bits: Annotated[int, Range(1, 12), "bits of a code: 2^bits centroids a part"] = 8
    seed: Annotated[int, Range(0, 2**63 - 1), "seed of the first centroids"] = 0

    tiny: ClassVar[Mapping[str, Any]] = {"budget": 0.4, "bits": 4}

    def __call__(self, source: Floats2d, /) -> CompressedTable:
        """Return codes and code books; ``source`` is (V, D), maybe memory-mapped.

        Raises :class:`InputError` for a table without rows or with values that are not finite,
        and :class:`ConfigError` where one part a row misses the budget.
        """
        size, width = check_source(source, self.name)
        parts = parts_within(self.budget, size, width, self.bits, 0, self.name)
        books = trained(source, parts, self.bits, self.seed)
        tensors: Tensors = {"codes": codes_of(source, books), "books": books}
        settings = {"parts": parts, "bits": self.bits}
        return CompressedTable(self.name, (size, width), tensors, settings).measured(source)

    @staticmethod
    def read(tensors: Tensors, settings: Mapping[str, Any], ids: Ids) -> Floats2d:
        """Return the rows of ``ids`` (n,), (n, D) float32."""
        return read_parts(tensors, settings["bits"], ids)
