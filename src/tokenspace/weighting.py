"""Weights of words by how rare they are, and the directions that many vectors have in common.

What the encoders of texts and the evaluation of word vectors share.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .arrays import Floats1d, Floats2d, Ids

__all__ = [
    "all_but_the_top",
    "directions",
    "sif_weights",
    "top_directions",
    "usif_weights",
    "without_top",
]

_BLOCK = 1 << 16  # rows that are held at a time


def sif_weights(counts: Ids, a: float) -> Floats1d:
    """Return a / (a + p(w)) for every token, (V,) float32 (Arora et al. 2017, algorithm 1)."""
    p = counts / max(1, int(counts.sum()))
    return np.asarray(a / (a + p), np.float32)


def usif_weights(counts: Ids, length: float = 11.0) -> Floats1d:
    """Return a / (a / 2 + p(w)) for every token, (V,) float32 (Ethayarajh 2018, section 3).

    With V tokens and texts of ``length`` words, t = 1 - (1 - 1 / V)^length is the chance that a
    token drawn evenly is in a text, alpha the share of the tokens with p(w) > t, and
    a = (1 - alpha) / (alpha V / 2). Where no token is so frequent, alpha is 1 / V.
    """
    V = max(1, len(counts))
    p = counts / max(1, int(counts.sum()))
    t = 1 - (1 - 1 / V) ** length
    alpha = max(float(np.mean(p > t)) if len(p) else 0.0, 1 / V)
    a = (1 - alpha) / (alpha * V / 2)
    return np.asarray(a / np.maximum(a / 2 + p, 1e-12), np.float32)


def all_but_the_top(rows: Floats2d, top: int) -> Floats2d:
    """Return the rows less their mean and first ``top`` principal directions, (V, D) float32.

    Mu and Viswanath (2018), algorithm 1. Zero rows take no part and stay zero.
    """
    return without_top(rows, *top_directions(rows, top))


def top_directions(rows: Floats2d, top: int) -> tuple[Floats1d, Floats2d]:
    """Return the mean of the rows that are not zero, (D,), and their first directions, (top, D).

    Rows are read in blocks, so that a large table is not copied.
    """
    blocks = [rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK)]
    width = rows.shape[1]
    total, count = np.zeros(width), 0
    for block in blocks:
        some = block[block.any(axis=1)]
        total += some.sum(axis=0, dtype=np.float64)
        count += len(some)
    mean = np.asarray(total / max(1, count), np.float32)
    scatter = np.zeros((width, width))
    for block in blocks:
        some = block[block.any(axis=1)] - mean
        scatter += some.T.astype(np.float64) @ some
    return mean, directions(scatter, top)


def without_top(rows: Floats2d, mean: Floats1d, U: Floats2d) -> Floats2d:
    """Return the rows less ``mean`` and their part along ``U``; zero rows stay zero."""
    present = rows.any(axis=1)
    some = rows[present] - mean
    cleaned = np.zeros_like(rows)
    cleaned[present] = some - (some @ U.T) @ U
    return cleaned


def directions(scatter: npt.NDArray[np.float64], count: int) -> Floats2d:
    """Return the eigenvectors of the largest eigenvalues of a (D, D) matrix, (count, D)."""
    _, vectors = np.linalg.eigh(scatter)
    return np.ascontiguousarray(vectors[:, : -count - 1 : -1].T, dtype=np.float32)
