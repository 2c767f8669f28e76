"""Compo: quotients and remainders by hand, fits against singular vectors and least squares."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tokenspace.compress import compo
from tokenspace.compress.compo import Compo
from tokenspace.errors import ConfigError


@pytest.fixture
def draw() -> np.random.Generator:
    return np.random.default_rng(11)


def test_rows_by_hand() -> None:
    tensors = {
        "quotients": np.array([[1, 2], [3, 4]], np.float32),
        "remainders": np.array([[10, 1], [100, 2], [1000, 3]], np.float32),
    }
    ids = np.array([0, 4, 5])
    product = Compo.read(tensors, {"combine": "product"}, ids)
    np.testing.assert_array_equal(product, [[10, 2], [300, 8], [3000, 12]])
    total = Compo.read(tensors, {"combine": "sum"}, ids)
    np.testing.assert_array_equal(total, [[11, 3], [103, 6], [1003, 7]])


@pytest.mark.parametrize("size", [2, 3, 10, 97, 1000, 23_720])
@pytest.mark.parametrize("budget", [0.05, 0.1, 0.3, 0.7, 1.0])
def test_the_divisor_is_the_least_that_fits(size: int, budget: float) -> None:
    fitting = [
        m
        for m in range(1, int(size**0.5) + 1)
        if 4 * 8 * (-(-size // m) + m) <= int(budget * 4 * 8 * size)
    ]
    if fitting:
        assert Compo(budget=budget).divisor(size, 8) == min(fitting)
    else:
        with pytest.raises(ConfigError, match="least it can do"):
            Compo(budget=budget).divisor(size, 8)


def test_ten_per_cent_of_the_ratings_take_eleven_remainders() -> None:
    assert Compo(budget=0.1).divisor(23_720, 16) == 11
    layer = Compo(budget=0.1).embedding(23_720, 16)
    assert layer.export().ratio == pytest.approx(0.091, abs=0.001)


def literal(source: np.ndarray, weights: np.ndarray, m: int, sweeps: int) -> np.ndarray:
    """Alternating least squares of one column after the other, row by row."""
    size, width = source.shape
    found = np.zeros((size, width))
    for d in range(width):
        x = source[:, d].astype(np.float64)
        groups = [range(a * m, min(size, a * m + m)) for a in range(-(-size // m))]
        norms = [sum(weights[i] * x[i] ** 2 for i in group) for group in groups]
        r = np.zeros(m)
        best = groups[int(np.argmax(norms))]
        r[: len(best)] = x[list(best)]
        q = np.zeros(len(groups))
        for _ in range(sweeps):
            for a, group in enumerate(groups):
                below = sum(weights[i] * r[i % m] ** 2 for i in group)
                above = sum(weights[i] * r[i % m] * x[i] for i in group)
                q[a] = above / below if below > 0 else 0
            for b in range(m):
                same = range(b, size, m)
                below = sum(weights[i] * q[i // m] ** 2 for i in same)
                above = sum(weights[i] * q[i // m] * x[i] for i in same)
                r[b] = above / below if below > 0 else 0
        found[:, d] = [q[i // m] * r[i % m] for i in range(size)]
    return found


@pytest.mark.parametrize("size", [40, 43])
def test_the_fit_is_the_literal_one(draw: np.random.Generator, size: int, monkeypatch) -> None:
    source = draw.standard_normal((size, 3)).astype(np.float32)
    counts = draw.integers(1, 9, size)
    recipe = Compo(budget=0.5, sweeps=3)
    table = recipe(source, counts=counts)
    m = recipe.divisor(size, 3)
    slow = literal(source, counts, m, 3)
    np.testing.assert_allclose(table.rows(np.arange(size)), slow, atol=1e-5)
    monkeypatch.setattr(compo, "_BLOCK", 1)
    again = recipe(source, counts=counts)
    np.testing.assert_allclose(again.rows(np.arange(size)), slow, atol=1e-5)


def test_products_are_the_leading_singular_pairs(draw: np.random.Generator) -> None:
    source = draw.standard_normal((36, 2)).astype(np.float32)
    recipe = Compo(budget=0.6, sweeps=300)
    m = recipe.divisor(36, 2)
    rows = recipe(source).rows(np.arange(36))
    for d in range(2):
        u, s, v = np.linalg.svd(source[:, d].reshape(-1, m).astype(np.float64))
        best = s[0] * np.outer(u[:, 0], v[0])
        np.testing.assert_allclose(rows[:, d].reshape(-1, m), best, atol=1e-4)


def test_sums_are_the_least_squares(draw: np.random.Generator) -> None:
    size = 47  # the last group lacks rows
    source = draw.standard_normal((size, 3)).astype(np.float32)
    counts = draw.integers(1, 9, size)
    recipe = Compo(budget=0.5, combine="sum", sweeps=400)
    m = recipe.divisor(size, 3)
    ids = np.arange(size)
    design = np.zeros((size, -(-size // m) + m))
    design[ids, ids // m] = design[ids, -m + ids % m] = 1
    root = np.sqrt(counts)[:, None]
    best = design @ np.linalg.lstsq(root * design, root * source, rcond=None)[0]
    np.testing.assert_allclose(recipe(source, counts=counts).rows(ids), best, atol=1e-4)


@pytest.mark.parametrize("combine", ["product", "sum"])
def test_a_table_of_that_form_comes_back(draw: np.random.Generator, combine: str) -> None:
    recipe = Compo(budget=0.3, combine=combine, sweeps=50)  # type: ignore[arg-type]
    m = recipe.divisor(100, 5)
    q, r = draw.standard_normal((-(-100 // m), 5)), draw.standard_normal((m, 5))
    ids = np.arange(100)
    rows = q[ids // m] * r[ids % m] if combine == "product" else q[ids // m] + r[ids % m]
    table = recipe(rows.astype(np.float32))
    np.testing.assert_allclose(table.rows(ids), rows, atol=1e-4)


def test_zeros_stay_zeros() -> None:
    assert not Compo(budget=0.5)(np.zeros((30, 4), np.float32)).rows(np.arange(30)).any()


@pytest.mark.parametrize("combine", ["product", "sum"])
def test_gradients_are_those_of_the_rule(combine: str) -> None:
    layer = Compo(budget=0.5, combine=combine).embedding(40, 3, seed=2)  # type: ignore[arg-type]
    ids = torch.tensor([0, 7, 7, 39])
    layer(ids).square().sum().backward()
    q, r = layer.quotients.detach().numpy(), layer.remainders.detach().numpy()
    above, m = np.zeros_like(q), len(r)
    for x in ids.tolist():
        a, b = x // m, x % m
        row = q[a] * r[b] if combine == "product" else q[a] + r[b]
        above[a] += 2 * row * (r[b] if combine == "product" else 1)
    np.testing.assert_allclose(layer.quotients.grad, above, rtol=1e-4, atol=1e-7)
