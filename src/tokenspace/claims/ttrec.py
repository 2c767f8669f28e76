"""TTRec: rows spelled by tensor cores keep ids apart."""

from __future__ import annotations

from tokenspace.claims._tables import SCALE, SEEDS, beside_hash
from tokenspace.recipe import Recipe
from tokenspace.report import Claim

CLAIM = Claim(
    says="Rows of tensor-train cores serve clicks better than single shared rows",
    paper="arXiv:2101.11714",
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
