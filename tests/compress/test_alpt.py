"""ALPT: scales against a fine grid in float64, and the scale's gradient against its formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tokenspace.compress.alpt import ALPT, fitted
from tokenspace.compress.alpt_net import scale_gradient
from tokenspace.errors import InputError


@pytest.fixture
def draw() -> np.random.Generator:
    return np.random.default_rng(9)


def test_codes_by_hand() -> None:
    source = np.array([[3, -3, 1, 0], [0, 0, 0, 0], [0.6, 0.2, -0.4, 0.2]], np.float32)
    table = ALPT(bits=3)(source)  # codes -3 ... 3
    np.testing.assert_allclose(table.rows(np.arange(3)), source, rtol=1e-6)
    np.testing.assert_allclose(table.tensors["scale"], [1, 0, 0.2], rtol=1e-6)
    assert table.nbytes == 3 * (2 + 4)  # twelve bits a row


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_scale_is_near_the_best_of_a_grid(draw: np.random.Generator, bits: int) -> None:
    rows = draw.standard_normal((40, 16))
    limit = 2 ** (bits - 1) - 1

    def error(scale: np.ndarray) -> np.ndarray:
        codes = np.clip(np.round(rows / scale[:, None]), -limit, limit)
        return ((rows - codes * scale[:, None]) ** 2).sum(axis=1)

    found = error(fitted(rows, limit).astype(np.float64))
    first = np.abs(rows).max(axis=1) / limit
    best = np.min([error(first * share) for share in np.linspace(0.2, 1.1, 200)], axis=0)
    assert (found <= error(first) + 1e-9).all()
    assert found.mean() <= 1.3 * best.mean()


@pytest.mark.parametrize("bits", [2, 5, 8, 12, 16])
def test_codes_are_packed_and_read_back(draw: np.random.Generator, bits: int) -> None:
    source = draw.standard_normal((60, 7)).astype(np.float32)
    table = ALPT(bits=bits)(source)
    assert table.nbytes == 60 * (-(-7 * bits // 8) + 4)
    limit = 2 ** (bits - 1) - 1
    scale = table.tensors["scale"].astype(np.float64)[:, None]
    slow = np.clip(np.round(source.astype(np.float64) / scale), -limit, limit) * scale
    np.testing.assert_allclose(table.rows(np.arange(60)), slow, atol=1e-5)


def test_with_enough_bits_the_table_comes_back(draw: np.random.Generator) -> None:
    source = draw.standard_normal((60, 8)).astype(np.float32)
    assert ALPT(bits=16)(source).metrics["rms_error"] < 1e-4
    errors = [ALPT(bits=bits)(source).metrics["rms_error"] for bits in (2, 4, 6, 8)]
    assert errors == sorted(errors, reverse=True)


def test_the_gradient_of_a_scale_by_hand() -> None:
    moved = torch.tensor([[0.24, -0.31, 5.0, -9.0]])
    upstream = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    # v = 2.4, -3.1, 50, -90 within 7: round(v) - v = -0.4, 0.1; beyond: 7 and -7
    found = scale_gradient(moved, torch.tensor([0.1]), upstream, 7)
    assert found.tolist() == pytest.approx([-0.4 + 0.2 + 21 - 28], abs=1e-4)


def test_the_gradient_is_that_of_rounding_passed_straight_through(
    draw: np.random.Generator,
) -> None:
    moved = torch.from_numpy(draw.standard_normal((5, 6))).requires_grad_()
    scale = torch.from_numpy(0.05 + 0.2 * draw.random(5)).requires_grad_()
    upstream = torch.from_numpy(draw.standard_normal((5, 6)))
    v = (moved / scale[:, None]).clamp(-7, 7)
    quantised = (v + (torch.round(v) - v).detach()) * scale[:, None]
    (quantised * upstream).sum().backward()
    found = scale_gradient(moved.detach(), scale.detach(), upstream, 7)
    np.testing.assert_allclose(found.numpy(), scale.grad.numpy(), rtol=1e-9)


def test_a_step_moves_the_scales_of_asked_rows_by_the_rate() -> None:
    layer = ALPT(bits=4, start=0.1, rate=0.01).embedding(6, 8, seed=3)
    before = layer.scale.clone()
    layer(torch.tensor([1, 4, 1])).square().sum().backward()
    upstream = layer.weight.grad.clone()  # summed over equal ids, as the step needs it
    with torch.no_grad():
        layer.weight += 0.03
    slope = scale_gradient(layer.weight.detach()[[1, 4]], before[[1, 4]], upstream[[1, 4]], 7)
    layer.after_step(1, 10)
    change = layer.scale - before
    assert change[[0, 2, 3, 5]].abs().max() == 0
    # Adam's first step is the rate times the sign
    np.testing.assert_allclose(change[[1, 4]], -0.001 * torch.sign(slope), rtol=1e-4)
    layer.after_step(2, 10)  # nothing was asked for
    torch.testing.assert_close(layer.scale - before, change)


def test_a_clipped_row_widens_its_scale() -> None:
    layer = ALPT(bits=4, start=0.01, rate=0.05).embedding(1, 8, seed=3)
    target = torch.full((1, 8), 0.5)
    for step in range(1, 200):
        rows = layer(torch.tensor([0]))
        layer.zero_grad()
        (rows - target).square().sum().backward()
        with torch.no_grad():
            layer.weight -= 0.2 * layer.weight.grad
        layer.after_step(step, 200)
    assert float(layer.scale) > 0.05  # from 0.01, where 7 steps reach 0.07
    np.testing.assert_allclose(layer.eval()(torch.tensor([0])).detach(), target, atol=0.06)


def test_the_export_is_what_the_layer_gives() -> None:
    layer = ALPT(bits=5).embedding(30, 6, seed=2).train()
    rows = layer(torch.arange(30)).detach().numpy()
    table = layer.export()
    assert table.nbytes == 30 * (4 + 4)
    np.testing.assert_array_equal(table.rows(np.arange(30)), rows)
    with pytest.raises(InputError, match="row 30 is outside"):
        table.rows(np.array([30]))
