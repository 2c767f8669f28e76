"""AdaptEmb: rows of their own for frequent ids beat sharing all."""

from __future__ import annotations

from tokenspace.claims._tables import SCALE, SEEDS, beside_hash
from tokenspace.recipe import Recipe
from tokenspace.report import Claim

CLAIM = Claim(
    says="Frequent ids with rows of their own serve clicks better than sharing all rows alike",
    paper="arXiv:2311.15578",
    metric="auc",
    better="higher",
    baseline="a tenth of the bytes in whole rows that ids share (hash)",
    margin=0.005,
    scale=SCALE,
    seeds=SEEDS,
    budget_s=300,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return the test AUC and log loss at a tenth of the bytes."""
    return beside_hash(method, seed, smoke=smoke)
