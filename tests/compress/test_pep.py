"""PEP: the soft threshold by a loop, its gradient, and the second training's first values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tokenspace.compress._sparse_net import SparseEmbedding
from tokenspace.compress.pep import PEP


def soft(values: np.ndarray, threshold: np.ndarray | float) -> np.ndarray:
    return np.sign(values) * np.maximum(np.abs(values) - threshold, 0)


@pytest.mark.parametrize("per", ["table", "column", "row"])
def test_rows_are_less_their_threshold(per: str) -> None:
    layer = PEP(budget=0.5, per=per).embedding(40, 8, init_std=0.5, seed=1)
    with torch.no_grad():
        layer.thresholds.copy_(
            torch.randn(layer.thresholds.shape, generator=torch.manual_seed(0)) - 1
        )
    ids = np.array([3, 0, 3, 39])
    s = np.broadcast_to(layer.thresholds.detach().double().numpy(), (40, 8))[ids]
    slow = soft(layer.weight.detach().double().numpy()[ids], 1 / (1 + np.exp(-s)))
    np.testing.assert_allclose(layer(torch.from_numpy(ids)).detach().numpy(), slow, atol=1e-6)


def test_the_threshold_has_a_gradient_at_its_start() -> None:
    layer = PEP(budget=0.5).embedding(40, 8, seed=1)
    layer(torch.arange(40)).square().sum().backward()
    assert (layer.thresholds.grad < 0).all()  # raising it makes values smaller
    rows, threshold = layer.weight.detach().double(), torch.sigmoid(torch.tensor(-5.0)).item()
    kept = rows.abs() > threshold
    slope = -2 * ((rows.abs() - threshold) * kept).sum(0) * threshold * (1 - threshold)
    np.testing.assert_allclose(layer.thresholds.grad[0].numpy(), slope.numpy(), rtol=1e-3)


def test_settling_goes_back_to_the_first_values() -> None:
    layer = PEP(budget=0.4).embedding(40, 8, seed=1)
    first = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight.copy_(torch.randn(40, 8, generator=torch.manual_seed(5)))
    settled = layer.settled(lambda found: 0.0)
    assert isinstance(settled, SparseEmbedding)
    torch.testing.assert_close(settled.weight.detach(), first)
    now = np.abs(layer(torch.arange(40)).detach().numpy()).ravel()
    slow = np.zeros(320, bool)
    slow[np.argsort(-now)[: layer.keep]] = True
    np.testing.assert_array_equal(settled.mask.numpy().ravel() > 0, slow)
    assert settled.settled(lambda found: 0.0) is None


def test_with_fewer_values_above_it_those_are_all() -> None:
    layer = PEP(budget=0.9).embedding(40, 8, seed=1)
    with torch.no_grad():
        layer.thresholds.fill_(-1.0)  # 0.27: no initial value is as large
        layer.weight[4, 2] = 2.0
    settled = layer.settled(lambda found: 0.0)
    assert settled.mask.nonzero().tolist() == [[4, 2]]


def test_of_a_finished_table_values_above_one_threshold_less_it() -> None:
    source = np.random.default_rng(3).standard_normal((50, 8)).astype(np.float32)
    table = PEP(budget=0.5)(source)
    count = (800 - 4 * 51) // 5
    threshold = np.sort(np.abs(source).ravel())[-count - 1]
    np.testing.assert_allclose(table.rows(np.arange(50)), soft(source, threshold), atol=1e-7)
    assert table.nbytes <= 800


def test_a_sparse_table_comes_back_exactly() -> None:
    source = np.zeros((50, 8), np.float32)
    source[::3, 4] = 1.5
    table = PEP(budget=0.5)(source)
    np.testing.assert_array_equal(table.rows(np.arange(50)), source)
