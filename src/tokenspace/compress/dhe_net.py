"""The layer of `dhe`: hashes of an id, and a network that makes the row of them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from tokenspace import rng
from tokenspace.arrays import Floats2d
from tokenspace.nn.decoder import on_threads
from tokenspace.nn.embedding import CompressedEmbedding
from tokenspace.nn.train import steps as train_steps

from .dhe import BUCKETS, MIDDLE, Shape
from .table import CompressedTable

__all__ = ["DheEmbedding", "fit"]

_SAMPLE = 4_096  # ids that the scale of the last layer is set by
_BATCH = 1_024


class _Mish(torch.autograd.Function):
    """mish(t) = t (1 - 2 r), r = 1 / (u^2 + 1), u = e^t + 1: no logarithm and no tanh."""

    @staticmethod
    def forward(ctx: Any, t: Tensor) -> Tensor:
        """Return mish(t)."""
        u = t.clamp(max=20).exp_().add_(1)  # mish(t) is t from there on, and e^2t is no infinity
        r = (u * u).add_(1).reciprocal_()
        ctx.save_for_backward(t, u, r)
        return torch.addcmul(t, t, r, value=-2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        """Return grad (1 - 2 r + 4 t r^2 u (u - 1))."""
        t, u, r = ctx.saved_tensors
        scaled = u * r
        slope = (scaled - r).mul_(scaled).mul_(t).sub_(r, alpha=0.5)
        return torch.addcmul(grad, grad, slope, value=4)


class DheEmbedding(CompressedEmbedding):
    """e(x) = W_5 y_4 + c_5, with five hidden layers between the hashes of x and y_4."""

    hashes: Tensor

    def __init__(
        self,
        shape: Shape,
        hashes: np.ndarray[tuple[int, ...], np.dtype[np.int32]],
        size: int,
        init_std: float,
        seed: int,
    ) -> None:
        super().__init__(size, shape.width)
        k, w, d = shape
        self.register_buffer("hashes", torch.from_numpy(hashes.astype(np.int64)))
        with rng.torch_scope(seed, "init"):
            self.hidden = nn.ModuleList(
                [nn.Linear(k, w), *(nn.Linear(w, w) for _ in range(MIDDLE))]
            )
            self.norms = nn.ModuleList(nn.BatchNorm1d(w, momentum=1.0) for _ in self.hidden)
            self.last = nn.Linear(w, d)
        nn.init.zeros_(self.last.bias)
        with torch.no_grad():
            sample = self.look(torch.arange(0, size, max(1, size // _SAMPLE)))
            self.last.weight *= init_std / max(float(sample.std(correction=0)), 1e-12)
        for _, norm in self._layers():
            norm.momentum = 0.1

    def _layers(self) -> Iterator[tuple[nn.Linear, nn.BatchNorm1d]]:
        for linear, norm in zip(self.hidden, self.norms, strict=True):
            yield cast("nn.Linear", linear), cast("nn.BatchNorm1d", norm)

    def look(self, ids: Tensor) -> Tensor:
        """Return the rows of ``ids`` (n,), (n, width)."""
        a, b, p = self.hashes
        ids, back = torch.unique(ids, return_inverse=True)
        hashed = (a * ids[:, None]).add_(b).remainder_(p).float()  # exact: p < 2^24
        hashed = torch.where(hashed < BUCKETS, hashed, hashed - BUCKETS)  # p < 2 m
        rows = hashed.mul_(2 / (BUCKETS - 1)).sub_(1).to(self.last.weight.dtype)
        for linear, norm in self._layers():
            known = nn.functional.batch_norm(
                linear(rows), norm.running_mean, norm.running_var, norm.weight, norm.bias,
                training=self.training and len(ids) > 1, momentum=norm.momentum or 0.0,
            )  # fmt: skip
            rows = _Mish.apply(known)  # type: ignore[no-untyped-call]
        found: Tensor = self.last(rows).index_select(0, back)
        return found

    @torch.no_grad()
    def export(self) -> CompressedTable:
        """Return the hashes and the weights, with the normalization folded into them."""
        weights, biases = [], []
        for linear, norm in self._layers():
            mean, variance = norm.running_mean, norm.running_var
            assert mean is not None and variance is not None
            scale = norm.weight / torch.sqrt(variance + norm.eps)
            weights.append((scale[:, None] * linear.weight).cpu().numpy())
            biases.append((scale * (linear.bias - mean) + norm.bias).cpu().numpy())
        tensors = {
            "hashes": self.hashes.cpu().numpy().astype(np.int32),
            "first": weights[0],
            "first_bias": biases[0],
            "middle": np.stack(weights[1:]),
            "middle_bias": np.stack(biases[1:]),
            "last": self.last.weight.cpu().numpy().copy(),
            "last_bias": self.last.bias.cpu().numpy().copy(),
        }
        return CompressedTable("dhe", (self.num_embeddings, self.embedding_dim), tensors)


def fit(layer: DheEmbedding, source: Floats2d, *, steps: int, lr: float, seed: int) -> None:
    """Train the layer to give the rows of ``source`` (V, D), by their mean squared error."""
    rows = np.asarray(source)
    scale = max(float(np.mean(np.square(rows[: 1 << 16], dtype=np.float64))), 1e-30)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for epoch in count():
            order = rng.stream(seed, "fit", epoch).permutation(len(rows))
            for start in range(0, len(order), _BATCH):
                ids = np.sort(order[start : start + _BATCH])
                yield torch.from_numpy(ids), torch.from_numpy(np.array(rows[ids], np.float32))

    def loss(module: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.mse_loss(module(batch[0]), batch[1]) / scale

    ticks = train_steps(
        layer, loss, batches(), lr=lr, total=steps, warmup=min(steps, max(1, steps // 20)),
        decay="cosine", weight_decay=0.0, seed=seed,
    )  # fmt: skip
    with on_threads(1):
        for _ in ticks:
            pass
    layer.eval()
