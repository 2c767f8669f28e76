"""The layers of `autosrh`: a table under gates that learn on held-out rows, then a pruned one."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn

from tokenspace.arrays import Ids
from tokenspace.nn.embedding import CompressedEmbedding

from ._sparse_net import SparseEmbedding, largest_mask

__all__ = ["AutoSrhEmbedding"]


class AutoSrhEmbedding(SparseEmbedding):
    """e(x) = α[g(x)] * E[x] * M[x]; α is searched until :meth:`settled` fixes it and the mask."""

    def __init__(
        self, keep: int, group: Ids, width: int, init_std: float, seed: int, sparsity: float
    ) -> None:
        super().__init__("autosrh", keep, len(group), width, init_std, seed)
        self.sparsity, self.pruned = sparsity, False
        self.group: Tensor
        self.register_buffer("group", torch.from_numpy(group.astype(np.int64)), persistent=False)
        self.gates = nn.Parameter(torch.ones(int(group.max()) + 1, width))
        self.gates.register_hook(_by_mean)  # type: ignore[no-untyped-call]

    def look(self, ids: Tensor) -> Tensor:
        """Return the rows of ``ids`` (n,), (n, width)."""
        gates = nn.functional.embedding(self.group[ids], self.gates)
        return super().look(ids) * gates

    def penalty(self) -> Tensor:
        """Return 1e-5 Σ |α|, or zero after the search."""
        if self.pruned:
            return super().penalty()
        return self.sparsity * self.gates.abs().sum()

    def searched(self) -> Iterable[nn.Parameter]:
        """Return the gates."""
        return () if self.pruned else (self.gates,)

    @torch.no_grad()
    def after_step(self, step: int, total: int) -> None:
        """Keep the gates in [0, 1]."""
        self.gates.clamp_(0, 1)

    @torch.no_grad()
    def settled(
        self, evaluate: Callable[[CompressedEmbedding], float]
    ) -> CompressedEmbedding | None:
        """Return the layer with its gates fixed and all but the largest values masked."""
        if self.pruned:
            return None
        group = self.group.cpu().numpy()
        found = AutoSrhEmbedding(
            self.keep, group, self.embedding_dim, self.init_std, self.seed, self.sparsity
        )
        found.to(self.weight.device).load_state_dict(self.state_dict())
        gated = self.weight.abs() * self.gates[self.group]
        found.mask.copy_(largest_mask(gated, self.keep))
        found.gates.requires_grad_(False)
        found.pruned = True
        return found


def _by_mean(gradient: Tensor) -> Tensor:
    """Divide by the mean size over a row, so that every group's gates move alike."""
    return gradient / gradient.abs().mean(dim=1, keepdim=True).clamp_min(1e-30)
