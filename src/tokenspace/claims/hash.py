"""Hash: rows that share from the start beat rows that are averaged in the end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from tokenspace.claims._tables import SEEDS, pruned_after, trained
from tokenspace.recipe import Recipe, make
from tokenspace.report import Claim

BUDGET = 0.1
CLAIM = Claim(
    says="Rows that ids share while they are learned serve better than means of learned rows",
    paper="arXiv:2311.15578",
    metric="auc",
    better="higher",
    baseline="a full table, trained, whose rows of one remainder are then averaged by frequency",
    margin=0.01,
    scale="survey: Criteo, 33 million ids; here: ratings of movies as clicks (23,720 ids of 4 "
    "fields, width 16), generated clicks where those are absent; both sides begin at a standard "
    "deviation of 0.05, which is not tuned",
    seeds=SEEDS,
    budget_s=300,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return the test AUC and log loss at a tenth of the bytes."""
    recipe = replace(cast("Any", method or make("hash")), budget=BUDGET)
    if method is None:
        found = pruned_after(recipe, seed, smoke=smoke)
    else:
        found = trained(recipe, seed, smoke=smoke)
    return {key: found[key] for key in ("auc", "logloss", "ratio")}
