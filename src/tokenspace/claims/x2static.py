"""X2Static: vectors learned against a network's sentences, against skip-gram on the same text."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from tokenspace.claims._in_context import MATERIAL, rank_correlation
from tokenspace.recipe import Recipe
from tokenspace.report import Claim
from tokenspace.words.aggregate import Aggregate
from tokenspace.words.sgns import SGNS
from tokenspace.words.x2static import X2Static

CLAIM = Claim(
    says="Vectors that are learned against a network's sentences rank pairs of words better than "
    "those that are learned from the same text alone",
    paper="arXiv:2106.04302",
    metric="rho",
    better="higher",
    baseline="skip-gram of 10 epochs on the same sentences",
    margin=0.1,
    scale="paper: BERT, RoBERTa and GPT-2 of 12 layers, Wikipedia; here: " + MATERIAL + ". "
    "Spearman on WordSim-353 (without these files: association of words in held-out text). "
    "aggregate: what the means of the words' states in 20 sentences reach; the paper is above that "
    "of networks that guess words, and this one was trained for likeness",
    budget_s=600.0,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return Spearman's correlation as ``rho``, the pairs used, and that of ``aggregate``."""
    recipe: Recipe = SGNS(epochs=10, threads=1, seed=seed)
    if method is not None:
        recipe = replace(cast("X2Static", method), seed=seed)
    other = rank_correlation(Aggregate(seed=seed), smoke=smoke)["rho"]
    return {**rank_correlation(recipe, smoke=smoke, every=True), "aggregate": other}
