"""The layers of `optembed`: the supernet, the search for widths, and the layer of those found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tokenspace import rng
from tokenspace.arrays import Ids
from tokenspace.nn.embedding import CompressedEmbedding

from ._mixed import members
from ._mixed_net import MixedEmbedding
from .table import CompressedTable

__all__ = ["OptEmbedSupernet", "evolve", "narrowed"]

Widths = npt.NDArray[np.int64]
_SLOWER = 0.05  # share of the table's rate at which thresholds move: AdamW steps by the rate itself
_PARENTS = _MUTANTS = _CHILDREN = 10
_MUTATION = 0.1


class OptEmbedSupernet(CompressedEmbedding):
    """e(x) = [‖E[x]‖_1 > t_f] E[x], of which training shows a drawn number of leading values.

    ``limit`` is how many bytes tables may take, without those of the membership.
    """

    def __init__(
        self, group: Ids, limit: int, width: int, init_std: float, seed: int, weight: float,
        generations: int,
    ) -> None:  # fmt: skip
        super().__init__(len(group), width)
        self.limit, self.seed, self.alpha, self.generations = limit, seed, weight, generations
        self.group: Tensor
        self.register_buffer("group", torch.from_numpy(group), persistent=False)
        with rng.torch_scope(seed, "init"):
            self.weight = nn.Parameter(init_std * torch.randn(len(group), width))
        self.thresholds = nn.Parameter(torch.zeros(int(group.max()) + 1))

    def look(self, ids: Tensor) -> Tensor:
        """Return the rows of ``ids`` (n,), (n, width)."""
        rows = nn.functional.embedding(ids, self.weight)
        limits = _SLOWER * self.thresholds[self.group[ids]]
        longer: Tensor = Step.apply(rows.abs().sum(dim=1) - limits)  # type: ignore[no-untyped-call]
        rows = rows * longer[:, None]
        if not self.training:
            return rows
        shown = torch.randint(1, self.embedding_dim + 1, (len(ids), 1), device=ids.device)
        return rows * (torch.arange(self.embedding_dim, device=ids.device) < shown)

    def penalty(self) -> Tensor:
        """Return ``weight`` * Σ exp(-t)."""
        added: Tensor = self.alpha * torch.exp(-_SLOWER * self.thresholds).sum()
        return added

    @torch.no_grad()
    def kept(self) -> npt.NDArray[np.bool_]:
        """Return which rows are longer than their threshold, (V,)."""
        limits = _SLOWER * self.thresholds[self.group]
        longer: npt.NDArray[np.bool_] = (self.weight.abs().sum(dim=1) > limits).cpu().numpy()
        return longer

    @torch.no_grad()
    def at(self, widths: Widths, kept: npt.NDArray[np.bool_]) -> MixedEmbedding:
        """Return the layer of the rows that are ``kept``, at these widths."""
        field = self.group.cpu().numpy()
        number = len(self.thresholds)
        group = np.where(kept, field, number)
        names, group = np.unique(group, return_inverse=True)
        each = [int(widths[f]) if f < number else 0 for f in names]
        found = MixedEmbedding(
            "optembed", group.astype(np.int64), each, self.embedding_dim,
            init_std=0.0, seed=self.seed, projected=False,
        )  # fmt: skip
        for rows, width, table in zip(members(group), each, found.tables, strict=True):
            table.copy_(self.weight[torch.from_numpy(rows)][:, :width])
        return found.to(self.weight.device)

    def _rows(self, kept: npt.NDArray[np.bool_]) -> Ids:
        field = self.group.cpu().numpy()
        return np.bincount(field[kept], minlength=len(self.thresholds))

    def export(self) -> CompressedTable:
        """Return the rows as they are now, all of the greatest width that the budget holds."""
        kept = self.kept()
        most = self.limit // (4 * max(1, int(kept.sum())))
        widths = np.full(len(self.thresholds), min(self.embedding_dim, most))
        return self.at(widths, kept).export()

    def settled(
        self, evaluate: Callable[[CompressedEmbedding], float]
    ) -> CompressedEmbedding | None:
        """Return the layer of the widths that ``evaluate`` likes best."""
        kept = self.kept()
        best = evolve(
            self._rows(kept),
            self.embedding_dim,
            self.limit,
            lambda widths: evaluate(self.at(widths, kept)),
            self.generations,
            self.seed,
        )
        return self.at(best, kept)


class Step(torch.autograd.Function):
    """[u > 0], with the long-tailed estimate of its derivative."""

    @staticmethod
    def forward(context: Any, u: Tensor) -> Tensor:
        """Return 1 where u is positive, else 0."""
        context.save_for_backward(u)
        return (u > 0).to(u.dtype)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        """Return the gradient times 2 - 4 |u| up to 0.4, 0.4 up to 1, and else 0."""
        size = context.saved_tensors[0].abs()
        slope = torch.where(size <= 0.4, 2 - 4 * size, torch.full_like(size, 0.4))
        return gradient * torch.where(size <= 1, slope, torch.zeros_like(size))


def narrowed(widths: Widths, rows: Ids, limit: int, draw: np.random.Generator) -> Widths:
    """Return a copy that takes at most ``limit`` bytes: random widths above 1 lose 1 each."""
    found = widths.copy()
    while 4 * int(rows @ found) > limit:
        found[draw.choice(np.flatnonzero((found > 1) & (rows > 0)))] -= 1
    return found


def evolve(
    rows: Ids,
    width: int,
    limit: int,
    fitness: Callable[[Widths], float],
    generations: int,
    seed: int,
) -> Widths:
    """Return the widths in [1, width] of greatest fitness that the search meets, (F,).

    ``rows`` (F,) says how many rows each field has. Nothing that was measured is changed after.
    """
    draw = rng.stream(seed, "widths")

    def measured(candidates: list[Widths]) -> list[tuple[float, Widths]]:
        fitting = [narrowed(candidate, rows, limit, draw) for candidate in candidates]
        return [(fitness(candidate), candidate) for candidate in fitting]

    drawn = [draw.integers(1, width + 1, len(rows)) for _ in range(_PARENTS - 1)]
    parents = measured([np.full(len(rows), width), *drawn])
    for _ in range(generations):
        mutants, children = [], []
        for _ in range(_MUTANTS):
            parent = parents[int(draw.integers(len(parents)))][1]
            fresh = draw.integers(1, width + 1, len(rows))
            mutants.append(np.where(draw.random(len(rows)) < _MUTATION, fresh, parent))
        for _ in range(_CHILDREN):
            first, second = (parents[int(i)][1] for i in draw.integers(len(parents), size=2))
            point = int(draw.integers(0, len(rows) + 1))
            children.append(np.concatenate([first[:point], second[point:]]))
        parents = sorted(
            parents + measured(mutants + children), key=lambda found: found[0], reverse=True
        )[:_PARENTS]
    return max(parents, key=lambda found: found[0])[1]
