"""GloVe: the sum of both matrices is better than either of them."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import cast

from tokenspace.corpus import Corpus
from tokenspace.recipe import Recipe
from tokenspace.report import Claim
from tokenspace.table import EmbeddingTable
from tokenspace.words.glove import GloVe
from tokenspace.words.relation import Factors
from tokenspace.words.trial import material, rank_correlation

ASKED = ("EN-MEN-TR-3k", "association")

CLAIM = Claim(
    says="W + W~ ranks pairs of words better than W alone",
    paper="EMNLP 2014",
    metric="rho",
    better="higher",
    baseline="W of the same training",
    margin=0.01,
    scale="paper: 6 billion words, 300 dimensions, 'a small boost'; here: 4.4 million words of "
    "novels, 100 dimensions, 25 epochs, x_max 10, Spearman on MEN; rows carry WordSim-353 and "
    "SimLex-999 (without these files: Python's own text, and the association of words in "
    "held-out text)",
    budget_s=600.0,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return the rank correlation on every list of pairs; that on MEN is ``rho``."""
    recipe = replace(cast("GloVe", method or GloVe()), x_max=10.0, threads=1, seed=seed)
    found = trained(recipe, smoke)
    vectors = found.words if method is None else found.words + found.contexts
    each = rank_correlation(EmbeddingTable(found.vocab, vectors), material(smoke=smoke).pairs)
    return {**each, "rho": next(each[name] for name in ASKED if name in each)}


@lru_cache(maxsize=1)
def trained(recipe: GloVe, smoke: bool) -> Factors:
    """Return what both sides of one seed are taken from."""
    return recipe.factors(Corpus(material(smoke=smoke).texts, split="whitespace"))
