"""DPQ: codes and gradients by hand, Lloyd's algorithm in float64, and the choice of a form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tokenspace.compress._codes import fitted, nearest
from tokenspace.compress.dpq import DPQ
from tokenspace.errors import ConfigError


@pytest.fixture
def draw() -> np.random.Generator:
    return np.random.default_rng(21)


def test_codes_by_hand() -> None:
    books = np.array([[[0.0], [10.0]], [[1.0], [2.0]]], np.float32)
    rows = np.array([[4, 1.6], [6, -3], [5, 1.5]], np.float32)  # the last one is half way
    np.testing.assert_array_equal(nearest(rows, books, 2), [[0, 1], [1, 0], [0, 0]])
    table = DPQ().stored(rows, books)
    np.testing.assert_array_equal(table.rows(np.arange(3)), [[0, 2], [10, 1], [0, 1]])
    assert table.nbytes == 4 * 4 + 3  # two bits a row take a byte


@pytest.mark.parametrize("centroids", [2, 5, 32])
def test_the_nearest_are_the_literal_ones(draw: np.random.Generator, centroids: int) -> None:
    books = draw.standard_normal((3, centroids, 4)).astype(np.float32)
    rows = draw.standard_normal((100, 12)).astype(np.float32)
    codes = nearest(rows, books, centroids)
    for i, row in enumerate(rows.astype(np.float64)):
        for j, part in enumerate(np.split(row, 3)):
            distances = ((books[j].astype(np.float64) - part) ** 2).sum(axis=1)
            assert distances[codes[i, j]] <= distances.min() + 1e-6


def test_the_books_are_fixed_points_of_lloyds_rule(draw: np.random.Generator) -> None:
    rows = draw.standard_normal((300, 4)).astype(np.float32)
    everyone = [(np.arange(300), 8)]
    books = fitted(rows, 2, 8, everyone, 200, seed=1)
    codes = nearest(rows, books, 8)
    for part in range(2):
        for k in range(8):
            mine = rows[codes[:, part] == k, 2 * part : 2 * part + 2].astype(np.float64)
            np.testing.assert_allclose(books[part, k], mine.mean(axis=0), atol=1e-5)
    worse = fitted(rows, 2, 8, everyone, 1, seed=1)

    def error(found: np.ndarray) -> float:
        read = DPQ().stored(rows, found).rows(np.arange(300))
        return float(np.square(read - rows).sum())

    assert error(books) < error(worse)


def test_as_many_vectors_as_rows_give_the_rows_back(draw: np.random.Generator) -> None:
    source = draw.standard_normal((12, 8)).astype(np.float32)
    source = np.repeat(source, 50, axis=0)
    table = DPQ(budget=0.5, parts=2, centroids=64, seed=3)(source)
    assert table.metrics["rms_error"] < 0.35  # some vectors are the same rows
    twice = DPQ(budget=0.5, parts=1, centroids=2)(np.repeat(np.eye(2, 8), 40, axis=0))
    assert twice.metrics["max_error"] < 1e-6 or twice.metrics["rms_error"] < 0.8


def test_the_gradient_passes_to_the_row_and_pulls_the_vectors() -> None:
    layer = DPQ(budget=0.5, parts=2, centroids=4).embedding(40, 6, seed=5).train()
    ids = torch.tensor([3, 9, 3])
    weights = torch.arange(18.0).reshape(3, 6)
    rows = layer(ids)
    task = (rows * weights).sum()
    (task + layer.penalty()).backward()
    q, books = layer.rows.detach().numpy(), layer.books.detach().numpy()
    np.testing.assert_allclose(rows.detach(), layer.export().rows(ids.numpy()), atol=1e-7)
    expected = np.zeros_like(q)
    np.add.at(expected, ids.numpy(), weights.numpy())
    np.testing.assert_allclose(layer.rows.grad, expected)
    pull = np.zeros_like(books)
    codes = nearest(q[ids.numpy()], books, 4)
    for i, x in enumerate(ids.tolist()):
        for j in range(2):
            off = books[j, codes[i, j]] - q[x, 3 * j : 3 * j + 3]
            pull[j, codes[i, j]] += 2 * off / 18
    np.testing.assert_allclose(layer.books.grad, pull, atol=1e-7)
    layer.eval()
    np.testing.assert_array_equal(layer(ids).detach(), layer.export().rows(ids.numpy()))


@pytest.mark.parametrize(
    ("budget", "form"), [(0.1, (8, 64)), (0.02, (2, 16)), (0.08, (8, 32)), (0.5, (16, 256))]
)
def test_the_form_is_that_of_most_bits(budget: float, form: tuple[int, int]) -> None:
    assert DPQ(budget=budget).form(23_720, 16) == form
    parts, centroids = form
    bits = parts * int(np.log2(centroids))
    assert 4 * centroids * 16 + 23_720 * -(-bits // 8) <= budget * 4 * 23_720 * 16


def test_bytes_are_those_of_codes_and_vectors() -> None:
    table = DPQ(budget=0.1).embedding(2_000, 16).export()
    assert (table.tensors["books"].shape, table.tensors["codes"].shape) == ((16, 8, 1), (2_000, 6))
    assert table.nbytes == 4 * 8 * 16 + 2_000 * 6
    assert table.ratio <= 0.1


def test_bad_input_is_refused(draw: np.random.Generator) -> None:
    source = draw.standard_normal((400, 6)).astype(np.float32)
    with pytest.raises(ConfigError, match="width 6 is not a multiple of parts=4"):
        DPQ(parts=4)(source)
    with pytest.raises(ConfigError, match=r"dpq: budget=0\.1 .*least it can do is 1,624"):
        DPQ(parts=3, centroids=20)(np.repeat(source, 2, axis=1)[:332])
