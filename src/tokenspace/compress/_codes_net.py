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
        parts, _, width = self.books.shape
        rows = nn.functional.embedding(ids, self.rows)
        with torch.no_grad():
            cut = rows.reshape(len(ids), parts, width).transpose(0, 1)
            scores = cut @ self.books.transpose(1, 2)  # (parts, n, K)
            scores -= self.books.square().sum(dim=2)[:, None] / 2
            if self.limit < scores.shape[2]:
                scores[:, self.narrow[ids], self.limit :] = -torch.inf
            codes = scores.argmax(dim=2)
        offsets = self.books.shape[1] * torch.arange(parts, device=ids.device)[:, None]
        taken = nn.functional.embedding(codes + offsets, self.books.flatten(0, 1))
        near = taken.transpose(0, 1).reshape(len(ids), self.embedding_dim)
        if not self.training or not torch.is_grad_enabled():
            return near
        self._pull = nn.functional.mse_loss(near, rows.detach())
        return rows + (near - rows).detach()

    def penalty(self) -> Tensor:
        """Return the mean squared distance of the vectors that were read to their rows."""
        return self._pull

    def export(self) -> CompressedTable:
        """Return the codes of all rows, and the books."""
        rows, books = (each.detach().cpu().numpy() for each in (self.rows, self.books))
        return self.stored(rows, books.copy())
