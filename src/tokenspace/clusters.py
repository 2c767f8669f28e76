"""Clusters of rows: k-means, the best of several starts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .arrays import Floats2d, Ids
from .errors import InputError
from .rng import stream

__all__ = ["k_means"]

STARTS = 10
Values = npt.NDArray[np.float64]


def k_means(rows: Floats2d, k: int, seed: int, *, starts: int = STARTS) -> Ids:
    """Return the cluster of every row, (N,), by Lloyd's iterations from k-means++ starts."""
    if not 1 <= k <= len(rows):
        raise InputError(
            f"k_means: {k} clusters of {len(rows)} rows", hint="ask for fewer, or give more rows"
        )
    X = rows.astype(np.float64)
    draw = stream(seed, "k_means")
    best, least = np.zeros(len(X), np.int64), np.inf
    for _ in range(starts):
        centres = _spread_out(X, k, draw)
        clusters = np.full(len(X), -1, np.int64)
        for _ in range(300):
            distances = (centres**2).sum(axis=1) - 2 * X @ centres.T
            nearest = distances.argmin(axis=1)
            if (nearest == clusters).all():
                break
            clusters = nearest
            sizes = np.bincount(clusters, minlength=k)
            sums = np.zeros_like(centres)
            np.add.at(sums, clusters, X)
            filled = sizes > 0  # an empty cluster keeps its centre
            centres[filled] = sums[filled] / sizes[filled, None]
        inertia = float(((X - centres[clusters]) ** 2).sum())
        if inertia < least - 1e-12:
            best, least = clusters, inertia
    return best


def _spread_out(X: Values, k: int, draw: np.random.Generator) -> Values:
    """Return k rows drawn with chances by the squared distance to those before (k-means++)."""
    chosen = [int(draw.integers(len(X)))]
    far = ((X - X[chosen[0]]) ** 2).sum(axis=1)
    for _ in range(k - 1):
        total = float(far.sum())
        chance = far / total if total > 0 else np.full(len(X), 1 / len(X))
        chosen.append(int(draw.choice(len(X), p=chance)))
        far = np.minimum(far, ((X - X[chosen[-1]]) ** 2).sum(axis=1))
    rows: Values = X[chosen].copy()
    return rows
