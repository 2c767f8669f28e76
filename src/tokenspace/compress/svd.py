"""Keep the directions in which a table varies most: the best matrix of low rank.

The idea
--------
The rows of a learned table crowd around few directions. Each row is replaced by its coordinates
on the k directions that hold most of the squared length of all rows; the directions are stored
once. No matrix of rank k is nearer in squared error.

Equations
---------
With X (V, D) and the eigenvectors of XᵀX, largest first, as the rows of A::

    T   =  X Aᵀ[:k]          the coordinates, (V, k)
    x'  =  t A[:k]           what is read back
    4 k (V + D)  <=  4 c V D

With ``groups`` G > 1, the rows are sorted by length and cut into G groups of equal total length,
each with directions of its own, whose number falls as the group grows (n_g rows)::

    k_g  =  round(r n_g^-0.3 / max_h n_h^-0.3),    r the largest within the budget

Departures from the paper
-------------------------
None of weight: no mean is taken off, as scores are inner products about the origin. Every row's
group costs a few bits, which the survey does not count. Where k directions would cost more than
the rows themselves, the rows are stored as they are.

Cost
----
O(V D²) time for the products and O(D³) for the directions, in float64 and in blocks of rows.
Reading a row costs k D multiplications.

When not to use it
------------------
Where the spectrum is flat, as it is for most tables after a good training: a fraction c of the
directions holds little more than c of the length. `opq` keeps far more of the ranking in as many
bytes; `int8` first, where a quarter of the bytes is small enough.

Reference
---------
H. Zhang, P. Zhao, X. Miao, Y. Shao, Z. Liu, T. Yang, B. Cui: Experimental Analysis of Large-scale
Learnable Vector Storage Compression. PVLDB 2024, arXiv:2311.15578, the retrieval task. C. Eckart,
G. Young: The approximation of one matrix by another of lower rank, Psychometrika 1936.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from tokenspace.arrays import Floats2d, Ids
from tokenspace.recipe import Range, Recipe

from ._budget import largest
from ._mixed import effective, factored, membership_bytes, mixed_bytes, read_mixed
from .table import CompressedTable, Tensors, check_source

__all__ = ["SVD"]


@dataclass(frozen=True, kw_only=True)
class SVD(Recipe):
    """Keep the directions in which a table varies most: the best matrix of low rank."""

    budget: Annotated[float, Range(1e-6, 1), "share of the table's float32 bytes"] = 0.1
    groups: Annotated[int, Range(1, 64), "groups of rows by length, with directions each"] = 1

    tiny: ClassVar[Mapping[str, Any]] = {"budget": 0.6}

    def __call__(self, source: Floats2d, /) -> CompressedTable:
        """Return the coordinates and the directions; ``source`` is (V, D), maybe memory-mapped.

        Raises :class:`InputError` for a table without rows or with values that are not finite,
        and :class:`ConfigError` where the budget is less than one direction.
        """
        size, width = check_source(source, self.name)
        group = self._groups(source)
        counts = np.bincount(group)
        member = membership_bytes(size, len(counts))
        shares = counts**-0.3 / (counts**-0.3).max()

        def ranks(r: int) -> list[int]:
            return effective(counts, np.maximum(np.rint(r * shares), 1).astype(int), width)

        r = largest(
            lambda r: member + mixed_bytes(counts, ranks(r), width),
            1, width, self.budget, size, width, self.name,
        )  # fmt: skip
        tensors = factored(source, group, ranks(r))
        settings = {"width": width}
        return CompressedTable(self.name, (size, width), tensors, settings).measured(source)

    def _groups(self, source: Floats2d) -> Ids:
        """Return the group of every row: the longest rows are in group 0."""
        if self.groups == 1 or self.budget == 1:
            return np.zeros(len(source), np.int64)
        lengths = np.sqrt(np.einsum("ij,ij->i", source, source, dtype=np.float64))
        order = np.argsort(-lengths, kind="stable")
        reached = np.cumsum(lengths[order])
        parts = np.minimum(reached * self.groups / max(reached[-1], 1e-300), self.groups - 1)
        found = np.empty(len(source), np.int64)
        found[order] = np.unique(parts.astype(np.int64), return_inverse=True)[1]
        return found

    @staticmethod
    def read(tensors: Tensors, settings: Mapping[str, Any], ids: Ids) -> Floats2d:
        """Return the rows of ``ids`` (n,), (n, D) float32."""
        return read_mixed(tensors, settings["width"], ids)
