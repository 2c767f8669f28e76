"""How far cheaper vectors agree with exact ones: by hand, and against a literal count."""

from __future__ import annotations

import numpy as np
import pytest

from tokenspace.encode.agreement import agreement
from tokenspace.errors import InputError


def unit(*degrees):
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_four_directions_by_hand():
    found = agreement(unit(0, 10, 30, 90), unit(0, 10, 30, 45), k=1)
    # nearest before: 1 0 1 2; after: 1 0 3 2
    assert (found.texts, found.k) == (4, 1)
    assert found.first == found.neighbours == 0.75
    assert found.least_cosine == pytest.approx(np.cos(np.radians(45)), abs=1e-6)
    assert found.mean_cosine == pytest.approx((3 + np.cos(np.radians(45))) / 4, abs=1e-6)
    moved = agreement(unit(0, 10, 30, 90), unit(0, 80, 30, 90), k=1)
    # nearest after: 0°->30°, 80°->90°, 30°->0°, 90°->80°: none is the nearest of before
    assert moved.neighbours == moved.first == 0


def test_equal_vectors_of_any_length_agree_wholly():
    vectors = np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32)
    found = agreement(vectors, vectors * np.float32(3))
    assert (found.neighbours, found.first) == (1, 1)
    assert found.spearman == pytest.approx(1, abs=1e-12)
    assert found.least_cosine == pytest.approx(1, abs=1e-6)
    assert "100.0% of the nearest 10" in str(found)


def test_it_is_the_literal_count():
    draw = np.random.default_rng(1)
    exact = draw.normal(size=(25, 5))
    cheaper = exact + draw.normal(size=(25, 5)) * 0.4
    found = agreement(exact.astype(np.float32), cheaper.astype(np.float32), k=4)
    kept = first = 0
    for i in range(25):
        rankings = []
        for side in (exact, cheaper):
            cosines = {
                j: side[i] @ side[j] / np.linalg.norm(side[i]) / np.linalg.norm(side[j])
                for j in range(25)
                if j != i
            }
            rankings.append(sorted(cosines, key=lambda j, c=cosines: -c[j]))
        kept += len(set(rankings[0][:4]) & set(rankings[1][:4]))
        first += rankings[0][0] == rankings[1][0]
    assert found.neighbours == pytest.approx(kept / 100)
    assert found.first == pytest.approx(first / 25)
    assert 0.2 < found.neighbours < 1


def test_of_many_texts_some_are_compared():
    vectors = np.random.default_rng(2).normal(size=(4001, 3)).astype(np.float32)
    assert agreement(vectors, vectors).texts == 1334


@pytest.mark.parametrize("shapes", [((2, 3), (2, 3)), ((5, 3), (5, 4)), ((5, 3), (4, 3))])
def test_what_cannot_be_compared_is_refused(shapes):
    with pytest.raises(InputError, match="cannot be compared"):
        agreement(*(np.ones(shape, np.float32) for shape in shapes))


def test_a_zero_vector_is_like_nothing():
    vectors = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
    zeroed = vectors * np.array([[1], [1], [0]], np.float32)
    assert agreement(vectors, zeroed).least_cosine == 0
