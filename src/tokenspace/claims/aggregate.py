"""Aggregate: a word in sentences, by its own tokens, against [CLS] over the word alone."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from tokenspace.claims._in_context import MATERIAL, rank_correlation
from tokenspace.recipe import Recipe
from tokenspace.report import Claim
from tokenspace.words.aggregate import Aggregate

CLAIM = Claim(
    says="The mean of a word's own states in sentences ranks pairs of words better than the state "
    "at [CLS] over the word alone",
    paper="arXiv:2405.07778",
    metric="rho",
    better="higher",
    baseline="the state at the first place ([CLS]) of the word alone",
    margin=0.05,
    scale="paper: BERT of 12 layers and Turkish text; here: " + MATERIAL + ". Spearman on "
    "WordSim-353 (without these files: association of words in held-out text)",
    budget_s=600.0,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return Spearman's correlation as ``rho``, and how many pairs have both words."""
    recipe = Aggregate(contexts=0, pool="cls", seed=seed)
    if method is not None:
        recipe = replace(cast("Aggregate", method), seed=seed)
    return rank_correlation(recipe, smoke=smoke)
