"""Int16: half of the bytes, and no loss."""

from __future__ import annotations

from tokenspace.claims._tables import SEEDS, trained
from tokenspace.recipe import Recipe
from tokenspace.report import Claim

CLAIM = Claim(
    says="A table trained in 16-bit integers is at most 0.002 AUC behind one in float32",
    paper="arXiv:1502.02551",
    metric="behind",
    better="lower",
    baseline="an allowance of 0.003 AUC, of which a mean of 0.001 must stay unused",
    margin=0.001,
    scale="survey: Criteo, 33 million ids, AUC 0.8086 at a quarter of the bytes; here: ratings of "
    "movies as clicks (23,720 ids of 4 fields, width 16), generated clicks where those are absent",
    seeds=SEEDS,
    budget_s=300,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return by how much the test AUC is behind the full table's, at the best of three starts."""
    full = trained(None, seed, smoke=smoke, tune=True)
    if method is None:
        return {"behind": 0.003, "auc": full["auc"], "ratio": 1.0}
    found = trained(method, seed, smoke=smoke, tune=True)
    return {"behind": full["auc"] - found["auc"], "auc": found["auc"], "ratio": found["ratio"]}
