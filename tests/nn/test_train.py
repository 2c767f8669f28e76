"""The training loop: against a hand-written loop, its promises, and on two processes."""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
import time

import pytest
import torch
from accelerate.state import AcceleratorState
from torch import nn

from tokenspace.errors import ConfigError, InputError, NotConverged
from tokenspace.nn.train import rate, steps


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


def problem(size=16, dtype=torch.float64):
    """Return (batches, weights): 64 rows of an exact linear function of four features."""
    draw = torch.Generator().manual_seed(1)
    inputs = torch.randn(64, 4, generator=draw, dtype=dtype)
    weights = torch.tensor([[1.0, 2.0, -1.0, 0.5]], dtype=dtype)
    targets = inputs @ weights.T + 3
    return list(zip(inputs.split(size), targets.split(size), strict=True)), weights


def network(*, dropout=0.0, dtype=torch.float64):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 1, dtype=dtype), nn.Dropout(dropout))


def squared(module, batch):
    inputs, targets = batch
    return (module(inputs) - targets).square().mean()


def test_learns_the_known_optimum():
    batches, weights = problem()
    module = network()
    ticks = list(steps(module, squared, batches, lr=0.3, total=200, weight_decay=0.0, warmup=10))
    assert [tick.step for tick in ticks] == list(range(1, 201))
    assert ticks[-1].loss < 1e-8 < ticks[0].loss
    torch.testing.assert_close(module[0].weight.data, weights, atol=1e-3, rtol=0)
    torch.testing.assert_close(module[0].bias.data, torch.tensor([3.0]).double(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("eps", [1e-8, 1e-2])
def test_equals_a_hand_written_loop(eps):
    """AdamW by its equations: decay, two moments, both corrected; clipped by the whole norm."""
    batches, _ = problem()
    module, lr, decay, clip, total, warmup = network(), 0.1, 0.3, 0.7, 5, 2
    theta = [p.detach().clone() for p in module.parameters()]
    first = [torch.zeros_like(p) for p in theta]
    second = [torch.zeros_like(p) for p in theta]
    ticks = steps(
        module, squared, batches, lr=lr, total=total, warmup=warmup, clip=clip, weight_decay=decay,
        eps=eps,
    )  # fmt: skip
    for t, (tick, (inputs, targets)) in enumerate(zip(ticks, itertools.cycle(batches)), start=1):
        weight, bias = theta
        error = inputs @ weight.T + bias - targets
        gradient = [2 * error.T @ inputs / len(inputs), 2 * error.mean(0)]
        norm = math.sqrt(sum(float(g.square().sum()) for g in gradient))
        eta = [0.05, 0.1, 0.1, 0.1 * 2 / 3, 0.1 / 3][t - 1]
        for i, g in enumerate(gradient):
            scaled = g * min(1, clip / (norm + 1e-6))
            first[i] = 0.9 * first[i] + 0.1 * scaled
            second[i] = 0.999 * second[i] + 0.001 * scaled.square()
            if theta[i].ndim > 1:  # no decay on the bias
                theta[i] = theta[i] * (1 - eta * decay)
            step = (first[i] / (1 - 0.9**t)) / ((second[i] / (1 - 0.999**t)).sqrt() + eps)
            theta[i] = theta[i] - eta * step
        assert tick.lr == pytest.approx(eta, abs=1e-12)
        assert tick.loss == pytest.approx(float(error.square().mean()), rel=1e-9)
        for ours, want in zip(module.parameters(), theta, strict=True):
            torch.testing.assert_close(ours.data, want, rtol=1e-9, atol=1e-12)
    assert t == total


def test_accumulating_halves_equals_whole_batches():
    whole, halves = network(), network()
    a = list(steps(whole, squared, problem(16)[0], lr=0.1, total=6))
    b = list(steps(halves, squared, problem(8)[0], lr=0.1, total=6, accumulate=2))
    assert [t.loss for t in a] == pytest.approx([t.loss for t in b], rel=1e-12)
    torch.testing.assert_close(whole[0].weight, halves[0].weight)


def test_equal_seeds_give_equal_bytes_and_other_seeds_others():
    def trained(seed):
        module = network(dropout=0.5)
        for _ in steps(module, squared, problem()[0], lr=0.1, total=5, seed=seed):
            torch.rand(3)  # a draw of the caller's shifts nothing
        return module[0].weight.detach().numpy().tobytes()

    assert trained(1) == trained(1) != trained(2)


def test_a_step_leaves_the_callers_generator_and_the_modules_mode():
    module = network(dropout=0.5).eval()
    state = torch.get_rng_state()
    seen = []
    for _ in steps(module, squared, problem()[0], lr=0.1, total=2):
        seen.append(module.training)
    assert seen == [False, False]
    assert torch.equal(torch.get_rng_state(), state)


def test_all_parts_are_in_training_mode_during_a_step():
    module = network()
    module[1].eval()  # the whole says that it is in training
    during = []

    def loss(inner, batch):
        during.append((inner.training, inner[1].training))
        return squared(inner, batch)

    for tick in steps(module, loss, problem()[0], lr=0.1, total=4):
        assert module.training == (tick.step in (1, 4))
        module.train(tick.step == 3)
    assert during == [(True, True)] * 4


def test_the_caller_stops_by_breaking():
    module = network()
    for tick in steps(module, squared, problem()[0], lr=0.1, total=100):
        if tick.step == 3:
            break
    assert all(p.grad is None for p in module.parameters())
    assert isinstance(module(torch.zeros(1, 4).double()), torch.Tensor)


def test_an_iterator_is_read_once_and_a_list_again():
    batches, _ = problem()  # four batches
    assert len(list(steps(network(), squared, iter(batches), lr=0.1, total=9))) == 4
    assert len(list(steps(network(), squared, batches, lr=0.1, total=9))) == 9
    assert len(list(steps(network(), squared, batches, lr=0.1, total=9, accumulate=3))) == 9


def test_a_loss_that_is_not_finite_stops_before_the_step():
    module = network()

    def loss(inner, batch):
        return squared(inner, batch) * (math.nan if next(count) == 2 else 1)

    count, kept, ticks = itertools.count(), None, []
    with pytest.raises(NotConverged, match="step 3: the loss is nan") as caught:
        for tick in steps(module, loss, problem()[0], lr=0.1, total=9):
            ticks.append(tick)
            kept = module[0].weight.detach().clone()
    assert len(ticks) == 2
    assert torch.equal(module[0].weight, kept)
    assert "lower lr" in caught.value.hint


def test_a_gradient_that_is_not_finite_stops_too():
    def loss(module, batch):
        return (module[0].weight * 0).sum().sqrt()  # 0, with an infinite slope

    with pytest.raises(NotConverged, match="step 1: the gradient's norm is nan"):
        list(steps(network(), loss, problem()[0], lr=0.1, total=9))


def test_rates():
    options = {"lr": 2.0, "total": 10, "warmup": 4}
    assert [rate(t, **options) for t in (1, 2, 4, 5, 10)] == [
        0.5,
        1.0,
        2.0,
        2.0,
        pytest.approx(1 / 3),
    ]
    assert rate(8, decay="cosine", **options) == pytest.approx(1.0)
    assert rate(5, decay="cosine", **options) == 2.0
    assert rate(10, decay="none", **options) == 2.0
    assert rate(3, lr=1.0, total=3, warmup=3) == 1.0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"lr": -1.0}, r"lr=-1\.0 is outside \[0, inf\]"),
        ({"lr": math.nan}, "lr=nan"),
        ({"total": 0}, r"total=0 is outside \[1, inf\]"),
        ({"warmup": 11}, r"warmup=11 is outside \[0, total=10\]"),
        ({"accumulate": 0}, "accumulate=0"),
        ({"clip": -1.0}, "clip=-1"),
        ({"decay": "step"}, "decay='step' is not"),
    ],
)
def test_bad_numbers_are_refused_at_the_call(options, says):
    with pytest.raises(ConfigError, match=says):
        steps(network(), squared, [], **{"lr": 0.1, "total": 10, **options})


def test_too_few_batches_are_refused():
    with pytest.raises(InputError, match=r"fewer than one step's worth \(5\)"):
        list(steps(network(), squared, problem()[0], lr=0.1, total=9, accumulate=5))
    with pytest.raises(InputError, match="fewer than one step's worth"):
        list(steps(network(), squared, [], lr=0.1, total=9))


def test_mixed_precision_is_accelerates_and_comes_off_afterwards(monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    rounded = []

    def exact(module, inputs):
        return inputs @ module[0].weight.T + module[0].bias

    def loss(wrapped, batch):
        rounded.append((wrapped(batch[0]) - exact(module, batch[0])).abs().max().item())
        return squared(wrapped, batch)

    batches, _ = problem(dtype=torch.float32)
    module = network(dtype=torch.float32)
    ticks = list(steps(module, loss, batches, lr=0.1, total=20))
    assert ticks[-1].loss < ticks[0].loss
    assert min(rounded) > 1e-5
    inputs = batches[0][0]
    assert module[0].weight.dtype == torch.float32
    torch.testing.assert_close(module(inputs), exact(module, inputs), rtol=1e-5, atol=1e-5)


SCRIPT = """
import json
import os
import torch
from accelerate import PartialState
from tokenspace.nn.train import steps

state = PartialState(cpu=True, init_method=f"file://{os.getcwd()}/meeting")
module = torch.nn.Linear(4, 1, dtype=torch.float64)
torch.nn.init.zeros_(module.weight)
torch.nn.init.zeros_(module.bias)
inputs, targets = (torch.tensor(rows, dtype=torch.float64) for rows in json.load(open('rows.json')))
batches = list(zip(inputs.split(4), targets.split(4)))
loss = lambda module, batch: (module(batch[0]) - batch[1]).square().mean()
ticks = steps(module, loss, batches, lr=0.05, total=12, warmup=2, accumulate=2)
curve = [tick.loss for tick in ticks]
with open(f"{state.process_index}.json", "w") as file:
    json.dump([state.num_processes, curve, module.weight.tolist()], file)
state.destroy_process_group()
"""


def test_two_processes_equal_one_with_batches_as_large_as_all_of_theirs(tmp_path):
    """The environment is what ``accelerate launch`` sets; they meet in a file, not at a port.

    Two processes of two accumulated batches of four rows are one process with sixteen rows.
    """
    whole, _ = problem()
    rows = [torch.cat(parts).tolist() for parts in zip(*whole, strict=True)]
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    processes = []
    for rank in ("0", "1"):
        ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        environment = {**os.environ, **ranks, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
        processes.append(
            subprocess.Popen(
                [sys.executable, "script.py"],
                cwd=tmp_path,
                env=environment,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    module = nn.Linear(4, 1, dtype=torch.float64)
    nn.init.zeros_(module.weight)
    nn.init.zeros_(module.bias)
    ticks = steps(module, squared, whole, lr=0.05, total=12, warmup=2)
    alone = [tick.loss for tick in ticks]
    try:
        said = [process.communicate(timeout=300)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], said
    for rank in (0, 1):
        count, curve, weight = json.loads((tmp_path / f"{rank}.json").read_text())
        assert count == 2
        assert curve == pytest.approx(alone, rel=1e-9)
        assert weight == [pytest.approx(module.weight[0].tolist(), abs=1e-9)]


def test_the_moments_forget_as_fast_as_told():
    """One step of AdamW from zero is lr * g / (|g| + eps) whatever betas are; two steps are not."""
    ends = []
    for betas in ((0.9, 0.999), (0.5, 0.5)):
        module = network()
        list(steps(module, squared, problem()[0], lr=0.1, total=3, betas=betas))
        ends.append(module[0].weight.detach().clone())
    assert not torch.allclose(*ends, atol=1e-4)


def test_seconds_end_the_training_and_bring_the_rate_down():
    def slow(module, batch):
        time.sleep(0.02)
        return squared(module, batch)

    ticks = list(steps(network(), slow, problem()[0], lr=1.0, total=10**9, seconds=0.3))
    assert 2 <= len(ticks) <= 15
    assert ticks[-1].lr < 0.5 < ticks[0].lr
    assert [t.lr for t in ticks] == sorted((t.lr for t in ticks), reverse=True)


def test_steps_may_end_before_the_seconds_do():
    ticks = list(steps(network(), squared, problem()[0], lr=1.0, total=4, seconds=1e6))
    assert [t.lr for t in ticks] == pytest.approx([1.0, 0.75, 0.5, 0.25], abs=1e-3)


def test_no_seconds_at_all_still_give_one_step():
    assert len(list(steps(network(), squared, problem()[0], lr=0.1, total=9, seconds=0.0))) == 1
    with pytest.raises(ConfigError, match="seconds"):
        steps(network(), squared, problem()[0], lr=0.1, total=9, seconds=-1.0)


def test_the_rate_falls_by_the_budget_that_is_nearer_its_end():
    plan = {"lr": 2.0, "total": 110, "warmup": 10}
    assert rate(61, **plan, spent=0.2) == rate(61, **plan) == pytest.approx(1.0)
    assert rate(61, **plan, spent=0.75) == pytest.approx(0.5)
    assert rate(5, **plan, spent=0.2) == pytest.approx(1.0)
    assert rate(5, **plan, spent=0.9) == pytest.approx(0.2)  # a warm-up that is cut short
    assert rate(61, **plan, spent=1.5) == 0
    assert rate(61, **plan, spent=0.9, decay="none") == 2.0
