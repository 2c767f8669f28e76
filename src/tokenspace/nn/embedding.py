"""The layer that every compressed table is while it is trained.

::

    layer = make("compo", budget=0.1).embedding(size, width, counts=counts)
    for tick in steps(model, loss, batches, ...):        # loss adds layer.penalty()
        layer.after_step(tick.step, total)
    layer = layer.settled(evaluate)                      # methods that train twice: again, or None
    table = layer.export()                               # codes only, for inference
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from tokenspace import rng
from tokenspace.compress import Lookup
from tokenspace.compress.floats import FloatTable
from tokenspace.errors import InputError

__all__ = ["CompressedEmbedding", "FullEmbedding"]


class CompressedEmbedding(nn.Module):
    """Rows by id, (...,) int64 -> (..., width): in the place of ``torch.nn.Embedding``.

    A method gives :meth:`look` and :meth:`export`. The other functions are for those whose
    training is not plain descent; by default they do nothing.
    """

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = size, width

    def forward(self, ids: Tensor) -> Tensor:
        """Return the rows of ``ids``; raises :class:`InputError` where one is outside the table."""
        if ids.numel():
            low, high = (int(bound) for bound in torch.aminmax(ids))
            if low < 0 or high >= self.num_embeddings:
                raise InputError(
                    f"row {low if low < 0 else high} is outside [0, {self.num_embeddings - 1}]",
                    hint="ids number the rows of the embedding",
                )
        return self.look(ids.reshape(-1)).reshape(*ids.shape, self.embedding_dim)

    @abstractmethod
    def look(self, ids: Tensor) -> Tensor:
        """Return the rows of checked ``ids`` (n,), (n, width), with gradients."""

    @abstractmethod
    def export(self) -> Lookup:
        """Return the form for inference: what is stored, without what only training needs."""

    def penalty(self) -> Tensor:
        """Return what the method adds to the loss of a step (a scalar; zero by default)."""
        return torch.zeros(())

    def searched(self) -> Iterable[nn.Parameter]:
        """Return the parameters that descend on held-out batches and not on training batches."""
        return ()

    def after_step(self, step: int, total: int) -> None:
        """Do what follows step ``step`` (from 1) of ``total``: prune, round, anneal."""

    def settled(
        self, evaluate: Callable[[CompressedEmbedding], float]
    ) -> CompressedEmbedding | None:
        """Return the layer for the next stage of training, or None where this was the last.

        ``evaluate(layer)`` measures a candidate in this layer's place on held-out data; greater
        is better.
        """
        return None


class FullEmbedding(CompressedEmbedding):
    """The table itself, (size, width) float32: what every compressed one is measured against."""

    def __init__(self, size: int, width: int, *, init_std: float = 0.05, seed: int = 0) -> None:
        super().__init__(size, width)
        with rng.torch_scope(seed, "init"):
            self.weight = nn.Parameter(init_std * torch.randn(size, width))

    def look(self, ids: Tensor) -> Tensor:
        """Return the rows of ``ids`` (n,), (n, width)."""
        return nn.functional.embedding(ids, self.weight)

    def export(self) -> FloatTable:
        """Return a copy of the rows."""
        return FloatTable(self.weight.detach().cpu().numpy().copy())
