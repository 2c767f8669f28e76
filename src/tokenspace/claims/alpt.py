"""ALPT: a learned scale mends what a bad one breaks."""

from __future__ import annotations

from tokenspace.claims._tables import SEEDS, trained
from tokenspace.recipe import Recipe, make
from tokenspace.report import Claim

CLAIM = Claim(
    says="A scale that is learned is worth more than a global one that is ten times too coarse",
    paper="arXiv:2212.05735",
    metric="auc",
    better="higher",
    baseline="8-bit integers of one scale, 0.1",
    margin=0.002,
    scale="survey: Criteo, 33 million ids, AUC 0.8086 at a quarter of the bytes; here: ratings of "
    "movies as clicks (23,720 ids of 4 fields, width 16), generated clicks where those are absent",
    seeds=SEEDS,
    budget_s=300,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return the test AUC and log loss, and the share of the bytes that was taken."""
    found = trained(method or make("int8", step=0.1), seed, smoke=smoke)
    return {key: found[key] for key in ("auc", "logloss", "ratio")}
