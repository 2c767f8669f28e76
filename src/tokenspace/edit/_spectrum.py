"""Mean and covariance of a table's words in blocks, and how even the space is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tokenspace.metrics import isotropy
from tokenspace.rng import stream
from tokenspace.table import EmbeddingTable

from ._subspace import unit
from ._words import blocks

__all__ = ["covariance", "evenness", "mapped", "mean_of", "moved"]

Values = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def mean_of(source: EmbeddingTable, weights: Mask | Values) -> Values:
    """Return the mean of the rows by their weights (V,), or of those that are marked, (D,)."""
    total = np.zeros(source.shape[1])
    for part in blocks(len(weights)):
        total += np.asarray(weights[part], np.float64) @ source.vectors[part]
    return np.asarray(total / weights.sum())


def covariance(source: EmbeddingTable, weights: Mask | Values, mean: Values) -> Values:
    """Return the covariance of the rows about ``mean`` by their weights (V,), (D, D)."""
    total = np.zeros((source.shape[1], source.shape[1]))
    for part in blocks(len(weights)):
        rows = source.vectors[part] - mean
        total += (rows * np.asarray(weights[part], np.float64)[:, None]).T @ rows
    return np.asarray(total / weights.sum())


def moved(source: EmbeddingTable) -> Mask:
    """Mark the rows that move when the whole space does, (V,): all with a token but zero rows."""
    mask = np.ones(len(source.vocab), bool)
    mask[list(source.vocab.holes)] = False
    for part in blocks(len(mask)):
        mask[part] &= source.vectors[part].any(axis=1)
    return mask


def mapped(
    source: EmbeddingTable, chosen: Mask, mean: Values, W: Values
) -> npt.NDArray[np.float32]:
    """Return (w - mean) W of the chosen rows, (V, D'); of the others, themselves or zeros."""
    same = W.shape[0] == W.shape[1]
    out = np.zeros((source.shape[0], W.shape[1]), np.float32)
    for part in blocks(len(chosen)):
        if same:
            out[part] = source.vectors[part]
        out[part][chosen[part]] = (source.vectors[part][chosen[part]] - mean) @ W
    return out


def evenness(
    before: EmbeddingTable, vectors: npt.NDArray[np.float32], words: Mask
) -> dict[str, float]:
    """Return isotropy and the mean cosine of random pairs of words, before and after."""
    ids = np.flatnonzero(words)
    draw = stream(0, "evenness")
    some = ids[draw.permutation(len(ids))[:20_000]]
    left, right = some[draw.integers(len(some), size=(2, 20_000))]
    figures = {}
    for when, rows in (("before", before.vectors), ("after", vectors)):
        cosines = np.einsum("nd,nd->n", unit(rows[left]), unit(rows[right]))
        figures[f"isotropy_{when}"] = isotropy(rows[some])
        figures[f"mean_cosine_{when}"] = float(cosines.mean())
    return figures
