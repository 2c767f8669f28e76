"""SVD against numpy's decomposition in float64, and the stored form of groups of rows."""

from __future__ import annotations

import numpy as np
import pytest

from tokenspace.compress._mixed import (
    allocate,
    buckets,
    check_fields,
    membership_bytes,
    read_mixed,
    store_mixed,
)
from tokenspace.compress.svd import SVD
from tokenspace.errors import ConfigError, InputError


@pytest.fixture
def draw() -> np.random.Generator:
    return np.random.default_rng(3)


def test_a_table_of_one_direction_by_hand() -> None:
    source = np.array([[3, 4], [6, 8], [0, 0], [-3, -4]], np.float32)
    table = SVD(budget=0.75)(source)  # 24 bytes: four coordinates and two numbers of the direction
    assert table.nbytes == 24
    np.testing.assert_allclose(np.abs(table.tensors["out.0"]), [[0.6, 0.8]], rtol=1e-6)
    np.testing.assert_allclose(np.abs(table.tensors["table.0"]).ravel(), [5, 10, 0, 5], rtol=1e-6)
    np.testing.assert_allclose(table.rows(np.arange(4)), source, atol=1e-5)


@pytest.mark.parametrize("budget", [0.1, 0.35, 0.7])
def test_it_is_the_best_matrix_of_its_rank(draw: np.random.Generator, budget: float) -> None:
    source = (draw.standard_normal((300, 20)) @ np.diag(0.8 ** np.arange(20))).astype(np.float32)
    table = SVD(budget=budget)(source)
    rank = int(budget * 300 * 20 / 320)
    assert table.nbytes == 4 * rank * 320 <= budget * source.nbytes
    u, s, v = np.linalg.svd(source.astype(np.float64), full_matrices=False)
    best = (u[:, :rank] * s[:rank]) @ v[:rank]
    np.testing.assert_allclose(table.rows(np.arange(300)), best, atol=1e-5)


def test_groups_by_length_have_directions_of_their_own(draw: np.random.Generator) -> None:
    lengths = np.exp(draw.standard_normal((400, 1)))
    source = (lengths * draw.standard_normal((400, 16))).astype(np.float32)
    table = SVD(budget=0.5, groups=3)(source)
    assert table.nbytes <= 0.5 * source.nbytes
    norms = np.linalg.norm(source.astype(np.float64), axis=1)
    order = np.argsort(-norms)
    part = np.minimum(np.cumsum(norms[order]) * 3 / norms.sum(), 2).astype(int)
    rows = table.rows(np.arange(400))
    widths = []
    for g in range(3):
        members = np.sort(order[part == g])
        width = table.tensors[f"table.{g}"].shape[1]
        widths.append(width)
        u, s, v = np.linalg.svd(source[members].astype(np.float64), full_matrices=False)
        best = (u[:, :width] * s[:width]) @ v[:width]
        np.testing.assert_allclose(rows[members], best, atol=1e-5)
    assert widths == sorted(widths, reverse=True)  # the fewest rows, the longest, are widest
    assert widths[0] > widths[-1]


def test_the_whole_budget_gives_the_table_back(draw: np.random.Generator) -> None:
    source = draw.standard_normal((50, 8)).astype(np.float32)
    for groups in (1, 4):
        table = SVD(budget=1, groups=groups)(source)
        assert table.nbytes == source.nbytes
        np.testing.assert_array_equal(table.rows(np.arange(50)), source)


def test_constant_columns_and_zeros() -> None:
    source = np.zeros((40, 8), np.float32)
    np.testing.assert_array_equal(SVD(budget=0.3)(source).rows(np.arange(40)), source)
    source[:, 2] = 5
    np.testing.assert_allclose(SVD(budget=0.3)(source).rows(np.arange(40)), source, atol=1e-5)


def test_a_budget_below_one_direction_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"svd: budget=0.1 .* least it can do is 160 \(0.1562\)"):
        SVD(budget=0.1)(np.ones((32, 8), np.float32))


@pytest.mark.parametrize("size", [1, 127, 128, 129, 1000])
def test_a_row_is_found_whichever_group_it_is_in(draw: np.random.Generator, size: int) -> None:
    group = draw.integers(0, 5, size)
    group = np.unique(group, return_inverse=True)[1].astype(np.int64)
    number = int(group.max()) + 1
    source = draw.standard_normal((size, 3)).astype(np.float32)
    tables = [source[group == g] for g in range(number)]
    tensors = store_mixed(group, tables)
    ids = draw.integers(0, size, 300)
    np.testing.assert_array_equal(read_mixed(tensors, 3, ids), source[ids])
    ordered = bool((np.diff(group) >= 0).all())
    spent = sum(array.nbytes for name, array in tensors.items() if "." not in name)
    assert spent == membership_bytes(size, number, neighbours=ordered)


def test_neighbours_of_one_group_cost_eight_bytes_a_group(draw: np.random.Generator) -> None:
    group = np.repeat(np.arange(4), [3, 1, 5, 2])
    source = draw.standard_normal((11, 3)).astype(np.float32)
    tensors = store_mixed(group, [source[group == g][:, : g % 4] for g in range(4)])
    assert tensors["starts"].nbytes == membership_bytes(11, 4, neighbours=True) == 32
    rows = read_mixed(tensors, 3, np.arange(11)[::-1])[::-1]
    for g in range(4):  # a group of width 0 reads as zeros
        np.testing.assert_array_equal(rows[group == g][:, :g], source[group == g][:, :g])
        assert not rows[group == g][:, g:].any()


def test_buckets_grow_by_four_and_hold_the_frequent_first() -> None:
    counts = np.arange(85)[::-1]
    found = buckets(counts, 4)
    np.testing.assert_array_equal(np.bincount(found), [1, 4, 16, 64])
    assert (np.diff(found) >= 0).all()
    assert buckets(np.ones(1, np.int64), 6).tolist() == [0]


def test_the_choice_within_a_limit_is_near_the_best(draw: np.random.Generator) -> None:
    for _ in range(30):
        gains = np.sort(draw.random((3, 4)), axis=1)
        costs = np.sort(draw.integers(1, 20, (3, 4)), axis=1).astype(float)
        limit = int(draw.integers(int(costs[:, 0].sum()), int(costs[:, -1].sum()) + 1))
        found = allocate(gains, costs, limit)
        assert found is not None
        spent = sum(costs[f, c] for f, c in enumerate(found))
        assert spent <= limit
        reached = sum(gains[f, c] for f, c in enumerate(found))
        best = max(
            gains[0, a] + gains[1, b] + gains[2, c]
            for a in range(4) for b in range(4) for c in range(4)
            if costs[0, a] + costs[1, b] + costs[2, c] <= limit
        )  # fmt: skip
        assert reached >= best - np.diff(gains, axis=1).max() - 1e-9
    assert allocate(gains, costs, int(costs[:, 0].sum()) - 1) is None
    assert allocate(gains, costs, 1000) == [3, 3, 3]


@pytest.mark.parametrize(
    "fields",
    [np.zeros(4, np.int64), np.array([0, 1, -1]), np.array([0, 2, 2]), np.array([0.0, 1, 1])],
    ids=["too many", "negative", "a gap", "not whole"],
)
def test_fields_that_do_not_partition_the_rows_are_refused(fields: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"fields have shape .* expected \(3,\)"):
        check_fields(fields, 3, "mde")
