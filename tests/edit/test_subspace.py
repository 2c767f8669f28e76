"""The geometry of a bias against cases by hand and the equations written out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tokenspace.edit._subspace import (
    chance,
    direct_bias,
    indirect_bias,
    project,
    random_shares,
    remove,
    span,
    subspace,
    unit,
)
from tokenspace.errors import ConfigError, InputError


def test_two_pairs_by_hand() -> None:
    pairs = [np.array([[0.6, 0.8], [-0.6, 0.8]]), np.array([[1.0, 0.0], [-1.0, 0.0]])]
    found = subspace(pairs)
    np.testing.assert_allclose(found.basis, [[1, 0]], atol=1e-12)
    np.testing.assert_allclose(found.shares, [1, 0], atol=1e-12)


def test_the_direction_points_to_the_first_words() -> None:
    draw = np.random.default_rng(0)
    pairs = [unit(draw.standard_normal((2, 6)) + np.outer([2, -2], np.eye(6)[0])) for _ in range(4)]
    there, back = subspace(pairs).basis, subspace([pair[::-1] for pair in pairs]).basis
    np.testing.assert_allclose(there, -back, atol=1e-12)
    assert np.mean([(pair[0] - pair[1]) @ there[0] for pair in pairs]) > 0


def test_sets_of_any_size_against_the_equation() -> None:
    draw = np.random.default_rng(1)
    sets = [unit(draw.standard_normal((size, 7))) for size in (2, 3, 5)]
    C = np.zeros((7, 7))
    for rows in sets:
        for w in rows:
            C += np.outer(w - rows.mean(axis=0), w - rows.mean(axis=0)) / len(rows)
    values, vectors = np.linalg.eigh(C)
    found = subspace(sets, 3)
    np.testing.assert_allclose(found.shares[:7], values[::-1] / values.sum(), atol=1e-12)
    for row, vector in zip(found.basis, vectors.T[::-1], strict=False):
        assert abs(row @ vector) == pytest.approx(1)


def test_more_directions_than_the_sets_differ_in_are_refused() -> None:
    pairs = [np.eye(4)[:2], np.eye(4)[:2]]
    assert subspace(pairs, 1).basis.shape == (1, 4)
    with pytest.raises(ConfigError, match="1 directions"):
        subspace(pairs, 2)


def test_what_is_in_and_what_is_out_add_up() -> None:
    draw = np.random.default_rng(2)
    rows, basis = draw.standard_normal((9, 5)), span(draw.standard_normal((2, 5)))
    np.testing.assert_allclose(project(rows, basis) + remove(rows, basis), rows, atol=1e-12)
    np.testing.assert_allclose(remove(rows, basis) @ basis.T, 0, atol=1e-12)
    np.testing.assert_allclose(
        project(project(rows, basis), basis), project(rows, basis), atol=1e-12
    )


def test_a_span_leaves_out_what_is_no_new_direction() -> None:
    assert span(np.array([[1.0, 0, 0], [2.0, 0, 0], [0, 0, 0]])).shape == (1, 3)


def test_direct_bias_by_hand() -> None:
    rows = np.array([[3.0, 4.0], [0.0, 2.0], [0.0, 0.0]])
    g = np.array([[1.0, 0.0]])
    assert direct_bias(rows, g) == pytest.approx((0.6 + 0) / 2)
    assert direct_bias(rows, g, c=2) == pytest.approx(0.36 / 2)
    assert math.isnan(direct_bias(rows[2:], g))


@pytest.mark.parametrize(("k", "c"), [(1, 1.0), (3, 1.0), (2, 2.0)])
def test_chance_is_what_random_words_give(k: int, c: float) -> None:
    rows = np.random.default_rng(3).standard_normal((40_000, 20))
    assert chance(20, k, c) == pytest.approx(direct_bias(rows, np.eye(20)[:k], c), rel=0.02)
    assert chance(100) == pytest.approx(math.sqrt(2 / (math.pi * 100)), rel=0.01)


def test_indirect_bias_by_hand() -> None:
    g = np.array([[1.0, 0.0, 0.0]])
    w, v = np.array([[0.6, 0.8, 0.0]]), np.array([[0.6, 0.0, 0.8]])
    np.testing.assert_allclose(indirect_bias(w, v, g), [1.0])  # all of their likeness is the bias
    np.testing.assert_allclose(indirect_bias(w, w, g), [0.0], atol=1e-12)


def test_indirect_bias_is_not_a_number_where_it_is_not_defined() -> None:
    g = np.array([[1.0, 0.0, 0.0]])
    w = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    v = np.array([[0.0, 0.0, 1.0], [0.6, 0.8, 0.0], [1.0, 0.0, 0.0]])
    assert np.isnan(indirect_bias(w, v, g)).all()


def test_random_sets_are_the_same_every_time_and_less_dominant() -> None:
    draw = np.random.default_rng(4)
    rows = unit(draw.standard_normal((200, 10)))
    shares = random_shares(rows, [2] * 6, 50)
    np.testing.assert_array_equal(shares, random_shares(rows, [2] * 6, 50))
    assert 0.1 < shares.mean() < 0.7
    with pytest.raises(InputError):
        random_shares(rows[:1], [2])
