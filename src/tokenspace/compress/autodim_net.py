"""The layers of `autodim`: tables of all widths under a choice, then those that were chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from tokenspace import rng
from tokenspace.arrays import Ids
from tokenspace.nn.embedding import CompressedEmbedding
from tokenspace.simd import LANES

from ._autodim_kernels import descend, mix
from ._batch_net import arrays, distinct
from ._mixed import effective, members, store_mixed
from ._mixed_net import MixedEmbedding
from .autodim import chosen
from .table import CompressedTable

__all__ = ["AutoDimEmbedding"]

_EPSILON, _MOMENTUM = 1e-5, 0.1  # of batch normalization


class _Mixture(torch.autograd.Function):
    """The mixed rows of a batch, and the means and variances by which it is normalized."""

    @staticmethod
    def forward(
        ctx: Any, ids: Tensor, back: Tensor, times: Tensor, group: Tensor, shares: Tensor,
        ways: Tensor, *tables: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """Return rows (m, D), means and variances (C, D); see :func:`mix`."""
        width = ways.shape[2]
        ways = nn.functional.pad(ways, (0, -width % LANES))
        shape = (len(tables), ways.shape[2])
        normed, figures = ways.new_empty(len(ids), *shape), ways.new_empty(2, *shape)
        found = ways.new_empty(len(back), width)
        given = (ids, back, times, group, shares, ways)
        written = arrays(normed, *figures, found)
        mix(*[*arrays(*given), tuple(arrays(*tables)), *written, _EPSILON])
        ctx.save_for_backward(*given, normed, torch.rsqrt(figures[1] + _EPSILON), *tables)
        means, variances = figures[:, :, :width]
        ctx.mark_non_differentiable(means, variances)
        ctx.set_materialize_grads(False)
        return found, means, variances

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: None) -> tuple[Tensor | None, ...]:
        """Return the gradients of shares, ways and tables."""
        *batch, shares, ways, normed, factors = ctx.saved_tensors[:8]
        tables = ctx.saved_tensors[8:]
        slopes = [torch.zeros_like(each) for each in (shares, ways, *tables)]
        given = arrays(grad.contiguous(), *batch, shares, ways)
        written = [*arrays(*slopes[:2]), tuple(arrays(*slopes[2:]))]
        descend(*[*given, tuple(arrays(*tables)), *arrays(normed, factors), *written])
        slopes[1] = slopes[1][:, :, : grad.shape[1]]
        return None, None, None, None, *slopes


class AutoDimEmbedding(CompressedEmbedding):
    """e(x) = init_std Σ_c p_c BN_c(T_c[x] P_fc), with p drawn for group f at every look-up.

    ``choices`` are the C widths, ``costs`` (F, C) their bytes in every group, of which ``limit``
    may be spent.
    """

    def __init__(
        self, group: Ids, choices: list[int], costs: Any, limit: int, width: int,
        init_std: float, seed: int,
    ) -> None:  # fmt: skip
        super().__init__(len(group), width)
        self.choices, self.costs, self.limit = choices, costs, limit
        self.init_std, self.seed, self.temperature = init_std, seed, 1.0
        self.seen = self.looks = 0
        self.rows = members(group)
        self.group: Tensor
        self.register_buffer("group", torch.from_numpy(group), persistent=False)
        with rng.torch_scope(seed, "init"):
            self.tables = nn.ParameterList(torch.randn(len(group), w) for w in choices)
            outs = [torch.randn(len(self.rows), w, width) / w**0.5 for w in choices]
        self.ways = nn.Parameter(torch.cat(outs, dim=1))
        self.means: Tensor
        self.register_buffer("means", torch.zeros(len(choices), width))
        self.variances: Tensor
        self.register_buffer("variances", torch.ones(len(choices), width))
        self.logits = nn.Parameter(torch.zeros(len(self.rows), len(choices)))

    @property
    def outs(self) -> tuple[Tensor, ...]:
        """The P_fc of every choice, (F, d_c, width)."""
        parts: tuple[Tensor, ...] = torch.split(self.ways, self.choices, dim=1)
        return parts

    def look(self, ids: Tensor) -> Tensor:
        """Return the mixed rows of ``ids`` (n,), (n, width)."""
        count = len(ids)
        ids, back, times = distinct(ids)
        shares = self._shares(count)
        training = self.training and count > 1  # one row has no spread: take what was seen before
        if training and shares.is_cpu and shares.dtype == torch.float32:
            apply: Any = _Mixture.apply  # torch leaves it without types
            found, means, variances = apply(
                ids, back, times, self.group, shares, self.ways, *self.tables
            )
        else:
            group = self.group[ids]
            pairs = zip(self.tables, self.outs, strict=True)
            wide = torch.stack(
                [(table[ids][:, None] @ out[group]).squeeze(1) for table, out in pairs], dim=1
            )
            means, variances = self.means, self.variances
            if training:
                weights = times.to(shares.dtype)[:, None, None] / count
                means = (weights * wide).sum(dim=0)
                variances = (weights * (wide - means).square()).sum(dim=0)
            normed = (wide - means) * torch.rsqrt(variances + _EPSILON)
            found = (shares[group][:, :, None] * normed).sum(dim=1)[back]
        if training:
            self.means.lerp_(means.detach(), _MOMENTUM)
            self.variances.lerp_(variances.detach() * (count / (count - 1)), _MOMENTUM)
        return cast("Tensor", found)

    def _shares(self, count: int) -> Tensor:
        """Return init_std p (F, C); in training p is drawn, by noise on the weights."""
        if not self.training:
            return self.init_std * torch.softmax(self.logits, dim=1)
        self.seen = max(self.seen, count)
        self.looks += 1  # held-out look-ups draw too
        draw = torch.Generator().manual_seed(rng.derive(self.seed, "choice", self.looks))
        drawn = torch.rand(self.logits.shape, generator=draw).numpy().clip(1e-9, 1 - 1e-7)
        noise = torch.from_numpy(np.log(-np.log(drawn))).to(self.logits)  # of the other sign
        return self.init_std * torch.softmax((self.logits - noise) / self.temperature, dim=1)

    def searched(self) -> Iterable[nn.Parameter]:
        """Return the weights of the choice."""
        return (self.logits,)

    def after_step(self, step: int, total: int) -> None:
        """Let the temperature fall, by the number of rows that were seen."""
        fields = max(1, len(self.rows))
        self.temperature = max(0.01, 1 - 25e-9 * (self.seen / fields) * step)

    def widths(self) -> list[int]:
        """Return the width of every group that is chosen now, within the budget."""
        gains = torch.log_softmax(self.logits.detach().double(), dim=1).cpu().numpy()
        found = chosen(gains, self.choices, self.costs, self.limit)
        counts = torch.bincount(self.group).cpu().numpy()
        return effective(counts, found, self.embedding_dim)

    @torch.no_grad()
    def export(self) -> CompressedTable:
        """Return the chosen tables as they are now, without the means that the norms take off."""
        group, widths = self.group.cpu().numpy(), self.widths()
        tables, outs = [], []
        for f, (rows, width) in enumerate(zip(self.rows, widths, strict=True)):
            c = self.choices.index(width)
            out = self.init_std * self.outs[c][f] * torch.rsqrt(self.variances[c] + _EPSILON)
            table = self.tables[c][torch.from_numpy(rows)]
            whole = width == self.embedding_dim
            tables.append((table @ out if whole else table).cpu().numpy().copy())
            outs.append(None if whole else out.cpu().numpy().copy())
        shape, settings = (self.num_embeddings, self.embedding_dim), {"width": self.embedding_dim}
        return CompressedTable("autodim", shape, store_mixed(group, tables, outs), settings)

    def settled(
        self, evaluate: Callable[[CompressedEmbedding], float]
    ) -> CompressedEmbedding | None:
        """Return new tables of the chosen widths."""
        group = self.group.cpu().numpy()
        return MixedEmbedding(
            "autodim", group, self.widths(), self.embedding_dim,
            init_std=self.init_std, seed=self.seed,
        ).to(self.logits.device)  # fmt: skip
