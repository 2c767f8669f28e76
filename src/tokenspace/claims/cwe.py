"""CWE: with the characters' help, a little text is enough to tell synonyms from other pairs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Literal, cast

import numpy as np

from tokenspace import data
from tokenspace.corpus import Corpus
from tokenspace.metrics import auc, cosine
from tokenspace.recipe import Recipe
from tokenspace.report import Claim
from tokenspace.rng import stream
from tokenspace.table import EmbeddingTable
from tokenspace.words.cbow import CBOW
from tokenspace.words.cwe import CWE
from tokenspace.words.fasttext import FastText

EPOCHS, MIN_COUNT = 20, 2
VARIANTS: tuple[Literal["P", "L", "LP", "N"], ...] = ("P", "L", "LP", "N")
DICTIONARY = "multilingual/dicts/en_chinese.tsv.gz"
OTHERS = 20_000  # random pairs that synonyms are compared with

CLAIM = Claim(
    says="With its characters' vectors, cosines of words tell synonyms that share no character "
    "from random pairs better than without",
    paper="IJCAI 2015 (Chen, Xu, Liu, Sun, Luan)",
    metric="auc",
    better="higher",
    baseline="cbow with the same knobs on the same text",
    margin=0.02,
    scale="paper: a year of a newspaper, word similarity and analogies; here: 72,000 segmented "
    "words of the Sinica treebank, 20 passes, words that occur twice; synonyms are words with one "
    "English translation in Wiktionary. The lists of the paper have 28 of 240 pairs in this text. "
    "Rows carry the AUC of all pairs, that of the share of common characters alone, and that of "
    "fasttext with n-grams of 1 to 3 characters and of the variants, over which nothing is claimed "
    "(without these files: invented words on two subjects)",
    budget_s=300.0,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return the AUC of synonyms against random pairs, those that share no character as ``auc``."""
    texts, synonyms = material(smoke=smoke)
    if method is None:
        recipe: CWE | CBOW = CBOW(epochs=EPOCHS, min_count=MIN_COUNT, threads=1, seed=seed)
    else:
        recipe = replace(
            cast("CWE", method), epochs=EPOCHS, min_count=MIN_COUNT, threads=1, seed=seed
        )
    corpus = Corpus(texts, split="whitespace")
    letters = FastText(epochs=EPOCHS, min_count=MIN_COUNT, ngrams="1-3", threads=1, seed=seed)
    beside = {"auc_fasttext": judged(letters(corpus), synonyms, seed)["auc"]}
    for variant in VARIANTS:
        other = CWE(variant=variant, epochs=EPOCHS, min_count=MIN_COUNT, threads=1, seed=seed)
        beside[f"auc_{variant}"] = judged(other(corpus), synonyms, seed)["auc"]
    return {**judged(recipe(corpus), synonyms, seed), **beside}


def material(*, smoke: bool) -> tuple[list[str], set[tuple[str, str]]]:
    """Return segmented text, and pairs of synonyms of it."""
    if smoke or not (data.available("zh_sinica_dev") and data.available(DICTIONARY)):
        return invented(400 if smoke else 4_000)
    texts = data.lines("zh_sinica_dev")
    known = {word for text in texts for word in text.split()}
    chinese: dict[str, set[str]] = defaultdict(set)
    for english, word in data.dictionary("chinese"):
        if word in known:
            chinese[english].add(word)
    return texts, {pair for words in chinese.values() for pair in combinations(sorted(words), 2)}


def invented(count: int) -> tuple[list[str], set[tuple[str, str]]]:
    """Make texts on two subjects, each of words of two characters out of its own ten."""
    draw = stream(0, "two subjects")
    subjects = [[chr(0x4E00 + 10 * side + i) for i in range(10)] for side in range(2)]
    texts, seen = [], [set[str](), set[str]()]
    for _ in range(count):
        side = int(draw.integers(2))
        words = ["".join(draw.choice(subjects[side], 2)) for _ in range(8)]
        seen[side].update(words)
        texts.append(" ".join(words))
    return texts, {pair for words in seen for pair in combinations(sorted(words), 2)}


def judged(table: EmbeddingTable, synonyms: set[tuple[str, str]], seed: int) -> dict[str, float]:
    """Return the figures of a table."""
    words = table.vocab.tokens
    draw = stream(seed, "random pairs").integers(len(words), size=(OTHERS, 2))
    others = {(words[min(p)], words[max(p)]) for p in draw.tolist() if p[0] != p[1]} - synonyms
    pairs = sorted(pair for pair in synonyms if set(pair) <= table.vocab.ids.keys())
    labels = np.array([1] * len(pairs) + [0] * len(others))
    pairs += sorted(others)
    left, right = (
        table.rows(np.array([table.id(pair[side]) for pair in pairs])) for side in (0, 1)
    )
    scores = cosine(left, right)
    shared = shared_characters(pairs)
    apart = shared == 0
    return {
        "auc": auc(labels[apart], scores[apart]),
        "auc_all": auc(labels, scores),
        "auc_shared": auc(labels, shared),
        "synonyms": float(labels[apart].sum()),
        "synonyms_all": float(labels.sum()),
    }


def shared_characters(pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """Return how large a part of both words' characters is in both, (N,)."""
    return np.array([len({*a} & {*b}) / len({*a, *b}) for a, b in pairs])
