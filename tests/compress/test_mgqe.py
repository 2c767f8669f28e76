"""MGQE: prefixes of the vectors, the bit of the hot rows, and dpq where all rows are hot."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tokenspace.compress import mgqe
from tokenspace.compress._codes import nearest
from tokenspace.compress.dpq import DPQ
from tokenspace.compress.mgqe import MGQE
from tokenspace.errors import ConfigError, InputError, MissingEvidence


@pytest.fixture
def draw() -> np.random.Generator:
    return np.random.default_rng(22)


def test_prefixes_by_hand() -> None:
    books = np.arange(8, dtype=np.float32).reshape(1, 8, 1)  # rare rows may use 0 and 1
    source = np.array([[7.2], [7.2], [0.4], [3.1]], np.float32)
    flags = np.array([False, True, False, True])
    table = MGQE().stored(flags, source, books)
    np.testing.assert_array_equal(table.rows(np.arange(4)).ravel(), [1, 7, 0, 3])
    assert table.tensors["hot"].shape == table.tensors["cold"].shape == (2, 1)


@pytest.mark.parametrize("size", [1, 511, 512, 513, 3000])
def test_ranks_are_the_literal_counts(draw: np.random.Generator, size: int) -> None:
    flags = draw.random(size) < 0.3
    marked = mgqe._marked(flags)
    hot, before = mgqe._ranked(marked["flags"], marked["ranks"], np.arange(size))
    np.testing.assert_array_equal(hot, flags)
    np.testing.assert_array_equal(before, [flags[:x].sum() for x in range(size)])
    assert sum(array.nbytes for array in marked.values()) == -(-size // 512) * (64 + 4)


def test_rows_are_the_nearest_that_are_allowed(draw: np.random.Generator) -> None:
    source = draw.standard_normal((700, 8)).astype(np.float32)
    counts = draw.permutation(700 * 10 // np.arange(1, 701))
    table = MGQE(budget=0.5, parts=4, centroids=32, hot=0.2)(source, counts=counts)
    books = table.tensors["books"].astype(np.float64)
    frequent = set(sorted(range(700), key=lambda x: (-counts[x], x))[:140])
    rows = table.rows(np.arange(700))
    for x in range(700):
        limit = 32 if x in frequent else 8
        for j, part in enumerate(np.split(source[x].astype(np.float64), 4)):
            distances = ((books[j, :limit] - part) ** 2).sum(axis=1)
            found = books[j, distances.argmin()]
            off = np.square(rows[x, 2 * j : 2 * j + 2] - part).sum()
            assert off <= np.square(found - part).sum() + 1e-6
    assert table.nbytes == 4 * 32 * 8 + 140 * 3 + 560 * 2 + 2 * 68


def test_where_all_rows_are_hot_it_is_dpq(draw: np.random.Generator) -> None:
    source = draw.standard_normal((300, 8)).astype(np.float32)
    form = {"budget": 1.0, "parts": 2, "centroids": 16}
    one = MGQE(hot=1.0, **form)(source, counts=np.ones(300, np.int64))
    codes = nearest(source, one.tensors["books"], 16)
    stored = DPQ(**form).stored(source, one.tensors["books"])
    np.testing.assert_array_equal(one.rows(np.arange(300)), stored.rows(np.arange(300)))
    assert codes.max() > 4
    assert one.tensors["cold"].shape[0] == 0


def test_the_layer_keeps_rare_rows_to_their_prefix() -> None:
    counts = np.arange(60)
    layer = MGQE(budget=0.9, parts=2, centroids=16, hot=0.25).embedding(60, 8, counts=counts)
    table = layer.train().export()
    ids = torch.tensor([0, 59, 30, 45, 59])
    np.testing.assert_allclose(layer(ids).detach(), table.rows(ids.numpy()), atol=1e-7)
    books = layer.books.detach().numpy()
    for x in range(45):  # rare
        row = table.rows(np.array([x]))[0]
        for j in range(2):
            assert (books[j, :4] == row[4 * j : 4 * j + 4]).all(axis=1).any()


def test_fewer_bytes_than_dpq() -> None:
    counts = 1_000_000 // np.arange(1, 23_721)
    form = {"budget": 0.5, "parts": 4, "centroids": 256}
    ours = MGQE(**form).embedding(23_720, 16, counts=counts).export()
    theirs = DPQ(**form).embedding(23_720, 16).export()
    books = 4 * 256 * 16
    assert theirs.nbytes == books + 4 * 23_720
    assert ours.nbytes == books + 4 * 2_372 + 3 * 21_348 + 47 * 68


def test_bad_input_is_refused(draw: np.random.Generator) -> None:
    source = draw.standard_normal((400, 6)).astype(np.float32)
    with pytest.raises(MissingEvidence, match="mgqe needs counts"):
        MGQE().embedding(400, 6)
    with pytest.raises(InputError, match="counts have shape"):
        MGQE()(source, counts=np.ones(3, np.int64))
    with pytest.raises(ConfigError, match="not a multiple of parts=4"):
        MGQE(parts=4)(source, counts=np.ones(400, np.int64))
    with pytest.raises(ConfigError, match=r"mgqe: budget=0\.02 .*least it can do"):
        MGQE(budget=0.02)(source, counts=np.ones(400, np.int64))
