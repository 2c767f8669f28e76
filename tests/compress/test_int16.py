"""Int16 against hand-computed codes, and the layers of integers against their rules."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tokenspace.compress.int8 import Int8
from tokenspace.compress.int16 import Int16


def test_codes_by_hand() -> None:
    source = np.array([[32767, -32767, 0.5, 1.5], [65534, 3.2, -101, 0], [0, 0, 0, 0]], np.float32)
    table = Int16()(source)
    np.testing.assert_array_equal(
        table.tensors["codes"], [[32767, -32767, 0, 2], [32767, 2, -50, 0], [0, 0, 0, 0]]
    )
    np.testing.assert_array_equal(table.tensors["scale"], [[1], [2], [0]])
    rows = table.rows(np.array([1, 0, 2]))
    np.testing.assert_array_equal(rows, [[65534, 4, -100, 0], [32767, -32767, 0, 2], [0, 0, 0, 0]])
    assert table.nbytes == 3 * (4 * 2 + 4)


def test_it_is_the_literal_scheme() -> None:
    draw = np.random.default_rng(2)
    lengths = np.exp(3 * draw.standard_normal((100, 1)))
    source = (lengths * draw.standard_normal((100, 12))).astype(np.float32)
    table = Int16()(source)
    rows = table.rows(np.arange(100))
    for i, row in enumerate(source.astype(np.float64)):
        scale = float(np.float32(np.abs(row).max()) / np.float32(32767))
        assert (np.abs(rows[i] - np.round(row / scale) * scale) <= 1.001 * scale).all()
        assert (np.abs(rows[i] - row) <= 0.51 * scale).all()
    assert table.metrics["rms_error"] < 1e-4
    assert table.metrics["cosine"] == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize("value", [1e-45, 1e-20, 1.0, 3e38])
def test_constant_and_extreme_rows(value: float) -> None:
    rows = Int16()(np.full((2, 8), value, np.float32)).rows(np.arange(2))
    assert np.isfinite(rows).all()
    assert (np.abs(rows.astype(np.float64) - value) <= max(1e-43, 1e-4 * value)).all()


@pytest.mark.parametrize("recipe", [Int8(), Int16()], ids=["8 bits", "16 bits"])
def test_a_layer_gives_multiples_of_its_step(recipe: Int8 | Int16) -> None:
    layer = recipe.embedding(50, 4, seed=1)
    bits = layer.bits
    largest = float(layer.weight.detach().abs().max())
    assert float(layer.scale) == pytest.approx(4 * largest / (2 ** (bits - 1) - 1), rel=1e-6)
    exact = layer.weight.detach().clone()
    rows = layer(torch.arange(50)).detach()
    codes = (rows / layer.scale).round()
    torch.testing.assert_close(codes * layer.scale, rows)
    assert float((rows - exact).abs().max()) < float(layer.scale)
    torch.testing.assert_close(layer(torch.arange(50)).detach(), rows)  # whole ones stay
    table = layer.export()
    np.testing.assert_array_equal(table.tensors["codes"], codes.numpy())
    assert table.nbytes == 50 * 4 * bits // 8 + 4
    np.testing.assert_array_equal(
        table.rows(np.arange(50)), layer.eval()(torch.arange(50)).detach().numpy()
    )


def test_rounding_is_right_on_average_and_of_asked_rows_alone() -> None:
    layer = Int8(step=0.1).embedding(2, 20_000)
    with torch.no_grad():
        layer.weight[0] = 0.23
        layer.weight[1] = 0.23
    rows = layer(torch.tensor([0])).detach()
    shares = [float((rows - value).abs().lt(1e-6).float().mean()) for value in (0.2, 0.3)]
    assert sum(shares) == pytest.approx(1)
    assert shares[1] == pytest.approx(0.3, abs=0.02)
    assert (layer.weight.detach()[1] == 0.23).all()


def test_moves_smaller_than_the_step_are_not_lost() -> None:
    layer = Int8(step=0.1).embedding(1, 1_000)
    with torch.no_grad():
        layer.weight.zero_()
        for _ in range(50):
            layer(torch.tensor([0]))
            layer.weight += 0.01  # half a unit in all, a tenth of the step at a time
        layer(torch.tensor([0]))
    assert float(layer.weight.detach().mean()) == pytest.approx(0.5, abs=0.03)


def test_the_step_doubles_before_a_thousandth_is_clipped() -> None:
    layer = Int8(step=0.01).embedding(100, 20)
    with torch.no_grad():
        layer.weight[0, 0] = 5.0  # one value of the two thousand: clipped
    layer(torch.arange(100))
    assert float(layer.scale) == pytest.approx(0.01)
    assert float(layer.weight.detach()[0, 0]) == pytest.approx(1.27)
    with torch.no_grad():
        layer.weight[0] = 5.0
    layer(torch.arange(100))
    assert float(layer.scale) == pytest.approx(0.04)  # 127 of them reach 5.08
    assert float((layer.weight.detach()[0] - 5).abs().max()) <= 0.0401
    assert float((layer.weight.detach() / layer.scale).abs().max()) <= 127


def test_gradients_are_those_of_a_plain_table() -> None:
    layer = Int8().embedding(10, 3)
    layer(torch.tensor([2, 2, 5])).sum().backward()
    exact = np.zeros((10, 3))
    exact[2], exact[5] = 2, 1
    np.testing.assert_array_equal(layer.weight.grad.numpy(), exact)
