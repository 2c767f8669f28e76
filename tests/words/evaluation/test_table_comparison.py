"""Tests between two tables: published figures, scipy, and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tokenspace.errors import InputError
from tokenspace.metrics import Score
from tokenspace.significance import williams
from tokenspace.words.evaluation import Result, compare, similarity


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
