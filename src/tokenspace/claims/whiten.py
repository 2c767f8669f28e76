"""Whitening: means of words say more of a sentence."""

from __future__ import annotations

from tokenspace.claims._sentences import SCALE, points
from tokenspace.claims._vectors import learned
from tokenspace.edit.whiten import Whiten
from tokenspace.recipe import Recipe, apply
from tokenspace.report import Claim

__all__ = ["CLAIM", "measure"]

CLAIM = Claim(
    says="Means of whitened words rank sentences more as people do",
    paper="arXiv:2411.00680",
    metric="points",
    better="higher",
    baseline="means of the vectors as they were learned",
    margin=3.0,
    scale=f"paper: GloVe, 300 dimensions, STS benchmark; here: {SCALE}. even: whitening in "
    "which every word counts alike, the default when this was first measured, and weak",
    budget_s=600.0,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return the correlation on every set and their mean as ``points``."""
    table = learned(seed, smoke=smoke)
    found = points(apply(method, {"source": table}) if method else table, smoke=smoke)
    even = apply(Whiten(weights="even"), {"source": table})
    return {**found, "even": points(even, smoke=smoke)["points"]}
