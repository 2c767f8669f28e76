"""Compo: two shared rows that make one keep ids apart."""

from __future__ import annotations

from tokenspace.claims._tables import SCALE, SEEDS, beside_hash
from tokenspace.recipe import Recipe
from tokenspace.report import Claim

CLAIM = Claim(
    says="Products of two shared rows serve clicks better than single shared rows",
    paper="arXiv:1909.02107",
    metric="auc",
    better="higher",
    baseline="a tenth of the bytes in whole rows that ids share (hash)",
    margin=0.015,
    scale=SCALE,
    seeds=SEEDS,
    budget_s=300,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return the test AUC and log loss at a tenth of the bytes."""
    return beside_hash(method, seed, smoke=smoke)
