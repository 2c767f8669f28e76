"""What every compressed table is tried on: clustered rows with a decaying spectrum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tokenspace.arrays import Floats2d, Ids2d
from tokenspace.compress import Lookup
from tokenspace.recipe import Recipe
from tokenspace.rng import stream

from . import study

__all__ = ["CURVES", "SETTINGS", "bag", "judge", "neighbors", "overlap", "subjects"]

SETTINGS = ("made", *study.SETTINGS)
"""What ``compare`` can be run on: made vectors, or the tasks of :mod:`.study`."""

CURVES = ("ratio", ("auc", "bits_per_byte", "recall10"))
"""What a page draws as a curve for every method: figures against the share of the bytes."""

K = 10


def subjects(recipes: Sequence[Recipe], on: str) -> list[Recipe]:
    """Return what is compared in a setting: in a task, every recipe at every budget."""
    return list(recipes) if on == "made" else study.at_budgets(recipes)


def bag(seed: int = 0, *, tiny: bool = False, on: str = "made") -> dict[str, Any]:
    """Return ``source``, (V, D) float32: groups of near duplicates of unequal lengths.

    The k-th direction has a standard deviation of 1 / sqrt(k), as the rows of learned tables
    have, and the ten nearest rows of a row are hard to tell apart.
    ``counts`` fall as the rank to the power of -1, in no order of the rows, and ``fields`` cut the
    table into four parts. ``on`` is one of :data:`SETTINGS`.
    """
    if on != "made":
        return study.setting(on, seed)
    size, width, clusters = (96, 16, 8) if tiny else (20_000, 64, 400)
    draw = stream(seed, "compress")
    spectrum = 1 / np.sqrt(np.arange(1, width + 1))
    centres = draw.standard_normal((clusters, width))
    rows = centres[draw.integers(clusters, size=size)] + 0.3 * draw.standard_normal((size, width))
    lengths = np.exp(0.3 * draw.standard_normal((size, 1)))
    counts = draw.permutation(1_000_000 // np.arange(1, size + 1))
    return {
        "source": np.asarray(rows * spectrum * lengths, np.float32),
        "counts": counts.astype(np.int64),
        "fields": np.arange(size, dtype=np.int64) * 4 // size,
    }


def judge(result: Lookup, bag: Mapping[str, Any]) -> dict[str, float]:
    """Return what is kept of the ranking and of the values, and what it costs.

    ``recall10`` is the share of the exact ten nearest rows by cosine that are among the ten
    nearest of the stored form, for up to 500 rows as queries (in full precision); ``rms_error``
    is relative to the values; ``bytes_per_row`` counts all that is stored.
    """
    if "judge" in bag:
        figures: dict[str, float] = bag["judge"](result)
        return figures
    vectors: Floats2d = bag["source"]
    kept = result.rows(np.arange(len(vectors)))
    queries = np.linspace(0, len(vectors) - 1, min(500, len(vectors))).astype(np.int64)
    exact, found = (neighbors(rows, vectors[queries], K + 1) for rows in (vectors, kept))
    error = np.linalg.norm(np.asarray(kept, np.float64) - vectors) / np.linalg.norm(vectors)
    return {
        "recall10": float(overlap(exact[:, 1:], found, K + 1).mean()),
        "rms_error": float(error),
        "bytes_per_row": result.nbytes / len(vectors),
        "ratio": result.nbytes / (4 * vectors.shape[0] * vectors.shape[1]),
    }


def neighbors(rows: Floats2d, queries: Floats2d, k: int) -> Ids2d:
    """Return the ids of the ``k`` rows of greatest cosine, (Q, k), best first, ties by id."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = rows / np.where(lengths > 0, lengths, 1)
    order = [np.argsort(-(unit @ query), kind="stable")[:k] for query in queries]
    return np.asarray(order, np.int64).reshape(len(queries), -1)


def overlap(exact: Ids2d, found: Ids2d, k: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the share of ``exact`` ids that are among the first ``k`` found ones, (Q,)."""
    from tokenspace.metrics import recall_at

    return recall_at(found, [set(row) for row in exact.tolist()], k)
