from __future__ import annotations

import numpy as np

from tokenspace.table import EmbeddingTable
from tokenspace.transplant._hull import hull_check, max_logit_violation
from tokenspace.transplant._shared import noise
from tokenspace.transplant.univariate import Univariate
from tokenspace.vocab import Vocabulary


def tables(vectors: np.ndarray, new: int) -> tuple[EmbeddingTable, Vocabulary]:
    words = [f"w{i:05}" for i in range(len(vectors) + new)]
    source = EmbeddingTable(Vocabulary.words(words[: len(vectors)]), vectors.astype(np.float32))
    return source, Vocabulary.words(words)


def test_by_hand() -> None:
    # columns (0, 2, 4) and (5, 5, 5): means 2 and 5, deviations √(8/3) and 0
    source, target = tables(np.array([[0, 5], [2, 5], [4, 5]]), 2)
    z = noise(source, 2, 0, "univariate")
    expected = [[2 + (8 / 3) ** 0.5 * z[0, 0], 5], [2 + (8 / 3) ** 0.5 * z[1, 0], 5]]
    table = Univariate()(source, target)
    np.testing.assert_allclose(table.vectors[3:], expected, rtol=1e-6)
    assert table.notes["drawn"] == 2


def test_equals_the_literal_formula() -> None:
    draw = np.random.default_rng(0)
    source, target = tables(draw.normal(3, [1, 2, 4], (200, 3)), 30)
    V, z = source.vectors.astype(np.float64), noise(source, 30, 7, "univariate")
    rows = Univariate(seed=7)(source, target).vectors[200:]
    for j in range(3):
        mean = sum(V[:, j]) / 200
        deviation = (sum((x - mean) ** 2 for x in V[:, j]) / 200) ** 0.5
        np.testing.assert_allclose(rows[:, j], mean + deviation * z[:, j], rtol=1e-5)


def test_columns_keep_their_moments_and_lose_their_correlation() -> None:
    draw = np.random.default_rng(1)
    x = draw.standard_normal(500)
    source, target = tables(np.stack([1 + x, 5 + 2 * x], axis=1), 20_000)
    rows = Univariate()(source, target).vectors[500:]
    np.testing.assert_allclose(rows.mean(0), source.vectors.mean(0), atol=0.05)
    np.testing.assert_allclose(rows.std(0), source.vectors.std(0), rtol=0.03)
    assert abs(np.corrcoef(rows.T)[0, 1]) < 0.03


def test_rows_leave_the_hull_and_win_greedy_choices() -> None:
    draw = np.random.default_rng(2)
    source, target = tables(draw.standard_normal((100, 16)), 10)
    rows = Univariate()(source, target).vectors[100:]
    assert not any(hull_check(row, source.vectors).inside for row in rows)
    H = draw.standard_normal((2000, 16))
    assert (max_logit_violation(rows, source.vectors, H) > 1e-6).mean() > 0.01


def test_equal_rows_leave_nothing_to_draw() -> None:
    source, target = tables(np.full((4, 3), 0.5), 3)
    np.testing.assert_allclose(Univariate()(source, target).vectors[4:], 0.5)
