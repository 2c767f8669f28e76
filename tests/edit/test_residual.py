"""What is left of a direction: planted, random, and nothing at all."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import KMeans

from tokenspace.edit._subspace import remove, unit
from tokenspace.edit.residual import left, residual, two_clusters
from tokenspace.errors import InputError


def words(seed: int, copies: float) -> np.ndarray:
    """Return 1,200 rows whose first coordinate is more or less repeated in five others."""
    draw = np.random.default_rng(seed)
    rows = draw.standard_normal((1200, 60))
    rows[:, 1:6] += copies * rows[:, :1]
    return rows


G = np.eye(60)[0]


def test_a_direction_that_others_repeat_is_recovered_beyond_the_control() -> None:
    rows = words(0, 2.0)
    rows /= rows.std(axis=0)  # so that a random direction has no more variance than another
    found = residual(rows, remove(unit(rows), G[None]), G)
    assert found.words == 600
    assert len(found.control) == 8
    chance = np.mean(found.control, axis=0)  # not 1/2: other directions are repeated in part
    assert found.found.classifier > chance[1] + 0.1
    assert found.found.clusters > chance[0] + 0.2
    assert found.found.neighbours > chance[2] + 0.2


def test_a_direction_that_stands_alone_leaves_nothing() -> None:
    rows = words(1, 0.0)
    found = residual(rows, remove(unit(rows), G[None]), G).found
    assert found.classifier == pytest.approx(0.5, abs=0.08)
    assert found.clusters < 0.62
    assert abs(found.neighbours) < 0.15


def test_neighbours_by_a_loop() -> None:
    rows = unit(np.random.default_rng(2).standard_normal((60, 4)))
    bias = np.random.default_rng(3).standard_normal(60)
    order = sorted(range(60), key=lambda i: bias[i])
    chosen = order[:15] + order[-15:]
    upper = [b > np.median(bias) for b in bias]
    shares = []
    for i in chosen:  # 100 neighbours are all others here
        others = [upper[j] for j in range(60) if j != i]
        shares.append(sum(others) / 59)
    expected = np.corrcoef([bias[i] for i in chosen], shares)[0, 1]
    assert left(bias, rows).neighbours == pytest.approx(expected)


def testtwo_clusters_are_as_tight_as_those_of_scikit_learn() -> None:
    rows = np.random.default_rng(5).standard_normal((300, 6))
    apart = two_clusters(rows, 0)
    cost = sum(((part - part.mean(axis=0)) ** 2).sum() for part in (rows[apart], rows[~apart]))
    assert cost <= KMeans(2, n_init=10, random_state=0).fit(rows).inertia_ * 1.01


def test_few_words_are_refused() -> None:
    with pytest.raises(InputError, match="39 words"):
        residual(words(0, 0)[:39], words(0, 0)[:39], G)
