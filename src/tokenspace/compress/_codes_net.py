"""A layer of rows that are read as the nearest of a few shared vectors, part by part."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from tokenspace import rng
from tokenspace.arrays import Floats2d
from tokenspace.nn.embedding import CompressedEmbedding

from ._codes import Books
from .table import CompressedTable

__all__ = ["CodedEmbedding"]


class CodedEmbedding(CompressedEmbedding):
    """Read q(x) as the nearest vectors of the books, and let the gradient pass on to q(x).

    Rows of ``narrow`` (V,) may use the first ``limit`` vectors of each part only. ``stored``
    makes the exported table of the rows (V, D) and the books. The rows are there while the layer
    is trained, and are not exported.
    """

    narrow: Tensor

    def __init__(
        self,
        parts: int,
        centroids: int,
        narrow: np.ndarray[tuple[int], np.dtype[np.bool_]],
        limit: int,
        width: int,
        init_std: float,
        seed: int,
        stored: Callable[[Floats2d, Books], CompressedTable],
    ) -> None:
        super().__init__(len(narrow), width)
        self.limit, self.stored = limit, stored
        with rng.torch_scope(seed, "init"):
            self.rows = nn.Parameter(init_std * torch.randn(len(narrow), width))
            self.books = nn.Parameter(init_std * torch.randn(parts, centroids, width // parts))
        self.register_buffer("narrow", torch.from_numpy(narrow), persistent=False)
        self._pull = torch.zeros(())

    def look(self, ids: Tensor) -> Tensor:
        """Return the nearest vectors of the rows of ``ids`` (n,), joined, (n, width)."""
        parts, centroids, width = self.books.shape
        ids, back, counts = torch.unique(ids, return_inverse=True, return_counts=True)
        rows = self.rows.index_select(0, ids)
        with torch.no_grad():
            scores = self.books @ rows.T.reshape(parts, width, len(ids))  # (parts, K, n)
            scores -= self.books.square().sum(dim=2, keepdim=True) / 2
            if self.limit < centroids:
                scores[:, self.limit :].masked_fill_(self.narrow[ids], -torch.inf)
            codes = scores.max(dim=1).indices
        places = codes[:, None].expand(parts, width, len(ids))
        near = self.books.mT.gather(2, places).flatten(0, 1).T
        if self.training and torch.is_grad_enabled():
            off = near - rows.detach()
            self._pull = counts.to(off.dtype) @ off.square().mean(dim=1) / len(back)
            near = rows + (near - rows).detach()
        return near.index_select(0, back)

    def penalty(self) -> Tensor:
        """Return the mean squared distance of the vectors that were read to their rows."""
        return self._pull

    def export(self) -> CompressedTable:
        """Return the codes of all rows, and the books."""
        rows, books = (each.detach().cpu().numpy() for each in (self.rows, self.books))
        return self.stored(rows, books.copy())
