"""Soft debiasing: about half of the bias goes, and word similarity hardly changes."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np

from tokenspace.claims._bias import Setting, setting
from tokenspace.edit._subspace import span
from tokenspace.edit.soft_debias import SoftDebias
from tokenspace.recipe import Recipe, apply
from tokenspace.report import Claim
from tokenspace.table import EmbeddingTable

__all__ = ["CLAIM", "measure"]

CLAIM = Claim(
    says="With lam_rel=5 the bias of professions along the direction falls by 45 % at least",
    paper="arXiv:1607.06520",
    metric="fall",
    better="higher",
    baseline="the vectors as they were learned, whose fall is 0",
    margin=0.45,
    scale="paper: word2vec of Google News, 300 dimensions; here: skip-gram of 4.4 million words of "
    "novels, 100 dimensions, and the paper's word lists. fall: 1 - after / before of DirectBias of "
    "professions, afterwards along T g; fall_20: with lam_rel=20. Rows carry WEAT, and Spearman on "
    "MEN, WordSim-353 and SimLex-999 (without these files: a made table)",
    budget_s=600.0,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return the ``fall`` of DirectBias, and what other figures are afterwards."""
    given = setting(seed, smoke=smoke)
    table, strong = given.table, given.table
    if method is not None:
        bag = {"source": given.table, **given.lists}
        table = apply(method, bag)
        strong = apply(replace(cast("SoftDebias", method), lam_rel=20.0), bag)
    before = given.bias(given.table, given.basis())
    left = [_left(given, edited) for edited in (table, strong)]
    return {
        "fall": 1 - left[0] / before,
        "fall_20": 1 - left[1] / before,
        "direct_bias": left[0],
        **given.association(table),
        **given.likeness(table),
    }


def _left(given: Setting, table: EmbeddingTable) -> float:
    """Return DirectBias along where the direction has gone."""
    moved = table.notes.get("directions")
    return given.bias(table, given.basis() if moved is None else span(np.array(moved)))
