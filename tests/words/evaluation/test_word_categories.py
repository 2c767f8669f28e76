"""Clusters, outliers and linear probes against scikit-learn, scipy and loops."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg
from sklearn.linear_model import Ridge
from sklearn.metrics import adjusted_rand_score

from tokenspace.clusters import k_means
from tokenspace.errors import InputError
from tokenspace.words.evaluation import Features, categorisation, features, outliers
from tokenspace.words.evaluation.categories import adjusted_rand, purity
from tokenspace.words.evaluation.features import RIDGE, _ridge_classes, canonical


@pytest.mark.parametrize("seed", range(5))
def test_agreement_is_that_of_scikit_learn(seed: int) -> None:
    draw = np.random.default_rng(seed)
    labels, clusters = draw.integers(4, size=60), draw.integers(5, size=60)
    clusters[:30] = labels[:30]
    assert adjusted_rand(labels, clusters) == pytest.approx(adjusted_rand_score(labels, clusters))
    slow = sum(
        max(np.sum(labels[clusters == k] == label) for label in range(4)) for k in set(clusters)
    )
    assert purity(labels, clusters) == pytest.approx(slow / 60)


def test_agreement_of_constants() -> None:
    same = np.zeros(5, np.int64)
    assert adjusted_rand(same, same) == purity(same, same) == 1.0


def test_k_means_finds_blobs_and_never_beats_the_best_of_all_partitions() -> None:
    draw = np.random.default_rng(0)
    truth = np.repeat(np.arange(3), 20)
    X = (draw.standard_normal((60, 4)) * 0.1 + np.eye(4)[truth]).astype(np.float32)
    assert adjusted_rand(truth, k_means(X, 3, 0)) == 1.0
    np.testing.assert_array_equal(k_means(X, 3, 0), k_means(X, 3, 0))
    line = np.array([[0.0], [0.1], [0.9], [1.0], [5.0], [5.2]], np.float32)
    assert adjusted_rand(np.array([0, 0, 1, 1, 2, 2]), k_means(line, 3, 1)) == 1.0
    assert len(set(k_means(np.zeros((4, 2), np.float32), 2, 0))) == 1  # nothing to divide
    with pytest.raises(InputError, match="7 clusters of 6"):
        k_means(line, 7, 0)


def test_categorisation_counts_known_words(make) -> None:
    words = [f"{kind}{i}" for kind in "abc" for i in range(5)]
    draw = np.random.default_rng(0)
    vectors = np.repeat(np.eye(3), 5, axis=0) + 0.05 * draw.standard_normal((15, 3))
    table = make(words, 7 * vectors)
    groups = {kind: [w for w in words if w[0] == kind] for kind in "abc"}
    groups["a"].append("unknown")
    found = categorisation(table, groups)
    assert (found.score.value, found.score.used, found.score.total) == (1.0, 15, 16)
    assert found.also["nmi"] == pytest.approx(1.0)
    assert found.unknown == ("unknown",)
    assert categorisation(table, groups, oov="zero").score.used == 16
    lonely = categorisation(table, {"a": ["a0", "a1"], "z": ["zz"]})
    assert np.isnan(lonely.score.value)
    assert lonely.score.used == 0


def test_outliers_by_a_slow_loop(make) -> None:
    words = [f"w{i}" for i in range(30)]
    table = make(words, width=3)
    draw = np.random.default_rng(1)
    groups = []
    for g in range(6):
        chosen = [str(w) for w in draw.permutation(words)[:9]]
        groups.append((f"g{g}", tuple(chosen[:5]), tuple(chosen[5:])))
    found = outliers(table, groups)
    right, positions = [], []
    for _, inside, outside in groups:
        for word in outside:
            rows = [table.row(w).astype(np.float64) for w in (*inside, word)]
            rows = [r / np.linalg.norm(r) for r in rows]
            fit = [sum(r @ s for s in rows if s is not r) for r in rows]
            positions.append(sum(f > fit[-1] for f in fit[:-1]) / 5)
            right.append(float(positions[-1] == 1))
    np.testing.assert_array_equal(found.items, right)
    assert 0 < found.score.value < 1
    assert found.also["opp"] == pytest.approx(np.mean(positions))


def test_outliers_leave_unknown_words_out(make) -> None:
    table = make(["a", "b", "c", "x"], [[1, 0], [1, 0.1], [1, -0.1], [0, 1]])
    groups = [("g", ("a", "b", "c", "missing"), ("x", "gone")), ("h", ("a", "no"), ("x",))]
    found = outliers(table, groups)
    np.testing.assert_array_equal(found.items, [1, np.nan, np.nan])
    assert found.unknown == ("gone", "missing", "no")
    assert outliers(table, groups, oov="zero").score.used == 3
    same = make(["a", "b", "x"], np.ones((3, 2)))
    assert outliers(same, [("g", ("a", "b"), ("x",))]).score.value == 0.0  # ties count against


def test_canonical_correlation_solves_the_generalised_eigenproblem() -> None:
    draw = np.random.default_rng(0)
    X, noise = draw.standard_normal((400, 5)), draw.standard_normal((400, 3))
    S = noise + X[:, :3] @ draw.standard_normal((3, 3))
    r, a, b = canonical(X, S)
    X, S = X - X.mean(axis=0), S - S.mean(axis=0)
    xx, ss, xs = X.T @ X / 400, S.T @ S / 400, X.T @ S / 400
    xx += np.eye(5) * RIDGE * np.trace(xx) / 5
    ss += np.eye(3) * RIDGE * np.trace(ss) / 3
    values, vectors = linalg.eigh(xs @ np.linalg.solve(ss, xs.T), xx)
    top = vectors[:, -1]
    assert abs(np.corrcoef(X @ a, X @ top)[0, 1]) == pytest.approx(1.0)
    assert r == pytest.approx(np.corrcoef(X @ a, S @ b)[0, 1])
    assert r == pytest.approx(np.sqrt(values[-1]), rel=5e-3)
    with pytest.raises(InputError, match="400 rows and 2"):
        canonical(X, S[:2])


def test_the_probe_is_ridge_regression_on_classes() -> None:
    draw = np.random.default_rng(0)
    y = draw.integers(3, size=90)
    X = draw.standard_normal((90, 4)) + np.eye(4)[y]
    centred = X - X.mean(axis=0)
    model = Ridge(alpha=1e-2 * np.trace(centred.T @ centred) / 4).fit(X, np.eye(3)[y])
    queries = draw.standard_normal((50, 4))
    np.testing.assert_array_equal(
        _ridge_classes(X, y, queries), model.predict(queries).argmax(axis=1)
    )


def test_features_that_are_in_the_vectors_are_found_and_others_are_not(make) -> None:
    draw = np.random.default_rng(4)
    words = [f"w{i}" for i in range(600)]
    labels = draw.integers(3, size=600)
    vectors = draw.standard_normal((600, 8)) + 4 * np.eye(8)[labels]
    told = Features.of({w: {f"p{k}": 1.0} for w, k in zip(words, labels, strict=True)})
    cca, probe = features(make(words, vectors), told)
    assert cca.score.value > 0.9
    assert probe.score.value > 0.9
    assert (probe.also["classes"], probe.score.used) == (3, 600)
    cca, probe = features(make(words, draw.standard_normal((600, 8))), told)
    assert cca.score.low < 0.1  # what was fitted does not hold on other words,
    assert cca.also["in_sample"] > cca.score.value  # as it seems to on its own
    assert abs(probe.score.value - 1 / 3) < 0.1


def test_too_few_words_give_no_figure_but_a_note(make) -> None:
    told = Features.of({"a": {"x": 1.0}, "b": {"y": 2.0}, "c": {"x": 1.0, "y": 1.0}})
    cca, probe = features(make(["a", "b"]), told)
    assert np.isnan(cca.score.value)
    assert np.isnan(probe.score.value)
    assert "too few" in cca.notes[0]
    assert cca.unknown == ("c",)
    assert probe.score.total == 2
    np.testing.assert_array_equal(told.matrix, [[1, 0], [0, 2], [1, 1]])
