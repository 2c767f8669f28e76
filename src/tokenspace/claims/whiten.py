"""Whitening by how often words occur: means of words say more of a sentence."""

from __future__ import annotations

from tokenspace.claims._sentences import SCALE, points
from tokenspace.claims._vectors import learned
from tokenspace.edit.whiten import Whiten
from tokenspace.recipe import Recipe, apply
from tokenspace.report import Claim

__all__ = ["CLAIM", "measure"]

CLAIM = Claim(
    says="Whitened by how often words occur, their means rank sentences more as people do",
    paper="arXiv:2411.00680",
    metric="points",
    better="higher",
    baseline="whitening in which every word counts alike",
    margin=5.0,
    scale=f"paper: GloVe, 300 dimensions, STS benchmark; here: {SCALE}. Rows carry the points of "
    "the vectors as they were learned",
    budget_s=600.0,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return the correlation on every set and their mean as ``points``."""
    table = learned(seed, smoke=smoke)
    recipe = method or Whiten(weights="even")
    return {
        **points(apply(recipe, {"source": table}), smoke=smoke),
        "as_learned": points(table, smoke=smoke)["points"],
    }
