"""Turn the table so that its parts are equally hard, then store numbers of centroids.

The idea
--------
Cut as they stand, some parts of a row hold nearly all that varies and others nearly nothing, and
every part gets the same number of centroids. A rotation changes no distance and no inner product;
the one is sought under which centroids come nearest to the rows. It is stored, and undone on
reading.

Equations
---------
With the rows X (V, D), an orthogonal R, and what the product codes of X R read as, Y::

    Y  <-  nearest centroids of X R              centroids refreshed
    R  <-  U Wᵀ   with  Xᵀ Y = U S Wᵀ            the rotation nearest in squared error
    x'  =  y Rᵀ
    V ceil(M bits / 8) + 4 K D + 4 D²  <=  4 c V D,      M the largest divisor of D

Departures from the paper
-------------------------
The rounds (``rounds`` of them), k-means and the search are those of faiss, on at most 50,000 rows;
the code books are learned once more on the turned table at the end, and what is stored and how it
is read are ours. The rotation counts as bytes.

Cost
----
``rounds`` times a round of k-means and one singular value decomposition of D by D. Reading a row
costs D² multiplications, which searching does not pay: it turns the query instead.

When not to use it
------------------
Small tables cannot pay for D² floats of rotation; there `pq`. Where all columns are alike, and
nothing correlates, turning gains nothing.

Reference
---------
T. Ge, K. He, Q. Ke, J. Sun: Optimized Product Quantization. IEEE Transactions on Pattern Analysis
and Machine Intelligence 36, 2014, section 3.1 (the non-parametric form). M. Douze and others: The
Faiss library, arXiv:2401.08281.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from tokenspace import rng
from tokenspace.arrays import Floats2d, Ids
from tokenspace.recipe import Range, Recipe

from ._product import codes_of, parts_within, read_parts, sample, trained, turned_back
from .table import CompressedTable, Tensors, check_source

__all__ = ["OPQ"]


@dataclass(frozen=True, kw_only=True)
class OPQ(Recipe):
    """Turn the table so that its parts are equally hard, then store numbers of centroids."""

    budget: Annotated[float, Range(1e-6, 1), "share of the table's float32 bytes"] = 0.1
    bits: Annotated[int, Range(1, 12), "bits of a code: 2^bits centroids a part"] = 8
    rounds: Annotated[int, Range(1, 1000), "rounds of centroids and rotation"] = 50
    seed: Annotated[int, Range(0, 2**63 - 1), "seed of the first rotation and centroids"] = 0

    tiny: ClassVar[Mapping[str, Any]] = {"budget": 0.5, "bits": 4, "rounds": 3}

    def __call__(self, source: Floats2d, /) -> CompressedTable:
        """Return codes, code books and rotation; ``source`` is (V, D), maybe memory-mapped.

        Raises :class:`InputError` for a table without rows or with values that are not finite,
        and :class:`ConfigError` where one part a row misses the budget.
        """
        size, width = check_source(source, self.name)
        parts = parts_within(self.budget, size, width, self.bits, 4 * width**2, self.name)
        rotation = self._rotation(source, parts)
        turned = np.empty((size, width), np.float32)
        for start in range(0, size, 1 << 14):
            block = np.asarray(source[start : start + (1 << 14)], np.float32)
            turned[start : start + len(block)] = block @ rotation
        books = trained(turned, parts, self.bits, self.seed)
        tensors: Tensors = {"codes": codes_of(turned, books), "books": books, "rotation": rotation}
        settings = {"parts": parts, "bits": self.bits}
        return CompressedTable(self.name, (size, width), tensors, settings).measured(source)

    def _rotation(self, source: Floats2d, parts: int) -> Floats2d:
        """Return R, (D, D) float32."""
        import faiss

        width = source.shape[1]
        product = faiss.ProductQuantizer(width, parts, self.bits)
        product.cp.seed = rng.derive(self.seed, "rotation") % (2**31 - 1)
        product.cp.min_points_per_centroid = 1
        turn = faiss.OPQMatrix(width, parts)
        turn.pq, turn.niter, turn.max_train_points = product, self.rounds, 50_000
        turn.train(sample(source, self.seed))
        matrix = faiss.vector_to_array(turn.A).reshape(width, width)
        return np.ascontiguousarray(matrix.T, np.float32)

    @staticmethod
    def read(tensors: Tensors, settings: Mapping[str, Any], ids: Ids) -> Floats2d:
        """Return the rows of ``ids`` (n,), (n, D) float32."""
        return turned_back(read_parts(tensors, settings["bits"], ids), tensors["rotation"])
