"""What the networks over windows are claimed to do: to learn from the company of words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tokenspace.claims.sgns import shuffled
from tokenspace.corpus import Corpus
from tokenspace.recipe import Recipe
from tokenspace.report import Claim
from tokenspace.words.trial import material, rank_correlation

__all__ = ["KNOBS", "claim", "figures"]

KNOBS: dict[str, Any] = {"dim": 50, "epochs": 5}
"""What is measured: half of the default's dimensions."""


def claim() -> Claim:
    """Return the claim, which is the same for all of them."""
    return Claim(
        says="Cosines of the vectors rank pairs of words as people do",
        paper="arXiv:1507.05523",
        metric="rho",
        better="higher",
        baseline="the same trainer on the same words in random order: counts kept, company "
        "destroyed",
        margin=0.1,
        scale="paper: 10 million to 2.8 billion words, eight tasks; here: 4.4 million words of "
        "novels, 50 dimensions, 5 epochs, mean Spearman on WordSim-353, MEN and SimLex-999 "
        "(without these files: Python's own text, and the association of words in held-out text)",
        budget_s=600.0,
    )


def figures(method: Recipe | None, plain: Recipe, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return the rank correlation on every list of pairs, and their mean as ``rho``.

    Without a ``method`` the ``plain`` one learns from the words in random order.
    """
    given = material(smoke=smoke)
    recipe: Any = replace(method or plain, **{**KNOBS, "seed": seed})
    texts = given.texts if method is not None else shuffled(given.texts, seed)
    return rank_correlation(recipe(Corpus(texts, split="whitespace")), given.pairs)
