"""CW: what the vectors know comes from the company that words keep, not from their counts."""

from __future__ import annotations

from tokenspace.claims._company import claim, figures
from tokenspace.recipe import Recipe
from tokenspace.words.cw import CW

CLAIM = claim()


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return the rank correlation on every list of pairs, and their mean as ``rho``."""
    return figures(method, CW(), seed, smoke=smoke)
