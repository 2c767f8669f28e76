"""Figures of many bootstrap draws at once.

A draw of n items with replacement is how often it has each item. Correlations follow from these
counts without gathering, and for ranks without sorting, the items again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tokenspace.arrays import Ids
from tokenspace.metrics import Score
from tokenspace.rng import stream
from tokenspace.words.evaluation.results import Kind, Values, figure, kept

__all__ = ["drawn_figures", "scored"]

_BLOCK = 1 << 21  # counts that are held at a time


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


def drawn_figures(
    kind: Kind, sides: Sequence[Values], draw: np.random.Generator, resamples: int
) -> Values:
    """Return the figures of every draw, (sides, resamples); NaN where one is not defined.

    ``sides`` are arrays of the same n items, and a draw has the same ones of each.
    """
    n = len(sides[0])
    blocks = [
        [_figures(kind, items, counts) for items in sides] for counts in _counts(n, draw, resamples)
    ]
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
    if kind == "pearson":
        return _pearson(items, counts)
    if kind == "spearman":
        ranked = [np.unique(items[:, side], return_inverse=True)[1] for side in (0, 1)]
        return np.array([_spearman(ranked, row) for row in counts])
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
