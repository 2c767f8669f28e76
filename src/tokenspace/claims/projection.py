"""Removing one direction takes the association away; removing another one does not."""

from __future__ import annotations

import numpy as np

from tokenspace.claims._bias import setting
from tokenspace.edit.projection import Projection
from tokenspace.recipe import Recipe, apply
from tokenspace.report import Claim
from tokenspace.rng import stream

__all__ = ["CLAIM", "measure"]

CLAIM = Claim(
    says="Without the direction of she and he, careers are associated with men far less",
    paper="arXiv:1901.07656",
    metric="fall",
    better="higher",
    baseline="the removal of a random direction",
    margin=0.7,
    scale="paper: GloVe of Wikipedia, 300 dimensions; here: skip-gram of 4.4 million words of "
    "novels, 100 dimensions, and the pairs of Bolukbasi et al. fall: 1 - |after| / |before| of "
    "WEAT's mean difference (career, family; male, female terms). Rows carry WEAT's effect size "
    "and exact p, and Spearman on MEN, WordSim-353 and SimLex-999 (without these files: a made "
    "table)",
    budget_s=600.0,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return the ``fall`` of the association, and what it and other figures are afterwards."""
    given = setting(seed, smoke=smoke)
    bag = {"source": given.table, "definitional": given.lists["definitional"]}
    if method is None:
        one = stream(seed, "direction").standard_normal((1, given.table.shape[1]))
        bag = {"source": given.table, "directions": np.asarray(one, np.float32)}
    table = apply(method or Projection(), bag)
    before, after = given.association(given.table), given.association(table)
    return {
        "fall": 1 - abs(after["weat"]) / abs(before["weat"]),
        **after,
        "direct_bias": given.bias(table, given.basis()),
        **given.likeness(table),
    }
