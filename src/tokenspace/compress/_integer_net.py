"""Layers of integers: rows are rounded at random when training asks for them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tokenspace import rng
from tokenspace.nn.embedding import CompressedEmbedding

from .table import CompressedTable

__all__ = ["IntegerEmbedding", "first_step", "rounded"]

_HEADROOM = 4  # the largest integer stands for so many times the largest initial value
_CLIPPED = 1e-3  # share of clipped values from which the step doubles


def first_step(values: Tensor, bits: int) -> float:
    """Return the step with which initial ``values`` take a quarter of the integers' range."""
    largest = max(float(values.abs().max()), 1e-30)
    return _HEADROOM * largest / float(2 ** (bits - 1) - 1)


def rounded(scaled: Tensor, bits: int) -> Tensor:
    """Return integers, up with a chance equal to the fraction, within ``bits`` bits; float32."""
    limit = 2 ** (bits - 1) - 1
    return torch.floor(scaled + torch.rand_like(scaled)).clamp(-limit, limit)


class IntegerEmbedding(CompressedEmbedding):
    """e(x) = s q[x], q (V, width) whole numbers of 8 or 16 bits.

    Training rounds a row at random when it is asked for, so that what the model sees is what can
    be stored; the optimizer then moves it, and goes on moving it by its momentum, until it is
    asked for again. ``step`` 0 takes s from the initial values. s doubles where more than a
    thousandth of the rounded values would be clipped.
    """

    def __init__(
        self, method: str, bits: int, step: float, size: int, width: int, init_std: float, seed: int
    ) -> None:
        super().__init__(size, width)
        self.method, self.bits, self.limit = method, bits, 2 ** (bits - 1) - 1
        with rng.torch_scope(seed, "init"):
            values = init_std * torch.randn(size, width)
        self.scale: Tensor
        self.register_buffer("scale", torch.tensor([step or first_step(values, bits)]))
        self.weight = nn.Parameter(values)

    def look(self, ids: Tensor) -> Tensor:
        """Return the rows of ``ids`` (n,), (n, width), whole multiples of s."""
        if self.training:
            self._round(torch.unique(ids))
            return nn.functional.embedding(ids, self.weight)
        rows = nn.functional.embedding(ids, self.weight)
        return torch.round(rows / self.scale).clamp(-self.limit, self.limit) * self.scale

    @torch.no_grad()
    def _round(self, ids: Tensor) -> None:
        """Make the rows of ``ids`` multiples of s, with a larger s where they would be clipped."""
        rows = self.weight[ids]
        while ((rows / self.scale).abs() > self.limit + 1).float().mean() > _CLIPPED:
            self.scale *= 2
        self.weight[ids] = rounded(rows / self.scale, self.bits) * self.scale

    @torch.no_grad()
    def export(self) -> CompressedTable:
        """Return the nearest integers and their step."""
        codes = torch.round(self.weight / self.scale).clamp(-self.limit, self.limit)
        return CompressedTable(
            self.method,
            (self.num_embeddings, self.embedding_dim),
            {
                "codes": codes.to(torch.int8 if self.bits == 8 else torch.int16).cpu().numpy(),
                "scale": self.scale.cpu().numpy().copy(),
            },
        )
