"""The layer of `robe`: one array that all rows are read from."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tokenspace import rng
from tokenspace.arrays import Ids
from tokenspace.nn.embedding import CompressedEmbedding

from .robe import PRIME
from .table import CompressedTable

__all__ = ["RobeEmbedding"]


class RobeEmbedding(CompressedEmbedding):
    """e(x)_i = s(x, i) A[at(x, i)], A (cells,)."""

    hashes: Tensor
    _place: Tensor
    _turn: Tensor

    def __init__(
        self, hashes: Ids, cells: int, chunks: int, size: int, width: int, init_std: float,
        seed: int,
    ) -> None:  # fmt: skip
        super().__init__(size, width)
        self.chunks = chunks
        with rng.torch_scope(seed, "init"):
            self.array = nn.Parameter(init_std * torch.randn(cells))
        self.register_buffer("hashes", torch.from_numpy(hashes))
        column = torch.arange(width)
        chunk, offset = column // (width // chunks), column % (width // chunks)
        a, b, c, f, g, h = (int(number) for number in hashes)
        self._row, self._sign = b, f
        self.register_buffer("_place", (c * chunk + a + offset) % PRIME, persistent=False)
        self.register_buffer("_turn", (g * column + h) % PRIME, persistent=False)

    def look(self, ids: Tensor) -> Tensor:
        """Return the rows of ``ids`` (n,), (n, width)."""
        at = _modulo((self._row * ids % PRIME)[:, None] + self._place) % len(self.array)
        odd = _modulo((self._sign * ids % PRIME)[:, None] + self._turn) & 1
        read = torch.index_select(self.array, 0, at.reshape(-1)).reshape(at.shape)
        return read * (1 - 2 * odd).to(read.dtype)

    def export(self) -> CompressedTable:
        """Return the array, and the hashes that find rows in it."""
        tensors = {
            "hashes": self.hashes.cpu().numpy().copy(),
            "array": self.array.detach().cpu().numpy().copy(),
        }
        shape = (self.num_embeddings, self.embedding_dim)
        settings = {"width": self.embedding_dim, "chunks": self.chunks}
        return CompressedTable("robe", shape, tensors, settings)


def _modulo(sums: Tensor) -> Tensor:
    """Return the remainder by the prime of sums of two remainders: one subtraction at most."""
    return torch.where(sums >= PRIME, sums - PRIME, sums)
