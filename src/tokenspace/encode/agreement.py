"""What a cheaper way of encoding costs: how far its vectors agree with the exact ones.

The least cosine says how far one vector can be off, which matters little by itself: search and
clustering ask for order. So the order is compared: which texts are nearest to which, and how all
pairs of texts are ranked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tokenspace.arrays import Floats2d, check_finite
from tokenspace.errors import InputError
from tokenspace.metrics import cosine, spearman

__all__ = ["Agreement", "agreement"]

LEAST = 3  # texts: with fewer there is no order to compare
MOST = 2000  # texts that are compared: all pairs of them are ranked


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far two matrices of vectors of the same texts agree.

    ``neighbours`` is the mean share of every text's ``k`` nearest others that stay among its
    nearest; ``first`` the share of texts whose nearest one stays it; ``spearman`` the rank
    correlation of the cosines of all pairs; ``least_cosine`` and ``mean_cosine`` are between the
    two vectors of a text.
    """

    texts: int
    k: int
    neighbours: float
    first: float
    spearman: float
    least_cosine: float
    mean_cosine: float

    def __str__(self) -> str:
        return (
            f"of {self.texts:,} texts {self.neighbours:.1%} of the nearest {self.k} and"
            f" {self.first:.1%} of the nearest stay; pairs are ranked alike by {self.spearman:.4f}"
            f" (Spearman); least cosine {self.least_cosine:.4f}"
        )


def agreement(exact: Floats2d, cheaper: Floats2d, *, k: int = 10) -> Agreement:
    """Compare two matrices (N, D) of vectors of the same texts, of which the first is the truth.

    Of more than 2,000 texts, that many evenly spread. A zero vector has cosine 0 with everything.
    Raises :class:`InputError` for fewer than 3 texts, other shapes and values that are not finite.
    """
    if exact.ndim != 2 or exact.shape != cheaper.shape or len(exact) < LEAST:
        raise InputError(
            f"vectors of shapes {exact.shape} and {cheaper.shape} cannot be compared",
            hint=f"give both for the same texts, at least {LEAST}",
        )
    check_finite(exact, "exact")
    check_finite(cheaper, "cheaper")
    step = -(-len(exact) // MOST)
    exact, cheaper = exact[::step], cheaper[::step]
    k = min(k, len(exact) - 1)
    before, after = _similarities(exact), _similarities(cheaper)
    nearest = [np.argsort(-scores, axis=1, kind="stable")[:, :k] for scores in (before, after)]
    kept = [len(set(a) & set(b)) for a, b in zip(*(n.tolist() for n in nearest), strict=True)]
    pairs = np.triu_indices(len(exact), 1)
    own = cosine(exact, cheaper)
    return Agreement(
        texts=len(exact),
        k=k,
        neighbours=float(np.mean(kept)) / k,
        first=float(np.mean(nearest[0][:, 0] == nearest[1][:, 0])),
        spearman=spearman(before[pairs], after[pairs]),
        least_cosine=float(own.min()),
        mean_cosine=float(own.mean()),
    )


def _similarities(vectors: Floats2d) -> Floats2d:
    """Return the cosines of all pairs, (N, N), and -inf of a text with itself."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.asarray(vectors / np.where(lengths > 0, lengths, 1), np.float32)
    scores: Floats2d = unit @ unit.T
    np.fill_diagonal(scores, -np.inf)
    return scores
