"""The layer of `hash`: m rows, shared by remainder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tokenspace import rng
from tokenspace.nn.embedding import CompressedEmbedding

from .table import CompressedTable

__all__ = ["HashEmbedding"]


class HashEmbedding(CompressedEmbedding):
    """e(x) = H[x mod m], H (m, width)."""

    def __init__(self, m: int, size: int, width: int, init_std: float, seed: int) -> None:
        super().__init__(size, width)
        with rng.torch_scope(seed, "init"):
            self.shared = nn.Parameter(init_std * torch.randn(m, width))

    def look(self, ids: Tensor) -> Tensor:
        """Return the rows of ``ids`` (n,), (n, width)."""
        return nn.functional.embedding(ids % len(self.shared), self.shared)

    def export(self) -> CompressedTable:
        """Return the shared rows."""
        shape = (self.num_embeddings, self.embedding_dim)
        return CompressedTable("hash", shape, {"shared": self.shared.detach().cpu().numpy().copy()})
