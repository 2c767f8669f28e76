"""ICA: the words at the end of an axis have more in common than on principal axes."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np

from tokenspace.claims._vectors import learned
from tokenspace.edit._subspace import unit
from tokenspace.edit._words import usable
from tokenspace.edit.ica import ICA
from tokenspace.edit.whiten import Whiten
from tokenspace.recipe import Recipe, apply
from tokenspace.report import Claim
from tokenspace.rng import stream
from tokenspace.table import EmbeddingTable

__all__ = ["CLAIM", "measure"]

CLAIM = Claim(
    says="Words at the end of an independent axis are more alike than at that of a principal one",
    paper="arXiv:2305.13175",
    metric="dist_ratio",
    better="higher",
    baseline="the whitened principal axes",
    margin=0.05,
    scale="paper: GloVe, 300 dimensions; here: skip-gram of 4.4 million words of novels, 100 "
    "dimensions. dist_ratio (Sun et al. 2016): of the five first words of an axis, the mean "
    "distance to an intruder, which is low on the axis and high on another one, divided by that "
    "among the five, in the learned space; the mean over the axes and over ten intruders each "
    "(without the novels: Python's own text)",
    budget_s=600.0,
)
TOP = 5


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return ``dist_ratio`` and the mean skewness of the axes."""
    table = learned(seed, smoke=smoke)
    recipe: Recipe = Whiten(kind="pca")
    if method is not None:
        recipe = replace(cast("ICA", method), seed=seed, steps=20 if smoke else 300)
    turned = apply(recipe, {"source": table})
    S = turned.vectors.astype(np.float64)
    S = S * np.where((S**3).mean(axis=0) < 0, -1.0, 1.0)
    return {
        "dist_ratio": _dist_ratio(table, S, seed),
        "skewness": float(np.abs((S**3).mean(axis=0)).mean()),
    }


def _dist_ratio(table: EmbeddingTable, S: np.ndarray, seed: int) -> float:
    """Return the mean over the axes of the distance to intruders by that among the first words."""
    words = np.flatnonzero(usable(table))
    S, rows = S[words], unit(table.vectors[words])
    draw = stream(seed, "intruders")
    high = np.quantile(S, 0.9, axis=0) <= S
    ratios = []
    for axis in range(S.shape[1]):
        first = np.argsort(-S[:, axis], kind="stable")[:TOP]
        others = np.delete(high, axis, axis=1).any(axis=1)
        low = np.flatnonzero(others & (S[:, axis] < np.median(S[:, axis])))
        intruders = draw.choice(low, 10)
        among = np.linalg.norm(rows[first][:, None] - rows[first][None], axis=2)
        away = np.linalg.norm(rows[first][:, None] - rows[intruders][None], axis=2)
        ratios.append(away.mean() / (among.sum() / (TOP * (TOP - 1))))
    return float(np.mean(ratios))
