"""Whether two tables differ on a set, by tests that pair what both were asked.

Correlations with one list of scores: Williams' t (1959), which Steiger (1980) recommends, on the
items that both tables have; the correlations may be Spearman's, whose t is then approximate.
Shares of right answers: McNemar's exact test. F1 and everything's interval: the paired bootstrap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tokenspace.errors import InputError
from tokenspace.metrics import pearson, spearman
from tokenspace.rng import stream
from tokenspace.words.evaluation.resampling import drawn_figures
from tokenspace.words.evaluation.results import Kind, Result, Values, figure

__all__ = ["Comparison", "compare", "holm", "mcnemar", "williams"]


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


def williams(r12: float, r13: float, r23: float, n: int) -> tuple[float, float]:
    """Return t and two-sided p for r12 = r13, two correlations with variable 1 of ``n`` items.

    ``r23`` is the correlation of the other two variables; n - 3 degrees of freedom. NaN below four
    items or where a correlation is NaN; equal correlations give (0, 1).
    """
    from scipy.stats import t as student

    if n < 4 or any(math.isnan(r) for r in (r12, r13, r23)):
        return math.nan, math.nan
    if r12 == r13:
        return 0.0, 1.0
    determinant = 1 - r12**2 - r13**2 - r23**2 + 2 * r12 * r13 * r23
    mean = (r12 + r13) / 2
    spread = 2 * max(determinant, 0.0) * (n - 1) / (n - 3) + mean**2 * (1 - r23) ** 3
    if spread <= 0:
        return math.copysign(math.inf, r12 - r13), 0.0
    t = (r12 - r13) * math.sqrt((n - 1) * (1 + r23) / spread)
    return t, float(2 * student.sf(abs(t), n - 3))


def mcnemar(first_only: int, second_only: int) -> float:
    """Return the exact two-sided p of as many items that only one of two got right."""
    from scipy.stats import binomtest

    total = first_only + second_only
    return float(binomtest(first_only, total, 0.5).pvalue) if total else 1.0


def holm(p: Sequence[float]) -> list[float]:
    """Return the p values adjusted by Holm (1979); NaN stays NaN and is not counted."""
    defined = sorted((value, i) for i, value in enumerate(p) if not math.isnan(value))
    adjusted, least = [math.nan] * len(p), 0.0
    for rank, (value, i) in enumerate(defined):
        least = max(least, min(1.0, (len(defined) - rank) * value))
        adjusted[i] = least
    return adjusted
