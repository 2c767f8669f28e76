"""Figures of merit against hand-computed cases, scipy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score, ndcg_score, roc_auc_score
from sklearn.metrics import log_loss as sklearn_log_loss

from tokenspace import metrics
from tokenspace.errors import InputError


@pytest.fixture
def draw() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.mark.parametrize("levels", [4, 10_000])
def test_correlations_are_those_of_scipy(draw: np.random.Generator, levels: int) -> None:
    x = draw.integers(levels, size=200)
    y = x + draw.integers(levels, size=200)
    assert metrics.pearson(x, y) == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)
    assert metrics.spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


def test_spearman_by_hand_with_a_tie() -> None:
    # ranks of x: 1, 2.5, 2.5, 4; of y: 1, 2, 3, 4; centred products 4.5, squares 4.5 and 5
    assert metrics.spearman([0, 5, 5, 9], [1, 2, 3, 4]) == pytest.approx(4.5 / np.sqrt(4.5 * 5))
    assert metrics.spearman([1, 2, 3], [9, 4, 1]) == pytest.approx(-1)
    assert metrics.pearson([1, 2, 3], [2, 4, 6]) == pytest.approx(1)


@pytest.mark.parametrize("function", [metrics.pearson, metrics.spearman])
def test_an_undefined_correlation_is_nan(function: object) -> None:
    assert np.isnan(function([0.1, 0.1, 0.1], [1, 2, 3]))
    assert np.isnan(function([1, 2, 3], [0.1] * 3))
    assert np.isnan(function([1], [1]))
    assert np.isnan(function([], []))
    with pytest.raises(InputError):
        function([1, 2], [1, 2, 3])


def test_spearman_refuses_to_rank_nan() -> None:
    assert np.isnan(metrics.spearman([1, np.nan, 3], [1, 2, 3]))


def test_bootstrap_covers_the_mean_and_narrows(draw: np.random.Generator) -> None:
    small, large = draw.random(50), draw.random(5_000)
    low, high = metrics.bootstrap(small, seed=1)
    assert low < small.mean() < high
    # the percentile interval of a mean is about 1.96 standard errors to each side
    half = 1.96 * small.std() / np.sqrt(50)
    assert (high - low) / 2 == pytest.approx(half, rel=0.1)
    narrow = metrics.bootstrap(large, seed=1)
    assert narrow[1] - narrow[0] < (high - low) / 5
    assert metrics.bootstrap(small, seed=1) == (low, high)
    assert metrics.bootstrap(small, seed=2) != (low, high)


def test_bootstrap_of_constants_and_of_nothing() -> None:
    assert metrics.bootstrap([2.0, 2.0, 2.0]) == (2.0, 2.0)
    assert all(np.isnan(metrics.bootstrap([])))
    assert all(np.isnan(metrics.bootstrap([1.0], statistic=lambda rows: float("nan"))))
    with pytest.raises(InputError, match="resamples=0"):
        metrics.bootstrap([1.0], resamples=0)


def test_bootstrap_of_a_statistic_draws_whole_rows() -> None:
    rows = np.column_stack([np.arange(30.0), 2 * np.arange(30.0)])
    low, high = metrics.bootstrap(
        rows, statistic=lambda drawn: metrics.pearson(drawn[:, 0], drawn[:, 1])
    )
    assert low == pytest.approx(1)
    assert high == pytest.approx(1)


def test_cosine_by_hand() -> None:
    found = metrics.cosine([[1, 0], [1, 1], [0, 0]], [[0, 2], [3, 3], [1, 0]])
    np.testing.assert_allclose(found, [0, 1, 0], atol=1e-15)
    with pytest.raises(InputError):
        metrics.cosine([[1, 0]], [[1, 0], [0, 1]])


RANKED = np.array([[3, 1, 2, 0], [0, 2, 1, 3], [1, 3, 2, 0]])
RELEVANT = [{1, 0}, {0}, {9}]


def test_ranks_by_hand() -> None:
    np.testing.assert_allclose(metrics.reciprocal_rank(RANKED, RELEVANT), [1 / 2, 1, 0])
    np.testing.assert_allclose(metrics.reciprocal_rank(RANKED, RELEVANT, 1), [0, 1, 0])
    np.testing.assert_allclose(metrics.recall_at(RANKED, RELEVANT, 2), [1 / 2, 1, 0])
    np.testing.assert_allclose(metrics.recall_at(RANKED, RELEVANT, 9), [1, 1, 0])
    # precision 1/2 at rank 2 and 2/4 at rank 4
    np.testing.assert_allclose(metrics.average_precision(RANKED, RELEVANT), [1 / 2, 1, 0])
    gained = 1 / np.log2(3) + 1 / np.log2(5)
    np.testing.assert_allclose(
        metrics.ndcg_at(RANKED, RELEVANT), [gained / (1 + 1 / np.log2(3)), 1, 0]
    )
    ideal_of_one = metrics.ndcg_at(RANKED, RELEVANT, 1)
    np.testing.assert_allclose(ideal_of_one, [0, 1, 0])


def test_ranks_are_those_of_scikit_learn(draw: np.random.Generator) -> None:
    scores = draw.permuted(np.tile(np.arange(40.0), (25, 1)), axis=1)
    truth = draw.random((25, 40)) < 0.15
    truth[:, 0] = True
    ranked = np.argsort(-scores, axis=1)
    relevant = [set(np.flatnonzero(row).tolist()) for row in truth]
    for k in (5, 40):
        ours = metrics.ndcg_at(ranked, relevant, k)
        theirs = [
            ndcg_score(t[None].astype(float), s[None], k=k)
            for t, s in zip(truth, scores, strict=True)
        ]
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    np.testing.assert_allclose(
        metrics.average_precision(ranked, relevant),
        [average_precision_score(t, s) for t, s in zip(truth, scores, strict=True)],
    )


def test_short_and_repeating_lists() -> None:
    padded = np.array([[2, -1, -1], [2, 2, 2]])
    relevant = [{2, 5}, {2, 5}]
    np.testing.assert_allclose(metrics.recall_at(padded, relevant), [1 / 2, 1 / 2])
    np.testing.assert_allclose(metrics.average_precision(padded, relevant), [1 / 2, 1 / 2])
    nothing = np.zeros((2, 0), np.int64)
    for figure in (metrics.reciprocal_rank, metrics.ndcg_at, metrics.average_precision):
        np.testing.assert_array_equal(figure(nothing, relevant), [0, 0])


def test_unusable_rankings_are_refused() -> None:
    with pytest.raises(InputError, match="query 1 has no relevant"):
        metrics.recall_at(RANKED[:2], [{1}, set()])
    with pytest.raises(InputError, match="k=0"):
        metrics.ndcg_at(RANKED, RELEVANT, 0)
    with pytest.raises(InputError, match="2 sets"):
        metrics.reciprocal_rank(RANKED, [{1}, {2}])


@pytest.mark.parametrize("levels", [3, 100_000])
def test_auc_and_log_loss_are_those_of_scikit_learn(draw: np.random.Generator, levels: int) -> None:
    labels = draw.integers(2, size=500)
    chances = np.clip((draw.integers(levels, size=500) / levels + 0.3 * labels) / 1.3, 0.01, 0.99)
    assert metrics.auc(labels, chances) == pytest.approx(roc_auc_score(labels, chances), abs=1e-12)
    assert metrics.log_loss(labels, chances) == pytest.approx(
        sklearn_log_loss(labels, chances), abs=1e-12
    )


def test_auc_and_log_loss_by_hand() -> None:
    # of the four pairs of a 1 and a 0 two are in order, one is tied, one is not in order
    assert metrics.auc([1, 1, 0, 0], [0.9, 0.5, 0.5, 0.7]) == 2.5 / 4
    assert metrics.auc([1, 0], [2, -3]) == 1
    assert np.isnan(metrics.auc([1, 1], [0.1, 0.2]))
    assert np.isnan(metrics.auc([0, 1], [np.nan, 0.2]))
    assert metrics.log_loss([1, 0], [0.5, 0.25]) == pytest.approx(-(np.log(0.5) + np.log(0.75)) / 2)
    assert metrics.log_loss([1], [0.0]) == pytest.approx(-np.log(1e-15))
    assert np.isnan(metrics.log_loss([], []))
    with pytest.raises(InputError, match="neither 0 nor 1"):
        metrics.auc([1, 2], [0.1, 0.2])
    with pytest.raises(InputError, match="shape"):
        metrics.log_loss([1, 0], [0.1])
