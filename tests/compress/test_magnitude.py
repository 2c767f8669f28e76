"""Magnitude pruning against a dictionary of places, and both sparse forms."""

from __future__ import annotations

import numpy as np
import pytest

from tokenspace.compress._sparse import capacity, kept, read_sparse, store_sparse
from tokenspace.compress.magnitude import Magnitude
from tokenspace.errors import ConfigError


@pytest.fixture
def draw() -> np.random.Generator:
    return np.random.default_rng(8)


def test_places_by_hand() -> None:
    source = np.array([[0.1, -5, 0], [0, 0, 0], [3, 0.2, 4]], np.float32)
    table = Magnitude(budget=0.8)(source)  # 28 bytes: three values at 9, as coordinates
    assert table.nbytes == 27
    np.testing.assert_array_equal(
        table.rows(np.array([0, 1, 2, 2])), [[0, -5, 0], [0, 0, 0], [3, 0, 4], [3, 0, 4]]
    )
    assert {name: array.dtype for name, array in table.tensors.items()} == {
        "values": np.float32, "columns": np.uint8, "rows": np.int32,
    }  # fmt: skip


@pytest.mark.parametrize("budget", [0.01, 0.08, 0.2, 0.9])
@pytest.mark.parametrize("width", [8, 300])
def test_it_is_the_literal_scheme(draw: np.random.Generator, budget: float, width: int) -> None:
    source = draw.standard_normal((60, width)).astype(np.float32)
    table = Magnitude(budget=budget)(source)
    column = 1 if width <= 256 else 2
    limit = int(budget * source.nbytes)
    count = max((limit - 4 * 61) // (4 + column), limit // (8 + column))
    largest = sorted(((abs(x), i, j) for (i, j), x in np.ndenumerate(source)), reverse=True)[:count]
    places = {(i, j): source[i, j] for _, i, j in largest}
    slow = np.zeros(source.shape, np.float32)
    for place, value in places.items():
        slow[place] = value
    np.testing.assert_array_equal(table.rows(np.arange(60)), slow)
    assert table.nbytes <= limit < table.nbytes + 8 + column
    assert ("starts" in table.tensors) == (4 * count >= 4 * 61)


def test_of_equal_values_the_first_are_kept_and_no_zeros() -> None:
    source = np.ones((4, 8), np.float32)
    table = Magnitude(budget=0.5)(source)  # 64 bytes, 44 beside five pointers: eight values
    assert table.nbytes <= 64
    rows = table.rows(np.arange(4))
    np.testing.assert_array_equal(rows.ravel(), np.arange(32) < capacity(0.5, 4, 8, "x"))
    mask = kept(np.array([[0, 1], [0, 2]], np.float32), 3)
    np.testing.assert_array_equal(mask, [[False, True], [False, True]])
    nothing = Magnitude(budget=0.5)(np.zeros((4, 8), np.float32))
    assert not nothing.rows(np.arange(4)).any()


@pytest.mark.parametrize("share", [0.001, 0.1, 0.6])
def test_a_sparse_table_comes_back_exactly(draw: np.random.Generator, share: float) -> None:
    source = draw.standard_normal((500, 16)).astype(np.float32)
    source[draw.random((500, 16)) > share] = 0
    table = Magnitude(budget=1)(source)
    np.testing.assert_array_equal(table.rows(np.arange(500)), source)
    assert table.nbytes <= source.nbytes


def test_either_form_reads_the_same(draw: np.random.Generator) -> None:
    source = draw.standard_normal((20, 5)).astype(np.float32)
    mask = draw.random((20, 5)) < 0.7
    dense = store_sparse(source, mask)
    assert "starts" in dense
    rows = np.repeat(np.arange(20), np.diff(dense["starts"])).astype(np.int32)
    other = {"values": dense["values"], "columns": dense["columns"], "rows": rows}
    ids = draw.integers(0, 20, 50)
    np.testing.assert_array_equal(read_sparse(other, 5, ids), read_sparse(dense, 5, ids))
    np.testing.assert_array_equal(read_sparse(dense, 5, ids), np.where(mask, source, 0)[ids])


def test_a_budget_without_room_for_a_value_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"magnitude: budget=0.001 .* it can do is 9 \(0.02"):
        Magnitude(budget=0.001)(np.ones((10, 10), np.float32))
