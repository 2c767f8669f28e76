"""The layer of `ttrec`: three cores whose slices are multiplied."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tokenspace import rng
from tokenspace.nn.embedding import CompressedEmbedding

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
        (_, n2, _), (d1, d2, d3), (r1, r2) = self.sizes
        i1, i2, i3 = self.sizes.digits(ids)
        order = torch.argsort(i2)  # one product for all that share the largest slice
        heights = torch.bincount(i2, minlength=n2).tolist()
        first = nn.functional.embedding(i1[order], self.first.flatten(1))
        groups = torch.split(first.reshape(-1, d1, r1), heights)
        slices = torch.unbind(self.second.reshape(n2, r1, d2 * r2))
        both = [a @ b for a, b in zip(groups, slices, strict=True) if len(a)]
        rows = torch.cat(both or [first.new_zeros(0, d1, d2 * r2)])
        third = nn.functional.embedding(i3[order], self.third.flatten(1)).reshape(-1, r2, d3)
        rows = (rows.reshape(-1, d1 * d2, r2) @ third).reshape(len(ids), d1 * d2 * d3)
        return torch.zeros_like(rows).index_copy(0, order, rows)

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
