"""The layers of `autodim`: tables of all widths under a choice, then those that were chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from tokenspace import rng
from tokenspace.arrays import Ids
from tokenspace.nn.embedding import CompressedEmbedding

from ._grouped_net import by_group
from ._mixed import effective, members, store_mixed
from ._mixed_net import MixedEmbedding
from .autodim import chosen
from .table import CompressedTable

__all__ = ["AutoDimEmbedding"]

_EPSILON, _MOMENTUM = 1e-5, 0.1  # of batch normalization


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
            self.outs = nn.ParameterList(
                torch.randn(len(self.rows), w, width) / w**0.5 for w in choices
            )
        self.means: Tensor
        self.register_buffer("means", torch.zeros(len(choices), width))
        self.variances: Tensor
        self.register_buffer("variances", torch.ones(len(choices), width))
        self.logits = nn.Parameter(torch.zeros(len(self.rows), len(choices)))

    def look(self, ids: Tensor) -> Tensor:
        """Return the mixed rows of ``ids`` (n,), (n, width)."""
        count = len(ids)
        ids, back, times = torch.unique(ids, return_inverse=True, return_counts=True)
        order = torch.argsort(self.group[ids], stable=True)
        ids, times = ids[order], times[order]
        group = self.group[ids]
        heights = torch.bincount(group, minlength=len(self.rows)).tolist()
        logits = torch.log_softmax(self.logits, dim=1)
        if self.training:
            self.seen = max(self.seen, count)
            self.looks += 1
            with rng.torch_scope(self.seed, "choice", self.looks):  # held-out look-ups draw too
                drawn = torch.rand_like(logits)
            noise = -torch.log(-torch.log(drawn.clamp(1e-9, 1 - 1e-7)))
            shares = torch.softmax((logits + noise) / self.temperature, dim=1)[group]
        else:
            shares = torch.softmax(logits, dim=1)[group]
        wide = torch.stack(
            [
                by_group(table.index_select(0, ids), heights, out)
                for table, out in zip(self.tables, self.outs, strict=True)
            ],
            dim=1,
        )
        mixed = (self.init_std * shares[:, :, None] * self._normed(wide, times)).sum(dim=1)
        return mixed.index_select(0, torch.argsort(order)[back])

    def _normed(self, rows: Tensor, times: Tensor) -> Tensor:
        """Normalize rows (n, C, width) of a batch that holds each of them so many ``times``."""
        count = int(times.sum())
        if not self.training or count < 2:  # one row has no spread: take what was seen before
            return (rows - self.means) * torch.rsqrt(self.variances + _EPSILON)
        weights = (times.to(rows.dtype) / count)[:, None, None]
        means = (weights * rows).sum(dim=0)
        off = rows - means
        variances = (weights * off.square()).sum(dim=0)
        self.means.lerp_(means.detach(), _MOMENTUM)
        self.variances.lerp_(variances.detach() * (count / (count - 1)), _MOMENTUM)
        return off * torch.rsqrt(variances + _EPSILON)

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
