"""Figures of merit: correlation, bootstrap intervals, and what a ranked list is worth.

Every figure of retrieval is returned a query, so that :func:`bootstrap` can give its interval
and two methods can be compared pair by pair. Nothing here is weighted or smoothed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .arrays import Ids2d
from .errors import InputError
from .rng import stream

__all__ = [
    "Score",
    "adjusted_rand",
    "auc",
    "average_precision",
    "bootstrap",
    "cosine",
    "expected_average_precision",
    "expected_precision",
    "isotropy",
    "log_loss",
    "ndcg_at",
    "pearson",
    "recall_at",
    "reciprocal_rank",
    "spearman",
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


def auc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Return the area under the ROC curve of (N,) scores for (N,) labels of 0 and 1.

    It is the chance that a 1 is scored above a 0, ties counting half: (R - p (p + 1) / 2) / (p q)
    with R the ranks of the p ones summed, and q zeros (Hanley and McNeil 1982). NaN where all
    labels are equal, or a score is NaN.
    """
    truth, given = _binary(labels, scores, "auc")
    ones, total = float(truth.sum()), len(truth)
    if ones in (0, total) or bool(np.isnan(given).any()):
        return float("nan")
    ranks = float(_ranks(given)[truth > 0].sum())
    return (ranks - ones * (ones + 1) / 2) / (ones * (total - ones))


def adjusted_rand(gold: Sequence[str], found: Sequence[int]) -> float:
    """Return how far two divisions of N items agree beyond chance: the adjusted Rand index.

    With C(x) = x (x - 1) / 2 and n_ij the items in class i and cluster j, a = sum_i C(n_i) and
    b = sum_j C(n_j): (sum_ij C(n_ij) - a b / C(N)) / ((a + b) / 2 - a b / C(N)) (Hubert and Arabie
    1985). 1 for equal divisions, 0 in expectation for random ones, and always 0 for one cluster
    of several classes. NaN without items.
    """
    if len(gold) != len(found):
        raise InputError(
            f"adjusted_rand: {len(gold)} labels and {len(found)} clusters", hint="give one of each"
        )
    if not len(gold):
        return float("nan")
    classes, clusters = (np.unique(side, return_inverse=True)[1] for side in (gold, found))
    table = np.zeros((classes.max() + 1, clusters.max() + 1))
    np.add.at(table, (classes, clusters), 1)
    together, a, b, every = (
        float((n * (n - 1) / 2).sum())
        for n in (table, table.sum(axis=1), table.sum(axis=0), table.sum())
    )
    if a == b == together:  # equal divisions, be it into one part or into as many as items
        return 1.0
    chance = a * b / every
    return (together - chance) / ((a + b) / 2 - chance)


def log_loss(labels: npt.ArrayLike, chances: npt.ArrayLike) -> float:
    """Return the mean of -ln of the chance that was given to the label, in nats a row.

    ``chances`` (N,) of a 1 are clipped to [1e-15, 1 - 1e-15], as is usual. NaN without rows.
    """
    truth, given = _binary(labels, chances, "log_loss")
    if len(truth) == 0:
        return float("nan")
    given = np.clip(given, 1e-15, 1 - 1e-15)
    return float(-np.log(np.where(truth > 0, given, 1 - given)).mean())


def _binary(labels: npt.ArrayLike, scores: npt.ArrayLike, name: str) -> tuple[Values, Values]:
    truth, given = np.asarray(labels, np.float64), np.asarray(scores, np.float64)
    if truth.ndim != 1 or truth.shape != given.shape:
        raise InputError(f"{name}: labels of shape {truth.shape}, scores of {given.shape}")
    if not np.isin(truth, (0, 1)).all():
        raise InputError(f"{name}: a label is neither 0 nor 1", hint="give labels of 0 and 1")
    return truth, given


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


def isotropy(rows: npt.ArrayLike) -> float:
    """Return min Z(c) / max Z(c), with Z(c) = sum of exp(c.w) over the rows at length 1, (N, D).

    c runs over the eigenvectors of the rows' scatter and their opposites (Mu and Viswanath 2018,
    equation 2): 1 for a space that is the same in all directions.
    """
    w = np.asarray(rows, np.float64)
    lengths = np.linalg.norm(w, axis=1, keepdims=True)
    w = w / np.where(lengths > 0, lengths, 1)
    _, C = np.linalg.eigh(w.T @ w)
    Z = np.concatenate([np.exp(w @ C).sum(axis=0), np.exp(-(w @ C)).sum(axis=0)])
    return float(Z.min() / Z.max())


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


def expected_average_precision(
    scores: npt.ArrayLike, relevant: Sequence[AbstractSet[int]]
) -> Values:
    """Return average precision, expected if equal scores stand in random order: (Q,) float64.

    ``scores`` is (Q, N), the higher the better, of every document. Of n equal scores behind s
    others, r and R of them relevant, the j-th adds (r / n) (R + 1 + (j - 1)(r - 1) / (n - 1)) /
    (s + j) to the sum over ranks (McSherry and Najork, ECIR 2008). Codes of bits give many equal
    scores, which an order by number would judge by chance.
    """
    given = _scored(scores, relevant)
    out = np.zeros(len(given))
    for query, groups in enumerate(_groups(given, relevant)):
        for size, inside, before, hits in groups:
            j = np.arange(1, size + 1)
            among = hits + 1 + (j - 1) * (inside - 1) / max(1, size - 1)
            out[query] += inside / size * float((among / (before + j)).sum())
    return out / _sizes(relevant)


def expected_precision(
    scores: npt.ArrayLike, relevant: Sequence[AbstractSet[int]], k: int
) -> Values:
    """Return the precision at ``k``, expected if equal scores stand in random order: (Q,) float64.

    ``scores`` is (Q, N), the higher the better, of every document.
    """
    given = _scored(scores, relevant)
    if k < 1:
        raise InputError(f"k={k} is below 1")
    out = np.zeros(len(given))
    for query, groups in enumerate(_groups(given, relevant)):
        for size, inside, before, _ in groups:
            out[query] += inside / size * min(size, max(0, k - before))
    return out / k


def _scored(scores: npt.ArrayLike, relevant: Sequence[AbstractSet[int]]) -> Values:
    """Return the scores as float64; check them and what is relevant."""
    given = np.asarray(scores, np.float64)
    if given.ndim != 2:
        raise InputError(f"scores of shape {given.shape}, expected (queries, documents)")
    _hits(np.zeros((len(given), 0), np.int64), relevant, None)
    if bool(np.isnan(given).any()):
        raise InputError("scores: a score is NaN", hint="NaN has no rank")
    return given


def _groups(
    scores: Values, relevant: Sequence[AbstractSet[int]]
) -> Iterator[list[tuple[int, int, int, int]]]:
    """Yield, for every query, groups of equal scores, best first.

    Each is its size, how many of it are relevant, and both figures of all groups before it.
    """
    for row, wanted in zip(scores, relevant, strict=True):
        ones = np.zeros(len(row), np.int64)
        ones[[item for item in wanted if 0 <= item < len(row)]] = 1
        _, group, sizes = np.unique(-row, return_inverse=True, return_counts=True)
        inside = np.bincount(group, ones, len(sizes)).astype(np.int64)
        before, hits = np.cumsum(sizes) - sizes, np.cumsum(inside) - inside
        rows = zip(sizes.tolist(), inside.tolist(), before.tolist(), hits.tolist(), strict=True)
        yield [figures for figures in rows if figures[1]]
