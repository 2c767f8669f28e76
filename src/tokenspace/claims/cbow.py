"""CBOW: the gradient of the mean has to be divided among the neighbours that it is a mean of."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from tokenspace.corpus import Corpus
from tokenspace.recipe import Recipe
from tokenspace.report import Claim
from tokenspace.words.cbow import CBOW
from tokenspace.words.trial import material, rank_correlation

CLAIM = Claim(
    says="CBOW with the exact gradient is better than with word2vec's undivided one",
    paper="arXiv:1301.3781",
    metric="rho",
    better="higher",
    baseline="grad='word2vec' with word2vec's own learning rate for it, 0.05",
    margin=0.01,
    scale="the claim is that of arXiv:2012.15332 (koan), on the English part of a web crawl and "
    "tasks of several kinds; here: 4.4 million words of novels, 100 dimensions, 10 epochs, mean "
    "Spearman on WordSim-353, MEN and SimLex-999 (without these files: Python's own text, and "
    "the association of words in held-out text)",
    budget_s=600.0,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return the rank correlation on every list of pairs, and their mean as ``rho``."""
    given = material(smoke=smoke)
    known = cast("CBOW", method or CBOW(grad="word2vec", lr=0.05))
    recipe = replace(known, epochs=10, threads=1, seed=seed)
    return rank_correlation(recipe(Corpus(given.texts, split="whitespace")), given.pairs)
