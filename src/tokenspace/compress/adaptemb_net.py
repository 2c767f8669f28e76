"""The layer of `adaptemb`: rows of frequent ids, and rows that the others share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn

from tokenspace import rng
from tokenspace.arrays import Ids
from tokenspace.nn.embedding import CompressedEmbedding

from .table import CompressedTable

__all__ = ["AdaptembEmbedding"]


class AdaptembEmbedding(CompressedEmbedding):
    """e(x) = R[place of x]; while it is trained the place of every id is kept at hand."""

    place: Tensor

    def __init__(
        self, index: Mapping[str, npt.NDArray[Any]], place: Ids, rows: int, width: int,
        init_std: float, seed: int,
    ) -> None:  # fmt: skip
        super().__init__(len(place), width)
        self.index = index
        self.register_buffer("place", torch.from_numpy(place), persistent=False)
        with rng.torch_scope(seed, "init"):
            self.shared = nn.Parameter(init_std * torch.randn(rows, width))

    def look(self, ids: Tensor) -> Tensor:
        """Return the rows of ``ids`` (n,), (n, width)."""
        return nn.functional.embedding(self.place[ids], self.shared)

    def export(self) -> CompressedTable:
        """Return the rows, and what finds them."""
        tensors = {"rows": self.shared.detach().cpu().numpy().copy(), **self.index}
        return CompressedTable("adaptemb", (self.num_embeddings, self.embedding_dim), tensors)
