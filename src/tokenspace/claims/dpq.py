"""DPQ: codes that are learned with the task cost a tenth and lose little."""

from __future__ import annotations

from tokenspace.claims._tables import SCALE, SEEDS, beside_hash
from tokenspace.recipe import Recipe
from tokenspace.report import Claim

CLAIM = Claim(
    says="Codes learned with the task serve clicks better than as many bytes of shared rows",
    paper="arXiv:1908.09756",
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
