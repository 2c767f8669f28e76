"""Pooling: from the states of a text's tokens to one vector.

Every function takes ``states`` (B, T, D) and a boolean ``mask`` (B, T), True where a token is
real, and returns (B, D). Padding may stand on either side and may hold anything, even NaN: it
never reaches the result. A text without a real token gets zeros.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tokenspace.nn.mask import hide

__all__ = ["cls_token", "last_token", "max_tokens", "mean_tokens"]


def mean_tokens(states: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of the real tokens."""
    total = states.masked_fill(~mask[..., None], 0).sum(1)
    return total / mask.sum(1, keepdim=True).clamp(min=1)


def max_tokens(states: Tensor, mask: Tensor) -> Tensor:
    """Return the greatest value of every coordinate over the real tokens."""
    best = hide(states, mask[..., None]).amax(1)
    return _or_zero(best, mask)


def cls_token(states: Tensor, mask: Tensor) -> Tensor:
    """Return the first real token, where encoders put their [CLS]."""
    return _or_zero(_at(states, mask.int().argmax(1)), mask)


def last_token(states: Tensor, mask: Tensor) -> Tensor:
    """Return the last real token, the one that has seen the whole text in a causal model."""
    last = mask.shape[1] - 1 - mask.flip(1).int().argmax(1)
    return _or_zero(_at(states, last), mask)


def _at(states: Tensor, positions: Tensor) -> Tensor:
    """Return one state a text, at ``positions`` (B,), in a way that a trace takes for any B."""
    places = positions[:, None, None].expand(-1, 1, states.shape[2])
    return states.gather(1, places).squeeze(1)


def _or_zero(vectors: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask.any(1, keepdim=True), vectors, torch.zeros_like(vectors))
