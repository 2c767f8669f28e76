"""Tests of paired scores: what a difference is worth, and when nothing could have been shown.

Over data sets: Wilcoxon's signed-rank test (:func:`signed_rank`) with Holm's correction
(:func:`holm`), and the fewest sets with which it can say anything (:func:`needed`). Inside one set:
Williams' test of two correlations, McNemar's of two shares; their intervals are in
:mod:`tokenspace.resampling`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from .errors import ConfigError, InputError

__all__ = ["EXACT", "SignedRank", "holm", "mcnemar", "needed", "signed_rank", "williams"]

EXACT = 500
"""So many differences that are not 0 have an exact p; of more it is the normal approximation."""

Values = npt.NDArray[np.float64]


class SignedRank(NamedTuple):
    """Wilcoxon's test of ``n`` pairs: W is the sum of the ranks of the positive differences.

    It is expected in the ``middle``; above, the first side is ahead. ``p`` is two-sided.
    ``nonzero`` of the differences are not 0, so that no p could be below ``least``.
    """

    n: int
    nonzero: int
    W: float
    middle: float
    p: float
    least: float
    method: Literal["exact", "normal"]


def signed_rank(first: npt.ArrayLike, second: npt.ArrayLike) -> SignedRank:
    """Test whether paired scores (N,) differ, by Wilcoxon's signed ranks (1945).

    |first - second| is ranked, equal ones sharing their mean rank, zeros included and then left
    out (Pratt 1959). Given these ranks, each of the 2^n ways to sign those of the n differences
    that are not 0 is as likely as another under the hypothesis: p counts, by dynamic programming
    over doubled ranks, the ways that lie as far from the middle as the observed one. It is exact
    with ties and zeros too; beyond ``EXACT`` differences it is the normal approximation with the
    variance of these ranks, without a correction for continuity.

    Differences count as equal, and as 0, where they agree up to the rounding of float64.

    Raises :class:`InputError` for scores of unequal length, and for NaN or infinity.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise InputError(
            f"paired scores of shapes {a.shape} and {b.shape}",
            hint="give one score of either side for every data set",
        )
    bad = np.flatnonzero(~(np.isfinite(a) & np.isfinite(b)))
    if len(bad):
        raise InputError(
            f"pair {bad[0]} is ({a[bad[0]]}, {b[bad[0]]}): not two finite scores",
            hint="leave out data sets that one side has no score for",
        )
    difference = a - b
    noise = 4 * np.finfo(np.float64).eps * max(np.abs(a).max(initial=0), np.abs(b).max(initial=0))
    ranks = _mid_ranks(np.abs(difference), noise)
    some = np.abs(difference) > noise
    ranks, positive = ranks[some], difference[some] > 0
    n, W, middle = len(ranks), float(ranks[positive].sum()), float(ranks.sum()) / 2
    least = 2.0 ** (1 - n) if n else 1.0
    if n > EXACT:
        from scipy.special import ndtr

        z = (W - middle) / math.sqrt(float((ranks**2).sum()) / 4)
        return SignedRank(len(a), n, W, middle, float(2 * ndtr(-abs(z))), least, "normal")
    return SignedRank(len(a), n, W, middle, _sign_flips(ranks, W), least, "exact")


def _mid_ranks(sizes: Values, noise: float) -> Values:
    """Return ranks from 1; sizes that lie within ``noise`` of each other share their mean."""
    order = np.argsort(sizes, kind="stable")
    step = np.diff(sizes[order], prepend=sizes[order[:1]]) > noise
    group = np.cumsum(step)
    last = np.cumsum(np.bincount(group, minlength=1))
    mean = (last + np.concatenate([[0], last[:-1]]) + 1) / 2
    ranks = np.empty(len(sizes))
    ranks[order] = mean[group]
    return ranks


def _sign_flips(ranks: Values, W: float) -> float:
    """Return the share of the 2^n signings whose W is as far from the middle, or farther."""
    doubled = np.rint(2 * ranks).astype(np.int64)
    total = int(doubled.sum())
    chance = np.zeros(total + 1)  # of every sum of the doubled ranks of the positive ones
    chance[0] = 1.0
    reached = 0
    for rank in doubled.tolist():
        reached += rank
        chance[rank : reached + 1] += chance[: reached + 1 - rank].copy()
        chance[: reached + 1] /= 2
    tail = min(round(2 * W), total - round(2 * W))
    return min(1.0, 2 * float(chance[: tail + 1].sum()))


def needed(comparisons: int = 1, alpha: float = 0.05) -> int:
    """Return the fewest differences, none of them 0, with which Holm's first step can reject.

    The smallest two-sided p of n differences is 2^(1 - n), which m ``comparisons`` multiply: n is
    1 + log2(m / alpha), rounded up. 6 for one comparison, 7 for two, 8 for the six of four models.
    """
    if comparisons < 1 or not 0 < alpha < 1:
        raise ConfigError(
            f"comparisons={comparisons}, alpha={alpha}", hint="give at least 1, and 0 < alpha < 1"
        )
    n = 1
    while comparisons * 2.0 ** (1 - n) > alpha:
        n += 1
    return n


def holm(p: Sequence[float]) -> list[float]:
    """Return the p values adjusted by Holm (1979); NaN stays NaN and is not counted."""
    defined = sorted((value, i) for i, value in enumerate(p) if not math.isnan(value))
    adjusted, least = [math.nan] * len(p), 0.0
    for rank, (value, i) in enumerate(defined):
        least = max(least, min(1.0, (len(defined) - rank) * value))
        adjusted[i] = least
    return adjusted


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
