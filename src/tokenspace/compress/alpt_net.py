"""The layer of `alpt`: integers a row under scales that the loss moves."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tokenspace import rng
from tokenspace.nn.embedding import CompressedEmbedding

from ._integer_net import first_step, rounded
from ._packing import pack
from .table import CompressedTable

__all__ = ["ALPTEmbedding", "scale_gradient"]

_LEAST = 1e-8
_BETAS, _EPSILON = (0.9, 0.999), 1e-30


def scale_gradient(moved: Tensor, scale: Tensor, gradient: Tensor, limit: int) -> Tensor:
    """Return Σ_d G ψ(w / Δ) of rows (n, D) under scales (n,), without the constant factor."""
    v = moved / scale[:, None]
    psi = torch.where(v.abs() <= limit, torch.round(v) - v, limit * torch.sign(v))
    return (gradient * psi).sum(dim=1)


class ALPTEmbedding(CompressedEmbedding):
    """e(x) = Δ[x] q[x], q (V, width) whole numbers.

    Training rounds a row at random when it is asked for; the optimizer then moves ``weight``, and
    :meth:`after_step` the scales of the rows that the step asked for.
    """

    def __init__(
        self, bits: int, start: float, rate: float, size: int, width: int, init_std: float,
        seed: int,
    ) -> None:  # fmt: skip
        super().__init__(size, width)
        self.bits, self.limit = bits, 2 ** (bits - 1) - 1
        with rng.torch_scope(seed, "init"):
            values = init_std * torch.randn(size, width)
        first = start or first_step(values, bits)
        self.rate = rate * first
        self.scale: Tensor
        self.mean: Tensor
        self.square: Tensor
        self.steps: Tensor
        self.register_buffer("scale", torch.full((size,), first))
        for name in ("mean", "square", "steps"):  # Adam's moments, and how often a row was asked
            self.register_buffer(name, torch.zeros(size))
        self.weight = nn.Parameter(values)
        self._asked: list[tuple[Tensor, Tensor]] = []

    def look(self, ids: Tensor) -> Tensor:
        """Return the rows of ``ids`` (n,), (n, width), whole multiples of their scales."""
        if not self.training:
            scale, rows = self.scale[ids, None], nn.functional.embedding(ids, self.weight)
            return torch.round(rows / scale).clamp(-self.limit, self.limit) * scale
        with torch.no_grad():
            touched = torch.unique(ids)
            scale = self.scale[touched, None]
            self.weight[touched] = rounded(self.weight[touched] / scale, self.bits) * scale
        rows = nn.functional.embedding(ids, self.weight)
        if rows.requires_grad:
            rows.register_hook(  # type: ignore[no-untyped-call]
                lambda gradient: self._asked.append((ids, gradient.detach()))
            )
        return rows

    @torch.no_grad()
    def after_step(self, step: int, total: int) -> None:
        """Move the scales of the rows that were asked for."""
        if not self._asked:
            return
        ids = torch.cat([asked for asked, _ in self._asked])
        upstream = torch.cat([gradient for _, gradient in self._asked])
        self._asked.clear()
        touched, which = torch.unique(ids, return_inverse=True)
        summed = torch.zeros(len(touched), self.embedding_dim, device=ids.device)
        summed.index_add_(0, which, upstream)
        slope = scale_gradient(self.weight[touched], self.scale[touched], summed, self.limit)
        self._move(touched, slope / (len(ids) * self.embedding_dim * self.limit) ** 0.5)

    def _move(self, touched: Tensor, slope: Tensor) -> None:
        """Take a step of Adam on the scales of the touched rows, and on their moments."""
        self.steps[touched] += 1
        counts = self.steps[touched]
        for moments, value, beta in ((self.mean, slope, 0), (self.square, slope**2, 1)):
            moments[touched] = _BETAS[beta] * moments[touched] + (1 - _BETAS[beta]) * value
        mean = self.mean[touched] / (1 - _BETAS[0] ** counts)
        square = self.square[touched] / (1 - _BETAS[1] ** counts)
        change = self.rate * mean / (square.sqrt() + _EPSILON)
        self.scale[touched] = (self.scale[touched] - change).clamp_min(_LEAST)

    @torch.no_grad()
    def export(self) -> CompressedTable:
        """Return the packed integers and the scales."""
        codes = torch.round(self.weight / self.scale[:, None]).clamp(-self.limit, self.limit)
        return CompressedTable(
            "alpt",
            (self.num_embeddings, self.embedding_dim),
            {
                "codes": pack((codes.cpu().numpy() + self.limit).astype("int64"), self.bits),
                "scale": self.scale.cpu().numpy().copy(),
            },
            {"bits": self.bits, "width": self.embedding_dim},
        )
