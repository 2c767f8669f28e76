"""Hash: shared rows by hand, as means, and where nothing is shared."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tokenspace.compress.hash import Hash
from tokenspace.errors import ConfigError, InputError


@pytest.fixture
def draw() -> np.random.Generator:
    return np.random.default_rng(3)


def test_means_by_hand() -> None:
    source = np.array([[1, 0], [2, 2], [3, 4], [6, 0], [5, 8]], np.float32)
    table = Hash(budget=0.4)(source)  # two rows: ids 0, 2, 4 and 1, 3
    np.testing.assert_array_equal(table.tensors["shared"], [[3, 4], [4, 1]])
    np.testing.assert_array_equal(table.rows(np.array([4, 1])), [[3, 4], [4, 1]])
    weighed = Hash(budget=0.4)(source, counts=np.array([1, 0, 0, 7, 3]))
    np.testing.assert_allclose(weighed.tensors["shared"], [[4, 6], [6, 0]], atol=1e-6)
    assert table.nbytes == 2 * 2 * 4


@pytest.mark.parametrize(("size", "budget"), [(100, 0.13), (101, 0.5), (7, 0.99)])
def test_it_is_the_literal_mean(draw: np.random.Generator, size: int, budget: float) -> None:
    source = draw.standard_normal((size, 6)).astype(np.float32)
    counts = draw.integers(0, 5, size)
    m = int(budget * size)
    table = Hash(budget=budget)(source, counts=counts)
    weights = counts + 1e-9
    for x in range(size):
        same = [y for y in range(size) if y % m == x % m]
        total = sum(weights[y] * source[y].astype(np.float64) for y in same)
        mean = total / sum(weights[y] for y in same)
        np.testing.assert_allclose(table.rows(np.array([x]))[0], mean, rtol=1e-5, atol=1e-6)


def test_with_all_bytes_nothing_is_shared(draw: np.random.Generator) -> None:
    source = draw.standard_normal((30, 4)).astype(np.float32)
    np.testing.assert_array_equal(Hash(budget=1)(source).rows(np.arange(30)), source)


def test_a_layer_shares_gradients() -> None:
    layer = Hash(budget=0.5).embedding(6, 2)
    layer(torch.tensor([1, 4, 2])).sum().backward()
    np.testing.assert_array_equal(layer.shared.grad, [[0, 0], [2, 2], [1, 1]])


def test_bad_input_is_refused(draw: np.random.Generator) -> None:
    source = draw.standard_normal((30, 4)).astype(np.float32)
    with pytest.raises(ConfigError, match=r"budget=0.03 .* least it can do is 16 .*0\.03333"):
        Hash(budget=0.03)(source)
    with pytest.raises(ConfigError, match=r"budget=0\.0"):
        Hash(budget=0.0)
    with pytest.raises(InputError, match="counts have shape"):
        Hash()(source, counts=np.ones(29, np.int64))
    with pytest.raises(InputError, match=r"row 30 is outside \[0, 29\]"):
        Hash()(source).rows(np.array([30]))
