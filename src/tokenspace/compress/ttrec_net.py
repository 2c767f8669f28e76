"""The layer of `ttrec`: three cores whose slices are multiplied."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tokenspace import rng
from tokenspace.nn.embedding import CompressedEmbedding

from ._grouped_net import by_group
from .table import CompressedTable
from .ttrec import Sizes

__all__ = ["TtrecEmbedding"]

_STD = 2.3970  # of a normal draw of 2 or more in size


class TtrecEmbedding(CompressedEmbedding):
    """e(x) = G1[i1] . G2[i2] . G3[i3]."""

    def __init__(self, sizes: Sizes, size: int, width: int, init_std: float, seed: int) -> None:
        super().__init__(size, width)
        self.sizes = sizes
        (n1, n2, n3), (d1, d2, d3), (r1, r2) = sizes
        scale = (init_std / (r1 * r2) ** 0.5) ** (1 / 3) / _STD
        with rng.torch_scope(seed, "init"):
            self.first = nn.Parameter(scale * _far((n1, d1, r1)))
            self.second = nn.Parameter(scale * _far((n2, r1, d2, r2)))
            self.third = nn.Parameter(scale * _far((n3, r2, d3)))

    def look(self, ids: Tensor) -> Tensor:
        """Return the rows of ``ids`` (n,), (n, width)."""
        (_, n2, _), (d1, d2, d3), (_, r2) = self.sizes
        ids, back = torch.unique(ids, return_inverse=True)
        i1, i2, i3 = self.sizes.digits(ids)
        order = torch.argsort(i2)  # one product for all that share the largest slice
        heights = torch.bincount(i2, minlength=n2).tolist()
        first = self.first.index_select(0, i1[order])
        rows = by_group(first, heights, self.second.flatten(2)).reshape(-1, d1 * d2, r2)
        third = self.third.index_select(0, i3[order])
        rows = (rows @ third).reshape(len(ids), d1 * d2 * d3)
        return rows.index_select(0, torch.argsort(order)[back])

    def export(self) -> CompressedTable:
        """Return the cores."""
        cores = {"first": self.first, "second": self.second, "third": self.third}
        tensors = {name: core.detach().cpu().numpy().copy() for name, core in cores.items()}
        return CompressedTable("ttrec", (self.num_embeddings, self.embedding_dim), tensors)


def _far(shape: tuple[int, ...]) -> Tensor:
    """Return normal draws, each repeated until it is 2 or more in size."""
    found = torch.randn(shape)
    while (near := found.abs() < 2).any():
        found[near] = torch.randn(int(near.sum()))
    return found
