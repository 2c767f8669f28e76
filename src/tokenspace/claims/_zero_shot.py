"""What a small English decoder costs right after a transplant, for the claims of its baselines."""

from __future__ import annotations

from functools import lru_cache

from tokenspace.claims._decoders import english_pair, transplanted_bits
from tokenspace.recipe import Recipe, make

__all__ = ["bits", "over_mean"]


@lru_cache(maxsize=64)
def bits(recipe: Recipe, seed: int, smoke: bool) -> float:
    """Return bits per byte of unread novels in the other tokenizer, before any training."""
    return transplanted_bits(english_pair(seed, smoke), recipe).bits_per_byte


def over_mean(recipe: Recipe, seed: int, smoke: bool) -> dict[str, float]:
    """Return ``bpb``, and ``over_mean``: what it costs beyond the mean row, as a share of that."""
    found, mean = bits(recipe, seed, smoke), bits(make("mean"), seed, smoke)
    return {"bpb": found, "over_mean": found / mean - 1}
