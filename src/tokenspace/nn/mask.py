"""Masks: boolean, True where a token is real, and put in as -inf before a max or a softmax.

Multiplying hidden scores by zero instead would let them win a max over negative values, and take
their share of a softmax; this module is the only place that hides anything.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["hide", "padding", "softmax"]


def padding(lengths: Tensor, width: int | None = None) -> Tensor:
    """Return the (B, T) mask of sequences of the given lengths, padded on the right to ``width``.

    ``lengths`` is (B,) int64; ``width`` T is the longest of them by default.
    """
    if width is None:
        width = int(lengths.max()) if len(lengths) else 0
    return torch.arange(width, device=lengths.device)[None, :] < lengths[:, None]


def hide(values: Tensor, mask: Tensor) -> Tensor:
    """Return ``values`` with -inf where ``mask``, which broadcasts to them, is False."""
    return values.masked_fill(~mask, -torch.inf)


def softmax(scores: Tensor, mask: Tensor, dim: int = -1) -> Tensor:
    """Return the softmax over the real entries along ``dim``; hidden entries get weight zero.

    Where everything along ``dim`` is hidden, all weights are zero, and so are their gradients:
    such a line is computed without its mask first, because a softmax of nothing but -inf is NaN.
    """
    some = mask.any(dim, keepdim=True)
    weights = torch.softmax(hide(scores, mask | ~some), dim)
    return torch.where(some, weights, torch.zeros_like(weights))
