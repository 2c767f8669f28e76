"""The linear classifiers against scikit-learn's, and the folds that they are judged by."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from tokenspace.edit._linear import held_out, logistic, machine


def classes(seed: int = 0, size: int = 60) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    x = draw.standard_normal((size, 5))
    return x, (x[:, 0] + 0.6 * draw.standard_normal(size) > 0.7).astype(float)


def test_logistic_regression_is_that_of_scikit_learn() -> None:
    x, labels = classes()
    peer = LogisticRegression(C=0.7, tol=1e-10, max_iter=10_000).fit(x, labels)
    plane = logistic(x, labels, C=0.7)
    np.testing.assert_allclose(plane.weights, peer.coef_[0], atol=1e-5)
    assert plane.bias == pytest.approx(peer.intercept_[0], abs=1e-5)
    np.testing.assert_allclose(plane(x), peer.decision_function(x), atol=1e-4)


@pytest.mark.parametrize("balanced", [False, True])
def test_the_support_vector_machine_is_that_of_scikit_learn(balanced: bool) -> None:
    x, labels = classes(1)
    weight = "balanced" if balanced else None
    # scikit-learn penalises its bias as one weight more; a large scale makes that negligible
    peer = LinearSVC(tol=1e-10, max_iter=10**6, intercept_scaling=1e3, class_weight=weight)
    peer.fit(x, labels)
    plane = machine(x, labels, balanced=balanced)
    np.testing.assert_allclose(plane.weights, peer.coef_[0], atol=2e-4)
    assert plane.bias == pytest.approx(peer.intercept_[0], abs=2e-4)


def test_no_classifier_is_asked_of_what_it_saw() -> None:
    x, labels = classes(2, 50)
    seen: list[np.ndarray] = []

    def fit(rows, given):  # type: ignore[no-untyped-def]
        seen.append(rows)
        assert set(given) == {0, 1}
        return logistic(rows, given)

    said = held_out(fit, x, labels, folds=5, seed=0)
    assert set(np.unique(said)) <= {0, 1}
    assert [len(rows) for rows in seen] == pytest.approx([40] * 5, abs=1)
    for row in x:  # left out exactly once
        assert sum(not (rows == row).all(axis=1).any() for rows in seen) == 1
    noise = np.random.default_rng(3).integers(0, 2, 400).astype(float)
    rows = np.random.default_rng(4).standard_normal((400, 30))
    assert (held_out(logistic, rows, noise, folds=5, seed=0) == noise).mean() < 0.6
    assert (logistic(rows, noise)(rows) > 0).astype(float).tolist() != noise.tolist()
