"""Hard debiasing: nothing is left along the direction, and word similarity hardly changes."""

from __future__ import annotations

from tokenspace.claims._bias import setting
from tokenspace.recipe import Recipe, apply
from tokenspace.report import Claim

__all__ = ["CLAIM", "measure"]

CLAIM = Claim(
    says="The association of career and family with men and women falls by four fifths at least",
    paper="arXiv:1607.06520",
    metric="fall",
    better="higher",
    baseline="the vectors as they were learned, whose fall is 0",
    margin=0.8,
    scale="paper: word2vec of Google News, 300 dimensions; here: skip-gram of 4.4 million words of "
    "novels, 100 dimensions, and the paper's word lists. fall: 1 - |after| / |before| of WEAT's "
    "mean difference. Rows carry DirectBias of professions, WEAT's effect size and exact p, and "
    "Spearman on MEN, WordSim-353 and SimLex-999 (without these files: a made table)",
    budget_s=600.0,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return the ``fall`` of the association, and what it and other figures are afterwards."""
    given = setting(seed, smoke=smoke)
    table = given.table
    if method is not None:
        table = apply(method, {"source": given.table, **given.lists})
    before, after = given.association(given.table), given.association(table)
    return {
        "fall": 1 - abs(after["weat"]) / abs(before["weat"]),
        **after,
        "direct_bias": given.bias(table, given.basis()),
        **given.likeness(table),
    }
