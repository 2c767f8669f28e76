"""Nearest rows by cosine in bounded memory, and what makes weights of cosines."""

from __future__ import annotations

from typing import Any

import numpy as np

from tokenspace.arrays import Floats2d, Ids2d
from tokenspace.jit import kernel, spread
from tokenspace.transplant._shared import combine

__all__ = ["mixtures", "nearest", "softmax", "unit"]

BLOCK = 1 << 23  # inner products held at a time: 32 megabytes


def unit(rows: Floats2d) -> Floats2d:
    """Return the rows divided by their lengths, float32; a zero row stays zero."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, 1e-8), np.float32)


def nearest(queries: Floats2d, keys: Floats2d, k: int) -> tuple[Ids2d, Floats2d]:
    """Return the ``k`` keys of greatest inner product with every query, best first, ties by id.

    Parameters
    ----------
    queries : (m, d) float32
    keys : (n, d) float32
        Unit rows on both sides make the products cosines.
    k
        At most n are returned.

    Returns
    -------
    ids : (m, min(k, n)) int64
    cosines : (m, min(k, n)) float32
    """
    queries, keys = (np.ascontiguousarray(rows, np.float32) for rows in (queries, keys))
    shape = (len(queries), min(k, len(keys)))
    ids, cosines = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
    step = max(64, min(1024, BLOCK // max(1, len(keys))))
    for start in range(0, len(queries) if shape[1] else 0, step):
        parts = (queries[start : start + step] @ keys.T, ids[start:], cosines[start:])

        def work(i: int, j: int, parts: tuple[Any, ...] = parts) -> None:
            _best(*(part[i:j] for part in parts))

        spread(work, len(parts[0]))
    return ids, cosines


@kernel()
def _best(scores: Any, ids: Any, best: Any) -> None:
    """Keep the greatest of every row of ``scores`` in order, by insertion."""
    n, k = scores.shape[1], ids.shape[1]
    for b in range(len(scores)):
        held = 0
        least = np.float32(-np.inf)  # of those held, once there are k
        for j in range(n):
            score = scores[b, j]
            if held == k and not score > least:
                continue
            place = held if held < k else k - 1
            held = place + 1
            while place > 0 and score > best[b, place - 1]:
                best[b, place], ids[b, place] = best[b, place - 1], ids[b, place - 1]
                place -= 1
            best[b, place], ids[b, place] = score, j
            least = best[b, held - 1]


def mixtures(
    queries: Floats2d, keys: Floats2d, rows: Floats2d, k: int, temperature: float
) -> tuple[Floats2d, Ids2d, Floats2d]:
    """Return for every query the mean of the rows of its nearest keys, by softmax of cosines.

    Parameters
    ----------
    queries : (m, D) float32
    keys : (n, D) float32
        Keys of length zero are left out.
    rows : (n, d) float32

    Returns
    -------
    means : (m, d) float32
    ids : (m, k) int64
        Which rows they are made of, the nearest first.
    weights : (m, k) float32
    """
    known = np.flatnonzero(keys.any(axis=1))
    places, cosines = nearest(unit(queries), unit(keys[known]), k)
    ids, weights = known[places], softmax(cosines, temperature)
    return combine(ids, weights, rows), ids, weights


def softmax(x: Floats2d, temperature: float = 1.0) -> Floats2d:
    """Return e^(x / temperature) of every row, divided by its sum; float32, no overflow."""
    z = x.astype(np.float64) / temperature
    z = np.exp(z - z.max(axis=1, keepdims=True, initial=-np.inf))
    return np.asarray(z / z.sum(axis=1, keepdims=True), np.float32)
