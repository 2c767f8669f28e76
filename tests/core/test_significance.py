"""Wilcoxon's test by every sign flip, scipy, and published examples; what n can show at all."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from tokenspace.errors import ConfigError, InputError
from tokenspace.significance import EXACT, holm, mcnemar, needed, signed_rank, williams


def literal(difference: np.ndarray) -> float:
    """Return p by the definition: mean ranks of |d| with zeros, all signs of those that remain."""
    sizes = np.abs(difference)
    ranks = np.array([(sizes < s).sum() + ((sizes == s).sum() + 1) / 2 for s in sizes])
    ranks, positive = ranks[difference != 0], difference[difference != 0] > 0
    middle = ranks.sum() / 2
    far = abs(ranks[positive].sum() - middle)
    signings = itertools.product((0, 1), repeat=len(ranks))
    return float(np.mean([abs(ranks @ signs - middle) >= far - 1e-9 for signs in signings]))


def test_by_hand() -> None:
    # differences 1, 2, -3: W = 1 + 2; of 8 sums 0..6 those at 3 are the middle: p = 1
    assert signed_rank([1, 2, 0], [0, 0, 3]) == (3, 3, 3.0, 3.0, 1.0, 0.25, "exact")
    # six positive differences: only +6 and -6 lie as far out: 2 / 64
    found = signed_rank([1, 2, 3, 4, 5, 6], [0] * 6)
    assert (found.W, found.p, found.least) == (21.0, 2 / 64, 2 / 64)
    # Pratt: two zeros take the ranks 1 and 2 and leave; six of eight remain, all positive
    zeros = signed_rank([0, 0, 1, 2, 3, 4, 5, 6], [0] * 8)
    assert (zeros.n, zeros.nonzero, zeros.W, zeros.p) == (8, 6, 33.0, 0.03125)
    nothing = signed_rank([1.0, 2.0], [1.0, 2.0])
    assert (nothing.nonzero, nothing.p, nothing.least) == (0, 1.0, 1.0)
    assert signed_rank([], []).p == 1.0


def test_scipy_is_wrong_where_ranks_are_not_whole_and_we_are_not() -> None:
    # the example of the specification: eight differences, two of them 0
    difference = np.array([0.0, 0.0, 1, 2, 3, 4, 5, -1])
    ours = signed_rank(difference, np.zeros(8)).p
    assert ours == pytest.approx(literal(difference))
    assert stats.wilcoxon(difference, zero_method="pratt", method="exact").pvalue != ours


@pytest.mark.parametrize("seed", range(6))
def test_without_ties_it_is_scipys_exact_test(seed: int) -> None:
    draw = np.random.default_rng(seed)
    for n in (1, 2, 5, 6, 13, 25, 40):
        first, second = draw.standard_normal((2, n)) + 0.2
        theirs = stats.wilcoxon(first, second, zero_method="pratt", method="exact").pvalue
        assert signed_rank(first, second).p == pytest.approx(theirs, abs=1e-12, rel=1e-12)


@pytest.mark.parametrize("seed", range(12))
def test_with_ties_and_zeros_it_is_every_sign_flip(seed: int) -> None:
    draw = np.random.default_rng(seed)
    difference = draw.integers(-3, 5, size=draw.integers(5, 14)).astype(float)
    if not difference.any():
        difference[0] = 1.0
    ours = signed_rank(difference, np.zeros(len(difference))).p
    assert ours == pytest.approx(literal(difference), abs=1e-12)
    every = stats.PermutationMethod(n_resamples=np.inf)
    theirs = stats.wilcoxon(difference, zero_method="pratt", method=every).pvalue
    assert ours == pytest.approx(theirs, abs=1e-12)


def test_rounding_makes_no_rank() -> None:
    # 0.3 - 0.1 and 0.8 - 0.6 differ by 5e-17: they are ties, and 0.1 + 0.2 is 0.3
    first, second = [0.3, 0.8, 0.1 + 0.2, 0.9], [0.1, 0.6, 0.3, 0.5]
    assert 0.3 - 0.1 != 0.8 - 0.6
    found = signed_rank(first, second)
    assert (found.nonzero, found.W) == (3, 2.5 + 2.5 + 4)
    assert signed_rank(np.array(first) * 1e6, np.array(second) * 1e6) == found


def test_many_differences_are_the_normal_approximation() -> None:
    draw = np.random.default_rng(0)
    difference = draw.integers(-9, 11, size=EXACT + 200).astype(float)
    found = signed_rank(difference, np.zeros(len(difference)))
    assert found.method == "normal"
    theirs = stats.wilcoxon(difference, zero_method="pratt", method="asymptotic").pvalue
    assert found.p == pytest.approx(theirs, rel=1e-9)
    near = signed_rank(difference[:EXACT], np.zeros(EXACT))
    assert near.method == "exact"
    approximate = stats.wilcoxon(difference[:EXACT], zero_method="pratt", method="asymptotic")
    assert near.p == pytest.approx(approximate.pvalue, rel=0.1)


def test_sides_are_symmetric_and_p_is_level_under_the_hypothesis() -> None:
    draw = np.random.default_rng(3)
    rejected = 0
    for _ in range(800):
        first, second = draw.integers(0, 12, size=(2, 9)).astype(float)
        p = signed_rank(first, second).p
        assert p == signed_rank(second, first).p
        rejected += p <= 0.05
    assert rejected / 800 <= 0.05


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ([1.0, 2.0], [1.0], r"shapes \(2,\) and \(1,\)"),
        ([1.0, float("nan")], [1.0, 2.0], "pair 1 is"),
        ([1.0, 2.0], [float("inf"), 2.0], "pair 0 is"),
        ([[1.0]], [[2.0]], "shapes"),
    ],
)
def test_scores_that_make_no_pairs_are_refused(first, second, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        signed_rank(first, second)
    assert caught.value.hint


def test_the_fewest_that_can_be_significant() -> None:
    assert [needed(m) for m in (1, 2, 3, 6)] == [6, 7, 7, 8]  # of the specification: 6, 7, 8
    for m in range(1, 40):
        n = needed(m, 0.01)
        assert m * 2.0 ** (1 - n) <= 0.01 < m * 2.0 ** (2 - n)
        won = signed_rank(np.arange(1, n + 1), np.zeros(n))
        assert won.p == won.least
        assert holm([won.p] * m)[0] <= 0.01
    with pytest.raises(ConfigError):
        needed(0)
    with pytest.raises(ConfigError):
        needed(1, 1.5)


def test_williams_by_hand() -> None:
    # Steiger (1980): n = 103, r12 = .4, r13 = .5, r23 = .1
    t, p = williams(0.4, 0.5, 0.1, 103)
    det = 1 - 0.16 - 0.25 - 0.01 + 2 * 0.4 * 0.5 * 0.1
    by_hand = -0.1 * np.sqrt(102 * 1.1 / (2 * (102 / 100) * det + 0.45**2 * 0.9**3))
    assert t == pytest.approx(by_hand)
    assert t == pytest.approx(-0.89, abs=0.01)
    assert p == pytest.approx(2 * stats.t.cdf(by_hand, 100))
    assert williams(0.5, 0.4, 0.1, 103) == (pytest.approx(-t), pytest.approx(p))


def test_williams_at_its_limits() -> None:
    assert williams(0.3, 0.3, 0.9, 50) == (0.0, 1.0)
    assert all(np.isnan(williams(0.3, 0.4, 0.1, 3)))
    assert all(np.isnan(williams(float("nan"), 0.4, 0.1, 30)))


def test_williams_rejects_as_often_as_it_says() -> None:
    draw = np.random.default_rng(0)
    rejected = 0
    for _ in range(600):
        common = draw.standard_normal(40)
        x, y, z = (common + draw.standard_normal(40) for _ in range(3))
        r = np.corrcoef([x, y, z])
        rejected += williams(r[0, 1], r[0, 2], r[1, 2], 40)[1] < 0.05
    assert 0.03 < rejected / 600 < 0.075


def test_mcnemar_is_a_binomial_test() -> None:
    assert mcnemar(10, 2) == pytest.approx(stats.binomtest(2, 12).pvalue)
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(0, 3) == pytest.approx(2 / 8)


def test_holm_by_hand() -> None:
    # 3 * .01, then max(.03, 2 * .02), then max(.04, .03)
    assert holm([0.02, 0.01, 0.03]) == pytest.approx([0.04, 0.03, 0.04])
    adjusted = holm([0.5, float("nan"), 0.01])
    assert adjusted[0] == 0.5
    assert np.isnan(adjusted[1])
    assert adjusted[2] == pytest.approx(0.02)
    assert holm([]) == []
