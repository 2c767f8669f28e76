"""Change words so little that no linear classifier can tell their classes, and no less.

The idea
--------
After one direction is taken out, the sides of a bias can still be told from others. A linear
classifier fails exactly where the classes have the same mean, so that is what is made: what of a
word correlates with its class is found in the whitened space, where the least change is a
projection, and taken out. One affine map does it, for all words.

Equations
---------
X: the words of the classes, Z: their classes as 0 and 1, S: the covariance of all words::

    W  =  S^-1/2,    Q: an orthonormal basis of the columns of W cov(X, Z)
    w  <-  w - W^-1 Q Q^T W (w - mean X)

Of all affine maps after which cov(X, Z) = 0, it changes the words least in mean square.

Departures from the paper
-------------------------
S is that of all words of the table, not of the classes alone: the change is the least for the whole
table, and the classes may have fewer words than dimensions; that their means agree does not depend
on S. Eigenvalues below 1e-9 of the largest count as none. Special tokens, rows without a token and
zero rows are left alone.

Cost
----
O(V D^2) time, in blocks of rows, and O(D^3).

When not to use it
------------------
With few words a class the means of these words agree, those of other words of the kind only
nearly: give hundreds. Classifiers that are not linear may still tell the classes. Pairs are not
equalised: that is `hard_debias`.

Reference
---------
N. Belrose, D. Schneider-Joseph, S. Ravfogel, R. Cotterell, E. Raff, S. Biderman: LEACE: Perfect
linear concept erasure in closed form. NeurIPS 2023, arXiv:2306.03819, theorem 4.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Ids
from tokenspace.errors import InputError
from tokenspace.metrics import cosine
from tokenspace.recipe import Recipe
from tokenspace.table import EmbeddingTable
from tokenspace.word_sets import WordSets

from ._spectrum import covariance, mapped, mean_of
from ._words import Affine, edited, find, usable

__all__ = ["LEACE", "erasure"]

Values = npt.NDArray[np.float64]

_FLOOR = 1e-9
_ROUNDING = 1e-6  # of float32: what correlates less with the classes does not tell them


@dataclass(frozen=True, kw_only=True)
class LEACE(Recipe):
    """Change words so little that no linear classifier can tell their classes, and no less."""

    tiny: ClassVar[Mapping[str, Any]] = {}

    def __call__(self, source: EmbeddingTable, /, *, classes: WordSets) -> EmbeddingTable:
        """Return the table, (V, D), in which the classes have one mean.

        Raises :class:`InputError` where fewer than two classes have two words or more in the
        table, or where a word is in two of them.
        """
        words = usable(source)
        known, said = _classes(source, words, classes)
        X = np.asarray(source.vectors[np.concatenate(known)], np.float64)
        Z = np.repeat(np.eye(len(known)), [len(ids) for ids in known], axis=0)
        mu = X.mean(axis=0)
        P = erasure(X, Z, covariance(source, words, mean_of(source, words)))
        W, b = np.eye(len(mu)) - P, mu @ P
        vectors = mapped(source, words, np.zeros(len(mu)), W)
        vectors[words] += np.asarray(b, np.float32)
        some = np.flatnonzero(words)[:: max(1, int(words.sum()) // 20_000)]
        metrics = {
            "classes": float(len(known)),
            "words_of_classes": float(len(X)),
            "apart_before": _apart(source.vectors, known),
            "apart_after": _apart(vectors, known),
            "cosine": float(cosine(source.vectors[some], vectors[some]).mean()),
        }
        return edited(self, source, vectors, metrics, said, affine=Affine(W, b))


def _classes(
    source: EmbeddingTable, words: npt.NDArray[np.bool_], classes: WordSets
) -> tuple[list[Ids], list[str]]:
    """Return the ids of every class with two words or more, and what a user should know."""
    known, gone, seen = [], [], set[int]()
    for members in classes:
        ids = {i: w for w in members if (i := find(source.vocab, w)) >= 0 and words[i]}
        gone += [w for w in members if w not in ids.values()]
        if twice := [ids[i] for i in ids if i in seen]:
            raise InputError(
                f"in two classes: {', '.join(twice)}", hint="give every word one class"
            )
        seen.update(ids)
        if len(ids) > 1:
            known.append(np.array(list(ids), np.int64))
    if len(known) < 2:
        raise InputError(
            f"{len(known)} of {len(classes)} classes have two words in the table, and 2 are needed;"
            f" missing: {', '.join(gone) or 'none'}",
            hint='give {"one": ["word", ...], "other": [...]}: --classes FILE',
        )
    more = f" and {len(gone) - 12} more" if len(gone) > 12 else ""
    return known, [f"classes: not in the table: {', '.join(gone[:12])}{more}"] if gone else []


def _apart(vectors: npt.NDArray[np.float32], known: list[Ids]) -> float:
    """Return how far the means of the classes lie from their common mean, to the words' spread."""
    means = np.stack([vectors[ids].mean(axis=0, dtype=np.float64) for ids in known])
    rows = np.asarray(vectors[np.concatenate(known)], np.float64)
    spread = float(np.linalg.norm(rows - rows.mean(axis=0)) / len(rows) ** 0.5)
    return float(np.linalg.norm(means - means.mean(axis=0), axis=1).mean() / max(spread, 1e-300))


def erasure(X: Values, Z: Values, S: Values) -> Values:
    """Return P (D, D) such that the rows x - (x - mean X) P have no covariance with Z.

    ``X`` is (n, D), ``Z`` (n, c), and ``S`` (D, D) the covariance that says what a change costs.
    """
    values, U = np.linalg.eigh(S)
    kept = values > _FLOOR * max(float(values[-1]), 1e-300)
    U, roots = U[:, kept], np.sqrt(values[kept])
    cross = (X - X.mean(axis=0)).T @ (Z - Z.mean(axis=0)) / len(X)
    M = (U / roots).T @ cross
    Q, s, _ = np.linalg.svd(M, full_matrices=False)
    Q = Q[:, s > _ROUNDING]
    return np.asarray((U / roots) @ Q @ Q.T @ (U * roots).T)
