"""Figures of some items and of bootstrap draws of them: intervals of one figure, or of a gain.

A draw of n items with replacement is how often it has each item. Figures follow from these counts
without gathering the items again, and for ranks without sorting them; the figures of all but one
item, which the interval BCa wants, are those of one more kind of counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from .arrays import Ids
from .errors import InputError
from .metrics import Score, pearson, spearman
from .rng import stream

__all__ = ["Drawn", "Kind", "bca", "drawn", "drawn_figures", "figure", "kept", "scored"]

Values = npt.NDArray[np.float64]
Kind = Literal[
    "spearman", "pearson", "share", "average", "f1", "v_measure", "average_precision"
]  # fmt: skip

_BLOCK = 1 << 21  # counts that are held at a time


def figure(kind: Kind, items: Values) -> float:
    """Return the figure of the items, none of which is NaN; NaN where it is not defined.

    A row of ``items`` is (given, predicted) for a correlation; 1 or 0 for a share; a number for an
    average; (right, predicted, given) entities for an F1; the numbers of (class, cluster) for the
    V-measure; (1 or 0, score) for average precision, where equal scores are one place of the list.
    """
    if len(items) == 0:
        return float("nan")
    if kind in ("share", "average"):
        return float(items.mean())
    if kind == "f1":
        right, predicted, given = items.sum(axis=0).tolist()
        return 2 * right / (predicted + given) if predicted + given else float("nan")
    if kind in ("spearman", "pearson"):
        correlation = spearman if kind == "spearman" else pearson
        return correlation(items[:, 0], items[:, 1])
    return float(_figures(kind, items, np.ones((1, len(items)), np.int64))[0])


def kept(items: Values) -> Values:
    """Return the items that are not NaN."""
    used: Values = items[~np.isnan(items).any(axis=tuple(range(1, items.ndim)))]
    return used


def scored(kind: Kind, items: Values, seed: int, resamples: int = 1000) -> Score:
    """Return the figure of the items that are not NaN, with its 95 % bootstrap interval."""
    used = kept(items)
    value = figure(kind, used)
    if np.isnan(value):
        return Score(value, value, value, len(used), len(items))
    draw = stream(seed, "bootstrap")
    if kind == "share":  # how many of n drawn items are right is binomial
        figures = draw.binomial(len(used), value, resamples) / len(used)
    else:
        figures = drawn_figures(kind, [used], draw, resamples)[0]
    figures = figures[~np.isnan(figures)]
    low, high = np.percentile(figures, (2.5, 97.5)) if len(figures) else (np.nan, np.nan)
    return Score(value, float(low), float(high), len(used), len(items))


class Drawn(NamedTuple):
    """The figures of S sides: of all items (S,), of every draw (S, B), of all but one item (S, n).

    The figures of two sides were taken from the same draws: their differences are paired.
    """

    values: Values
    draws: Values
    left_out: Values


def drawn(kind: Kind, sides: Sequence[Values], *, seed: int = 0, resamples: int = 10_000) -> Drawn:
    """Draw the items of all sides together, which are arrays of the same n items.

    Raises :class:`InputError` where they are not of one shape, or a value is NaN.
    """
    shapes = [np.shape(items) for items in sides]
    if len(set(shapes)) != 1 or not shapes[0] or not shapes[0][0]:
        raise InputError(
            f"sides of shapes {', '.join(map(str, shapes)) or 'none'}",
            hint="give the same items of every side, and at least one",
        )
    for side, items in enumerate(sides):
        if np.isnan(items).any():
            raise InputError(f"side {side}: a value is NaN", hint="leave those items out")
    n = shapes[0][0]
    every = np.arange(n)
    one_less = (
        1 - (every == np.arange(start, min(n, start + step))[:, None]).astype(np.int64)
        for step in (max(1, _BLOCK // n),)
        for start in range(0, n, step)
    )
    return Drawn(
        np.array([figure(kind, items) for items in sides]),
        drawn_figures(kind, sides, stream(seed, "paired"), resamples),
        _blocks(kind, sides, one_less),
    )


def bca(value: float, draws: Values, left_out: Values) -> tuple[float, float]:
    """Return the 95 % interval of a figure by the bootstrap BCa (Efron 1987).

    ``draws`` (B,) and ``left_out`` (n,) are the figure of drawn items and of all items but one, or
    differences of them as :func:`drawn` gives them; what is NaN is left out. (NaN, NaN) where
    nothing remains.
    """
    from scipy.special import ndtr, ndtri

    draws, left_out = draws[~np.isnan(draws)], left_out[~np.isnan(left_out)]
    if np.isnan(value) or not len(draws):
        return float("nan"), float("nan")
    below = float((draws < value).mean() + (draws <= value).mean()) / 2
    half = 0.5 / len(draws)
    z0 = ndtri(min(max(below, half), 1 - half))
    gap = left_out.mean() - left_out if len(left_out) else left_out
    spread = float((gap**2).sum())
    a = float((gap**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
    ends = []
    for z in z0 + ndtri(np.array([0.025, 0.975])):
        room = 1 - a * z
        ends.append(float(ndtr(z0 + z / room)) if room > 0 else float(z > 0))
    low, high = np.quantile(draws, ends)
    return float(low), float(high)


def drawn_figures(
    kind: Kind, sides: Sequence[Values], draw: np.random.Generator, resamples: int
) -> Values:
    """Return the figures of every draw, (sides, resamples); NaN where one is not defined.

    ``sides`` are arrays of the same n items, and a draw has the same ones of each.
    """
    return _blocks(kind, sides, _counts(len(sides[0]), draw, resamples))


def _blocks(kind: Kind, sides: Sequence[Values], counts: Iterable[Ids]) -> Values:
    blocks = [[_figures(kind, items, block) for items in sides] for block in counts]
    return np.concatenate([np.array(block) for block in blocks], axis=1)


def _counts(n: int, draw: np.random.Generator, resamples: int) -> Iterator[Ids]:
    """Yield blocks of draws, (B, n): how often each of n items was drawn."""
    step = max(1, _BLOCK // max(1, n))
    for start in range(0, resamples, step):
        rows = [
            np.bincount(draw.integers(n, size=n), minlength=n)
            for _ in range(min(step, resamples - start))
        ]
        yield np.array(rows, np.int64)


def _figures(kind: Kind, items: Values, counts: Ids) -> Values:
    """Return the figure of every draw, (B,), by its counts (B, n); NaN where it is not defined."""
    if kind in ("share", "average"):
        mean: Values = (counts @ items) / counts.sum(axis=1)
        return mean
    if kind == "pearson":
        return _pearson(items, counts)
    if kind == "spearman":
        ranked = [np.unique(items[:, side], return_inverse=True)[1] for side in (0, 1)]
        return np.array([_spearman(ranked, row) for row in counts])
    if kind == "v_measure":
        return _v_measure(items.astype(np.int64), counts)
    if kind == "average_precision":
        return _average_precision(items, counts)
    return np.array([figure(kind, np.repeat(items, row, axis=0)) for row in counts])


def _pearson(items: Values, counts: Ids) -> Values:
    centred = items - items.mean(axis=0)
    x, y = centred.T
    n = counts.sum(axis=1)
    moments = counts @ np.column_stack([x, y, x * x, y * y, x * y])
    mx, my, xx, yy, xy = (column / n for column in moments.T)
    spread = np.maximum(xx - mx**2, 0) * np.maximum(yy - my**2, 0)
    least = (1e-13 * xx.max() * yy.max()) if len(n) else 0.0  # constant up to rounding
    found: Values = np.full(len(counts), np.nan)
    np.divide(xy - mx * my, np.sqrt(spread), out=found, where=spread > least)
    return np.clip(found, -1, 1)


def _spearman(groups: list[Ids], counts: Ids) -> float:
    """Return the correlation of mean ranks; ``groups`` number the values of both columns."""
    n = int(counts.sum())
    deviations, spread = [], 1.0
    for group in groups:
        sizes = np.bincount(group, counts)
        ranks = np.cumsum(sizes) - (sizes - 1) / 2 - (n + 1) / 2
        spread *= float(sizes @ ranks**2)
        deviations.append(ranks[group])
    if not spread:
        return float("nan")
    together = float(counts @ (deviations[0] * deviations[1]))
    return float(np.clip(together / spread**0.5, -1, 1))


def _v_measure(items: Ids, counts: Ids) -> Values:
    """Return 2 I / (H(class) + H(cluster)): 1 where both are constant (Rosenberg 2007).

    It is the mutual information over the mean of both entropies.
    """
    n = counts.sum(axis=1)
    pairs = items[:, 0] * (int(items[:, 1].max()) + 1) + items[:, 1]
    both, classes, clusters = (
        _entropy(_summed(counts, group), n) for group in (pairs, items[:, 0], items[:, 1])
    )
    total = classes + clusters
    found: Values = np.ones(len(counts))
    np.divide(2 * (total - both), total, out=found, where=total > 1e-12)
    return np.clip(found, 0, 1)


def _summed(counts: Ids, group: Ids) -> Ids:
    """Return the counts of the items of each group together, (B, G)."""
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    summed: Ids = np.add.reduceat(counts[:, order], starts, axis=1)
    return summed


def _entropy(sizes: Ids, n: Ids) -> Values:
    shares = sizes / n[:, None]
    entropy: Values = -(shares * np.log(np.where(shares > 0, shares, 1))).sum(axis=1)
    return entropy


def _average_precision(items: Values, counts: Ids) -> Values:
    """Return the sum over distinct scores, best first, of precision times the gain in recall."""
    order = np.argsort(-items[:, 1], kind="stable")
    truth, scores = items[order, 0], items[order, 1]
    ends = np.flatnonzero(np.diff(scores, append=-np.inf))
    ranked = counts[:, order]
    right = np.cumsum(ranked * truth, axis=1)[:, ends]
    taken = np.cumsum(ranked, axis=1)[:, ends]
    gained = np.diff(right, prepend=0, axis=1)
    total = right[:, -1]
    found: Values = np.full(len(counts), np.nan)
    some = total > 0
    precision = right[some] / np.maximum(taken[some], 1)
    found[some] = (precision * gained[some]).sum(axis=1) / total[some]
    return found
