"""DHE: rows that a network computes of hashes beat shared rows."""

from __future__ import annotations

from tokenspace.claims._tables import SCALE, SEEDS, beside_hash
from tokenspace.recipe import Recipe
from tokenspace.report import Claim

CLAIM = Claim(
    says="Rows computed of many hashes serve clicks better than rows shared by one",
    paper="arXiv:2010.10784",
    metric="auc",
    better="higher",
    baseline="a tenth of the bytes in whole rows that ids share (hash)",
    margin=0.005,
    scale=SCALE,
    seeds=SEEDS,
    budget_s=600,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return the test AUC and log loss at a tenth of the bytes."""
    return beside_hash(method, seed, smoke=smoke)
