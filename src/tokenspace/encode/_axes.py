"""Linear maps after which the columns of vectors are uncorrelated, or independent."""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats2d
from tokenspace.edit.ica import rotation

__all__ = ["Map", "effective_rank", "independent", "principal", "white"]

Values = npt.NDArray[np.float64]
STEPS, TOLERANCE = 1000, 1e-4  # of FastICA

log = logging.getLogger(__name__)


class Map(NamedTuple):
    """x -> (x - ``mean``) ``W`` for rows x (N, D)."""

    mean: Values
    W: Values

    def __call__(self, X: Floats2d) -> Floats2d:
        """Return the rows after the map, float32."""
        return np.asarray((X - self.mean) @ self.W, np.float32)


def principal(X: Floats2d) -> Map:
    """Return the map to the principal directions, each at variance 1, the greatest first.

    Directions in which the rows do not differ become zeros, and come last: what a norm gives has
    one such direction.
    """
    mean = X.mean(axis=0, dtype=np.float64)
    centred = X - mean
    values, axes = np.linalg.eigh(centred.T @ centred / len(X))
    kept = values > 1e-9 * values[-1]
    W = np.zeros((X.shape[1], X.shape[1]))
    W[:, : kept.sum()] = (axes[:, kept] / np.sqrt(values[kept]))[:, ::-1]
    return Map(mean, W)


def white(X: Floats2d) -> Map:
    """Return the map to columns of variance 1 without correlation that moves X least (ZCA).

    Directions in which the rows do not differ are taken out.
    """
    mean, W = principal(X)
    lengths = np.linalg.norm(W, axis=0)
    return Map(mean, W @ (W / np.where(lengths > 0, lengths, 1)).T)


def independent(X: Floats2d, seed: int) -> Map:
    """Return the map to independent components of variance 1 (FastICA, logcosh).

    There are as many as directions in which the rows differ; further columns are zero. Where they
    cannot be had, from no more rows than columns or without convergence, a warning says it, and the
    map is that of :func:`white`.
    """
    N, D = X.shape
    if N <= D:
        log.warning("ica: %d vectors of %d numbers tell no components: made white", N, D)
        return white(X)
    mean, W = principal(X)
    rank = int(W.any(axis=0).sum())
    B, turned, steps = rotation((X - mean) @ W[:, :rank], seed, STEPS, TOLERANCE)
    if turned > TOLERANCE:
        log.warning("ica: not at rest after %d steps: made white", steps)
        return white(X)
    W[:, :rank] = W[:, :rank] @ B.T
    return Map(mean, W)


def effective_rank(X: Floats2d) -> float:
    """Return exp of the entropy of X's singular values (Roy and Vetterli 2007)."""
    wide = X.astype(np.float64)
    sizes = np.sqrt(np.clip(np.linalg.eigvalsh(wide.T @ wide), 0, None))
    shares = sizes[sizes > 0] / sizes.sum()
    return float(np.exp(-np.sum(shares * np.log(shares))))
