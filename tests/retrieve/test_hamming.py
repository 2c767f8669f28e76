"""Codes of bits: packing, the nearest codes and buckets, against slow loops."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from tokenspace.errors import InputError
from tokenspace.retrieve.hamming import Buckets, nearest, nearest_of, pack_bits, unpack_bits


def random_bits(seed: int, count: int, bits: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, (count, bits)).astype(np.bool_)


def test_a_case_computed_by_hand() -> None:
    codes = pack_bits(np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1], [1, 1, 0]], np.bool_))
    np.testing.assert_array_equal(codes, [[1], [3], [4], [3]])
    numbers, distances = nearest(codes, codes[1:2], 3, 4)
    np.testing.assert_array_equal(numbers, [[1, 3, 0, 2]])
    np.testing.assert_array_equal(distances, [[0, 0, 1, 3]])


@pytest.mark.parametrize("bits", [1, 31, 64, 65, 128, 200])
def test_the_nearest_are_those_of_a_slow_count(bits: int) -> None:
    held, asked = random_bits(0, 300, bits), random_bits(1, 5, bits)
    codes, queries = pack_bits(held), pack_bits(asked)
    np.testing.assert_array_equal(unpack_bits(codes, bits), held)
    slow = np.array([[int((a != b).sum()) for b in held] for a in asked])
    order = np.argsort(slow, axis=1, kind="stable")
    for k in (1, 7, 299, 500):
        numbers, distances = nearest(codes, queries, bits, k)
        np.testing.assert_array_equal(numbers, order[:, :k])
        np.testing.assert_array_equal(distances, np.take_along_axis(slow, order, axis=1)[:, :k])


def test_a_document_of_several_codes_counts_its_nearest() -> None:
    held, asked = random_bits(2, 60, 40), random_bits(3, 3, 40)
    offsets = np.array([0, 1, 5, 30, 60])
    slow = [
        sum(min(int((q != p).sum()) for p in held[a:b]) for q in asked)
        for a, b in pairwise(offsets)
    ]
    numbers, distances = nearest_of(pack_bits(held), pack_bits(asked), 40, 4, offsets)
    np.testing.assert_array_equal(numbers, np.argsort(slow, kind="stable"))
    np.testing.assert_array_equal(distances, np.sort(slow))


def test_no_codes_and_no_queries() -> None:
    codes = pack_bits(random_bits(0, 4, 16))
    assert nearest(codes[:0], codes, 16, 3)[0].shape == (4, 0)
    assert nearest(codes, codes[:0], 16, 3)[1].shape == (0, 3)


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_buckets_find_all_within_the_radius(bits: int) -> None:
    held = random_bits(4, 400, bits)
    held[100:200] = held[:100] ^ (np.random.default_rng(5).random((100, bits)) < 1 / bits)
    codes = pack_bits(held)
    table = Buckets.of(codes, bits)
    for query in (0, 150, 399):
        slow = (held != held[query]).sum(axis=1)
        for radius in (0, 1, 2, 5, bits, 99):
            numbers, distances = table.within(codes[query], radius)
            near = np.flatnonzero(slow <= radius)
            order = near[np.argsort(slow[near], kind="stable")]
            np.testing.assert_array_equal(numbers, order)
            np.testing.assert_array_equal(distances, slow[order])
    assert table.nbytes >= 400 * 12


def test_unusable_codes_are_refused() -> None:
    short, long = pack_bits(random_bits(0, 4, 64)), pack_bits(random_bits(0, 4, 65))
    with pytest.raises(InputError, match="expected uint64 \\(N, 1\\)") as caught:
        nearest(short, long, 64, 1)
    assert "different lengths cannot be compared" in str(caught.value.hint)
    with pytest.raises(InputError, match="expected uint64"):
        nearest(short.astype(np.int64), short, 64, 1)
    with pytest.raises(InputError, match="buckets of 40 bits: 32 at most"):
        Buckets.of(pack_bits(random_bits(0, 4, 40)), 40)
    with pytest.raises(InputError, match="radius=-1"):
        Buckets.of(pack_bits(random_bits(0, 4, 8)), 8).within(short[0], -1)
