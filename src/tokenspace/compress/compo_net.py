"""The layer of `compo`: one table for quotients and one for remainders."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tokenspace import rng
from tokenspace.nn.embedding import CompressedEmbedding

from .table import CompressedTable

__all__ = ["CompoEmbedding"]


class CompoEmbedding(CompressedEmbedding):
    """e(x) = Q[x // m] * R[x mod m], or their sum."""

    def __init__(
        self, m: int, combine: str, size: int, width: int, init_std: float, seed: int
    ) -> None:
        super().__init__(size, width)
        self.m, self.combine = m, combine
        std = init_std**0.5 if combine == "product" else init_std / 2**0.5
        with rng.torch_scope(seed, "init"):
            self.quotients = nn.Parameter(std * torch.randn(-(-size // m), width))
            self.remainders = nn.Parameter(std * torch.randn(m, width))

    def look(self, ids: Tensor) -> Tensor:
        """Return the rows of ``ids`` (n,), (n, width)."""
        quotients = nn.functional.embedding(ids // self.m, self.quotients)
        remainders = nn.functional.embedding(ids % self.m, self.remainders)
        return quotients * remainders if self.combine == "product" else quotients + remainders

    def export(self) -> CompressedTable:
        """Return both tables."""
        tensors = {
            "quotients": self.quotients.detach().cpu().numpy().copy(),
            "remainders": self.remainders.detach().cpu().numpy().copy(),
        }
        shape = (self.num_embeddings, self.embedding_dim)
        return CompressedTable("compo", shape, tensors, {"combine": self.combine})
