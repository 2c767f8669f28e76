"""Rotate a donor's rows into the source's space, as fits the shared tokens best.

The idea
--------
Say that two models arrange their tokens alike, except for the choice of axes. Then a rotation (and
a mirror) takes one space to the other, lengths and angles stay, and the tokens that both have
determine it. It has far fewer free numbers than a regression, and cannot favour a few directions.

Equations
---------
With A_c (N, d_D) and B_c (N, d), the anchors' rows in donor and source without their means ā and
b̄, r the smaller width, P_A (d_D, r) and P_B (d, r) the r main axes of either (the right singular
vectors; of the narrower side, all), and a donor row x (d_D,)::

    (A_c P_A)ᵀ (B_c P_B) = U S Vᵀ
    W = P_A U Vᵀ P_Bᵀ                        (d_D, d): the W = P_A R P_Bᵀ, R orthogonal, of least
                                             ‖A_c W − B_c‖
    s = tr S / ‖A_c P_A‖²                    (s = 1 without ``scale``)
    row = b̄ + s (x − ā) W

With equal widths W is the orthogonal map of Schönemann; with unequal ones it is known from
transplanting tools as landmark PCA.

Departures from the paper
-------------------------
- ``scale`` stretches the map to its least-squares size, since two models need not have rows of one
  length; the more the spaces differ, the closer s brings the rows to the mean.
- Directions that no anchor has on either side are mapped to zero, not to each other at will.
- Anchors are tokens of equal bytes with non-zero rows, never special tokens.

Cost
----
N (d_D² + d² + d_D d) + 10 max(d_D, d)³ multiplications, once more for the held-out error;
beside the anchors' rows d_D² + d² + 2 d_D d numbers of float64.

When not to use it
------------------
Where the anchors are many times the width: ``ridge`` can then learn what a rotation cannot, that
some directions of the donor mean nothing to the source. With anchors fewer than the width, much
of the space is left without an image.

Reference
---------
Schönemann, "A generalized solution of the orthogonal Procrustes problem", Psychometrika 31, 1966.
Between word vectors: Xing, Wang, Liu and Lin, NAACL 2015.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from tokenspace.arrays import Floats2d
from tokenspace.recipe import Range, Recipe
from tokenspace.table import EmbeddingTable
from tokenspace.transplant._linear import Values, affine, products
from tokenspace.transplant._shared import anchored, begin
from tokenspace.vocab import Vocabulary

__all__ = ["Procrustes", "Turn", "turn"]

log = logging.getLogger(__name__)

FEWEST = 8  # anchors


@dataclass(frozen=True, kw_only=True)
class Procrustes(Recipe):
    """Rotate a donor's rows into the source's space, as fits the shared tokens best.

    Its notes say how well it fits (``error``); nothing is chosen by that.
    """

    scale: Annotated[bool, "stretch the map to its least-squares size"] = True
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
            ``notes`` gives the scale s, the ``error`` Σ‖b̂ − b‖² / Σ‖b − b̄‖² on every tenth anchor
            by the rotation of the others (from 1 on the mean row would be no worse: a warning),
            the number of ``anchors``, how many rows were ``copied``, ``rebuilt`` or set to the
            ``mean``, and the ids of the rebuilt ``tokens``.

        Raises
        ------
        InputError
            With fewer than 8 anchors.
        """
        draft = begin(source, target)
        found = anchored(source, target, donor, draft.unseen, min_count=self.min_count)
        A, B, X, known = found.A, found.B, found.X, found.known
        s, error = 1.0, 0.0
        if len(known):
            found.enough(FEWEST, self.name)
            error = _held_out(A, B, self.scale)
            if error >= 1:
                log.warning("procrustes: held-out anchors are nearer to their mean than to it")
            fitted = turn(A, B, scale=self.scale)
            s, draft.rows[known] = fitted.s, fitted(X)
        notes = {
            **self.to_dict(),
            "s": s,
            "error": error,
            "anchors": len(A),
            "copied": len(target) - len(draft.unseen),
            "rebuilt": len(known),
            "mean": len(draft.unseen) - len(known),
            "tokens": known.tolist(),
        }
        return EmbeddingTable(target, draft.rows, notes=notes)


@dataclass(frozen=True, eq=False)
class Turn:
    """The map b̄ + s (x − ā) W."""

    a_mean: Values
    b_mean: Values
    W: Values
    s: float

    def __call__(self, X: Floats2d) -> Floats2d:
        """Return the image of every row of X, (m, d) float32."""
        return affine(X, self.a_mean, self.s * self.W, self.b_mean)


def turn(A: Floats2d, B: Floats2d, *, scale: bool = True) -> Turn:
    """Fit the rotation of ``A`` (N, d_D) to ``B`` (N, d) about their means."""
    a_mean, b_mean = (rows.mean(axis=0, dtype=np.float64) for rows in (A, B))
    r = min(A.shape[1], B.shape[1])
    P_A, P_B = _axes(A, a_mean, r), _axes(B, b_mean, r)
    U, S, Vt = np.linalg.svd(P_A.T @ products(A, a_mean, B, b_mean) @ P_B)
    alive = S / max(S[0], 1e-300) > 1e-10
    W = P_A @ U[:, alive] @ Vt[alive] @ P_B.T
    length = sum(
        float(np.square((A[start : start + 4096] - a_mean) @ P_A).sum())
        for start in range(0, len(A), 4096)
    )
    return Turn(a_mean, b_mean, W, float(S.sum()) / length if scale and length else 1.0)


def _axes(rows: Floats2d, mean: Values, r: int) -> Values:
    """Return the r main axes (d, r) of the rows about their mean; all d may be the unit axes."""
    d = rows.shape[1]
    if r == d:
        return np.eye(d)
    return np.linalg.eigh(products(rows, mean, rows, mean))[1][:, : d - r - 1 : -1]


def _held_out(A: Floats2d, B: Floats2d, scale: bool) -> float:
    """Return the error on every tenth anchor, 150 at most, by the rotation of the others."""
    N = len(A)
    test = np.linspace(0, N - 1, min(150, max(1, N // 10))).astype(np.int64)
    rest = np.setdiff1d(np.arange(N), test)
    fitted = turn(A[rest], B[rest], scale=scale)
    missed, spread = fitted(A[test]) - B[test], B[test] - fitted.b_mean
    return float(np.square(missed).sum() / max(np.square(spread).sum(), 1e-300))
