"""The layer of which only the largest values are kept, and gates that scale them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tokenspace import rng
from tokenspace.nn.embedding import CompressedEmbedding

from ._sparse import kept, store_sparse
from .table import CompressedTable

__all__ = ["SparseEmbedding", "largest_mask"]


def largest_mask(importance: Tensor, keep: int) -> Tensor:
    """Return a mask of the ``keep`` largest values (V, D); of equal ones the first, no zeros."""
    return torch.from_numpy(kept(importance.detach().cpu().numpy(), keep)).to(importance.device)


class SparseEmbedding(CompressedEmbedding):
    """e(x) = W[x] * M[x], (V, width), with a mask M of the values that may differ from zero.

    ``keep`` is how many values :meth:`export` stores at most: the largest. The mask begins with
    all values; a method's layer narrows it.
    """

    def __init__(
        self, method: str, keep: int, size: int, width: int, init_std: float, seed: int
    ) -> None:
        super().__init__(size, width)
        self.method, self.keep, self.seed, self.init_std = method, keep, seed, init_std
        with rng.torch_scope(seed, "init"):
            self.weight = nn.Parameter(init_std * torch.randn(size, width))
        self.mask: Tensor
        self.register_buffer("mask", torch.ones(size, width))

    def look(self, ids: Tensor) -> Tensor:
        """Return the rows of ``ids`` (n,), (n, width)."""
        rows = nn.functional.embedding(ids, self.weight)
        return rows * nn.functional.embedding(ids, self.mask)

    @torch.no_grad()
    def export(self) -> CompressedTable:
        """Return the largest ``keep`` of the rows' values, with their places."""
        ids = torch.arange(self.num_embeddings, device=self.weight.device)
        training = self.training
        self.eval()
        values = self.look(ids)
        self.train(training)
        mask = largest_mask(values.abs(), self.keep)
        return CompressedTable(
            self.method,
            (self.num_embeddings, self.embedding_dim),
            store_sparse(values.cpu().numpy(), mask.cpu().numpy()),
            {"width": self.embedding_dim},
        )
