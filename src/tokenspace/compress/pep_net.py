"""The layer of `pep`: values less a threshold that is learned."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tokenspace.nn.embedding import CompressedEmbedding

from ._sparse_net import SparseEmbedding, largest_mask

__all__ = ["PEPEmbedding"]


class PEPEmbedding(SparseEmbedding):
    """e = sign(w) max(|w| - sigmoid(s), 0); s is (1, 1), (1, width) or (V, 1)."""

    def __init__(
        self, keep: int, size: int, width: int, init_std: float, seed: int, start: float, per: str
    ) -> None:
        super().__init__("pep", keep, size, width, init_std, seed)
        shape = {"table": (1, 1), "column": (1, width), "row": (size, 1)}[per]
        self.thresholds = nn.Parameter(torch.full(shape, start))

    def look(self, ids: Tensor) -> Tensor:
        """Return the rows of ``ids`` (n,), (n, width)."""
        rows = nn.functional.embedding(ids, self.weight)
        s = self.thresholds if len(self.thresholds) == 1 else self.thresholds[ids]
        return torch.sign(rows) * torch.relu(rows.abs() - torch.sigmoid(s))

    @torch.no_grad()
    def settled(
        self, evaluate: Callable[[CompressedEmbedding], float]
    ) -> CompressedEmbedding | None:
        """Return the first values again, with all masked but those that are kept."""
        ids = torch.arange(self.num_embeddings, device=self.weight.device)
        found = SparseEmbedding(
            "pep", self.keep, self.num_embeddings, self.embedding_dim, self.init_std, self.seed
        ).to(self.weight.device)
        found.mask.copy_(largest_mask(self.look(ids).abs(), self.keep))
        return found
