"""Dedup: blocks that turned out equal may share, the others need not."""

from __future__ import annotations

from tokenspace.claims._tables import SCALE, SEEDS, beside_hash
from tokenspace.recipe import Recipe
from tokenspace.report import Claim

CLAIM = Claim(
    says="Sharing rows that came to be alike serves clicks better than sharing them blindly",
    paper="arXiv:2201.10442",
    metric="auc",
    better="higher",
    baseline="a tenth of the bytes in whole rows that ids share (hash)",
    margin=0.015,
    scale=SCALE,
    seeds=SEEDS,
    budget_s=600,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return the test AUC and log loss at a tenth of the bytes, and the AUC at a fiftieth."""
    return beside_hash(method, seed, smoke=smoke, low=True)
