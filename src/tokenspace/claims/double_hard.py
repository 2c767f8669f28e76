"""Double-hard debiasing: words that leaned alike lie together less than after hard debiasing."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np

from tokenspace.claims._bias import Setting, setting
from tokenspace.edit._subspace import unit
from tokenspace.edit._words import Lists
from tokenspace.edit.double_hard import DoubleHard
from tokenspace.edit.hard_debias import HardDebias
from tokenspace.edit.residual import two_clusters
from tokenspace.recipe import Recipe, apply
from tokenspace.report import Claim

__all__ = ["CLAIM", "measure"]

CLAIM = Claim(
    says="Two clusters of words that leaned to either side agree with the sides less",
    paper="arXiv:2005.00965",
    metric="clusters",
    better="lower",
    baseline="hard debiasing alone",
    margin=0.05,
    scale="paper: GloVe of Wikipedia, 300 dimensions; here: skip-gram of 4.4 million words of "
    "novels, 100 dimensions. clusters: of the words 501 to 1,000 by how much they lean to either "
    "side, which the method did not look at, the share that 2-means puts with their own (chance: "
    "0.5). Rows carry that of the first 500, WEAT, and Spearman on MEN, WordSim-353 and SimLex-999 "
    "(without these files: a made table)",
    budget_s=600.0,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return ``clusters`` of words that were not looked at, and of those that were."""
    given = setting(seed, smoke=smoke)
    count = 10 if smoke else 500
    recipe: Recipe = HardDebias()
    if method is not None:
        recipe = replace(cast("DoubleHard", method), seed=seed, words=count)
    table = apply(recipe, {"source": given.table, **given.lists})
    first, next_ = _leaning(given, count)
    return {
        "clusters": _clusters(unit(table.vectors[next_])),
        "clusters_first": _clusters(unit(table.vectors[first])),
        **given.association(table),
        **given.likeness(table),
    }


def _leaning(given: Setting, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ids of neutral words by how they lean: the first of either side, and the next."""
    lists = Lists.of(
        given.table, *(given.lists[n] for n in ("definitional", "equalize", "specific"))
    )
    neutral = np.flatnonzero(lists.neutral)
    order = neutral[
        np.argsort(unit(given.table.vectors[neutral]) @ given.basis()[0], kind="stable")
    ]
    last = len(order)
    return (
        np.concatenate([order[:count], order[last - count :]]),
        np.concatenate([order[count : 2 * count], order[last - 2 * count : last - count]]),
    )


def _clusters(rows: np.ndarray) -> float:
    """Return the share of rows that two clusters put with their half."""
    share = float((two_clusters(rows, 0) == (np.arange(len(rows)) >= len(rows) // 2)).mean())
    return max(share, 1 - share)
