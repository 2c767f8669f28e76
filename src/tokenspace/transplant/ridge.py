"""Map unseen rows from a donor to the source by a ridge regression on the shared tokens.

The idea
--------
Where two models agree on what tokens have in common, one space is nearly a linear image of the
other. Tokens that both have are examples of that map. Learn it from all of them at once, held back
by a penalty that is chosen so as to predict examples that were left out, and send the donor's rows
of the new tokens through it.

Equations
---------
With A (N, d_D) and B (N, d), the anchors' rows in donor and source, ā and b̄ their means, A_c and
B_c what is left without them, and a donor row x (d_D,)::

    λ' = λ (1/N) Σ ‖a_i − ā‖²              (λ counts anchors: free of the donor's scale)
    M = (A_cᵀ A_c + λ' I)⁻¹ A_cᵀ B_c        (d_D, d)
    row = b̄ + (x − ā) M

``"auto"`` takes the λ of least error when each anchor is predicted from all the others::

    error(λ) = Σ ‖(b_i − b̂_i) / (1 − H_ii)‖² / Σ ‖b_i − b̄_{without i}‖²
    H_ii = 1/N + (a_i − ā)ᵀ (A_cᵀ A_c + λ' I)⁻¹ (a_i − ā)

which is exact, without N regressions (Allen's PRESS); from 1 on the mean row is no worse.

Departures from the paper
-------------------------
- The penalty is relative, and chosen from 0.001 to 1000 by left-out anchors; where no λ beats their
  mean, new tokens get the mean row.
- Beyond 2,000 anchors the error is taken over 2,000 of them, evenly spaced; the map is always
  fitted on all.
- Anchors are tokens of equal bytes with non-zero rows, never special tokens.

Cost
----
N d_D (d_D + d) + 10 d_D³ multiplications, and 2000 d_D d for every λ; beside the anchors' rows
d_D (2 d_D + d) numbers of float64.

When not to use it
------------------
With fewer anchors than some hundred, or without the donor's rows. A single map has no room for
what differs from one region of the space to another: with large models ``omp``, which chooses
anchors for each token, may follow it better.

Reference
---------
Hoerl and Kennard, "Ridge Regression: Biased Estimation for Nonorthogonal Problems", Technometrics
12, 1970. Allen, "The Relationship between Variable Selection and Data Augmentation and a Method
for Prediction", Technometrics 16, 1974, for the left-out error. Linear maps between word vectors:
Mikolov, Le and Sutskever, 2013, arXiv:1309.4168.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from tokenspace.arrays import Floats2d
from tokenspace.recipe import Range, Recipe
from tokenspace.table import EmbeddingTable
from tokenspace.transplant._linear import Values, affine, products
from tokenspace.transplant._shared import anchored, begin
from tokenspace.vocab import Vocabulary

__all__ = ["Ridge", "left_out"]

log = logging.getLogger(__name__)

CURVE = (1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1e3)  # the values of λ that "auto" compares
FEWEST = 8  # anchors
MOST = 2000  # anchors that are left out in turn


@dataclass(frozen=True, kw_only=True)
class Ridge(Recipe):
    """Map unseen rows from a donor to the source by a ridge regression on the shared tokens."""

    penalty: Annotated[
        float | Literal["auto"], Range(0, 1e9), "λ, in anchors; auto: by left-out anchors"
    ] = "auto"
    min_count: Annotated[int, Range(0), "leave out anchors seen less often on either side"] = 0

    tiny: ClassVar[Mapping[str, Any]] = {}

    def __call__(
        self, source: EmbeddingTable, target: Vocabulary, /, *, donor: EmbeddingTable
    ) -> EmbeddingTable:
        """Return one row for every token of ``target``, (V, d) float32.

        Parameters
        ----------
        source
            The table to extend; the tokens that it shares with ``target`` keep their rows.
        target
            The vocabulary to give rows to.
        donor
            A table over the target's tokens, found by their bytes; its width may differ. Tokens
            that it lacks, and those with a zero row in it, get the mean row of ``source``.

        Returns
        -------
        EmbeddingTable
            ``notes`` gives the ``lambda`` that was used (None: the mean row was better) and the
            left-out errors behind it (``curve``), the number of ``anchors``, how many rows were
            ``copied``, ``rebuilt`` or set to the ``mean``, and the ids of the rebuilt ``tokens``.

        Raises
        ------
        InputError
            With fewer than 8 anchors.
        """
        draft = begin(source, target)
        found = anchored(source, target, donor, draft.unseen, min_count=self.min_count)
        known, chosen, curve = found.known, None, {}
        if len(known):
            found.enough(FEWEST, self.name)
            problem = _Problem.of(found.A, found.B)
            curve = problem.left_out(CURVE) if self.penalty == "auto" else {}
            chosen = self._choose(curve)
            if chosen is None:
                known = known[:0]
            else:
                draft.rows[known] = problem.predict(found.X, chosen)
        notes = {
            **self.to_dict(),
            "lambda": chosen,
            "curve": {f"{penalty:g}": error for penalty, error in curve.items()},
            "anchors": len(found.A),
            "copied": len(target) - len(draft.unseen),
            "rebuilt": len(known),
            "mean": len(draft.unseen) - len(known),
            "tokens": known.tolist(),
        }
        return EmbeddingTable(target, draft.rows, notes=notes)

    def _choose(self, curve: Mapping[float, float]) -> float | None:
        """Return λ, or None where the mean row predicts left-out anchors no worse."""
        if self.penalty != "auto":
            return float(self.penalty)
        best = min(curve, key=lambda penalty: curve[penalty])
        log.info("ridge: λ=%g of the left-out errors %s", best, curve)
        if curve[best] >= 1:
            log.warning("ridge: no λ predicts left-out anchors better than their mean: using that")
            return None
        return best


def left_out(A: Floats2d, B: Floats2d, penalties: tuple[float, ...] = CURVE) -> dict[float, float]:
    """Return by λ the error of anchors predicted from all others, relative to that of their mean.

    ``A`` (N, d_D) and ``B`` (N, d) are the anchors' rows; error(λ) of the page's equations.
    """
    return _Problem.of(A, B).left_out(penalties)


@dataclass(frozen=True, eq=False)
class _Problem:
    """The regression in the axes of the donor's covariance, where every λ is a division.

    A_cᵀ A_c = Q diag(e) Qᵀ, and P = Qᵀ A_cᵀ B_c.
    """

    A: Floats2d
    B: Floats2d
    a_mean: Values
    b_mean: Values
    e: Values
    Q: Values
    P: Values

    @classmethod
    def of(cls, A: Floats2d, B: Floats2d) -> _Problem:
        a_mean, b_mean = (rows.mean(axis=0, dtype=np.float64) for rows in (A, B))
        e, Q = np.linalg.eigh(products(A, a_mean, A, a_mean))
        P = Q.T @ products(A, a_mean, B, b_mean)
        return cls(A, B, a_mean, b_mean, np.maximum(e, 0), Q, P)

    def shrunk(self, penalty: float) -> Values:
        """Return 1 / (e + λ'), and 0 along directions that no anchor has."""
        total = float(self.e.sum())
        e = self.e + penalty * total / len(self.A)
        return np.where(e > 1e-12 * total, 1 / np.maximum(e, 1e-300), 0.0)

    def predict(self, X: Floats2d, penalty: float) -> Floats2d:
        """Return b̄ + (x − ā) M for every row of X, (m, d)."""
        M = self.Q @ (self.shrunk(penalty)[:, None] * self.P)
        return affine(X, self.a_mean, M, self.b_mean)

    def left_out(self, penalties: tuple[float, ...]) -> dict[float, float]:
        N = len(self.A)
        some = np.linspace(0, N - 1, min(MOST, N)).astype(np.int64)
        T, B = (self.A[some] - self.a_mean) @ self.Q, self.B[some] - self.b_mean
        base = float(np.square(B * N / (N - 1)).sum())
        errors = {}
        for penalty in penalties:
            shrunk = self.shrunk(penalty)
            free = 1 - 1 / N - np.square(T) @ shrunk
            missed = (B - (T * shrunk) @ self.P) / np.maximum(free, 1e-12)[:, None]
            errors[penalty] = float(np.square(missed).sum()) / max(base, 1e-300)
        return errors
