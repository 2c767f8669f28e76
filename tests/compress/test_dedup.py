"""Dedup: blocks, their order and their owners by hand and against a literal visit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tokenspace.compress import dedup
from tokenspace.compress.dedup import Dedup, cut, visit
from tokenspace.compress.dedup_net import SharedEmbedding
from tokenspace.errors import ConfigError


@pytest.fixture
def draw() -> np.random.Generator:
    return np.random.default_rng(12)


def test_blocks_by_hand() -> None:
    source = np.arange(12, dtype=np.float32).reshape(3, 4)
    blocks = cut(source, 2, 2)
    np.testing.assert_array_equal(
        blocks, [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 0, 0], [10, 11, 0, 0]]
    )


def test_a_visit_by_hand() -> None:
    blocks = np.array([[1, 1], [1.05, 1], [5, 5], [5, 5.2]], np.float32)
    owner = np.empty(4, np.int64)

    def go(tolerance: float, equal: int, limit: int) -> bool:
        one_bucket, slots = np.zeros((4, 1), np.int32), np.full((1, 8), -1, np.int32)
        return visit(blocks, np.arange(4), one_bucket, slots, tolerance, equal, limit, owner)

    assert go(0.1, 2, 3)
    assert owner.tolist() == [0, 0, 2, 3]  # what is left fits, so that the last one is kept
    assert not go(0.1, 2, 2)  # 5.2 is not within 0.1
    assert go(0.1, 1, 2)  # but one number in two is
    assert owner.tolist() == [0, 0, 2, 2]
    assert go(0.25, 2, 2)
    assert owner.tolist() == [0, 0, 2, 2]


def literal(blocks, order, buckets, tolerance, equal, limit):
    """Visit with lists: the last eight kept blocks of each bucket are proposed."""
    owner, slots, kept = {}, {}, 0
    for at, i in enumerate(order.tolist()):
        if kept + len(order) - at <= limit:
            owner[i] = i
            kept += 1
            continue
        best, most = None, equal - 1
        proposed = {j for bucket in buckets[i].tolist() for j in slots.get(bucket, [])[-8:]}
        nears = {j: int((np.abs(blocks[i] - blocks[j]) <= tolerance).sum()) for j in proposed}
        if nears and max(nears.values()) > most:
            most = max(nears.values())
            best = {j for j in nears if nears[j] == most}
        if best:
            owner[i] = best
            continue
        kept += 1
        if kept > limit:
            return None
        owner[i] = i
        for bucket in buckets[i].tolist():
            slots.setdefault(bucket, []).append(i)
    return owner


@pytest.mark.parametrize("tolerance", [0.05, 0.2, 0.6])
def test_it_is_the_literal_visit(draw: np.random.Generator, tolerance: float) -> None:
    centres = draw.standard_normal((20, 5))
    blocks = (centres[draw.integers(20, size=150)] + 0.1 * draw.standard_normal((150, 5))).astype(
        np.float32
    )
    order = draw.permutation(150)
    buckets = np.stack([draw.integers(6, size=150), 6 + draw.integers(4, size=150)], axis=1)
    for limit in (5, 60, 120):
        owner, slots = np.empty(150, np.int64), np.full((10, 8), -1, np.int32)
        done = visit(blocks, order, buckets.astype(np.int32), slots, tolerance, 4, limit, owner)
        slow = literal(blocks, order, buckets, tolerance, 4, limit)
        assert done == (slow is not None)
        for i in range(150 if slow else 0):  # of equally near blocks any will do
            assert owner[i] in slow[i] if isinstance(slow[i], set) else owner[i] == slow[i]


def test_equal_rows_are_stored_once_and_exactly(draw: np.random.Generator) -> None:
    different = draw.standard_normal((20, 8)).astype(np.float32)
    source = different[draw.permutation(np.arange(400) % 20)]
    table = Dedup(budget=0.13)(source)
    np.testing.assert_array_equal(table.rows(np.arange(400)), source)
    assert table.metrics["max_error"] == 0


@pytest.mark.parametrize(("block_rows", "parts"), [(1, 1), (3, 1), (1, 4), (4, 2)])
def test_rows_are_the_means_of_their_blocks(
    draw: np.random.Generator, block_rows: int, parts: int
) -> None:
    source = draw.standard_normal((50, 8)).astype(np.float32)
    recipe = Dedup(budget=0.4, block_rows=block_rows, parts=parts)
    shared, places = recipe.shared(source)
    blocks = cut(source, block_rows, parts)
    assert len(shared) <= recipe.kept(50, 8)
    for number, block in enumerate(shared):
        mean = blocks[places == number].astype(np.float64).mean(axis=0)
        np.testing.assert_allclose(block.ravel(), mean, rtol=1e-5, atol=1e-6)
    rows = recipe(source).rows(np.arange(50))
    np.testing.assert_array_equal(cut(rows, block_rows, parts)[:-1].shape, blocks[:-1].shape)
    for x in range(50):
        for part in range(parts):
            place = places[x // block_rows * parts + part]
            columns = slice(part * 8 // parts, (part + 1) * 8 // parts)
            np.testing.assert_array_equal(rows[x, columns], shared[place, x % block_rows])


@pytest.mark.parametrize("budget", [0.05, 0.1, 0.5])
def test_the_budget_is_used_and_kept(draw: np.random.Generator, budget: float) -> None:
    source = draw.standard_normal((2_000, 16)).astype(np.float32)
    table = Dedup(budget=budget)(source)
    assert 0.9 * budget <= table.ratio <= budget
    kept = len(table.tensors["blocks"])
    bits = max(1, int(np.ceil(np.log2(kept))))
    assert table.nbytes == kept * 64 + 2_000 // 8 * bits


def test_large_indices_are_not_packed() -> None:
    recipe = Dedup(budget=1)
    blocks = np.zeros((70_000, 1, 2), np.float32)
    blocks[:, 0, 0] = np.arange(70_000)
    table = recipe.stored(blocks, np.arange(70_000), 70_000, 2)
    np.testing.assert_array_equal(table.rows(np.array([69_999, 3])), [[69_999, 0], [3, 0]])
    assert table.nbytes == 70_000 * (8 + 4)


def test_the_second_stage_trains_shared_blocks() -> None:
    recipe = Dedup(budget=0.4, parts=2)
    layer = recipe.embedding(60, 8, init_std=0.1, seed=2)
    following = layer.settled(lambda _: 0.0)
    assert isinstance(following, SharedEmbedding)
    assert following.settled(lambda _: 0.0) is None
    ids = torch.tensor([0, 5, 5, 59])
    rows = following(ids)
    np.testing.assert_array_equal(rows.detach(), layer.export().rows(ids.numpy()))
    rows.sum().backward()
    counted = np.bincount(following.places[ids].ravel(), minlength=len(following.blocks))
    np.testing.assert_array_equal(following.blocks.grad[:, 0, 0], counted)


def test_bad_input_is_refused(draw: np.random.Generator) -> None:
    source = draw.standard_normal((40, 6)).astype(np.float32)
    with pytest.raises(ConfigError, match="width 6 is not a multiple of parts=4"):
        Dedup(parts=4)(source)
    with pytest.raises(ConfigError, match="least it can do is 29"):
        Dedup(budget=0.02)(source)
    huge = np.full((40, 6), 3e38, np.float32)
    huge[::2] *= -1
    assert np.isfinite(Dedup(budget=0.2)(huge).rows(np.arange(40))).all()
    assert dedup._bits(1) == 1
