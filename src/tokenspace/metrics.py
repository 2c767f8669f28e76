"""Figures of merit: correlation, bootstrap intervals, and what a ranked list is worth.

Every figure of retrieval is returned a query, so that :func:`bootstrap` can give its interval
and two methods can be compared pair by pair. Nothing here is weighted or smoothed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .arrays import Ids2d
from .errors import InputError
from .rng import stream
from .table import EmbeddingTable

__all__ = [
    "Score",
    "average_precision",
    "bootstrap",
    "cosine",
    "ndcg_at",
    "pearson",
    "recall_at",
    "reciprocal_rank",
    "spearman",
    "word_similarity",
]

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """A figure with its 95 % bootstrap interval, and how many of how many items it rests on."""

    value: float
    low: float
    high: float
    used: int
    total: int


def pearson(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """Return Pearson's correlation of two (N,) series.

    NaN where it is not defined: fewer than two items, or a series that is constant (up to the
    rounding of float64, relative to its largest value).
    """
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise InputError(f"correlation of series of shapes {a.shape} and {b.shape}")
    if len(a) < 2:
        return float("nan")
    a, b = _centred(a), _centred(b)
    spread = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.clip(a @ b / spread, -1.0, 1.0)) if spread > 0 else float("nan")


def _centred(series: Values) -> Values:
    """Subtract the mean; a constant series becomes exactly zero."""
    rest = series - series.mean()
    noise = 4 * np.finfo(np.float64).eps * np.abs(series).max()
    return rest if np.abs(rest).max() > noise else np.zeros_like(rest)


def spearman(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """Return Spearman's rank correlation of two (N,) series; ties share their mean rank.

    NaN under the conditions of :func:`pearson`, and where a value is NaN: such values have no
    rank.
    """
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if a.ndim == 1 and a.shape == b.shape and len(a) and bool(np.isnan(a + b).any()):
        return float("nan")
    return pearson(_ranks(a), _ranks(b))


def _ranks(series: Values) -> Values:
    """Return ranks from 1, (N,); equal values share the mean of the ranks they take up."""
    _, group, sizes = np.unique(series, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)
    mean: Values = (last - (sizes - 1) / 2)[group]
    return mean


def bootstrap(
    values: npt.ArrayLike,
    seed: int = 0,
    resamples: int = 1000,
    *,
    statistic: Callable[[Values], float] | None = None,
) -> tuple[float, float]:
    """Return the 95 % percentile interval of the mean of per-item values (Efron 1979).

    Parameters
    ----------
    values : array of shape (N,), or (N, M) with a ``statistic``
        One item a row. Items are drawn with replacement.
    statistic : callable, optional
        What is computed from the drawn rows instead of their mean; NaN results are left out.

    Returns
    -------
    (low, high)
        Both NaN where there are no items.
    """
    items = np.asarray(values, np.float64)
    if resamples < 1:
        raise InputError(f"bootstrap: resamples={resamples} is below 1")
    if len(items) == 0:
        return (float("nan"), float("nan"))
    draw = stream(seed, "bootstrap")
    figure = statistic or (lambda rows: float(rows.mean()))
    figures = np.array(
        [figure(items[draw.integers(len(items), size=len(items))]) for _ in range(resamples)]
    )
    figures = figures[~np.isnan(figures)]
    if len(figures) == 0:
        return (float("nan"), float("nan"))
    low, high = np.percentile(figures, (2.5, 97.5))
    return (float(low), float(high))


def cosine(a: npt.ArrayLike, b: npt.ArrayLike) -> Values:
    """Return the cosine of every pair of rows, (N,) float64; 0 where a row is all zeros."""
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if x.shape != y.shape or x.ndim != 2:
        raise InputError(f"cosine of rows of shapes {x.shape} and {y.shape}")
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    dots: Values = np.einsum("nd,nd->n", x, y)
    np.divide(dots, lengths, out=dots, where=lengths > 0)
    return dots


def word_similarity(
    table: EmbeddingTable, pairs: Sequence[tuple[str, str, float]], seed: int = 0
) -> Score:
    """Return Spearman's correlation of cosines with human scores, with its bootstrap interval.

    A word is looked up as it is written, then in lower case; a pair with an unknown word is
    skipped and counted (``total - used``). NaN where fewer than two pairs are known.
    """
    ids = table.vocab.ids
    known = []
    for first, second, score in pairs:
        i, j = (ids.get(word, ids.get(word.lower(), -1)) for word in (first, second))
        if i >= 0 and j >= 0:
            known.append((i, j, score))
    if len(known) < 2:
        nan = float("nan")
        return Score(nan, nan, nan, len(known), len(pairs))
    left, right = (np.array([item[side] for item in known], np.int64) for side in (0, 1))
    both = np.column_stack(
        [cosine(table.rows(left), table.rows(right)), [item[2] for item in known]]
    )

    def rank(rows: Values) -> float:
        return spearman(rows[:, 0], rows[:, 1])

    low, high = bootstrap(both, seed, statistic=rank)
    return Score(rank(both), low, high, len(known), len(pairs))


def _hits(ranked: Ids2d, relevant: Sequence[AbstractSet[int]], k: int | None) -> Values:
    """Mark with 1 what is relevant among the first ``k``, (Q, min(k, width)); check the input."""
    if ranked.ndim != 2 or len(ranked) != len(relevant):
        raise InputError(
            f"ranked ids of shape {ranked.shape} and {len(relevant)} sets of relevant ids"
        )
    if k is not None and k < 1:
        raise InputError(f"k={k} is below 1")
    for query, wanted in enumerate(relevant):
        if not wanted:
            raise InputError(
                f"query {query} has no relevant document",
                hint="leave out queries without judgements",
            )
    hits = np.zeros(ranked[:, :k].shape)
    for row, ids, wanted in zip(hits, ranked[:, :k], relevant, strict=True):
        left = set(wanted)  # an id that is repeated counts once
        for place, item in enumerate(ids.tolist()):
            if item in left:
                left.discard(item)
                row[place] = 1.0
    return hits


def reciprocal_rank(
    ranked: Ids2d, relevant: Sequence[AbstractSet[int]], k: int | None = None
) -> Values:
    """Return 1 / rank of the first relevant id among the first ``k``, or 0: (Q,) float64.

    ``ranked`` is (Q, K) ids, best first; -1 fills up short lists.
    """
    hits = _hits(ranked, relevant, k)
    if hits.shape[1] == 0:
        return np.zeros(len(hits))
    found: Values = hits.max(axis=1) / (hits.argmax(axis=1) + 1.0)
    return found


def recall_at(ranked: Ids2d, relevant: Sequence[AbstractSet[int]], k: int | None = None) -> Values:
    """Return the share of the relevant ids that is among the first ``k``: (Q,) float64."""
    found: Values = _hits(ranked, relevant, k).sum(axis=1) / _sizes(relevant)
    return found


def ndcg_at(ranked: Ids2d, relevant: Sequence[AbstractSet[int]], k: int | None = None) -> Values:
    """Return nDCG with gain 1 and discount log2(rank + 1) among the first ``k``: (Q,) float64.

    The ideal list has all relevant ids, at most ``k`` (at most K without a ``k``), in front.
    """
    hits = _hits(ranked, relevant, k)
    length = ranked.shape[1] if k is None else k
    discount = 1.0 / np.log2(np.arange(2, length + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discount)])[np.minimum(_sizes(relevant), length)]
    gained: Values = hits @ discount[: hits.shape[1]] / np.where(ideal > 0, ideal, 1.0)
    return gained


def average_precision(
    ranked: Ids2d, relevant: Sequence[AbstractSet[int]], k: int | None = None
) -> Values:
    """Return average precision: (Q,) float64; relevant ids that are not ranked count as 0.

    The sum of the precision at every relevant rank is divided by the number of relevant ids.
    """
    hits = _hits(ranked, relevant, k)
    precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    found: Values = (hits * precision).sum(axis=1) / _sizes(relevant)
    return found


def _sizes(relevant: Sequence[AbstractSet[int]]) -> npt.NDArray[np.int64]:
    return np.array([len(wanted) for wanted in relevant], np.int64)
