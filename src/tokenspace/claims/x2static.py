"""X2Static: vectors learned against a network's sentences, against means of the words' states."""

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
    "the means of what the network makes of the words",
    paper="arXiv:2106.04302",
    metric="rho",
    better="higher",
    baseline="aggregate: means of the words' states in 20 sentences",
    margin=0.02,
    scale="paper: BERT, RoBERTa and GPT-2 of 12 layers, Wikipedia; here: " + MATERIAL + ". "
    "Spearman on WordSim-353 (without these files: association of words in held-out text). The "
    "paper's networks guess words, this one was trained for likeness. sgns: skip-gram of 10 epochs "
    "on the same sentences, which the paper is above as well",
    budget_s=600.0,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return Spearman's correlation as ``rho``, the pairs used, and that of skip-gram."""
    if method is None:
        found = rank_correlation(Aggregate(seed=seed), smoke=smoke)
    else:
        recipe = replace(cast("X2Static", method), seed=seed)
        found = rank_correlation(recipe, smoke=smoke, every=True)
    plain = rank_correlation(SGNS(epochs=10, threads=1, seed=seed), smoke=smoke, every=True)
    return {**found, "sgns": plain["rho"]}
