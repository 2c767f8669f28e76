"""Figures of drawn items against the items themselves, and BCa against scipy and a loop."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn

from tokenspace.errors import InputError
from tokenspace.metrics import bootstrap, pearson, spearman
from tokenspace.resampling import _counts, _figures, bca, drawn, figure, scored

KINDS = ("spearman", "pearson", "share", "average", "f1", "v_measure", "average_precision")


def some(kind: str, n: int = 40, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    if kind in ("spearman", "pearson"):
        return draw.integers(9, size=(n, 2)).astype(float)
    if kind == "f1":
        return np.column_stack([draw.integers(3, size=n), np.full((n, 2), 3)]).astype(float)
    if kind == "v_measure":
        return draw.integers(4, size=(n, 2)).astype(float)
    if kind == "average_precision":
        return np.column_stack([draw.integers(2, size=n), draw.integers(15, size=n)]).astype(float)
    return (draw.integers(2, size=n) if kind == "share" else draw.random(n)).astype(float)


@pytest.mark.parametrize("seed", range(4))
def test_figures_are_those_of_scikit_learn(seed: int) -> None:
    items = some("v_measure", 60, seed)
    assert figure("v_measure", items) == pytest.approx(sklearn.v_measure_score(*items.T))
    items = some("average_precision", 60, seed)
    assert figure("average_precision", items) == pytest.approx(
        sklearn.average_precision_score(items[:, 0], items[:, 1])
    )


def test_figures_at_their_limits() -> None:
    same = np.zeros((5, 2))
    assert figure("v_measure", same) == 1.0
    assert figure("v_measure", np.column_stack([np.arange(5), np.zeros(5)])) == 0.0
    assert figure("v_measure", np.column_stack([[0.0, 0, 2, 2], [7.0, 7, 0, 0]])) == 1.0
    # by hand: right at places 1 and 3 of 3: (1 + 2/3) / 2
    hand = np.array([[1.0, 0.9], [0.0, 0.5], [1.0, 0.1]])
    assert figure("average_precision", hand) == pytest.approx((1 + 2 / 3) / 2)
    ties = np.array([[1.0, 0.5], [0.0, 0.5]])  # one place of the list, half right
    assert figure("average_precision", ties) == pytest.approx(0.5)
    assert np.isnan(figure("average_precision", np.zeros((3, 2))))
    assert np.isnan(figure("average", np.zeros(0)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_figure_of_counts_is_that_of_the_drawn_items(kind: str) -> None:
    items = some(kind)
    (counts,) = _counts(len(items), np.random.default_rng(1), 50)
    found = _figures(kind, items, counts)  # type: ignore[arg-type]
    slow = [figure(kind, np.repeat(items, row, axis=0)) for row in counts]  # type: ignore[arg-type]
    np.testing.assert_allclose(found, slow, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_left_out_is_one_item(kind: str) -> None:
    sides = [some(kind, 17, seed) for seed in (0, 1)]
    found = drawn(kind, sides, resamples=5)  # type: ignore[arg-type]
    slow = [
        [figure(kind, np.delete(items, i, axis=0)) for i in range(17)]  # type: ignore[arg-type]
        for items in sides
    ]
    np.testing.assert_allclose(found.left_out, slow, atol=1e-12)
    assert found.draws.shape == (2, 5)
    assert found.values == pytest.approx([figure(kind, items) for items in sides])  # type: ignore[arg-type]


def test_sides_share_their_draws() -> None:
    items = some("average")
    found = drawn("average", [items, items + 1], resamples=200)
    np.testing.assert_allclose(found.draws[1] - found.draws[0], 1)
    again = drawn("average", [items, items + 1], resamples=200)
    np.testing.assert_array_equal(found.draws, again.draws)


def test_bca_is_that_of_scipy() -> None:
    draw = np.random.default_rng(0)
    first, second = draw.exponential(size=(2, 30)) ** 2
    found = drawn("average", [first, second], resamples=4000)
    draws, left_out = (part[0] - part[1] for part in (found.draws, found.left_out))
    ours = bca(float(found.values[0] - found.values[1]), draws, left_out)
    given = stats.bootstrap((first - second,), np.mean, n_resamples=9, method="percentile")
    theirs = stats.bootstrap(
        (first - second,),
        np.mean,
        n_resamples=0,
        bootstrap_result=type(given)(given.confidence_interval, draws, given.standard_error),
        method="BCa",
    ).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    plain = np.quantile(draws, (0.025, 0.975))
    assert abs(ours[0] - plain[0]) > 1e-3  # skewed: not the percentiles


def test_bca_at_its_limits() -> None:
    level = np.linspace(-1, 1, 101)
    low, high = bca(0.0, level, np.zeros(5))  # no skew and no bias: the percentiles
    assert (low, high) == pytest.approx((-0.95, 0.95))
    assert bca(0.5, np.full(9, 0.5), np.full(4, 0.5)) == (0.5, 0.5)
    assert all(np.isnan(bca(0.0, np.full(3, np.nan), np.zeros(3))))
    assert all(np.isnan(bca(float("nan"), level, np.zeros(3))))
    far = bca(5.0, level, np.zeros(3))  # every draw lies below
    assert far[0] <= far[1] <= 1.0
    skewed = bca(0.0, level, np.array([10.0] + [0.0] * 200))  # 1 - a z is negative at one end
    assert -1 <= skewed[0] <= skewed[1] <= 1


def test_bca_covers_as_often_as_it_says() -> None:
    draw = np.random.default_rng(5)
    covered = 0
    for seed in range(200):
        sample = draw.exponential(size=40)
        found = drawn("average", [sample], seed=seed, resamples=400)
        low, high = bca(float(found.values[0]), found.draws[0], found.left_out[0])
        covered += low <= 1.0 <= high
    assert 0.88 < covered / 200 < 0.985


@pytest.mark.parametrize(
    ("sides", "said"),
    [
        ([np.zeros(3), np.zeros(4)], "shapes"),
        ([], "none"),
        ([np.zeros(0)], "shapes"),
        ([np.zeros(3), np.array([1.0, np.nan, 2.0])], "side 1: a value is NaN"),
    ],
)
def test_sides_that_do_not_agree_are_refused(sides, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        drawn("average", sides)
    assert caught.value.hint


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
