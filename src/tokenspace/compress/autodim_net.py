"""The layers of `autodim`: tables of all widths under a choice, then those that were chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

from tokenspace import rng
from tokenspace.arrays import Ids
from tokenspace.nn.embedding import CompressedEmbedding

from ._mixed import effective, members, store_mixed
from ._mixed_net import MixedEmbedding
from .autodim import chosen
from .table import CompressedTable

__all__ = ["AutoDimEmbedding"]


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
        self.norms = nn.ModuleList(nn.BatchNorm1d(width, affine=False) for _ in choices)
        self.logits = nn.Parameter(torch.zeros(len(self.rows), len(choices)))

    def look(self, ids: Tensor) -> Tensor:
        """Return the mixed rows of ``ids`` (n,), (n, width)."""
        group = self.group[ids]
        logits = torch.log_softmax(self.logits, dim=1)
        if self.training:
            self.seen = max(self.seen, len(ids))
            self.looks += 1
            with rng.torch_scope(self.seed, "choice", self.looks):  # held-out look-ups draw too
                drawn = torch.rand_like(logits)
            noise = -torch.log(-torch.log(drawn.clamp(1e-9, 1 - 1e-7)))
            shares = torch.softmax((logits + noise) / self.temperature, dim=1)[group]
        else:
            shares = torch.softmax(logits, dim=1)[group]
        mixed = torch.zeros(len(ids), self.embedding_dim, device=ids.device)
        for c, (table, out, norm) in enumerate(
            zip(self.tables, self.outs, self.norms, strict=True)
        ):
            rows = nn.functional.embedding(ids, table)
            wide = torch.zeros_like(mixed)
            for f in range(len(self.rows)):
                here = (group == f).nonzero().squeeze(1)
                wide = wide.index_copy(0, here, rows[here] @ out[f])
            if len(ids) < 2:  # one row has no spread to divide by: take the running one
                norm.eval()
            mixed = mixed + shares[:, c, None] * norm(wide)
            norm.train(self.training)
        return self.init_std * mixed

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
            norm = cast("nn.BatchNorm1d", self.norms[c])
            variance = cast("Tensor", norm.running_var)
            out = self.init_std * self.outs[c][f] / torch.sqrt(variance + norm.eps)
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
