"""PQ: codes against a literal search in float64, and the bytes of codes and books."""

from __future__ import annotations

import numpy as np
import pytest

from tokenspace.compress._product import codes_of
from tokenspace.compress.pq import PQ
from tokenspace.errors import ConfigError


@pytest.fixture
def draw() -> np.random.Generator:
    return np.random.default_rng(4)


def test_nearest_centroids_by_hand() -> None:
    books = np.array([[[0, 0], [10, 0]], [[1, 1], [5, 5]]], np.float32)  # two parts of two numbers
    source = np.array([[9, 1, 0, 0], [1, 1, 6, 4], [5, 0, 3, 3]], np.float32)
    # the last row is half way in both parts, and takes the first
    np.testing.assert_array_equal(codes_of(source, books), [[0b01], [0b10], [0b00]])


@pytest.mark.parametrize("bits", [1, 3, 4, 8])
def test_rows_are_their_nearest_centroids(draw: np.random.Generator, bits: int) -> None:
    source = draw.standard_normal((400, 12)).astype(np.float32)
    table = PQ(budget=1, bits=bits)(source)
    books, parts = table.tensors["books"].astype(np.float64), int(table.settings["parts"])
    assert table.nbytes == 4 * 2**bits * 12 + 400 * -(-parts * bits // 8)
    rows = table.rows(np.arange(400))
    for i, row in enumerate(source.astype(np.float64)):
        for j, part in enumerate(np.split(row, parts)):
            distances = ((books[j] - part) ** 2).sum(axis=1)
            found = rows[i].reshape(parts, -1)[j].astype(np.float64)
            assert ((found - part) ** 2).sum() <= distances.min() + 1e-5


def test_the_books_are_those_of_k_means(draw: np.random.Generator) -> None:
    source = draw.standard_normal((600, 8)).astype(np.float32)
    table = PQ(budget=0.5, bits=4)(source)
    books, parts = table.tensors["books"], int(table.settings["parts"])
    rows = table.rows(np.arange(600)).reshape(600, parts, -1)
    for j in range(parts):  # a centroid is the mean of the parts that are nearest to it
        off = [
            np.linalg.norm(
                source.reshape(600, parts, -1)[:, j][(rows[:, j] == c).all(1)].mean(0) - c
            )
            for c in books[j]
        ]
        assert np.mean(off) < 0.1
    assert table.metrics["rms_error"] < 0.75


def test_as_many_parts_as_centroids_come_back_exactly(draw: np.random.Generator) -> None:
    few = draw.standard_normal((4, 6)).astype(np.float32)
    source = few[draw.integers(0, 4, 200)]
    table = PQ(budget=0.5, bits=4)(source)
    np.testing.assert_allclose(table.rows(np.arange(200)), source, atol=1e-6)


@pytest.mark.parametrize(
    ("budget", "parts"), [(0.09, 1), (0.11, 2), (0.14, 3), (0.25, 6), (1.0, 12)]
)
def test_the_most_parts_within_the_budget(
    draw: np.random.Generator, budget: float, parts: int
) -> None:
    source = draw.standard_normal((2_000, 12)).astype(np.float32)
    table = PQ(budget=budget, bits=7)(source)
    assert table.settings["parts"] == parts
    assert table.nbytes <= budget * source.nbytes


def test_a_constant_table_and_a_constant_column(draw: np.random.Generator) -> None:
    source = np.full((100, 4), 2.5, np.float32)
    np.testing.assert_allclose(PQ(budget=0.9, bits=2)(source).rows(np.arange(100)), source)
    source[:, 1] = draw.standard_normal(100)
    rows = PQ(budget=0.9, bits=2)(source).rows(np.arange(100))
    assert np.isfinite(rows).all()


def test_what_is_out_of_reach_is_refused() -> None:
    with pytest.raises(ConfigError, match="256 centroids for 100 rows"):
        PQ()(np.ones((100, 4), np.float32))
    with pytest.raises(ConfigError, match=r"pq: budget=0.1 .* the least it can do is 2,348"):
        PQ(bits=6)(np.zeros((300, 8), np.float32) + np.arange(8, dtype=np.float32))
