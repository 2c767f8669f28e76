"""DHE: hashes in integers of any length, the network in float64, and the folded normalization."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tokenspace.compress import _dhe_kernels, dhe
from tokenspace.compress._batch_net import distinct
from tokenspace.compress.dhe import DHE, Shape
from tokenspace.errors import ConfigError
from tokenspace.nn.embedding import CompressedEmbedding


@pytest.fixture
def draw() -> np.random.Generator:
    return np.random.default_rng(6)


def literal(tensors: dict[str, np.ndarray], x: int) -> np.ndarray:
    """One row, number by number, in float64."""
    hashed = []
    for a, b, p in np.asarray(tensors["hashes"]).T.tolist():
        hashed.append(2 * ((a * x + b) % p % 1_000_000) / 999_999 - 1)
    row = np.array(hashed)
    weights = [tensors["first"], *tensors["middle"]]
    biases = [tensors["first_bias"], *tensors["middle_bias"]]
    for weight, bias in zip(weights, biases, strict=True):
        given = weight.astype(np.float64) @ row + bias
        row = np.array([t * math.tanh(math.log1p(math.exp(t))) for t in given])
    return tensors["last"].astype(np.float64) @ row + tensors["last_bias"]


def moved(layer: CompressedEmbedding) -> CompressedEmbedding:
    """Return the layer after some steps, so that its norms have seen batches."""
    descent = torch.optim.SGD(layer.parameters(), lr=0.05)
    for step in range(5):
        ids = torch.arange(step, 200, 3)
        (layer(ids) - ids[:, None] / 100).square().mean().backward()
        descent.step()
        descent.zero_grad()
    return layer.eval()


def test_the_export_is_the_literal_network() -> None:
    layer = moved(DHE(budget=0.5, seed=3).embedding(200, 4, init_std=0.1, seed=1))
    table = layer.export()
    ids = np.array([0, 1, 77, 199, 77])
    slow = [literal(dict(table.tensors), int(x)) for x in ids]
    np.testing.assert_allclose(table.rows(ids), slow, atol=1e-5)
    np.testing.assert_allclose(layer(torch.from_numpy(ids)).detach(), slow, atol=1e-5)


def test_hashes_do_not_overflow() -> None:
    hashes = DHE(seed=2).coefficients(64)
    a, b, p = hashes.astype(np.int64)
    assert (p >= 1_000_000).all()
    assert len(set(p.tolist())) == 64
    assert ((a >= 1) & (a < p) & (b >= 0) & (b < p)).all()
    tensors = {
        "hashes": hashes,
        "first": np.eye(64, dtype=np.float32), "first_bias": np.full(64, 9, np.float32),
        "middle": np.zeros((0, 64, 64), np.float32), "middle_bias": np.zeros((0, 64), np.float32),
        "last": np.eye(64, dtype=np.float32), "last_bias": np.full(64, -9, np.float32),
    }  # fmt: skip
    rows = DHE.read(tensors, {}, np.array([3_000, 2**40]))  # mish is nearly t itself at 9
    assert (np.abs(rows) <= 1.001).all()
    for row, x in zip(rows, (3_000, 2**40), strict=True):
        slow = [2 * ((u * x + v) % q % 10**6) / 999_999 - 1 for u, v, q in hashes.T.tolist()]
        np.testing.assert_allclose(row, slow, atol=1e-3)


def test_hashes_are_spread_evenly() -> None:
    a, b, p = DHE(seed=1).coefficients(16).astype(np.int64)
    values = (a * np.arange(20_000)[:, None] + b) % p % dhe.BUCKETS / dhe.BUCKETS
    assert np.abs(values.mean(axis=0) - 0.5).max() < 0.02
    assert np.abs(np.corrcoef(values.T) - np.eye(16)).max() < 0.1


def test_primes_are_those_of_trial_division() -> None:
    slow = [n for n in range(50, 200) if all(n % d for d in range(2, n))]
    np.testing.assert_array_equal(dhe._primes(50, 200), slow)


@pytest.mark.parametrize("budget", [0.02, 0.1, 0.5])
def test_bytes_are_counted_and_kept(budget: float) -> None:
    shape = DHE(budget=budget).shape(23_720, 16)
    numbers = int(budget * 23_720 * 16)
    assert shape.hashes == min(1024, 2 ** int(math.log2(math.sqrt(numbers))))
    table = DHE(budget=budget).embedding(23_720, 16).export()
    assert table.nbytes == 4 * shape.numbers
    assert 0.9 * budget <= table.ratio <= budget
    wider = Shape(shape.hashes, shape.hidden + 1, 16)
    assert 4 * wider.numbers > budget * 4 * 23_720 * 16


def test_a_repeated_id_counts_once_in_a_batch() -> None:
    one, other = (DHE(budget=0.5).embedding(200, 4, seed=1).train() for _ in range(2))
    ids = torch.arange(50)
    first, second = one(ids), other(torch.cat([ids, ids[:9], ids[:9]]))[:50]
    torch.testing.assert_close(first, second)


def test_mish_and_its_gradient_are_those_of_its_definition() -> None:
    """A norm of two rows gives -1 and 1, so that scale and shift reach every t."""
    t = torch.linspace(-60, 120, 2001, dtype=torch.float64).requires_grad_()
    slow = t * torch.tanh(torch.log1p(torch.exp(-t.abs())) + t.clamp(min=0))
    (slope,) = torch.autograd.grad(slow.sum(), t)
    rows = np.repeat(np.float32([[-1], [1]]), 2001, axis=1)
    scale, shift = np.zeros(2001, np.float32), t.detach().numpy().astype(np.float32)
    found, descent = np.empty_like(rows), np.empty_like(rows)
    _dhe_kernels.activate(rows, found, descent, scale, shift, scale.copy(), scale.copy(), 1e-5)
    for row in (0, 1):
        np.testing.assert_allclose(found[row], slow.detach(), rtol=1e-6, atol=2e-6)
        np.testing.assert_allclose(descent[row], slope, rtol=0, atol=1e-6)


def test_the_loops_and_the_formulas_descend_alike() -> None:
    quick, slow = (DHE(budget=0.5).embedding(200, 4, seed=1).train() for _ in range(2))
    slow = slow.double()  # of other numbers than float32 the layer makes rows by torch
    ids = torch.tensor([[7, 3, 199], [3, 3, 50]])
    weights = torch.arange(24.0).reshape(2, 3, 4).cos()
    found, sure = quick(ids), slow(ids)
    torch.testing.assert_close(found.double(), sure, rtol=1e-3, atol=1e-5)
    (found * weights).sum().backward()
    (sure * weights).sum().backward()
    for one, other in zip(quick.parameters(), slow.parameters(), strict=True):
        torch.testing.assert_close(one.grad.double(), other.grad, rtol=1e-2, atol=1e-5)
    torch.testing.assert_close(quick.means.double(), slow.means, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(quick.variances.double(), slow.variances, rtol=1e-4, atol=1e-6)


def test_the_layer_hashes_as_whole_numbers_do() -> None:
    coefficients = DHE(seed=2).coefficients(64)
    ids = np.array([0, 1, 3_000, 2**32])
    found = np.empty((4, 64), np.float32)
    _dhe_kernels.hashed(ids, coefficients.astype(np.float64), found, 1_000_000)
    for row, x in zip(found, ids.tolist(), strict=True):
        slow = [2 * ((a * x + b) % p % 10**6) / 999_999 - 1 for a, b, p in coefficients.T.tolist()]
        np.testing.assert_allclose(row, slow, rtol=0, atol=1e-7)


def test_different_ids_are_told_apart() -> None:
    ids = torch.from_numpy(np.random.default_rng(3).zipf(1.3, 5_000) - 1)
    found, places, times = distinct(ids)
    torch.testing.assert_close(found[places], ids)
    each, counts = torch.unique(ids, return_counts=True)
    order = torch.argsort(found)
    torch.testing.assert_close(found[order], each)
    torch.testing.assert_close(times[order], counts)
    assert [len(part) for part in distinct(ids[:0])] == [0, 0, 0]


def test_a_finished_table_is_fitted(draw: np.random.Generator) -> None:
    source = np.repeat(draw.standard_normal((1, 6)), 60, axis=0).astype(np.float32)
    source[30:] *= -2
    recipe = DHE(budget=0.9, steps=200, lr=0.02)
    table = recipe(source)
    assert table.metrics["rms_error"] < 0.3
    again = recipe(source)
    np.testing.assert_array_equal(again.rows(np.arange(60)), table.rows(np.arange(60)))


def test_an_unreachable_budget_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"dhe: budget=1e-06 .*the least it can do is"):
        DHE(budget=1e-6).embedding(23_720, 16)
