"""SGNS: what the vectors know comes from the company that words keep, not from their counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from tokenspace.corpus import Corpus
from tokenspace.recipe import Recipe
from tokenspace.report import Claim
from tokenspace.rng import stream
from tokenspace.words.sgns import SGNS
from tokenspace.words.trial import material, rank_correlation

CLAIM = Claim(
    says="Cosines of the vectors rank pairs of words as people do",
    paper="arXiv:1310.4546",
    metric="rho",
    better="higher",
    baseline="the same trainer on the same words in random order: counts kept, company destroyed",
    margin=0.15,
    scale="paper: 30 billion words, 300 dimensions, analogies; here: 4.4 million words of novels, "
    "100 dimensions, 10 epochs, mean Spearman on WordSim-353, MEN and SimLex-999 "
    "(without these files: Python's own text, and the association of words in held-out text)",
    budget_s=600.0,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return the rank correlation on every list of pairs, and their mean as ``rho``."""
    given = material(smoke=smoke)
    recipe = replace(cast("SGNS", method or SGNS()), epochs=10, threads=1, seed=seed)
    texts = given.texts if method is not None else shuffled(given.texts, seed)
    return rank_correlation(recipe(Corpus(texts, split="whitespace")), given.pairs)


def shuffled(texts: Sequence[str], seed: int) -> list[str]:
    """Return texts of the same lengths and the same words, the words in random order."""
    words = [word for text in texts for word in text.split()]
    order = iter(stream(seed, "shuffled words").permutation(len(words)).tolist())
    return [" ".join(words[next(order)] for _ in text.split()) for text in texts]
