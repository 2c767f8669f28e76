"""Expected figures under random tie order against the mean over all orders."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from tokenspace.errors import InputError
from tokenspace.metrics import average_precision, expected_average_precision, expected_precision


def orders(scores: np.ndarray) -> np.ndarray:
    """Return every ranking that agrees with the scores, (orders, N)."""
    every = (np.array(order) for order in permutations(range(len(scores))))
    return np.array([order for order in every if (np.diff(scores[order]) <= 0).all()])


@pytest.mark.parametrize("seed", range(6))
def test_they_are_means_over_all_orders(seed: int) -> None:
    draw = np.random.default_rng(seed)
    scores = draw.integers(0, 3, (2, 7)).astype(np.float64)
    relevant = [set(draw.choice(7, 1 + i + seed % 3, replace=False).tolist()) for i in range(2)]
    expected, precision = [], []
    for row, wanted in zip(scores, relevant, strict=True):
        ranked = orders(row)
        expected.append(average_precision(ranked, [wanted] * len(ranked)).mean())
        precision.append(np.isin(ranked[:, :3], list(wanted)).mean())
    np.testing.assert_allclose(expected_average_precision(scores, relevant), expected)
    np.testing.assert_allclose(expected_precision(scores, relevant, 3), precision)


def test_without_ties_they_are_the_plain_figures() -> None:
    scores = np.random.default_rng(0).permutation(20)[None].astype(np.float64)
    ranked, relevant = np.argsort(-scores, axis=1), [{1, 5, 19}]
    np.testing.assert_allclose(
        expected_average_precision(scores, relevant), average_precision(ranked, relevant)
    )
    np.testing.assert_allclose(expected_precision(np.zeros((1, 20)), relevant, 4), 3 / 20)


def test_unusable_scores_are_refused() -> None:
    with pytest.raises(InputError, match="shape \\(3,\\)"):
        expected_precision(np.zeros(3), [{1}], 1)
    with pytest.raises(InputError, match="NaN"):
        expected_average_precision(np.full((1, 3), np.nan), [{1}])
    with pytest.raises(InputError, match="k=0"):
        expected_precision(np.zeros((1, 3)), [{1}], 0)
    with pytest.raises(InputError, match="no relevant document"):
        expected_average_precision(np.zeros((1, 3)), [set()])
