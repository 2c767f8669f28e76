"""fastText: n-grams of letters say something about words that are rare, or not in the text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import numpy as np

from tokenspace import data
from tokenspace.corpus import Corpus
from tokenspace.recipe import Recipe
from tokenspace.report import Claim
from tokenspace.table import EmbeddingTable
from tokenspace.words.evaluation import word_similarity
from tokenspace.words.fasttext import FastText
from tokenspace.words.sgns import SGNS
from tokenspace.words.trial import Pairs, material

RARE = "EN-RW-STANFORD"
TURKISH = ("tr_similarity_semantic_dev", "tr_similarity_syntactic_dev")
TEXTS = ("tr_movie_reviews_dev", "tr_kenet_dev", "tr_ner_dev", "turkish/tr_boun-ud-dev.conllu.gz")

CLAIM = Claim(
    says="Cosines rank all pairs of lists of rare words and of inflected ones better than "
    "skip-gram's, where a pair with an unknown word counts as 0",
    paper="arXiv:1607.04606",
    metric="rho",
    better="higher",
    baseline="skip-gram (sgns) of as many epochs, at its own defaults",
    margin=0.03,
    scale="paper: Wikipedia, 300 dimensions, rare words .43 to .47; here: 100 dimensions, 10 "
    "epochs, mean Spearman on Rare Words (4.4 million words of English novels), AnlamVer and "
    "WordSimTr (0.6 million words of Turkish; its pairs are alike in spelling, whatever they "
    "mean); rows carry MEN, and each list on pairs of known words alone (without these files: "
    "Python's own text, and the association of words in held-out text)",
    budget_s=600.0,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return the rank correlation on every list, and as ``rho`` the mean of those claimed."""
    recipe = replace(cast("FastText | SGNS", method or SGNS()), epochs=10, threads=1, seed=seed)
    if smoke or not all(map(data.available, ("novels", RARE, "EN-MEN-TR-3k", *TURKISH, *TEXTS))):
        given = material(smoke=smoke)
        found = lists(recipe(Corpus(given.texts, split="whitespace")), given.pairs)
        return {"rho": float(np.mean([found[name] for name in given.pairs])), **found}
    english = recipe(Corpus(data.novels(), split="whitespace"))
    found = lists(english, {name: data.word_pairs(name) for name in (RARE, "EN-MEN-TR-3k")})
    inflected = recipe(Corpus(data.turkish(), language="tr"))
    found |= lists(inflected, {name: data.word_pairs(name) for name in TURKISH}, "tr")
    return {"rho": float(np.mean([found[name] for name in (RARE, *TURKISH)])), **found}


def lists(
    table: EmbeddingTable, pairs: Mapping[str, Pairs], language: str = ""
) -> dict[str, float]:
    """Return the correlation on all pairs of every list, and on those of two known words."""
    rows = table.replace(vectors=table.vectors)  # without n-grams
    found = {}
    for name, listed in pairs.items():
        found[name] = word_similarity(table, listed, oov="zero", language=language).value
        known = word_similarity(rows, listed, language=language)
        if known.used > 1:
            found[f"{name}, known"] = known.value
    return found
