"""Whether two tables differ on a set, by tests that pair what both were asked.

Correlations with one list of scores: Williams' t (1959), which Steiger (1980) recommends, on the
items that both tables have; the correlations may be Spearman's, whose t is then approximate.
Shares of right answers: McNemar's exact test. F1 and everything's interval: the paired bootstrap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tokenspace.errors import InputError
from tokenspace.metrics import pearson, spearman
from tokenspace.resampling import Kind, drawn_figures, figure
from tokenspace.rng import stream
from tokenspace.significance import mcnemar, williams
from tokenspace.words.evaluation.results import Result, Values

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True)
class Comparison:
    """The difference of two tables on one set: first less second, on the ``used`` common items.

    ``p`` is two-sided, ``adjusted`` by Holm over all comparisons that were made together.
    """

    set: str
    measure: str
    first: str
    second: str
    difference: float
    low: float
    high: float
    test: str
    p: float
    used: int
    adjusted: float = float("nan")


def compare(
    first: Result,
    second: Result,
    *,
    names: tuple[str, str] = ("first", "second"),
    seed: int = 0,
    resamples: int = 1000,
) -> Comparison:
    """Compare two results of the same measure on the same set.

    The figures are those of the items that both have, which may differ from each one's own.
    """
    same = (first.set, first.measure, first.items.shape) == (
        second.set,
        second.measure,
        second.items.shape,
    )
    if not same:
        raise InputError(
            f"{first.set} ({first.measure}, {len(first.items)} items) cannot be compared with"
            f" {second.set} ({second.measure}, {len(second.items)} items)",
            hint="measure both tables on one set with one policy for unknown words",
        )
    common = ~np.isnan(np.column_stack([first.items, second.items])).any(axis=1)
    one, two = first.items[common], second.items[common]
    n, kind = len(one), first.kind
    difference = figure(kind, one) - figure(kind, two)
    differences = _drawn(kind, one, two, stream(seed, "paired"), resamples if n else 0)
    low, high = (
        np.percentile(differences, (2.5, 97.5)) if len(differences) else (math.nan, math.nan)
    )
    if kind in ("spearman", "pearson") and first.measure != "cca":
        correlation = spearman if kind == "spearman" else pearson
        mutual = correlation(one[:, 1], two[:, 1]) if n else math.nan
        test, p = "Williams", williams(figure(kind, one), figure(kind, two), mutual, n)[1]
    elif kind == "share":
        test = "McNemar"
        p = mcnemar(int(((one == 1) & (two == 0)).sum()), int(((one == 0) & (two == 1)).sum()))
    else:
        test, p = "paired bootstrap", _bootstrap_p(differences)
    return Comparison(
        first.set, first.measure, *names, difference, float(low), float(high), test, p, n
    )


def _drawn(
    kind: Kind, one: Values, two: Values, draw: np.random.Generator, resamples: int
) -> Values:
    """Return the differences of figures of items drawn with replacement, those that are defined."""
    n = len(one)
    if kind == "share" and n:  # how often either side alone is right is multinomial
        sides = [float((one > two).mean()), float((one < two).mean())]
        counts = draw.multinomial(n, [*sides, max(0.0, 1 - sum(sides))], resamples)
        shares: Values = (counts[:, 0] - counts[:, 1]) / n
        return shares
    if resamples == 0:
        return np.zeros(0)
    first, second = drawn_figures(kind, [one, two], draw, resamples)
    differences: Values = first - second
    return differences[~np.isnan(differences)]


def _bootstrap_p(differences: np.ndarray) -> float:
    """Return twice the share of drawn differences on the lesser side of 0, at least 1 / B."""
    if len(differences) == 0:
        return math.nan
    below, above = float((differences <= 0).mean()), float((differences >= 0).mean())
    return min(1.0, max(2 * min(below, above), 1 / len(differences)))
