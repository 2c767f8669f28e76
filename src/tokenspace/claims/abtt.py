"""All but the top: means of words say more of a sentence."""

from __future__ import annotations

from tokenspace.claims._sentences import SCALE, points
from tokenspace.claims._vectors import learned
from tokenspace.recipe import Recipe, apply
from tokenspace.report import Claim

__all__ = ["CLAIM", "measure"]

CLAIM = Claim(
    says="Without mean and first direction, means of words rank sentences more as people do",
    paper="arXiv:1702.01417",
    metric="points",
    better="higher",
    baseline="means of the vectors as they were learned",
    margin=3.0,
    scale=f"paper: word2vec and GloVe, 300 dimensions, 4 points on average; here: {SCALE}",
    budget_s=600.0,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return the correlation on every set and their mean as ``points``."""
    table = learned(seed, smoke=smoke)
    return points(apply(method, {"source": table}) if method else table, smoke=smoke)
