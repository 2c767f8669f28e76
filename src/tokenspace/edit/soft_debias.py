"""Shrink a bias by one linear map that changes the likeness of words as little as it can.

The idea
--------
Hard debiasing cuts a direction out of all words that are not in a list. Here one matrix T is
applied to all words, and to be found it is weighed: the inner products of all words shall stay as
they were, and neutral words shall have small inner products with the bias. The larger ``lam_rel``,
the more the bias counts.

Equations
---------
W (d, V): all words, as columns of length 1; N (d, n): the neutral ones; B (k, d): the subspace in
which the definitional sets differ most::

    min over T    |(T W)^T (T W) - W^T W|_F^2  +  lambda |(T N)^T (T B^T)|_F^2
    lambda  =  lam_rel V^2 / (d n)

With X = T^T T, A = W W^T and Z = A^1/2 X A^1/2 this is convex, and all matrices are (d, d)::

    min over Z >= 0    |Z - A|_F^2  +  lambda tr(b^T Z Q Z b)
    b  =  A^-1/2 B^T,   Q  =  A^-1/2 N N^T A^-1/2
    X  =  A^-1/2 Z A^-1/2,   T  =  X^1/2,   w  <-  T w / |T w|

Departures from the paper
-------------------------
The paper gives lambda = 0.2 as such, but the first term grows with V^2 and the second with n: with
22,000 words it does nothing. ``lam_rel`` has no scale; ``lam`` sets lambda itself. The paper
leaves the semidefinite program to a general solver; here accelerated projected gradient descent
runs on Z, whose condition number is the root of that of X, from Z = A with step 1 / (2 + 2 lambda
|Q| |b b^T|), until a step changes Z by less than 1e-7 of it. Every row keeps its own length unless
``unit`` is set. Words in no list are neutral; definitional words and those to equalise are not. T
also multiplies the n-grams of a fastText model.

Cost
----
O(V d^2) time for the products and O(d^3) a step: some tens of steps of a few milliseconds at
d = 100.

When not to use it
------------------
Where no bias may be left along the direction: `hard_debias` leaves none, `soft_debias` some.
Words that are biased the same way still lie together.

Reference
---------
T. Bolukbasi, K.-W. Chang, J. Zou, V. Saligrama, A. Kalai: Man is to Computer Programmer as Woman
is to Homemaker? Debiasing Word Embeddings. NIPS 2016, arXiv:1607.06520, section 5 and the
supplement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from tokenspace.errors import NotConverged
from tokenspace.recipe import Range, Recipe
from tokenspace.table import EmbeddingTable
from tokenspace.word_sets import WordSets

from ._subspace import chance, span, unit
from ._words import Affine, Lists, bias_of, blocks, edited, lengths, usable

__all__ = ["SoftDebias", "solve"]

Values = npt.NDArray[np.float64]

_TOLERANCE = 1e-7
_FLOOR = 1e-8  # of the largest eigenvalue of A: smaller ones are raised to it


@dataclass(frozen=True, kw_only=True)
class SoftDebias(Recipe):
    """Shrink a bias by one linear map that changes the likeness of words as little as it can."""

    lam_rel: Annotated[float, Range(0, 1e9), "weight of the bias; no scale in it"] = 5.0
    lam: Annotated[
        float | Literal["auto"], Range(0, 1e18), "the paper's lambda; auto: by lam_rel"
    ] = "auto"
    k: Annotated[int, Range(1, 256), "directions that are shrunk"] = 1
    steps: Annotated[int, Range(1, 1_000_000), "steps of the solver at most"] = 10_000
    unit: Annotated[bool, "leave rows at length 1, instead of giving each its own back"] = False

    tiny: ClassVar[Mapping[str, Any]] = {}

    def __call__(
        self,
        source: EmbeddingTable,
        /,
        *,
        definitional: WordSets | None = None,
        equalize: WordSets | None = None,
        specific: WordSets | None = None,
    ) -> EmbeddingTable:
        """Return T applied to every word of the table, (V, D).

        Without ``definitional`` the lists are the paper's, for gender in English. ``metrics`` in
        the notes are DirectBias of the neutral words before, and after along T g, which is where
        the direction g has gone.

        Raises :class:`InputError` where fewer than two definitional sets have two words or more in
        the table, :class:`ConfigError` where they differ in fewer than k directions, and
        :class:`NotConverged` after ``steps`` steps.
        """
        lists = Lists.of(source, definitional, equalize, specific)
        found = lists.subspace(source, self.k)
        words = usable(source)
        A, NN = _products(source, words), _products(source, lists.neutral)
        V, n, d = int(words.sum()), int(lists.neutral.sum()), source.shape[1]
        lam = self.lam_rel * V**2 / (d * max(n, 1)) if self.lam == "auto" else self.lam
        X, steps = solve(A, NN, found.basis, lam, self.steps)
        T = _root(X)
        vectors = np.array(source.vectors, np.float32)
        for part in blocks(len(vectors)):
            chosen = words[part]
            rows = source.vectors[part][chosen]
            new = unit(unit(rows) @ T)
            vectors[part][chosen] = new if self.unit else new * lengths(rows)[:, None]
        metrics = {
            "direct_bias_before": bias_of(source.vectors, lists.neutral, found.basis),
            "direct_bias_after": bias_of(vectors, lists.neutral, span(found.basis @ T)),
            "direct_bias_random": chance(d, self.k),
            "neutral_words": float(n),
            "explained": float(found.shares[: self.k].sum()),
            "lambda": float(lam),
            "steps": float(steps),
        }
        said = [lists.compared(source, found), *lists.lines]
        return edited(
            self,
            source,
            vectors,
            metrics,
            said,
            affine=Affine(T, np.zeros(d)),
            missing=lists.missing,
            directions=(found.basis @ T).tolist(),
        )


def _products(source: EmbeddingTable, chosen: npt.NDArray[np.bool_]) -> Values:
    """Return the sum of w w^T over the chosen rows at length 1, (D, D)."""
    total = np.zeros((source.shape[1], source.shape[1]))
    for part in blocks(len(chosen)):
        rows = unit(source.vectors[part][chosen[part]])
        total += rows.T @ rows
    return total


def _root(X: Values) -> Values:
    values, vectors = np.linalg.eigh(X)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T)


def solve(A: Values, NN: Values, B: Values, lam: float, steps: int = 10_000) -> tuple[Values, int]:
    """Return X (d, d) that minimises the objective, and how many steps it took.

    ``A`` is W W^T, ``NN`` is N N^T, ``B`` is (k, d). Raises :class:`NotConverged`.
    """
    values, vectors = np.linalg.eigh(A)
    values = np.maximum(values, _FLOOR * max(float(values[-1]), 1e-300))
    A = (vectors * values) @ vectors.T
    inverse = (vectors / np.sqrt(values)) @ vectors.T
    b, Q = inverse @ B.T, inverse @ NN @ inverse
    M = b @ b.T
    step = 1 / (2 + 2 * lam * float(np.linalg.norm(Q, 2) * np.linalg.norm(M, 2)))
    # the objective is 2-strongly convex: constant momentum converges linearly (Nesterov 2004)
    momentum = (1 - np.sqrt(2 * step)) / (1 + np.sqrt(2 * step))
    Z = Y = A
    for count in range(1, steps + 1):
        QYM = Q @ Y @ M
        moved = Y - step * (2 * (Y - A) + lam * (QYM + QYM.T))
        w, U = np.linalg.eigh((moved + moved.T) / 2)
        new = (U * np.maximum(w, 0)) @ U.T
        change = float(np.linalg.norm(new - Z))
        Y = new + momentum * (new - Z)
        Z = new
        if change <= _TOLERANCE * float(np.linalg.norm(Z)) * np.sqrt(2 * step):
            return inverse @ Z @ inverse, count
    raise NotConverged(
        f"soft_debias: {steps} steps do not suffice for lambda={lam:g}",
        hint="give more --steps, or a smaller --lam-rel",
    )
