"""ROBE: places and signs against Python's own integers, and signed means."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tokenspace.compress import robe
from tokenspace.compress.robe import PRIME, ROBE
from tokenspace.errors import ConfigError


@pytest.fixture
def draw() -> np.random.Generator:
    return np.random.default_rng(8)


def literal(hashes: list[int], x: int, width: int, chunks: int, cells: int) -> list[tuple]:
    """Place and sign of every number of a row, in integers of any length."""
    a, b, c, f, g, h = hashes
    found = []
    for i in range(width):
        chunk, offset = i // (width // chunks), i % (width // chunks)
        place = (b * x + c * chunk + a + offset) % PRIME % cells
        found.append((place, 1 - 2 * ((f * x + g * i + h) % PRIME % 2)))
    return found


def test_rows_by_hand() -> None:
    tensors = {
        "array": np.array([1, 2, 3, 4, 5], np.float32),
        "hashes": np.array([1, 3, 7, 2, 1, 0]),
    }
    # row 2 begins at 7 mod 5 and wraps around; its signs are those of 4, 5, 6, 7
    rows = ROBE.read(tensors, {"width": 4, "chunks": 1}, np.array([2, 0]))
    np.testing.assert_array_equal(rows, [[3, -4, 5, -1], [2, -3, 4, -5]])
    # of two chunks the second begins at 14 mod 5
    rows = ROBE.read(tensors, {"width": 4, "chunks": 2}, np.array([2]))
    np.testing.assert_array_equal(rows, [[3, -4, 5, -1]])


@pytest.mark.parametrize("chunks", [1, 2, 8])
def test_places_do_not_overflow(draw: np.random.Generator, chunks: int) -> None:
    hashes = ROBE.hashes(PRIME - 1, 8, 3)
    ids = np.append(draw.integers(0, PRIME, 20), PRIME - 1)
    at = robe.places(hashes, ids, 8, chunks, 1000)
    turn = robe.signs(hashes, ids, 8)
    for row, x in enumerate(ids.tolist()):
        slow = literal(hashes.tolist(), x, 8, chunks, 1000)
        assert list(zip(at[row].tolist(), turn[row].tolist(), strict=True)) == slow


@pytest.mark.parametrize("chunks", [1, 4])
def test_the_layer_reads_as_the_table_does(chunks: int) -> None:
    layer = ROBE(budget=0.2, chunks=chunks, seed=4).embedding(500, 8, seed=1)
    table = layer.export()
    ids = np.arange(500)
    np.testing.assert_array_equal(layer(torch.from_numpy(ids)).detach(), table.rows(ids))
    array, hashes = table.tensors["array"], table.tensors["hashes"].tolist()
    for x in (0, 77, 499):
        slow = [s * array[at] for at, s in literal(hashes, x, 8, chunks, len(array))]
        np.testing.assert_array_equal(table.rows(np.array([x]))[0], slow)


def test_gradients_are_signed_sums() -> None:
    layer = ROBE(budget=0.1).embedding(300, 4)
    layer(torch.arange(300)).sum().backward()
    expected = np.zeros(len(layer.array))
    for x in range(300):
        for at, sign in literal(layer.hashes.tolist(), x, 4, 1, len(expected)):
            expected[at] += sign
    np.testing.assert_allclose(layer.array.grad, expected)


def test_the_fit_is_the_signed_mean(draw: np.random.Generator, monkeypatch) -> None:
    source = draw.standard_normal((120, 6)).astype(np.float32)
    counts = draw.integers(0, 4, 120)
    table = ROBE(budget=0.3)(source, counts=counts)
    cells = len(table.tensors["array"])
    above, below = np.zeros(cells), np.zeros(cells)
    for x in range(120):
        slow = literal(table.tensors["hashes"].tolist(), x, 6, 1, cells)
        for i, (at, sign) in enumerate(slow):
            above[at] += max(counts[x], 1e-9) * sign * float(source[x, i])
            below[at] += max(counts[x], 1e-9)
    mean = np.where(below > 0, above / np.where(below > 0, below, 1), 0)
    np.testing.assert_allclose(table.tensors["array"], mean, rtol=1e-5, atol=1e-6)
    monkeypatch.setattr(robe, "_BLOCK", 6 * 7)
    again = ROBE(budget=0.3)(source, counts=counts)
    np.testing.assert_allclose(again.tensors["array"], mean, rtol=1e-5, atol=1e-6)


def test_the_fit_is_the_best_there_is(draw: np.random.Generator) -> None:
    source = draw.standard_normal((60, 4)).astype(np.float32)
    table = ROBE(budget=0.3)(source)
    cells = len(table.tensors["array"])
    design = np.zeros((240, cells))
    for x in range(60):
        slow = literal(table.tensors["hashes"].tolist(), x, 4, 1, cells)
        for i, (at, sign) in enumerate(slow):
            design[4 * x + i, at] += sign
    best = design @ np.linalg.lstsq(design, source.ravel().astype(np.float64), rcond=None)[0]
    np.testing.assert_allclose(table.rows(np.arange(60)).ravel(), best, atol=1e-5)


def test_bytes_and_bad_input(draw: np.random.Generator) -> None:
    source = draw.standard_normal((60, 6)).astype(np.float32)
    table = ROBE(budget=0.25)(source)
    assert table.nbytes == 4 * len(table.tensors["array"]) + 48 == 360
    assert ROBE(budget=0.25, seed=1)(source).metrics != table.metrics
    with pytest.raises(ConfigError, match="width 6 is not a multiple of chunks=4"):
        ROBE(chunks=4)(source)
    with pytest.raises(ConfigError, match="least it can do is 52"):
        ROBE(budget=0.01)(source)
    with pytest.raises(ConfigError, match="not below"):
        ROBE().embedding(PRIME, 4)
