"""CharWord: characters that learned beside words tell better where words end."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np

from tokenspace import data
from tokenspace.corpus import Corpus
from tokenspace.recipe import Recipe
from tokenspace.report import Claim
from tokenspace.rng import stream
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary
from tokenspace.words.charword import CharWord
from tokenspace.words.evaluation.tagging import Sentence, split_sentences, tagging
from tokenspace.words.sgns import SGNS

EPOCHS, MIN_COUNT = 20, 2

CLAIM = Claim(
    says="Vectors of characters that were learned together with words tell where words end better "
    "than vectors learned from characters alone",
    paper="arXiv:1611.05962",
    metric="f1",
    better="higher",
    baseline="sgns with the same knobs on the characters of the same text",
    margin=0.01,
    scale="thesis: news, segmentation by networks that go on training the vectors; here: 8,000 "
    "clauses of the Sinica treebank, 72,000 words, 20 passes over four of five; from their marks "
    "(begin, inside, end, alone) a logistic regression on the vectors of five characters learns, "
    "and its words are compared with those of every fifth clause. Rows carry the F1 of random "
    "vectors (without this file: invented words)",
    budget_s=400.0,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return the F1 of words found by the vectors of characters, as ``f1``."""
    real = not smoke and data.available("zh_sinica_dev")
    texts = data.lines("zh_sinica_dev") if real else invented(200 if smoke else 4_000)
    train, test = split_sentences([marked(text) for text in texts if text.strip()])
    knobs = {"epochs": EPOCHS, "min_count": MIN_COUNT, "threads": 1, "seed": seed}
    table = (
        SGNS(**knobs)(Corpus([" ".join(own) for own, _ in train], split="whitespace"))
        if method is None
        else replace(cast("CharWord", method), **knobs)(
            Corpus([joined(*sentence) for sentence in train], split="whitespace")
        )
    )
    return {"f1": f1(table, train, test), "f1_random": f1(random(table, seed), train, test)}


def invented(count: int) -> list[str]:
    """Make texts of 60 words of one to three characters out of forty."""
    draw = stream(0, "words of characters")
    letters = [chr(0x4E00 + i) for i in range(40)]
    words = ["".join(draw.choice(letters, size)) for size in draw.integers(1, 4, 60)]
    return [" ".join(draw.choice(words, 8)) for _ in range(count)]


def marked(text: str) -> Sentence:
    """Return the characters of a segmented text, and whether each begins, ends or is a word."""
    own, marks = [], []
    for word in text.split():
        own += list(word)
        inside = ["I-word"] * (len(word) - 2)
        marks += ["S-word"] if len(word) == 1 else ["B-word", *inside, "E-word"]
    return tuple(own), tuple(marks)


def joined(own: tuple[str, ...], marks: tuple[str, ...]) -> str:
    """Return the text with spaces between its words again."""
    return "".join(c + " " * (mark[0] in "ES") for c, mark in zip(own, marks, strict=True)).strip()


def f1(table: EmbeddingTable, train: list[Sentence], test: list[Sentence]) -> float:
    """Return the F1 of words by a tagger on the vectors."""
    return float(tagging(table, train, test, task="ner", resamples=1).score.value)


def random(table: EmbeddingTable, seed: int) -> EmbeddingTable:
    """Return random vectors of the same tokens."""
    drawn = stream(seed, "random vectors").standard_normal(table.shape, np.float32)
    return EmbeddingTable(Vocabulary.words(table.vocab.tokens), drawn)
