"""AutoSrh: gates by hand, pruning by a literal sort, and its groups."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tokenspace.compress.autosrh import AutoSrh
from tokenspace.errors import InputError, MissingEvidence

COUNTS = np.random.default_rng(1).permutation(10_000 // np.arange(1, 86))


def layer_of():
    return AutoSrh(budget=0.4, groups=4).embedding(85, 8, counts=COUNTS, seed=7)


def test_rows_are_gated_by_their_group() -> None:
    layer = layer_of()
    order = np.argsort(-COUNTS, kind="stable")
    group = np.empty(85, int)
    group[order] = np.repeat(np.arange(4), [1, 4, 16, 64])
    np.testing.assert_array_equal(layer.group.numpy(), group)
    with torch.no_grad():
        layer.gates.copy_(torch.rand(4, 8, generator=torch.manual_seed(0)))
    slow = layer.weight.detach().numpy() * layer.gates.detach().numpy()[group]
    np.testing.assert_array_equal(layer(torch.arange(85)).detach().numpy(), slow)


def test_gates_move_by_the_gradient_over_its_mean_and_stay_in_bounds() -> None:
    layer = layer_of()
    assert list(layer.searched()) == [layer.gates]
    out = layer(torch.arange(85))
    slope = torch.rand(85, 8, generator=torch.manual_seed(3))
    (out * slope).sum().backward()
    exact = np.zeros((4, 8))
    for x in range(85):
        exact[int(layer.group[x])] += (slope[x] * layer.weight[x]).detach().double().numpy()
    exact /= np.abs(exact).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(layer.gates.grad.numpy(), exact, rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        layer.gates += layer.gates.grad
    layer.after_step(1, 10)
    assert layer.gates.min().item() >= 0 and layer.gates.max().item() <= 1
    assert float(layer.penalty().detach()) == pytest.approx(
        1e-5 * float(layer.gates.detach().sum()), rel=1e-5
    )


def test_settling_keeps_the_largest_gated_values() -> None:
    layer = layer_of()
    with torch.no_grad():
        layer.gates.copy_(torch.rand(4, 8, generator=torch.manual_seed(0)))
    settled = layer.settled(lambda found: 0.0)
    gated = np.abs(layer(torch.arange(85)).detach().numpy()).ravel()
    slow = np.zeros(680, bool)
    slow[np.argsort(-gated)[: layer.keep]] = True
    np.testing.assert_array_equal(settled.mask.numpy().ravel(), slow)
    torch.testing.assert_close(settled.weight, layer.weight)
    assert not settled.gates.requires_grad
    assert list(settled.searched()) == []
    assert settled.settled(lambda found: 0.0) is None
    assert float(settled.penalty()) == 0
    table = settled.export()
    assert table.nbytes <= 0.4 * 4 * 680
    np.testing.assert_array_equal(
        table.rows(np.arange(85)), settled(torch.arange(85)).detach().numpy()
    )
    settled(torch.arange(85)).sum().backward()
    assert not settled.weight.grad[settled.mask == 0].any()


def test_of_a_finished_table_frequent_rows_weigh_more() -> None:
    counts = np.array([1, 400, 1, 1, 1])
    source = np.full((5, 8), 3.0, np.float32)
    source[1] = 1.0
    table = AutoSrh(budget=0.5, groups=2)(source, counts=counts)  # 1 * 20 beats 3 * 1
    rows = table.rows(np.arange(5))
    np.testing.assert_array_equal(rows[1], source[1])
    assert int((rows != 0).sum()) < 40
    level = AutoSrh(budget=0.5, groups=2)(source, counts=np.zeros(5, np.int64))
    assert not level.rows(np.array([1])).any()


def test_missing_or_wrong_counts_are_named() -> None:
    with pytest.raises(MissingEvidence, match="autosrh needs counts"):
        AutoSrh().embedding(10, 4)
    with pytest.raises(InputError, match="counts"):
        AutoSrh().embedding(10, 4, counts=np.ones(9, np.int64))
