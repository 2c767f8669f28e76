"""How closely sets of words stand to other sets: the metrics by which bias is measured.

A query has target sets (say careers and family) and attribute sets (male and female terms). All
functions take rows of vectors, one a word; those that compare by cosine need no unit rows.

====== =================================================================================== ========
metric what it is                                                                           unbiased
====== =================================================================================== ========
WEAT   Σ_X s - Σ_Y s with s(w) = mean cos(w, A) - mean cos(w, B), and its permutation test       0
RND    mean over a in A of |a - mean T1| - |a - mean T2|                                         0
RNSB   divergence from uniform of the targets' chances to be classified as negative              0
MAC    mean cosine distance of targets to attribute sets                                         1
ECT    rank correlation of cos(mean T1, a) and cos(mean T2, a) over the attributes               1
RIPA   mean inner product of words with the direction of a pair                                  0
====== =================================================================================== ========

References
----------
WEAT: Caliskan, Bryson, Narayanan 2017 (Science 356). RND: Garg, Schiebinger, Jurafsky, Zou 2018
(PNAS 115). RNSB: Sweeney, Najafian 2019 (ACL). MAC: Manzini, Lim, Tsvetkov, Black 2019 (NAACL).
ECT: Dev, Phillips 2019 (AISTATS). RIPA: Ethayarajh, Duvenaud, Hirst 2019 (ACL).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import comb
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats2d
from tokenspace.errors import InputError
from tokenspace.metrics import spearman
from tokenspace.rng import stream

from ._linear import logistic

__all__ = ["Weat", "ect", "mac", "ripa", "rnd", "rnsb", "weat"]

EXACT = 200_000  # partitions up to which all of them are tried
DRAWN = 100_000  # of more, so many are drawn
FITS = 10  # classifiers whose chances are averaged

Values = npt.NDArray[np.float64]


class Weat(NamedTuple):
    """The word embedding association test.

    ``score`` is the sum, ``difference`` that of the means of s over X and Y, and ``effect`` the
    difference in standard deviations of s over both. ``p_value`` is the share of the partitions of
    X and Y, into sets of their sizes, whose score is as high; ``exact`` says that all were tried.
    """

    score: float
    effect: float
    difference: float
    p_value: float
    exact: bool
    partitions: int


def weat(
    X: Floats2d,
    Y: Floats2d,
    A: Floats2d,
    B: Floats2d,
    *,
    sides: Literal[1, 2] = 1,
    ddof: int = 0,
    seed: int = 0,
) -> Weat:
    """Test whether X is nearer to A, and Y to B, than chance would have it.

    Each input is (words, D). ``sides=2`` counts partitions whose score is as far from 0 either
    way. ``ddof`` is that of the standard deviation in the effect size (0, as WEFE has it; the paper
    leaves it open). The effect is NaN where s does not vary. Raises :class:`InputError` for an
    empty set, a zero row, or sets of different widths.
    """
    units = [_unit(rows, name) for rows, name in zip((X, Y, A, B), "XYAB", strict=True)]
    targets = np.concatenate(units[:2])
    s = (targets @ units[2].T).mean(axis=1) - (targets @ units[3].T).mean(axis=1)
    n = len(X)
    difference = float(s[:n].mean() - s[n:].mean())
    spread = float(s.std(ddof=ddof)) if len(s) > ddof else 0.0
    p, partitions = _p_value(s, n, sides, seed)
    return Weat(
        score=float(s[:n].sum() - s[n:].sum()),
        effect=difference / spread if spread > 0 else float("nan"),
        difference=difference,
        p_value=p,
        exact=comb(len(s), n) <= EXACT,
        partitions=partitions,
    )


def _p_value(s: Values, n: int, sides: int, seed: int) -> tuple[float, int]:
    """Return the p-value of the sum of the first ``n`` values, and the partitions it rests on.

    With the total of s fixed, the score grows with the sum over the first set: 2 Σ_X s - Σ s.
    """
    total, observed = s.sum(), 2 * s[:n].sum() - s.sum()
    slack = 1e-12 * np.abs(s).sum()  # equal sums in another order differ by rounding
    count = comb(len(s), n)
    if count <= EXACT:
        chosen = np.fromiter(
            (i for subset in combinations(range(len(s)), n) for i in subset), np.int64, count * n
        ).reshape(count, n)
        scores = 2 * s[chosen].sum(axis=1) - total
        return float(_as_far(scores, observed, slack, sides).mean()), count
    draw = stream(seed, "weat: partitions")
    hits = 0
    for first in range(0, DRAWN, 10_000):
        keys = draw.random((min(10_000, DRAWN - first), len(s)))
        chosen = np.argpartition(keys, n - 1, axis=1)[:, :n]
        scores = 2 * s[chosen].sum(axis=1) - total
        hits += int(_as_far(scores, observed, slack, sides).sum())
    return (hits + 1) / (DRAWN + 1), DRAWN


def _as_far(scores: Values, observed: float, slack: float, sides: int) -> npt.NDArray[np.bool_]:
    if sides == 1:
        return scores >= observed - slack
    return np.abs(scores) >= abs(observed) - slack


def rnd(
    T1: Floats2d, T2: Floats2d, A: Floats2d, *, norm: Literal["euclid", "cosine"] = "euclid"
) -> float:
    """Return the relative norm distance: below 0, the attributes stand nearer to T1.

    Rows are used as they are (the paper's are unit rows); ``"cosine"`` takes cosine distances.
    """
    one, two = (_checked(rows, name).mean(axis=0) for rows, name in ((T1, "T1"), (T2, "T2")))
    a = _checked(A, "A")
    if norm == "cosine":
        unit = _unit(a, "A")
        away = [1 - unit @ _unit(mean[None], "the mean of a set")[0] for mean in (one, two)]
    else:
        away = [np.linalg.norm(a - mean, axis=1) for mean in (one, two)]
    return float((away[0] - away[1]).mean())


def rnsb(targets: Sequence[Floats2d], A: Floats2d, B: Floats2d, *, seed: int = 0) -> float:
    """Return the relative negative sentiment bias of the targets' words.

    A logistic regression tells B (negative) from A; the chances of the targets' words to be
    negative, scaled to sum to 1, diverge from the uniform distribution by so many nats. Ten fits,
    each on four fifths of either set, are averaged, since one depends on what it saw.
    """
    words = np.concatenate([_checked(rows, "a target set") for rows in targets])
    sides = [_checked(A, "A"), _checked(B, "B")]
    if min(len(rows) for rows in sides) < 2:
        raise InputError("rnsb: an attribute set of one word", hint="give 2 or more of each")
    draw = stream(seed, "rnsb: words that are seen")
    found = []
    for _ in range(FITS):
        seen = [rows[draw.permutation(len(rows))[: max(2, len(rows) * 4 // 5)]] for rows in sides]
        labels = np.repeat([0.0, 1.0], [len(rows) for rows in seen])
        chance = 1 / (1 + np.exp(-logistic(np.concatenate(seen), labels)(words)))
        share = chance / chance.sum()
        found.append(float((share * np.log(share * len(share))).sum()))
    return float(np.mean(found))


def mac(targets: Floats2d, attributes: Sequence[Floats2d]) -> float:
    """Return the mean over words and attribute sets of the mean cosine distance."""
    words = _unit(targets, "targets")
    each = [(1 - words @ _unit(rows, "an attribute set").T).mean(axis=1) for rows in attributes]
    if not each:
        raise InputError("mac: no attribute set", hint="give one or more")
    return float(np.mean(each))


def ect(T1: Floats2d, T2: Floats2d, A: Floats2d) -> float:
    """Return the embedding coherence: whether both targets order the attributes alike.

    The means are those of the rows as they are. NaN for fewer than two attributes.
    """
    a = _unit(A, "A")
    sets = (_checked(rows, "a target set") for rows in (T1, T2))
    means = [_unit(rows.mean(axis=0)[None], "the mean of a set") for rows in sets]
    return spearman(*(a @ mean[0] for mean in means))


def ripa(words: Floats2d, pairs: Sequence[tuple[Floats2d, Floats2d]]) -> Values:
    """Return each word's mean inner product with the unit differences of pairs, (words,).

    A pair is two (1, D) or (D,) rows.
    """
    if not pairs:
        raise InputError("ripa: no pair", hint="give one or more")
    rows = np.stack([np.ravel(a).astype(np.float64) - np.ravel(b) for a, b in pairs])
    found: Values = (_checked(words, "words") @ _unit(rows, "a pair's difference").T).mean(axis=1)
    return found


def _checked(rows: Floats2d, name: str) -> Values:
    given = np.asarray(rows, np.float64)
    if given.ndim != 2 or len(given) == 0:
        raise InputError(f"{name}: rows of shape {given.shape}", hint="give one row a word")
    return given


def _unit(rows: npt.ArrayLike, name: str) -> Values:
    given = _checked(np.asarray(rows), name)
    lengths = np.linalg.norm(given, axis=1, keepdims=True)
    if not lengths.all():
        raise InputError(f"{name}: a row is all zeros", hint="leave that word out")
    unit: Values = given / lengths
    return unit
