"""OptEmbed: the step's slope by hand, the masks by a loop, and a search that spoils nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tokenspace.compress.optembed import OptEmbed
from tokenspace.compress.optembed_net import Step, evolve, narrowed
from tokenspace.errors import ConfigError, MissingEvidence

FIELDS = np.repeat(np.arange(3), [20, 80, 100])


def layer_of(**knobs):
    return OptEmbed(budget=0.6, **knobs).embedding(200, 8, fields=FIELDS, seed=3)


def test_the_slope_of_the_step_by_hand() -> None:
    u = torch.tensor([-2.0, -0.7, -0.1, 0.0, 0.2, 0.4, 0.9, 1.5], requires_grad=True)
    found = Step.apply(u)
    assert found.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    found.sum().backward()
    assert u.grad.tolist() == pytest.approx([0, 0.4, 1.6, 2.0, 1.2, 0.4, 0.4, 0], abs=1e-6)


def test_short_rows_are_blank_and_training_hides_the_ends() -> None:
    layer = layer_of()
    with torch.no_grad():
        layer.weight[5] = 0.0
        layer.weight[30] = 1e-3
        layer.thresholds.copy_(torch.tensor([0.0, 1.0, 0.0]))  # 0.05 in lengths
    layer.eval()
    rows = layer(torch.tensor([5, 30, 150])).detach()
    assert not rows[:2].any()
    torch.testing.assert_close(rows[2], layer.weight[150].detach())
    kept = layer.kept()
    assert not kept[5] and not kept[30] and kept[150]
    layer.train()
    many = layer(torch.full((4_000,), 150)).detach()
    shown = (many != 0).sum(dim=1)
    assert (many == layer.weight[150] * (torch.arange(8) < shown[:, None])).all()
    np.testing.assert_allclose(
        np.bincount(shown.numpy(), minlength=9)[1:] / 4_000, 1 / 8, atol=0.03
    )


def test_thresholds_learn_from_their_rows_and_the_penalty() -> None:
    layer = layer_of(weight=0.5)
    assert float(layer.penalty().detach()) == pytest.approx(1.5)
    layer.eval()(torch.tensor([0])).sum().backward()
    row = layer.weight[0].detach()
    slope = max(0.0, 2 - 4 * float(row.abs().sum())) if row.abs().sum() <= 0.4 else 0.4
    assert layer.thresholds.grad[0] == pytest.approx(-0.05 * slope * float(row.sum()), rel=1e-4)


def test_the_layer_at_widths_is_the_masked_supernet() -> None:
    layer = layer_of().eval()
    kept = np.ones(200, bool)
    kept[[3, 50, 199]] = False
    widths = np.array([8, 1, 3])
    found = layer.at(widths, kept)
    rows = found(torch.arange(200)).detach().numpy()
    for x in range(200):
        slow = layer.weight[x].detach().numpy() * (np.arange(8) < widths[FIELDS[x]]) * kept[x]
        np.testing.assert_array_equal(rows[x], slow)
    np.testing.assert_array_equal(found.export().rows(np.arange(200)), rows)


def test_widths_are_narrowed_in_a_copy() -> None:
    draw = np.random.default_rng(0)
    widths, rows = np.array([8, 8, 8]), np.array([20, 80, 100])
    found = narrowed(widths, rows, 2_000, draw)
    assert widths.tolist() == [8, 8, 8]
    assert 4 * int(rows @ found) <= 2_000
    assert found.min() >= 1
    np.testing.assert_array_equal(narrowed(found, rows, 2_000, draw), found)


def test_the_search_finds_the_best_and_changes_nothing_it_measured() -> None:
    rows, seen = np.array([10, 10, 10, 10]), []
    worth = np.array([3.0, 1.0, 2.0, 0.5])

    def fitness(widths: np.ndarray) -> float:
        seen.append((widths, widths.copy()))
        return float((worth * np.minimum(widths, 4)).sum())

    best = evolve(rows, 8, 4 * 10 * 10, fitness, 60, seed=1)
    assert best.tolist()[0] == 4  # 10 widths in all: 4 for 3.0, 4 for 2.0, 1 and 1
    assert fitness(best) >= 21.0
    assert all((now == then).all() for now, then in seen)
    assert all(4 * int(rows @ now) <= 400 for now, _ in seen)
    assert max(float((worth * np.minimum(now, 4)).sum()) for now, _ in seen) == fitness(best)
    again = evolve(rows, 8, 400, lambda w: float((worth * np.minimum(w, 4)).sum()), 60, seed=1)
    assert again.tolist() == best.tolist()


def test_settling_keeps_what_was_trained() -> None:
    layer = layer_of(generations=3)
    target = layer.weight.detach()

    def evaluate(found) -> float:
        return -float((found.eval()(torch.arange(200)) - target).square().sum().detach())

    settled = layer.settled(evaluate)
    assert settled.export().nbytes <= 0.6 * 4 * 200 * 8
    for table, rows in zip(settled.tables, np.split(np.arange(200), [20, 100]), strict=True):
        torch.testing.assert_close(table.detach(), target[rows][:, : table.shape[1]])


def test_of_a_finished_table_the_leading_numbers_that_hold_the_most() -> None:
    draw = np.random.default_rng(4)
    source = draw.standard_normal((200, 8)).astype(np.float32)
    source[:100, 2:] = 0  # all of it in two numbers
    table = OptEmbed(budget=0.75)(source, fields=np.repeat([0, 1], 100))
    assert table.nbytes <= 0.75 * source.nbytes
    np.testing.assert_array_equal(table.rows(np.arange(200)), source)
    whole = OptEmbed(budget=1)(source, fields=np.repeat([0, 1], 100))
    np.testing.assert_array_equal(whole.rows(np.arange(200)), source)


def test_bad_input_is_refused() -> None:
    source = np.ones((40, 8), np.float32)
    with pytest.raises(MissingEvidence, match="optembed needs fields or counts"):
        OptEmbed()(source)
    with pytest.raises(ConfigError, match=r"optembed: budget=0.1 .* least it can do is"):
        OptEmbed(budget=0.1)(source, counts=np.arange(40))
