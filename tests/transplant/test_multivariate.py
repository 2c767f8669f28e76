from __future__ import annotations

import numpy as np
import pytest

from tokenspace.table import EmbeddingTable
from tokenspace.transplant._hull import hull_check
from tokenspace.transplant._shared import noise
from tokenspace.transplant.multivariate import Multivariate
from tokenspace.vocab import Vocabulary


def tables(vectors: np.ndarray, new: int) -> tuple[EmbeddingTable, Vocabulary]:
    words = [f"w{i:05}" for i in range(len(vectors) + new)]
    source = EmbeddingTable(Vocabulary.words(words[: len(vectors)]), vectors.astype(np.float32))
    return source, Vocabulary.words(words)


def correlated(seed: int, n: int = 400, d: int = 6) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return 3 + draw.standard_normal((n, d)) @ draw.standard_normal((d, d))


def test_by_hand() -> None:
    # (±2, ±2) together and (±1, ∓1) together: variance (4 + 1) / 2 and covariance (4 − 1) / 2
    source, target = tables(np.array([[2, 2], [-2, -2], [1, -1], [-1, 1]]), 3)
    L = np.linalg.cholesky(np.array([[2.5, 1.5], [1.5, 2.5]]) + 2.5e-6 * np.eye(2))
    z = noise(source, 3, 0, "multivariate")
    rows = Multivariate(scale=0.25)(source, target).vectors[4:]
    np.testing.assert_allclose(rows, [0.5 * L @ each for each in z], rtol=1e-5)


def test_equals_the_literal_formula() -> None:
    source, target = tables(correlated(0, 9000), 50)  # more rows than a block
    V = source.vectors.astype(np.float64)
    mean = sum(V) / len(V)
    sigma = sum(np.outer(v - mean, v - mean) for v in V) / len(V)
    L = np.linalg.cholesky(sigma + 1e-6 * np.trace(sigma) / 6 * np.eye(6))
    z = noise(source, 50, 3, "multivariate")
    table = Multivariate(seed=3)(source, target)
    np.testing.assert_allclose(table.vectors[9000:], mean + np.sqrt(1e-5) * z @ L.T, rtol=1e-6)
    assert table.notes["drawn"] == 50
    assert table.notes["copied"] == 9000


def test_many_rows_have_the_moments_that_were_asked_for() -> None:
    source, target = tables(correlated(1), 20_000)
    rows = Multivariate(scale=4.0)(source, target).vectors[400:]
    sigma = np.cov(source.vectors.T, bias=True)
    np.testing.assert_allclose(rows.mean(0), source.vectors.mean(0), atol=0.2)
    np.testing.assert_allclose(np.cov(rows.T), 4 * sigma, atol=0.15 * np.abs(sigma).max() * 4)


def test_no_scale_is_the_mean_row() -> None:
    source, target = tables(correlated(2), 10)
    rows = Multivariate(scale=0)(source, target).vectors[400:]
    mean = source.vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    np.testing.assert_array_equal(rows, np.repeat(mean[None], 10, axis=0))


def test_narrow_rows_differ_and_stay_inside_the_hull() -> None:
    source, target = tables(correlated(3), 20)
    rows = Multivariate()(source, target).vectors[400:]
    assert len(np.unique(rows, axis=0)) == 20
    assert all(hull_check(row, source.vectors).inside for row in rows)


@pytest.mark.parametrize("vectors", [np.ones((5, 4)), correlated(4, 3, 8)], ids=["equal", "few"])
def test_a_singular_covariance_is_no_obstacle(vectors: np.ndarray) -> None:
    source, target = tables(vectors, 4)
    rows = Multivariate()(source, target).vectors[len(vectors) :]
    assert np.isfinite(rows).all()
    np.testing.assert_allclose(rows, source.vectors.mean(0)[None].repeat(4, 0), atol=0.1)


def test_input_and_output_matrix_get_draws_of_their_own() -> None:
    source, target = tables(correlated(5), 5)
    output = source.replace(vectors=correlated(6).astype(np.float32))
    one, other = noise(source, 5, 0, "multivariate"), noise(output, 5, 0, "multivariate")
    assert np.abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.9
    again = Multivariate()(source, target).vectors
    np.testing.assert_array_equal(again, Multivariate()(source, target).vectors)
