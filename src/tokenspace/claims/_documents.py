"""Labelled documents, half of them known: the rest is encoded by what was learned from these."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tokenspace import data
from tokenspace.arrays import Floats2d
from tokenspace.corpus import Corpus
from tokenspace.encode.static import StaticEncoder, text_vocabulary
from tokenspace.rng import stream
from tokenspace.words.sgns import SGNS

__all__ = ["SETS", "Halves", "accuracy", "halves", "mean_of_words"]

SETS = ("newsgroups20_dev", "movie_reviews_dev")
STRENGTHS = (1.0, 10.0, 100.0)  # C of the classifier, of which cross-validation takes the best


class Halves(NamedTuple):
    """Texts and labels of the known half and of the other half."""

    known: list[str]
    labels: npt.NDArray[np.str_]
    asked: list[str]
    answers: npt.NDArray[np.str_]


@lru_cache(maxsize=2)  # both sides of a claim are measured on the same halves
def halves(name: str, seed: int, *, smoke: bool) -> Halves:
    """Divide a set at random; without the files, and for ``smoke``, invented texts of 4 classes."""
    real = data.available(name) and not smoke
    pairs = data.labelled(name) if real else _invented(seed)
    order = stream(seed, "halves").permutation(len(pairs))
    known, asked = order[: len(pairs) // 2], order[len(pairs) // 2 :]
    labels = np.array([label for label, _ in pairs])
    return Halves(
        [pairs[i][1] for i in known], labels[known], [pairs[i][1] for i in asked], labels[asked]
    )


def _invented(seed: int) -> list[tuple[str, str]]:
    """Return texts in which every third word is of its class."""
    found = []
    for label in "abcd":
        for text in data.zipf_text(40, 60, 1, seed=4 * seed + ord(label)):
            words = [word + label * (i % 3 == 0) for i, word in enumerate(text.split())]
            found.append((label, " ".join(words)))
    return found


def accuracy(
    known: Floats2d, labels: npt.NDArray[np.str_], asked: Floats2d, answers: npt.NDArray[np.str_]
) -> float:
    """Return the share of the asked that logistic regression on the known ones puts right.

    Vectors are divided by their lengths; the strength of regularisation is the best of three in
    five-fold cross-validation on the known half.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    grid = GridSearchCV(LogisticRegression(max_iter=1000), {"C": STRENGTHS}, cv=5)
    return float(grid.fit(_unit(known), labels).score(_unit(asked), answers))


def mean_of_words(texts: list[str], epochs: int, seed: int) -> StaticEncoder:
    """Return the encoder that averages skip-gram vectors of 100 dimensions learned from texts."""
    corpus = Corpus(texts)
    table = SGNS(dim=100, epochs=epochs, min_count=2, threads=1, seed=seed)(corpus)
    vocab = text_vocabulary(table.vocab)
    rows = np.zeros((len(vocab), 100), np.float32)  # one more: that of unknown words
    rows[: len(table.vectors)] = table.vectors
    return StaticEncoder(vocab, rows)


def _unit(rows: Floats2d) -> Floats2d:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1), np.float32)
