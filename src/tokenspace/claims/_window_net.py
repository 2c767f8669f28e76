"""The convolutional network that `rcnn` is measured against: a word's state from its window."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tokenspace.arrays import Floats2d
from tokenspace.encode.rcnn_net import Pooled
from tokenspace.rng import torch_scope

__all__ = ["Window", "initial"]


class Window(Pooled):
    """y_i = tanh(W [e_{i-1}, e_i, e_{i+1}] + b), with zeros beyond the ends of a text."""

    def __init__(self, E: Floats2d, hidden: int, classes: int) -> None:
        super().__init__(E, hidden, classes)
        self.mix = nn.Conv1d(E.shape[1], hidden, 3, padding=1)
        nn.init.xavier_uniform_(self.mix.weight)
        nn.init.xavier_uniform_(self.out.weight)

    def states(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Return y, (B, T, H)."""
        known = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
        e = self.E(ids) * known[:, :, None]
        y: Tensor = torch.tanh(self.mix(e.transpose(1, 2)).transpose(1, 2))
        return y


def initial(E: Floats2d, hidden: int, classes: int, *, seed: int) -> Window:
    """Return an untrained network."""
    with torch_scope(seed, "weights"):
        return Window(E, hidden, classes)
