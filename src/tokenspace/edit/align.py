"""Bring a table into the space of another one, by the words that both have.

The idea
--------
Two trainings give the same words different axes. A rotation, found from words whose partners are
known, carries one space into the other; then words of both can be compared: of two languages, of
two decades, of two runs. As a rotation changes no angle, nothing of the source is lost, and few
words suffice.

Equations
---------
X, Y (n, D): the known pairs, as rows of length 1 about the mean of each side::

    orthogonal:     W = U V^T,  where U diag(s) V^T = X^T Y        min |X W - Y|, W^T W = I
    cca:            W = Sx^-1/2 U V^T Sy^1/2,  where U diag(s) V^T = Sx^-1/2 X^T Y Sy^-1/2
    least_squares:  W = Sx^-1 X^T Y,  with Sx = X^T X and Sy = Y^T Y
    w  <-  (w - mean x) W + mean y

Departures from the paper
-------------------------
The means are taken off and put back (``centre``), and rows keep their lengths up to that; the
authors do neither. ``cca`` is canonical correlation in the form of Artetxe et al. (2018): both
sides are whitened, rotated, and coloured as the target is; the correlations do not weigh the
axes. Eigenvalues below 1e-9 of the largest count as that.

Cost
----
O(n D^2 + D^3), and O(V D^2) for the map, in blocks of rows.

When not to use it
------------------
Where the spaces differ in more than axes: texts of unlike kinds, far languages. For tokens of
another tokenizer use the family transplant.

Reference
---------
S. Smith, D. Turban, S. Hamblin, N. Hammerla: Offline Bilingual Word Vectors, Orthogonal
Transformations and the Inverted Softmax. ICLR 2017, arXiv:1702.03859. M. Artetxe, G. Labaka, E.
Agirre: Generalizing and Improving Bilingual Word Embedding Mappings with a Multi-Step Framework of
Linear Transformations. AAAI 2018.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Ids
from tokenspace.errors import InputError
from tokenspace.pairs import Pairs
from tokenspace.recipe import Recipe
from tokenspace.table import EmbeddingTable

from ._spectrum import mapped, moved
from ._subspace import unit
from ._words import Affine, edited, find, usable

__all__ = ["Align", "fit"]

Values = npt.NDArray[np.float64]

_FLOOR = 1e-9


@dataclass(frozen=True, kw_only=True)
class Align(Recipe):
    """Bring a table into the space of another one, by the words that both have."""

    kind: Annotated[
        Literal["orthogonal", "cca", "least_squares"], "a rotation, or a map that may stretch"
    ] = "orthogonal"
    centre: Annotated[bool, "take the mean of the known words off each side first"] = True
    unit: Annotated[bool, "fit the map on rows at length 1"] = True

    tiny: ClassVar[Mapping[str, Any]] = {}

    def __call__(
        self,
        source: EmbeddingTable,
        /,
        *,
        target: EmbeddingTable,
        dictionary: Pairs | None = None,
    ) -> EmbeddingTable:
        """Return the source, (V, D'), in the space of the target, (V', D').

        ``dictionary`` holds (source, target) words; without it, the words that both have are the
        known pairs.

        Raises :class:`InputError` where fewer than two pairs are in both tables, or where the
        tables have other widths and a rotation is asked for.
        """
        if self.kind == "orthogonal" and source.shape[1] != target.shape[1]:
            raise InputError(
                f"a rotation from {source.shape[1]} to {target.shape[1]} dimensions",
                hint="give tables of one width, or --kind least_squares",
            )
        left, right, said = _known(source, target, dictionary)
        X, Y = (np.asarray(t.vectors[i], np.float64) for t, i in ((source, left), (target, right)))
        if self.unit:
            X, Y = unit(X), unit(Y)
        zero = np.zeros(X.shape[1]), np.zeros(Y.shape[1])
        a, b = (X.mean(axis=0), Y.mean(axis=0)) if self.centre else zero
        W = fit(X - a, Y - b, self.kind)
        vectors = self._moved(source, a, b, W)
        alike = not (self.unit and self.centre)  # else the shift is by a row's length
        affine = Affine(W, b - a @ W) if alike else None
        return edited(self, source, vectors, self._figures(X, Y, a, b, W), said, affine=affine)

    def _moved(
        self, source: EmbeddingTable, a: Values, b: Values, W: Values
    ) -> npt.NDArray[np.float32]:
        chosen = moved(source)
        lengths = np.ones((source.shape[0], 1))
        if self.unit:  # the means are those of rows at length 1
            lengths = np.linalg.norm(source.vectors, axis=1, keepdims=True)
        shift = b - a @ W
        vectors = mapped(source, chosen, np.zeros(len(a)), W)
        vectors[chosen] += np.asarray(lengths[chosen] * shift, np.float32)
        return vectors

    @staticmethod
    def _figures(X: Values, Y: Values, a: Values, b: Values, W: Values) -> dict[str, float]:
        """Return how well the known pairs fit: their mean cosine, and how many there are."""
        fitted = unit((X - a) @ W + b)
        cosines = np.einsum("nd,nd->n", fitted, unit(Y))
        return {"pairs": float(len(X)), "cosine": float(cosines.mean())}


def _known(
    source: EmbeddingTable, target: EmbeddingTable, dictionary: Pairs | None
) -> tuple[Ids, Ids, list[str]]:
    """Return the ids of the known pairs on both sides, and what a user should know."""
    ours, theirs = usable(source), usable(target)
    if dictionary is None:
        here, there = source.vocab.shared(target.vocab)
        asked = len(here)
    else:
        found = [(find(source.vocab, a), find(target.vocab, b)) for a, b in dictionary]
        asked = len(found)
        both = np.array([p for p in dict.fromkeys(found) if min(p) >= 0], np.int64).reshape(-1, 2)
        here, there = both[:, 0], both[:, 1]
    kept = ours[here] & theirs[there]
    if kept.sum() < 2:
        raise InputError(
            f"{int(kept.sum())} of {asked} pairs are words of both tables, and 2 are needed",
            hint="give a --dictionary of words of the source and of the target",
        )
    said = [] if kept.sum() == asked else [f"{int(kept.sum())} of {asked} pairs are in both tables"]
    if kept.sum() < source.shape[1]:
        said.append("fewer pairs than dimensions: the map is not settled by them")
    return here[kept], there[kept], said


def fit(X: Values, Y: Values, kind: str) -> Values:
    """Return the map W (D, D') of rows X (n, D) to rows Y (n, D')."""
    if kind == "least_squares":
        return np.asarray(np.linalg.lstsq(X, Y, rcond=_FLOOR)[0])
    if kind == "orthogonal":
        U, _, Vt = np.linalg.svd(X.T @ Y)
        return np.asarray(U @ Vt)
    whiten, _ = _powers(X.T @ X)
    other, colour = _powers(Y.T @ Y)
    U, _, Vt = np.linalg.svd(whiten @ X.T @ Y @ other, full_matrices=False)
    return np.asarray(whiten @ U @ Vt @ colour)


def _powers(S: Values) -> tuple[Values, Values]:
    """Return S^-1/2 and S^1/2 of a symmetric matrix."""
    values, vectors = np.linalg.eigh(S)
    roots = np.sqrt(np.maximum(values, _FLOOR * max(float(values[-1]), 1e-300)))
    return (vectors / roots) @ vectors.T, (vectors * roots) @ vectors.T
