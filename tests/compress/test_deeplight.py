"""DeepLight: the schedule by hand, and which values it zeroes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tokenspace.compress.deeplight import DeepLight
from tokenspace.compress.magnitude import Magnitude


def layer_of(budget: float = 0.4):
    return DeepLight(budget=budget, warmup=0.1).embedding(100, 8, seed=2)


def test_the_schedule_by_hand() -> None:
    layer = layer_of()
    target = 800 - layer.keep
    assert layer.dropped(100, 1000) == 0  # the warm-up ends
    assert layer.dropped(500, 1000) == int(target * (1 - 1e-3**0.5))
    assert layer.dropped(900, 1000) == int(target * 0.999)
    assert layer.dropped(1000, 1000) == target
    steps = [layer.dropped(step, 1000) for step in range(1, 1001)]
    assert steps == sorted(steps)


def test_the_smallest_values_fall_every_ten_steps() -> None:
    layer = layer_of()
    before = layer.weight.detach().clone()
    layer.after_step(199, 400)
    torch.testing.assert_close(layer.weight.detach(), before)
    layer.after_step(200, 400)
    number = layer.dropped(200, 400)
    order = np.argsort(before.abs().numpy().ravel())
    slow = before.numpy().ravel().copy()
    slow[order[:number]] = 0
    np.testing.assert_array_equal(layer.weight.detach().numpy().ravel(), slow)


def test_a_dropped_value_receives_gradients_and_may_grow_back() -> None:
    layer = layer_of()
    layer.after_step(200, 400)
    dead = (layer.weight[0] == 0).nonzero().flatten()
    assert len(dead)
    layer(torch.tensor([0])).sum().backward()
    assert (layer.weight.grad[0] == 1).all()
    with torch.no_grad():
        layer.weight[0, dead[0]] = 9.0
    layer.after_step(400, 400)
    assert layer.weight[0, dead[0]] == 9.0
    assert int((layer.weight != 0).sum()) == layer.keep


def test_the_last_step_leaves_what_the_export_holds() -> None:
    layer = layer_of()
    early = layer.export()
    layer.after_step(7, 7)  # however short the training
    table = layer.export()
    assert early.nbytes == table.nbytes <= 0.4 * 3200
    np.testing.assert_array_equal(table.rows(np.arange(100)), layer.weight.detach().numpy())


def test_of_a_finished_table_it_is_magnitude() -> None:
    source = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    for budget in (0.1, 0.5):
        ours, plain = DeepLight(budget=budget)(source), Magnitude(budget=budget)(source)
        np.testing.assert_array_equal(ours.rows(np.arange(50)), plain.rows(np.arange(50)))


@pytest.mark.parametrize("budget", [0.05, 0.5, 1.0])
def test_values_and_places_are_within_the_budget(budget: float) -> None:
    layer = layer_of(budget)
    assert layer.export().nbytes <= budget * 3200
