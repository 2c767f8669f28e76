"""The layers of `dedup`: the full table, and after it the shared blocks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tokenspace import rng
from tokenspace.arrays import Floats2d, Ids
from tokenspace.nn.embedding import CompressedEmbedding

from .dedup import Dedup
from .table import CompressedTable

__all__ = ["DedupEmbedding", "SharedEmbedding"]


class DedupEmbedding(CompressedEmbedding):
    """The table in full; what is exported or trained on are its shared blocks."""

    def __init__(self, recipe: Dedup, size: int, width: int, *, init_std: float, seed: int) -> None:
        super().__init__(size, width)
        self.recipe = recipe
        with rng.torch_scope(seed, "init"):
            self.weight = nn.Parameter(init_std * torch.randn(size, width))

    def look(self, ids: Tensor) -> Tensor:
        """Return the rows of ``ids`` (n,), (n, width)."""
        return nn.functional.embedding(ids, self.weight)

    def export(self) -> CompressedTable:
        """Return the shared blocks of the table as it is now."""
        return self._shared().export()

    def settled(self, evaluate: Callable[[CompressedEmbedding], float]) -> CompressedEmbedding:
        """Return the layer of the shared blocks."""
        return self._shared()

    def _shared(self) -> SharedEmbedding:
        blocks, places = self.recipe.shared(self.weight.detach().cpu().numpy())
        return SharedEmbedding(self.recipe, blocks, places, self.num_embeddings)


class SharedEmbedding(CompressedEmbedding):
    """e(x) = the row of x in each of its blocks, joined."""

    places: Tensor

    def __init__(self, recipe: Dedup, blocks: Floats2d, places: Ids, size: int) -> None:
        super().__init__(size, recipe.parts * blocks.shape[2])
        self.recipe = recipe
        self.blocks = nn.Parameter(torch.from_numpy(blocks.copy()))
        self.register_buffer("places", torch.from_numpy(places.reshape(-1, recipe.parts)))

    def look(self, ids: Tensor) -> Tensor:
        """Return the rows of ``ids`` (n,), (n, width)."""
        height = self.blocks.shape[1]
        rows = self.places[ids // height] * height + (ids % height)[:, None]
        found = nn.functional.embedding(rows, self.blocks.flatten(0, 1))
        return found.reshape(len(ids), self.embedding_dim)

    def export(self) -> CompressedTable:
        """Return the shared blocks and their indices."""
        blocks, places = (
            self.blocks.detach().cpu().numpy().copy(),
            self.places.cpu().numpy().reshape(-1),
        )
        return self.recipe.stored(blocks, places, self.num_embeddings, self.embedding_dim)
