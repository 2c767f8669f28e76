"""Order: what the places of neighbours tell beyond their company is the part of speech."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import cast

from tokenspace import data
from tokenspace.claims._company import KNOBS
from tokenspace.corpus import Corpus
from tokenspace.recipe import Recipe
from tokenspace.report import Claim
from tokenspace.rng import stream
from tokenspace.words.order import Order
from tokenspace.words.study import parts_of_speech, same_class

CLAIM = Claim(
    says="The nearest neighbours of a word are of its part of speech, because the order of the "
    "context is kept",
    paper="arXiv:1507.05523",
    metric="same_class",
    better="higher",
    baseline="the same trainer on the same sentences, the words of each in random order: company "
    "kept, order destroyed",
    margin=0.05,
    scale="paper: the order of words helps on syntactic tasks, with 10 million to 2.8 billion "
    "words; here: 4.4 million words of novels, 50 dimensions, 5 epochs, the ten nearest among the "
    "words that are of one part of speech only in the Open English WordNet (without these files: "
    "invented sentences)",
    budget_s=600.0,
)

_DICTIONARY = "dictionary/oewn_definitions_dev.tsv.gz"


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return the share of the ten nearest neighbours of a word that are of its class."""
    texts, classes = _sentences(smoke=smoke)
    if method is None:
        texts = disordered(texts, seed)
    recipe = replace(cast("Order", method or Order()), **KNOBS, seed=seed)
    return {"same_class": same_class(recipe(Corpus(texts, split="whitespace")), classes)}


def disordered(texts: Sequence[str], seed: int) -> list[str]:
    """Return the texts, the words of each in random order."""
    draw = stream(seed, "disordered")
    return [" ".join(draw.permutation(text.split()).tolist()) for text in texts]


@cache
def _sentences(*, smoke: bool) -> tuple[Sequence[str], Mapping[str, str]]:
    """Return texts, and the classes of words: the novels and parts of speech, or invented ones."""
    if smoke or not all(data.available(name) for name in ("novels", _DICTIONARY)):
        draw = stream(0, "order")
        lines = draw.integers(40, size=(400 if smoke else 20_000, 2, 3)).tolist()
        texts = [f"l{i} x{j} r{k} r{n} y{m} l{o}" for (i, j, k), (n, m, o) in lines]
        return texts, {f"{kind}{i}": kind for kind in "xy" for i in range(40)}
    return data.novels(), parts_of_speech()
