"""Store each row as a few numbers of shared vectors that are learned with the task.

The idea
--------
A row is cut into parts, and each part is replaced by the nearest of K vectors that all rows share
in that place. What is stored of a row are the numbers of these vectors. While the task is learned
the rows are kept in full: the nearest vectors are what the model sees, the gradient goes to the
rows as if they were not replaced, and the vectors are pulled to the rows that chose them.

Equations
---------
For q(x) in parts q_j, vectors C_j of (K, D / parts), and sg() a value that is taken as constant::

    k_j(x)  =  argmax_k  - |q_j(x) - C_j[k]|^2
    e(x)    =  C_j[k_j(x)], joined;    its gradient is that of  q + sg(e - q)
    loss    =  task + mean (e - sg(q))^2
    bytes   =  4 K D + V ceil(parts log2(K) / 8)

Left at 0, ``parts`` and ``centroids`` are those of most bits a row within the budget. Of a
finished table, the vectors are those of Lloyd's algorithm in each part, ``sweeps`` times.

Departures from the paper
-------------------------
This is the paper's second form (vector quantization); its first takes a softmax over keys that
are separate from the vectors. No batch normalization of the distances: in this place it would add
one number to all K and scale them alike, which changes no choice. All codes are computed at
export, those of rows that no batch held as well.

Cost
----
As above; while the layer is trained the rows take 4 V D bytes more. A row is ``parts`` look-ups.

When not to use it
------------------
Where the table must be small in training too: `robe` or `compo`. Below one byte a row: codes are
per row, so that V bytes are about the least. For a finished table `opq` turns the space first,
and keeps more at the same size.

Reference
---------
T. Chen, L. Li, Y. Sun: Differentiable Product Quantization for End-to-End Embedding Compression.
ICML 2020, arXiv:1908.09756.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats2d, Ids
from tokenspace.recipe import Range, Recipe

from ._codes import Books, chosen, fitted, joined, nearest
from ._packing import pack, unpack
from .table import CompressedTable, Tensors, check_source

if TYPE_CHECKING:
    from ._codes_net import CodedEmbedding

__all__ = ["DPQ"]


@dataclass(frozen=True, kw_only=True)
class DPQ(Recipe):
    """Store each row as a few numbers of shared vectors that are learned with the task."""

    budget: Annotated[float, Range(1e-6, 1), "share of the table's float32 bytes"] = 0.1
    parts: Annotated[int, Range(0, 65536), "codes of a row; 0: chosen"] = 0
    centroids: Annotated[int, Range(0, 65536), "vectors of each part; 0: chosen"] = 0
    sweeps: Annotated[int, Range(1, 1000), "passes over a finished table to fit it"] = 10
    seed: Annotated[int, Range(0, 2**63 - 1), "seed of the first vectors of the fit"] = 0

    tiny: ClassVar[Mapping[str, Any]] = {"budget": 0.5, "parts": 4}

    def __call__(self, source: Floats2d, /) -> CompressedTable:
        """Return codes and vectors; ``source`` is (V, D), maybe memory-mapped.

        Raises :class:`InputError` for a table without rows or with values that are not finite,
        and :class:`ConfigError` where D is not a multiple of ``parts`` or no code fits the budget.
        """
        size, width = check_source(source, self.name)
        parts, centroids = self.form(size, width)
        books = fitted(
            source, parts, centroids, [(np.arange(size), centroids)], self.sweeps, self.seed
        )
        return self.stored(source, books).measured(source)

    def form(self, size: int, width: int) -> tuple[int, int]:
        """Return the number of parts, and of vectors of each."""
        form = self.parts, max(2, self.centroids) if self.centroids else 0
        return chosen(*form, [(size, 0)], 0, self.budget, size, width, self.name)

    def stored(self, source: Floats2d, books: Books) -> CompressedTable:
        """Return the table of the nearest vectors of ``books`` to the rows of ``source``."""
        centroids = books.shape[1]
        bits = (centroids - 1).bit_length()
        codes = pack(nearest(source, books, centroids), bits)
        tensors: dict[str, npt.NDArray[Any]] = {"books": books, "codes": codes}
        return CompressedTable(self.name, (len(source), source.shape[1]), tensors)

    @staticmethod
    def read(tensors: Tensors, settings: Mapping[str, Any], ids: Ids) -> Floats2d:
        """Return the rows of ``ids`` (n,), (n, D) float32."""
        books = tensors["books"]
        bits = (books.shape[1] - 1).bit_length()
        return joined(books, unpack(tensors["codes"], bits, len(books), ids))

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

        parts, centroids = self.form(size, width)
        narrow = np.zeros(size, bool)
        return CodedEmbedding(
            parts, centroids, narrow, centroids, width, init_std, seed, self.stored
        )  # fmt: skip
