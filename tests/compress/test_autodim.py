"""AutoDim: the mixture against a loop in float64, and the choice of widths."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tokenspace.compress._mixed_net import MixedEmbedding
from tokenspace.compress.autodim import AutoDim
from tokenspace.errors import ConfigError, MissingEvidence

FIELDS = np.repeat(np.arange(3), [20, 80, 100])


def layer_of(budget: float = 0.6, seed: int = 0):
    return AutoDim(budget=budget).embedding(200, 8, fields=FIELDS, init_std=0.05, seed=seed)


def test_the_mixture_is_a_loop_over_widths() -> None:
    layer = layer_of()
    with torch.no_grad():
        layer.logits.copy_(torch.randn(layer.logits.shape, generator=torch.manual_seed(0)))
    for _ in range(20):  # the norms' running figures settle
        layer.train()(torch.arange(200))
    layer.eval()
    ids = np.array([0, 19, 20, 150, 150])
    slow = []
    for x in ids:
        f = FIELDS[x]
        shares = torch.softmax(layer.logits[f].double(), 0)
        row = torch.zeros(8, dtype=torch.float64)
        for c in range(3):
            z = layer.tables[c][x].double() @ layer.outs[c][f].double()
            row += shares[c] * (z - layer.means[c]) / torch.sqrt(layer.variances[c] + 1e-5)
        slow.append((0.05 * row).detach().numpy())
    np.testing.assert_allclose(
        layer(torch.from_numpy(ids)).detach().numpy(), slow, rtol=1e-4, atol=1e-6
    )


def test_a_repeated_id_weighs_in_the_norms_as_often_as_it_stands() -> None:
    layer = layer_of().train()
    with torch.no_grad():
        layer.logits.copy_(torch.tensor([[0.0, 0, 99], [0, 0, 99], [0, 0, 99]]))  # one choice
    ids = torch.tensor([3, 150, 30, 3, 3, 199, 30, 20])
    weights = torch.arange(64.0).reshape(8, 8).cos()
    found = layer(ids)
    (found * weights).sum().backward()
    table = layer.tables[2].detach().double().requires_grad_()
    out = layer.outs[2].detach().double()
    norm = torch.nn.BatchNorm1d(8, affine=False).double()
    rows = torch.stack([table[x] @ out[FIELDS[x]] for x in ids])
    slow = 0.05 * norm(rows)
    (slow * weights).sum().backward()
    torch.testing.assert_close(found.double(), slow, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(layer.tables[2].grad.double(), table.grad, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(layer.means[2].double(), norm.running_mean)
    torch.testing.assert_close(layer.variances[2].double(), norm.running_var)


@pytest.mark.parametrize("width", [8, 12])
def test_the_loops_and_the_formulas_descend_alike(width: int) -> None:
    quick, slow = (
        AutoDim(budget=0.6).embedding(200, width, fields=FIELDS, seed=1).train() for _ in range(2)
    )
    slow = slow.double()  # of other numbers than float32 the layer makes rows by torch
    ids = torch.tensor([[3, 150, 30, 3], [3, 199, 30, 20]])
    weights = torch.arange(8.0 * width).reshape(2, 4, width).cos()
    found, sure = quick(ids), slow(ids)
    torch.testing.assert_close(found.double(), sure, rtol=1e-4, atol=1e-5)
    (found * weights).sum().backward()
    (sure * weights).sum().backward()
    for one, other in zip(quick.parameters(), slow.parameters(), strict=True):
        torch.testing.assert_close(one.grad.double(), other.grad, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(quick.means.double(), slow.means, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(quick.variances.double(), slow.variances, rtol=1e-4, atol=1e-6)


def test_training_draws_a_choice_that_sharpens() -> None:
    layer = layer_of()
    layer.train()
    first, second = (layer(torch.arange(200)) for _ in range(2))
    assert not torch.equal(first, second)
    layer.after_step(1_000_000, 1_000_000)
    assert layer.temperature == 0.01
    layer.after_step(1000, 2000)  # 200 ids of 3 fields: 66.7 rows a step
    assert layer.temperature == pytest.approx(1 - 25e-9 * 200 / 3 * 1000)


def test_widths_are_the_likeliest_where_they_fit_and_cheaper_where_not() -> None:
    layer = layer_of(budget=1.0)
    assert layer.widths() == [8]  # one group: the table itself
    layer = layer_of(budget=0.6)
    with torch.no_grad():
        layer.logits.copy_(torch.tensor([[0, 5.0, 0], [5.0, 0, 0], [0, 5.0, 0]]))
    assert layer.choices == [2, 4, 8]
    assert layer.widths() == [4, 2, 4]
    with torch.no_grad():
        layer.logits.copy_(torch.tensor([[0, 0, 5.0], [0, 0, 5.0], [0, 0, 4.0]]))
    widths = layer.widths()
    assert widths != [8, 8, 8]
    assert layer.export().nbytes <= 0.6 * 4 * 200 * 8


def test_settling_starts_the_chosen_tables_anew() -> None:
    layer = layer_of()
    with torch.no_grad():
        layer.logits.copy_(torch.tensor([[0, 5.0, 0], [5.0, 0, 0], [0, 5.0, 0]]))
    settled = layer.settled(lambda found: 0.0)
    assert isinstance(settled, MixedEmbedding)
    assert [table.shape for table in settled.tables] == [(20, 4), (80, 2), (100, 4)]
    assert settled.settled(lambda found: 0.0) is None
    assert list(settled.searched()) == []
    assert list(layer.searched()) == [layer.logits]


def test_of_a_finished_table_the_widths_hold_the_most() -> None:
    draw = np.random.default_rng(1)
    narrow = draw.standard_normal((100, 2)) @ draw.standard_normal((2, 8))
    wide = draw.standard_normal((100, 8))
    source = np.concatenate([narrow, wide]).astype(np.float32)
    table = AutoDim(budget=0.75)(source, fields=np.repeat([0, 1], 100))
    assert table.tensors["table.0"].shape == (100, 2)  # two directions are all it has
    assert table.tensors["table.1"].shape == (100, 8)
    np.testing.assert_allclose(table.rows(np.arange(200)), source, atol=1e-5)


def test_the_whole_budget_gives_the_table_back() -> None:
    source = np.random.default_rng(2).standard_normal((200, 8)).astype(np.float32)
    table = AutoDim(budget=1)(source, fields=FIELDS)
    np.testing.assert_array_equal(table.rows(np.arange(200)), source)


def test_bad_input_is_refused() -> None:
    source = np.ones((40, 8), np.float32)
    with pytest.raises(MissingEvidence, match="autodim needs fields or counts"):
        AutoDim()(source)
    with pytest.raises(ConfigError, match=r"autodim: budget=0.1 .* least it can do is"):
        AutoDim(budget=0.1)(source, counts=np.arange(40))
    with pytest.raises(ConfigError, match="width 1 leaves no choice"):
        AutoDim()(source[:, :1], counts=np.arange(40))
