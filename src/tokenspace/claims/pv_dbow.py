"""PV-DBOW: a linear classifier reads more from fitted document vectors than from word means."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from tokenspace.claims._documents import SETS, accuracy, halves, mean_of_words
from tokenspace.corpus import Corpus
from tokenspace.encode.pv_dbow import PVDBOW
from tokenspace.recipe import Recipe
from tokenspace.report import Claim

CLAIM = Claim(
    says="A linear classifier on vectors fitted to new texts is right more often than on the means "
    "of word vectors that were learned from the same texts",
    paper="arXiv:1405.4053",
    metric="accuracy",
    better="higher",
    baseline="means of skip-gram vectors, as wide, of as many epochs",
    margin=0.01,
    scale="paper: 100,000 reviews of IMDB, 400 dimensions, both models side by side, a neural "
    "classifier; here: half of 2,000 posts of 20 newsgroups and half of 1,000 film reviews, 100 "
    "dimensions, logistic regression on this half and tested on the other, whose vectors are "
    "inferred. accuracy is the mean of both sets. A seed divides the texts and trains. Without "
    "these files: invented texts",
    budget_s=300.0,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return the mean ``accuracy`` and that on each set."""
    recipe = replace(cast("PVDBOW", method or PVDBOW()), seed=seed, threads=1)
    found = {}
    for name in SETS:
        given = halves(name, seed, smoke=smoke)
        if method:
            encoder = recipe(Corpus(given.known))
            known, asked = encoder.encode(given.known), encoder.encode(given.asked)
        else:
            means = mean_of_words(given.known, recipe.epochs, seed)
            known, asked = means.encode(given.known), means.encode(given.asked)
        found[name] = accuracy(known, given.labels, asked, given.answers)
    return {"accuracy": sum(found.values()) / len(found), **found}
