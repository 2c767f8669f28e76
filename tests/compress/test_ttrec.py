"""TTRec: digits and products by hand, cores against a literal sum, TT-SVD at full rank."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tokenspace.compress import ttrec
from tokenspace.compress.ttrec import Sizes, TTRec
from tokenspace.errors import ConfigError


@pytest.fixture
def draw() -> np.random.Generator:
    return np.random.default_rng(2)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 26, 27, 28, 1000, 1001, 23_720, 999_983])
def test_rows_are_cut_in_three(size: int) -> None:
    n1, n2, n3 = ttrec._rows(size)
    assert 1 <= n1 <= n2 <= n3 == math.ceil(round(size ** (1 / 3), 9))
    assert n1 * n2 * n3 >= size
    assert (n1 - 1) * n2 * n3 < size


@pytest.mark.parametrize(
    ("width", "cut"),
    [(1, (1, 1, 1)), (16, (2, 2, 4)), (64, (4, 4, 4)), (128, (4, 4, 8)), (7, (1, 1, 7)),
     (12, (2, 2, 3)), (100, (4, 5, 5)), (300, (5, 6, 10)), (384, (6, 8, 8))],
)  # fmt: skip
def test_columns_are_cut_in_three(width: int, cut: tuple[int, int, int]) -> None:
    assert ttrec._columns(width) == cut


def test_digits_by_hand() -> None:
    sizes = Sizes((2, 3, 4), (1, 1, 1), (1, 1))
    assert [int(d) for d in sizes.digits(np.int64(2 * 3 * 3 + 2 * 2 + 1))] == [1, 2, 3]


def literal(tensors: dict[str, np.ndarray], x: int) -> np.ndarray:
    """Every number of a row as its sum over both ranks, in float64."""
    first, second, third = (tensors[k].astype(np.float64) for k in ("first", "second", "third"))
    (n1, d1, r1), (n2, _, d2, r2), (_, _, d3) = first.shape, second.shape, third.shape
    i1, i2, i3 = x % n1, x // n1 % n2, x // (n1 * n2)
    row = []
    for a in range(d1):
        for b in range(d2):
            for c in range(d3):
                row.append(
                    sum(
                        first[i1, a, s] * second[i2, s, b, t] * third[i3, t, c]
                        for s in range(r1)
                        for t in range(r2)
                    )
                )
    return np.array(row)


def test_rows_are_the_literal_sums() -> None:
    layer = TTRec(budget=0.4).embedding(90, 12, init_std=0.3, seed=5)
    table = layer.export()
    ids = np.array([89, 0, 17, 17, 45])
    slow = [literal(dict(table.tensors), int(x)) for x in ids]
    np.testing.assert_allclose(table.rows(ids), slow, atol=1e-5)
    np.testing.assert_allclose(layer(torch.from_numpy(ids)).detach(), slow, atol=1e-5)


def test_gradients_are_those_of_the_literal_rule() -> None:
    layer = TTRec(budget=0.3).embedding(30, 8, init_std=0.5, seed=1)
    ids = torch.tensor([0, 29, 7, 7])
    layer(ids).square().sum().backward()
    cores = [c.detach().double().requires_grad_() for c in (layer.first, layer.second, layer.third)]
    i1, i2, i3 = layer.sizes.digits(ids)
    rows = torch.einsum("nas,nsbt,ntc->nabc", cores[0][i1], cores[1][i2], cores[2][i3])
    rows.square().sum().backward()
    for ours, theirs in zip((layer.first, layer.second, layer.third), cores, strict=True):
        torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=1e-4, atol=1e-5)


def test_with_full_ranks_the_table_comes_back(draw: np.random.Generator) -> None:
    source = draw.standard_normal((50, 12)).astype(np.float32)
    n, d = ttrec._rows(50), ttrec._columns(12)
    sizes = Sizes(n, d, (n[0] * d[0], n[2] * d[2]))
    cores = dict(zip(("first", "second", "third"), ttrec._tt_svd(source, sizes), strict=True))
    np.testing.assert_allclose(TTRec.read(cores, {}, np.arange(50)), source, atol=1e-5)


def test_a_table_of_that_form_comes_back(draw: np.random.Generator) -> None:
    recipe = TTRec(budget=0.3)
    layer = recipe.embedding(64, 8, init_std=1.0, seed=3)
    source = layer.export().rows(np.arange(64))
    np.testing.assert_allclose(recipe(source).rows(np.arange(64)), source, atol=1e-4)


def test_the_cores_are_those_of_two_plain_svds(draw: np.random.Generator) -> None:
    source = draw.standard_normal((60, 8)).astype(np.float32)  # 4 x 4 x 4 rows, four of them lack
    sizes = TTRec(budget=0.5).sizes(60, 8)
    (n1, n2, n3), (d1, d2, d3), (r1, r2) = sizes
    whole = np.zeros((n3 * n2 * n1, 8))
    whole[:60] = source
    tensor = np.zeros((n1, d1, n2, d2, n3, d3))
    for x in range(n1 * n2 * n3):
        i1, i2, i3 = sizes.digits(x)
        tensor[i1, :, i2, :, i3, :] = whole[x].reshape(d1, d2, d3)
    u, s, v = np.linalg.svd(tensor.reshape(n1 * d1, -1), full_matrices=False)
    rest = (s[:r1, None] * v[:r1]).reshape(r1 * n2 * d2, n3 * d3)
    u2, s2, v2 = np.linalg.svd(rest, full_matrices=False)
    second = (u2[:, :r2] * s2[:r2] @ v2[:r2]).reshape(r1, -1)
    best = (u[:, :r1] @ second).reshape(n1, d1, n2, d2, n3, d3)
    rows = TTRec(budget=0.5)(source).rows(np.arange(60))
    for x in range(60):
        i1, i2, i3 = sizes.digits(x)
        np.testing.assert_allclose(rows[x], best[i1, :, i2, :, i3, :].ravel(), atol=1e-5)


@pytest.mark.parametrize("budget", [0.02, 0.1, 0.5])
def test_the_budget_is_used_and_kept(budget: float) -> None:
    layer = TTRec(budget=budget).embedding(23_720, 16, init_std=0.05)
    table = layer.export()
    assert 0.95 * budget <= table.ratio <= budget
    assert table.nbytes == 4 * layer.sizes.numbers
    rows = table.rows(np.arange(0, 23_720, 40))
    assert rows.std() == pytest.approx(0.05, rel=0.1)


def test_numbers_begin_far_from_zero() -> None:
    layer = TTRec(budget=0.1).embedding(23_720, 16, init_std=0.05)
    r1, r2 = layer.sizes.r
    scale = (0.05 / (r1 * r2) ** 0.5) ** (1 / 3) / 2.397
    drawn = layer.second.detach().abs() / scale
    assert drawn.min() >= 2
    assert drawn.square().mean().sqrt() == pytest.approx(2.397, rel=0.01)


def test_an_unreachable_budget_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"ttrec: budget=0.0001 .*the least it can do is 928"):
        TTRec(budget=0.0001).embedding(23_720, 16)
