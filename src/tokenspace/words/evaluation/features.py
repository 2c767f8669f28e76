"""How much of a set of linguistic features can be read off word vectors linearly.

Features are a matrix of words by properties, such as the share of a word's dictionary senses that
belong to each supersense. Two measures: canonical correlation (Tsvetkov, Faruqui, Dyer 2016:
QVEC-CCA), and a linear classifier of the words that have one property only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Ids
from tokenspace.errors import InputError
from tokenspace.resampling import scored
from tokenspace.rng import stream
from tokenspace.table import EmbeddingTable
from tokenspace.words.evaluation.lookup import Found, Oov, find
from tokenspace.words.evaluation.results import Result, Values

__all__ = ["Features", "canonical", "features"]

FOLDS = 5
RIDGE = 1e-3  # of the mean variance of a dimension


@dataclass(frozen=True, eq=False)
class Features:
    """Words and their properties: ``matrix`` (N, F) float64, not negative; ``names``, F."""

    words: tuple[str, ...]
    names: tuple[str, ...]
    matrix: Values

    @classmethod
    def of(cls, given: Mapping[str, Mapping[str, float]]) -> Features:
        """Make them of a mapping from words to the weights of their properties."""
        names = sorted({name for weights in given.values() for name in weights})
        column = {name: index for index, name in enumerate(names)}
        matrix = np.zeros((len(given), len(names)))
        for row, weights in zip(matrix, given.values(), strict=True):
            for name, weight in weights.items():
                row[column[name]] = weight
        return cls(tuple(given), tuple(names), matrix)


def features(
    table: EmbeddingTable,
    given: Features,
    *,
    name: str = "features",
    oov: Oov = "skip",
    language: str = "",
    seed: int = 0,
    resamples: int = 1000,
) -> list[Result]:
    """Return two results, each measured on words that nothing was fitted on (five folds).

    ``cca``: Pearson's correlation of the first canonical variates, fitted on four fifths of the
    words; ``also`` has the correlation within the fitted words (``in_sample``), which is the
    published form and grows with the width of the table. ``probe``: accuracy of a ridge classifier
    of the words with one property; ``also`` has the share of the most frequent one
    (``majority``).
    """
    found = find(table, given.words, oov=oov, language=language)
    use = found.known if oov == "skip" else np.ones(len(given.words), np.bool_)
    return [
        _cca(found, use, given.matrix, name=name, seed=seed, resamples=resamples),
        _probe(found, use, given.matrix, name=name, seed=seed, resamples=resamples),
    ]


def _folds(count: int, seed: int) -> Ids:
    """Return the fold of every item, by a random order that depends on the seed only."""
    order = stream(seed, "folds").permutation(count)
    folds = np.empty(count, np.int64)
    folds[order] = np.arange(count) % FOLDS
    return folds


def _cca(
    found: Found, use: npt.NDArray[np.bool_], S: Values, *, name: str, seed: int, resamples: int
) -> Result:
    items = np.full((len(use), 2), np.nan)
    folds = _folds(len(use), seed)
    X = found.vectors.astype(np.float64)
    S = S[:, (S[use] > 0).sum(axis=0) >= FOLDS]  # a property of fewer words is in no fold
    enough = use.sum() > 2 * max(X.shape[1], S.shape[1]) and S.shape[1] > 0
    also = {"words": float(use.sum()), "in_sample": float("nan")}
    notes: tuple[str, ...] = ()
    if enough:
        for fold in range(FOLDS):
            fitted, tested = use & (folds != fold), use & (folds == fold)
            _, x, s = canonical(X[fitted], S[fitted])
            items[tested, 0] = (X[tested] - X[fitted].mean(axis=0)) @ x
            items[tested, 1] = (S[tested] - S[fitted].mean(axis=0)) @ s
        also["in_sample"] = canonical(X[use], S[use])[0]
    else:
        notes = (f"{int(use.sum())} words are too few for vectors of {X.shape[1]} numbers",)
    score = scored("pearson", items, seed, resamples)
    return Result(
        task="features", set=name, measure="cca", score=score, kind="pearson", items=items,
        unknown=found.unknown, also=also, notes=notes,
    )  # fmt: skip


def canonical(X: Values, S: Values) -> tuple[float, Values, Values]:
    """Return the first canonical correlation of (N, D) and (N, F), and both sides' directions.

    The directions have variates of variance 1, and the first numbers' sum is not negative. A
    thousandth of the mean variance is added to each side's variances, so that properties that are
    sums of others do no harm.
    """
    if len(X) != len(S) or len(X) < 2:
        raise InputError(
            f"canonical correlation of {len(X)} rows and {len(S)}",
            hint="give as many of both, and 2 or more",
        )
    sides = []
    for matrix in (X, S):
        centred = matrix - matrix.mean(axis=0)
        C = centred.T @ centred / len(matrix)
        values, vectors = np.linalg.eigh(C)
        values = values + RIDGE * max(float(values.mean()), 1e-300)
        sides.append((centred, vectors / np.sqrt(np.maximum(values, 1e-300))))
    (x, A), (s, B) = sides
    U, _, V = np.linalg.svd(A.T @ (x.T @ s / len(x)) @ B, full_matrices=False)
    a, b = A @ U[:, 0], B @ V[0]
    sign = -1.0 if a.sum() < 0 else 1.0
    one, two = x @ a, s @ b
    spread = float(np.linalg.norm(one) * np.linalg.norm(two))
    return (float(one @ two) / spread if spread else float("nan"), sign * a, sign * b)


def _probe(
    found: Found, use: npt.NDArray[np.bool_], S: Values, *, name: str, seed: int, resamples: int
) -> Result:
    single = (S > 0).sum(axis=1) == 1
    labels = S.argmax(axis=1)
    items = np.full(len(use), np.nan)
    use = use & single
    folds = _folds(len(use), seed)
    also = {"majority": float("nan"), "classes": float(len(np.unique(labels[use])))}
    X = found.vectors.astype(np.float64)
    for fold in range(FOLDS) if use.sum() >= 2 * FOLDS else ():
        fitted, tested = use & (folds != fold), use & (folds == fold)
        chosen = _ridge_classes(X[fitted], labels[fitted], X[tested])
        items[tested] = chosen == labels[tested]
    if use.any():
        also["majority"] = float(np.bincount(labels[use]).max() / use.sum())
    return Result(
        task="features", set=name, measure="probe",
        score=scored("share", items[single], seed, resamples), kind="share",
        items=items[single], unknown=found.unknown, also=also,
    )  # fmt: skip


def _ridge_classes(X: Values, labels: Sequence[int] | Ids, queries: Values) -> Ids:
    """Return the class of every query by least squares on one column of 0 and 1 a class."""
    classes, y = np.unique(labels, return_inverse=True)
    mean = X.mean(axis=0)
    centred = X - mean
    Y = np.eye(len(classes))[y]
    gram = centred.T @ centred
    gram += np.eye(len(gram)) * max(float(np.trace(gram)) / len(gram), 1e-300) * 1e-2
    W = np.linalg.solve(gram, centred.T @ (Y - Y.mean(axis=0)))
    scores = (queries - mean) @ W + Y.mean(axis=0)
    best: Ids = classes[scores.argmax(axis=1)]
    return best
