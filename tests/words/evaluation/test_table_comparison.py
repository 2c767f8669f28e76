"""Tests between two tables: published figures, scipy, and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tokenspace.errors import InputError
from tokenspace.metrics import Score, bootstrap, pearson, spearman
from tokenspace.words.evaluation import Result, compare, holm, similarity
from tokenspace.words.evaluation.compare import mcnemar, williams
from tokenspace.words.evaluation.resampling import scored


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


def shares(values: list[float], **more: object) -> Result:
    return Result("analogy", "s", "m", Score(0, 0, 0, 0, 0), "share", np.array(values), **more)


def test_shares_are_compared_on_common_items() -> None:
    nan = float("nan")
    one = shares([1, 1, 1, 0, nan, 1, 1, 1, 1, 0])
    two = shares([0, 0, 0, 0, 1, nan, 0, 1, 0, 1])
    found = compare(one, two, names=("a", "b"))
    assert (found.used, found.test) == (8, "McNemar")
    assert found.difference == pytest.approx(6 / 8 - 2 / 8)
    assert found.p == pytest.approx(stats.binomtest(1, 6).pvalue)
    assert found.low < found.difference < found.high
    assert (found.first, found.second) == ("a", "b")


def test_correlations_are_compared_by_williams(make) -> None:
    draw = np.random.default_rng(1)
    words = [f"w{i}" for i in range(80)]
    good = draw.standard_normal((80, 4))
    pairs = []
    for _ in range(150):
        i, j = draw.choice(80, 2, replace=False)
        cosine = good[i] @ good[j] / np.linalg.norm(good[i]) / np.linalg.norm(good[j])
        pairs.append((words[i], words[j], float(cosine)))
    one = similarity(make(words, good + 0.1 * draw.standard_normal((80, 4))), pairs)
    two = similarity(make(words[:70], good[:70] + draw.standard_normal((70, 4))), pairs)
    found = compare(one, two)
    common = [i for i, (a, b, _) in enumerate(pairs) if {a, b} <= set(words[:70])]
    given, x, y = one.items[common, 0], one.items[common, 1], two.items[common, 1]
    r = [stats.spearmanr(*pair)[0] for pair in ((given, x), (given, y), (x, y))]
    assert found.used == len(common) < 150
    assert found.difference == pytest.approx(r[0] - r[1])
    assert found.p == pytest.approx(williams(*r, len(common))[1])
    assert found.p < 0.001
    assert found.low > 0


def test_f1_is_compared_by_the_paired_bootstrap() -> None:
    draw = np.random.default_rng(0)
    given = draw.integers(1, 4, 100)
    one, two = ([draw.binomial(given, p), given, given] for p in (0.8, 0.4))
    results = [
        Result("ner", "s", "f1", Score(0, 0, 0, 0, 0), "f1", np.column_stack(rows).astype(float))
        for rows in (one, two)
    ]
    found = compare(*results)
    assert found.test == "paired bootstrap"
    assert found.p == pytest.approx(1 / 1000)
    assert found.low > 0.2
    same = compare(results[0], results[0])
    assert (same.difference, same.p) == (0.0, 1.0)


def test_what_does_not_match_is_refused() -> None:
    with pytest.raises(InputError, match="cannot be compared"):
        compare(shares([1, 0]), shares([1, 0, 1]))


def test_nothing_in_common() -> None:
    nan = float("nan")
    found = compare(shares([1, nan]), shares([nan, 0]))
    assert found.used == 0
    assert np.isnan(found.difference)
    assert np.isnan(found.low)


@pytest.mark.parametrize("kind", ["spearman", "pearson"])
@pytest.mark.parametrize("levels", [3, 10_000])
def test_drawn_correlations_are_those_of_the_drawn_items(kind: str, levels: int) -> None:
    draw = np.random.default_rng(levels)
    items = draw.integers(levels, size=(60, 2)).astype(np.float64) + 1e3
    items[:, 1] += items[:, 0]
    function = spearman if kind == "spearman" else pearson
    slow = bootstrap(items, 7, 300, statistic=lambda rows: function(rows[:, 0], rows[:, 1]))
    found = scored(kind, items, 7, 300)  # type: ignore[arg-type]
    assert (found.low, found.high) == pytest.approx(slow, abs=1e-9)
    few = np.array([[1.0, 1], [1, 2], [2, 3]])  # some draws are constant
    slow = bootstrap(few, 1, 300, statistic=lambda rows: function(rows[:, 0], rows[:, 1]))
    found = scored(kind, few, 1, 300)  # type: ignore[arg-type]
    assert (found.low, found.high) == pytest.approx(slow, abs=1e-9)


def test_the_interval_of_a_share_is_that_of_drawn_items() -> None:
    items = np.array([1.0] * 300 + [0.0] * 100)
    found = scored("share", items, 0, 20_000)
    slow = bootstrap(items, 1, 4_000)
    assert (found.value, found.used) == (0.75, 400)
    assert (found.low, found.high) == pytest.approx(slow, abs=0.004)
