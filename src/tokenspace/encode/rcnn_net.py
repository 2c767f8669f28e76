"""The network of `rcnn` and how it is trained: word states, their maximum, a class."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tokenspace.arrays import Floats2d, Ids
from tokenspace.nn.decoder import on_threads
from tokenspace.nn.train import steps
from tokenspace.progress import Meter
from tokenspace.rng import derive, stream, torch_scope

__all__ = ["Net", "Pooled", "Read", "initial", "read", "rebuilt", "train"]

POOL = 4  # batches that are drawn at a time and sorted by length, so that little is padded


class Pooled(nn.Module, ABC):
    """A network that makes a state of every word, and reads the class off their maximum."""

    def __init__(self, E: Floats2d, hidden: int, classes: int) -> None:
        super().__init__()
        self.E = nn.Embedding(E.shape[0], E.shape[1], _weight=torch.tensor(E))
        self.out = nn.Linear(hidden, classes)

    @abstractmethod
    def states(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Return y, (B, T, H), for ``ids`` (B, T); rows past a text's length are arbitrary."""

    def top(self, y: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return z = max over i of y_i, (B, H), zero for a text without words, and its places."""
        past = torch.arange(y.shape[1], device=y.device) >= lengths[:, None]
        z, places = y.masked_fill(past[:, :, None], -torch.inf).max(dim=1)
        return z.masked_fill((lengths == 0)[:, None], 0.0), places

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Return the logits, (B, C)."""
        logits: Tensor = self.out(self.top(self.states(ids, lengths), lengths)[0])
        return logits


class Net(Pooled):
    """The recurrent convolutional network.

    ``W`` (2, C, C) and ``Ws`` (2, C, D) are the maps from the left and from the right, ``edges``
    (2, C) the contexts before the first and after the last word, which are learned. W begins at
    zero: contexts are those of a window of three words until training makes them longer.
    """

    def __init__(self, E: Floats2d, context: int, hidden: int, classes: int) -> None:
        super().__init__(E, hidden, classes)
        width = E.shape[1]
        self.W = nn.Parameter(torch.zeros(2, context, context))
        self.Ws = nn.Parameter(torch.empty(2, context, width))
        self.edges = nn.Parameter(torch.zeros(2, context))
        self.mix = nn.Linear(width + 2 * context, hidden)
        for matrix in (*self.Ws, self.mix.weight, self.out.weight):
            nn.init.xavier_uniform_(matrix)

    def states(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Return y_i = tanh(W_2 [l_i, e_i, r_i] + b_2), (B, T, H).

        Both scans run together. That from the right has each text turned round where it truly
        ends, so that what is padded comes last in both.
        """
        e = self.E(ids).transpose(0, 1)  # (T, B, D)
        place = torch.arange(len(e), device=ids.device)[:, None].expand(e.shape[:2])
        turned = torch.where(place < lengths, lengths - 1 - place, place)[:, :, None]
        both = torch.stack([e, e.gather(0, turned.expand_as(e))])
        u = torch.matmul(both, self.Ws.transpose(1, 2)[:, None])  # (2, T, B, C)
        scan: Any = _Scan.apply  # torch leaves it without types
        left, right = scan(u.transpose(0, 1).contiguous(), self.W, self.edges).unbind(1)
        right = right.gather(0, turned.expand_as(right))
        y: Tensor = torch.tanh(self.mix(torch.cat([left, e, right], dim=2)))
        return y.transpose(0, 1)


class _Scan(torch.autograd.Function):
    """h_1 = edges, h_t = tanh(W h_{t-1} + u_{t-1}) for t = 2 .. T: ``u`` and h are (T, 2, B, C).

    Written out because a step is so small that what surrounds it counts: a product and a tanh each
    way, for both sides and all texts at once, and the gradient of W in one product at the end.
    """

    @staticmethod
    def forward(ctx: Any, u: Tensor, W: Tensor, edges: Tensor) -> Tensor:
        h = torch.empty_like(u)
        h[0] = edges[:, None]
        turned = W.transpose(1, 2)
        for t in range(1, len(h)):
            torch.baddbmm(u[t - 1], h[t - 1], turned, out=h[t]).tanh_()
        ctx.save_for_backward(h, W)
        return h

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h, W = ctx.saved_tensors
        total = grads[0].clone()  # of h_t, with what comes back from h_{t+1}
        slope = 1 - h * h
        for t in range(len(h) - 1, 0, -1):
            total[t] *= slope[t]  # now of what enters the tanh
            total[t - 1].baddbmm_(total[t], W)
        inner, before = (part.transpose(0, 1).flatten(1, 2) for part in (total[1:], h[:-1]))
        u = torch.cat([total[1:], torch.zeros_like(total[:1])])
        return u, torch.bmm(inner.transpose(1, 2), before), total[0].sum(dim=1)


class Read(NamedTuple):
    """What a network makes of some texts, by their numbers.

    ``states`` (B, T, H) are padded to the longest; ``z`` (B, H) is their maximum and ``places``
    (B, H) where it is.
    """

    numbers: Ids
    lengths: Ids
    states: npt.NDArray[np.float32]
    z: Floats2d
    places: npt.NDArray[np.int64]


def read(net: Pooled, ids: Ids, offsets: Ids, batch_size: int) -> Iterator[Read]:
    """Yield what ``net`` makes of the texts ``ids[offsets[i]:offsets[i + 1]]``, by length."""
    order = np.argsort(np.diff(offsets), kind="stable")
    device = net.out.weight.device
    for start in range(0, len(order), batch_size):
        numbers = order[start : start + batch_size]
        padded, lengths = _padded(ids, offsets, numbers)
        with torch.no_grad():
            y = net.states(padded.to(device), lengths.to(device))
            z, places = net.top(y, lengths.to(device))
        yield Read(numbers, lengths.numpy(), y.cpu().numpy(), z.cpu().numpy(), places.cpu().numpy())


def train(
    net: Pooled,
    ids: Ids,
    offsets: Ids,
    targets: Ids,
    held_out: Ids,
    *,
    epochs: int,
    lr: float,
    batch_size: int,
    threads: int,
    seed: int,
) -> dict[str, float]:
    """Train ``net`` in place; keep the weights of the epoch that is best on the held-out texts.

    Best is who has most of their classes right, and among equals the smallest loss; without
    held-out texts the last epoch is kept. Return figures of the training.
    """
    known = np.setdiff1d(np.arange(len(targets)), held_out)
    each = -(-len(known) // batch_size)
    total = epochs * each
    best: tuple[float, float] | None = None
    kept = net.state_dict()
    figures = {"texts": float(len(known)), "held_out": float(len(held_out))}

    def batches() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for epoch in range(epochs):
            for numbers in _divided(known, np.diff(offsets), batch_size, seed, epoch):
                padded, lengths = _padded(ids, offsets, numbers)
                yield padded, lengths, torch.from_numpy(targets[numbers])

    def loss(module: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        padded, lengths, target = batch
        return nn.functional.cross_entropy(module(padded, lengths), target)

    with on_threads(threads), Meter("train", total) as meter:
        for tick in steps(
            net, loss, batches(), lr=lr, total=total, weight_decay=0.0, seed=derive(seed, "steps")
        ):
            meter.add()
            figures["loss"] = tick.loss
            epoch, inside = divmod(tick.step, each)
            if inside or not len(held_out):
                continue
            right, cost = _judged(net, ids, offsets, targets, held_out, batch_size)
            if best is None or (right, -cost) > best:
                best, kept = (right, -cost), copy.deepcopy(net.state_dict())
                figures |= {"epoch": float(epoch), "held_out_accuracy": right}
    net.load_state_dict(kept)
    net.cpu().eval()
    return figures


def _judged(
    net: Pooled, ids: Ids, offsets: Ids, targets: Ids, numbers: Ids, size: int
) -> tuple[float, float]:
    """Return the share of texts whose class is found, and the mean loss."""
    device = net.out.weight.device
    right = cost = 0.0
    for start in range(0, len(numbers), size):
        some = numbers[start : start + size]
        padded, lengths = _padded(ids, offsets, some)
        with torch.no_grad():
            logits = net(padded.to(device), lengths.to(device)).cpu()
        target = torch.from_numpy(targets[some])
        right += float((logits.argmax(dim=1) == target).sum())
        cost += float(nn.functional.cross_entropy(logits, target, reduction="sum"))
    return right / len(numbers), cost / len(numbers)


def _divided(known: Ids, lengths: Ids, size: int, seed: int, epoch: int) -> Iterator[Ids]:
    """Yield the numbers of each batch of an epoch: at random, but of texts nearly as long."""
    draw = stream(seed, "batches", epoch)
    order = draw.permutation(known)
    found = []
    for start in range(0, len(order), POOL * size):
        pool = order[start : start + POOL * size]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        found += [pool[first : first + size] for first in range(0, len(pool), size)]
    for index in draw.permutation(len(found)).tolist():
        yield found[index]


def _padded(ids: Ids, offsets: Ids, numbers: Ids) -> tuple[Tensor, Tensor]:
    """Return the ids of some texts side by side, (B, T) with T at least 1, and their lengths."""
    lengths = (offsets[1:] - offsets[:-1])[numbers]
    padded = np.zeros((len(numbers), max(1, int(lengths.max(initial=0)))), np.int64)
    for row, number in zip(padded, numbers.tolist(), strict=True):
        first, last = offsets[number : number + 2].tolist()
        row[: last - first] = ids[first:last]
    return torch.from_numpy(padded), torch.from_numpy(lengths)


def initial(E: Floats2d, context: int, hidden: int, classes: int, *, seed: int) -> Net:
    """Return an untrained network."""
    with torch_scope(seed, "weights"):
        return Net(E, context, hidden, classes)


def rebuilt(weights: Mapping[str, npt.NDArray[np.float32]]) -> Net:
    """Return the network that has these weights."""
    hidden, context = len(weights["mix.weight"]), weights["edges"].shape[1]
    net = Net(weights["E.weight"], context, hidden, len(weights["out.bias"]))
    net.load_state_dict({name: torch.tensor(part) for name, part in weights.items()})
    return net.eval()
