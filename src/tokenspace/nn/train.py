"""The training loop: a generator that yields after every step, so the caller owns the rest.

::

    for tick in steps(module, loss, batches, lr=1e-3, total=1000, warmup=100):
        if tick.step % 100 == 0 and evaluate(module) < best:
            break

There is no trainer class and no callback: evaluating, logging and stopping are plain code in the
loop's body. The same script runs on several devices under ``accelerate launch``: gradients are
averaged over the processes, and of every ``processes`` consecutive batches each process takes one,
so two processes do what one does with batches of twice the size. Mixed precision follows
accelerate's own settings (``--mixed_precision bf16``). On the CPU alone ``accelerate launch`` wants
MPI for several processes; ``ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 script.py`` does
without it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, broadcast, send_to_device
from torch import Tensor, nn

from tokenspace import rng
from tokenspace.errors import ConfigError, InputError, NotConverged

__all__ = ["Tick", "rate", "steps"]

Batch = TypeVar("Batch")
Decay = Literal["linear", "cosine", "none"]
_PLAIN = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)


@dataclass(frozen=True)
class Tick:
    """What one optimizer step did.

    ``step`` counts from 1; ``loss`` is the average over accumulated batches and processes;
    ``lr`` is the rate of this step; ``seconds`` have passed since training began.
    """

    step: int
    loss: float
    lr: float
    seconds: float


def steps(
    module: nn.Module,
    loss: Callable[[nn.Module, Batch], Tensor],
    batches: Iterable[Batch],
    *,
    lr: float,
    total: int,
    warmup: int = 0,
    decay: Decay = "linear",
    weight_decay: float = 0.01,
    clip: float | None = 1.0,
    accumulate: int = 1,
    seed: int = 0,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    seconds: float | None = None,
    slower: Callable[[str], float] | None = None,
) -> Iterator[Tick]:
    """Train ``module`` in place with AdamW and yield a :class:`Tick` after every step.

    Parameters
    ----------
    module
        Moved to accelerate's device. It is in training mode during a step and keeps the mode that
        the caller sets between steps; parameters of fewer than two dimensions (biases, norms) get
        no weight decay.
    loss
        ``loss(module, batch)`` gives a scalar. It must call the module it is given, which under
        several processes is a wrapper that exchanges gradients.
    batches
        Any nesting of tensors. A collection is read again from its start until ``total`` steps are
        done; an iterator is read once. Every process must see the same batches in the same order;
        a last group smaller than ``processes * accumulate`` is left out.
    lr, total, warmup, decay
        The rate rises linearly over ``warmup`` steps to ``lr`` and falls to zero at ``total``
        (:func:`rate`).
    seconds
        Training ends after this long, if it has not come to ``total`` before; the rate falls by
        whichever of the two is nearer its end, so that it ends low in either case.
    weight_decay, clip
        Decoupled weight decay (Loshchilov and Hutter 2019, arXiv:1711.05101), and the greatest
        norm of all gradients together, or None.
    betas, eps
        How slowly AdamW's two moments forget, and what is added to the root of the second.
    slower
        ``slower(name)`` is what the rate is multiplied with for the parameter of that name.
    accumulate
        Batches whose gradients are averaged into one step.
    seed
        Of the dropout and any other draw of torch inside a step. Each step has a stream of its
        own, so nothing that the caller does between steps shifts it.

    Raises
    ------
    ConfigError
        A number outside its range, at the call and not at the first step.
    InputError
        ``batches`` held not even one step's worth.
    NotConverged
        The loss or the gradient of a step is not finite; the step is not taken.
    """
    for name, value, low in (
        ("lr", lr, 0.0),
        ("total", total, 1),
        ("warmup", warmup, 0),
        ("weight_decay", weight_decay, 0.0),
        ("clip", math.inf if clip is None else clip, 0.0),
        ("accumulate", accumulate, 1),
        ("seconds", math.inf if seconds is None else seconds, 0.0),
    ):
        if not value >= low:
            raise ConfigError(f"{name}={value} is outside [{low:g}, inf]")
    if warmup > total:
        raise ConfigError(f"warmup={warmup} is outside [0, total={total}]")
    if decay not in ("linear", "cosine", "none"):
        raise ConfigError(f"decay={decay!r} is not 'linear' or 'cosine' or 'none'")

    def run() -> Iterator[Tick]:
        accelerator = Accelerator()
        optimizer = torch.optim.AdamW(
            _parameters(module, weight_decay, slower), lr=lr, betas=betas, eps=eps, fused=True
        )
        wrapped, stepper = accelerator.prepare(module, optimizer)
        if accelerator.scaler is None and accelerator.distributed_type in _PLAIN:
            stepper = optimizer  # accelerate's own searches the disk for a package every time
        trained = list(wrapped.parameters())
        groups = _groups_of(batches, accumulate * accelerator.num_processes)
        begin, done = time.perf_counter(), 0
        try:
            for step, group in enumerate(islice(groups, total), start=1):
                spent = _spent(accelerator, begin, seconds)
                if spent >= 1 and done:
                    break
                done = step
                own = group[accelerator.process_index :: accelerator.num_processes]
                now = rate(done, lr=lr, total=total, warmup=warmup, decay=decay, spent=spent)
                for parameters in optimizer.param_groups:
                    parameters["lr"] = now * parameters["slower"]
                training = module.training
                if not training or done == 1:  # a walk through all modules, which costs
                    wrapped.train()
                with rng.torch_scope(seed, "train", done, accelerator.process_index):
                    value = _backward(accelerator, wrapped, loss, own)
                _check(value, "loss", done)
                norm = accelerator.clip_grad_norm_(trained, math.inf if clip is None else clip)
                if accelerator.scaler is None:  # a scaler skips such a step and scales down
                    _check(float(norm), "gradient's norm", done)
                stepper.step()
                stepper.zero_grad()
                if not training:
                    wrapped.train(False)
                yield Tick(done, value, now, time.perf_counter() - begin)
        finally:  # also on the caller's break: take off what prepare() put around the module
            accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False)
            optimizer.zero_grad()
        if not done:
            raise InputError(
                f"batches: fewer than one step's worth ({accumulate * accelerator.num_processes})",
                hint="give more batches, or accumulate fewer",
            )

    return run()


def rate(
    step: int,
    *,
    lr: float,
    total: int,
    warmup: int = 0,
    decay: Decay = "linear",
    spent: float = 0.0,
) -> float:
    """Return the learning rate of step ``step``, counted from 1.

    With t the step, W the warm-up and N the total: lr t/W while t <= W; then lr (1 - p) for linear
    and lr (1 + cos(pi p))/2 for cosine decay, with p = (t - 1 - W)/(N - W) clipped at zero, so that
    the first step after the warm-up has the whole rate and the last one is not wasted on zero.
    ``spent`` is the part of another budget, such as time, that is gone: p is at least that, and
    a warm-up that is cut short goes no higher.
    """
    part = 0.0 if step <= warmup else (step - 1 - warmup) / (total - warmup)
    part = min(1.0, max(spent, part))
    falling = {"linear": 1 - part, "cosine": (1 + math.cos(math.pi * part)) / 2, "none": 1.0}
    return lr * min(falling[decay], step / warmup if step <= warmup else 1.0)


def _spent(accelerator: Accelerator, begin: float, seconds: float | None) -> float:
    """Return the part of ``seconds`` that is gone, the same on every process."""
    if seconds is None:
        return 0.0
    gone = torch.tensor(time.perf_counter() - begin, device=accelerator.device)
    return float(broadcast(gone)) / max(seconds, 1e-9)


def _backward(
    accelerator: Accelerator,
    module: nn.Module,
    loss: Callable[[nn.Module, Batch], Tensor],
    group: list[Batch],
) -> float:
    """Add the gradients of the batches' average loss; return it, averaged over processes."""
    total = torch.zeros((), device=accelerator.device, dtype=torch.float64)
    for index, batch in enumerate(group):
        last = index == len(group) - 1
        with nullcontext() if last else accelerator.no_sync(module):
            value = loss(module, send_to_device(batch, accelerator.device)) / len(group)
            accelerator.backward(value)
        total += value.detach()
    return float(accelerator.gather(total).mean())


def _parameters(
    module: nn.Module, weight_decay: float, slower: Callable[[str], float] | None
) -> list[dict[str, Any]]:
    """Return the trained parameters in groups of one weight decay and one share of the rate."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            decay = weight_decay if parameter.ndim >= 2 else 0.0
            share = 1.0 if slower is None else slower(name)
            groups.setdefault((decay, share), []).append(parameter)
    return [
        {"params": found, "weight_decay": decay, "slower": share}
        for (decay, share), found in groups.items()
    ]


def _groups_of(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    """Yield whole groups of ``size`` consecutive batches, again and again if that is possible."""
    once = iter(batches) is batches
    while True:
        group: list[Batch] = []
        found = False
        for batch in batches:
            group.append(batch)
            if len(group) == size:
                found = True
                yield group
                group = []
        if once or not found:
            return


def _check(value: float, what: str, step: int) -> None:
    if not math.isfinite(value):
        raise NotConverged(
            f"step {step}: the {what} is {value}",
            hint="lower lr, warm up longer, or clip gradients harder",
        )
