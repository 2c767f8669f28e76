"""AutoSrh: gates from held-out rows choose better values than size alone."""

from __future__ import annotations

from tokenspace.claims._tables import SEEDS, pruned_after, trained
from tokenspace.recipe import Recipe, make
from tokenspace.report import Claim

BUDGET = 0.25
CLAIM = Claim(
    says="Gates that learn on held-out rows choose better what to prune than size alone",
    paper="TKDE 2022 (Kong, Cheng, Shen, Huang)",
    metric="auc",
    better="higher",
    baseline="a full table, of which the largest values are kept after training (magnitude)",
    margin=0.002,
    scale="survey: Criteo, 33 million ids, AUC 0.8086 at a quarter of the bytes; here: ratings of "
    "movies as clicks (23,720 ids of 4 fields, width 16), generated clicks where those are absent",
    seeds=SEEDS,
    budget_s=300,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return the test AUC and log loss, and the share of the bytes that was taken."""
    after = make("magnitude", budget=BUDGET)
    found = trained(method, seed, smoke=smoke) if method else pruned_after(after, seed, smoke=smoke)
    return {key: found[key] for key in ("auc", "logloss", "ratio")}
