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

from ._batch_net import arrays, distinct
from ._dhe_kernels import activate, descend, hashed
from .dhe import BUCKETS, MIDDLE, Shape
from .table import CompressedTable

__all__ = ["DheEmbedding", "fit"]

_SAMPLE = 4_096  # ids that the scale of the last layer is set by
_BATCH = 1_024
_EPSILON, _MOMENTUM = 1e-5, 0.1  # of batch normalization


class _Hidden(torch.autograd.Function):
    """y_i = mish(norm(W_i y_(i-1))) for all hidden layers, i = 0..4, by the ids of a batch."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, first: Tensor, middle: Tensor, scales: Tensor, shifts: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return y_4 (n, w) of hashes (n, k), and each layer's means and variances (5, w)."""
        means, variances = torch.empty_like(scales), torch.empty_like(scales)
        norms = arrays(scales, shifts, means, variances)
        kept = []
        for weight, *norm in zip((first, *middle), *norms, strict=True):
            normed = rows @ weight.T
            found, slope = torch.empty_like(normed), torch.empty_like(normed)
            activate(*[*arrays(normed, found, slope), *norm, _EPSILON])
            kept += [rows, normed, slope]
            rows = found
        ctx.save_for_backward(first, middle, scales, variances, *kept)
        ctx.mark_non_differentiable(means, variances)
        ctx.set_materialize_grads(False)
        return rows, means, variances

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: None) -> tuple[Tensor | None, ...]:
        """Return the gradients of the weights, scales and shifts."""
        first, middle, scales, variances, *kept = ctx.saved_tensors
        slopes = [torch.empty_like(each) for each in (first, middle, scales, scales)]
        norms = arrays(scales * torch.rsqrt(variances + _EPSILON), *slopes[2:])
        grad = grad.contiguous()
        for i, *norm in reversed(list(zip(range(len(scales)), *norms, strict=True))):
            rows, normed, slope = kept[3 * i : 3 * i + 3]
            found = torch.empty_like(normed)
            descend(*[*arrays(grad, normed, slope, found), *norm])
            torch.mm(found.T, rows, out=slopes[1][i - 1] if i else slopes[0])
            if i:
                grad = found @ middle[i - 1]
        return None, *slopes


class DheEmbedding(CompressedEmbedding):
    """e(x) = W_5 y_4 + c_5, with five hidden layers between the hashes of x and y_4.

    Of all hidden layers the scales of the norms lie in one tensor, and so do the shifts, and the
    weights of those that have the same shape: an optimizer moves few large tensors soonest.
    """

    hashes: Tensor
    means: Tensor
    variances: Tensor

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
            drawn = [nn.Linear(k, w), *(nn.Linear(w, w) for _ in range(MIDDLE))]
            self.last = nn.Linear(w, d)
        first, *middle = (linear.weight.detach() for linear in drawn)  # a norm takes off a bias
        self.first, self.middle = nn.Parameter(first), nn.Parameter(torch.stack(middle))
        self.scales = nn.Parameter(torch.ones(len(drawn) * w))
        self.shifts = nn.Parameter(torch.zeros(len(drawn) * w))
        self.register_buffer("means", torch.zeros(len(drawn), w))
        self.register_buffer("variances", torch.ones(len(drawn), w))
        nn.init.zeros_(self.last.bias)
        self.momentum = 1.0
        with torch.no_grad():
            sample = self.look(torch.arange(0, size, max(1, size // _SAMPLE)))
            self.last.weight *= init_std / max(float(sample.std(correction=0)), 1e-12)
        self.momentum = _MOMENTUM

    def _affine(self) -> tuple[Tensor, Tensor]:
        """Return the scales and the shifts of all norms, (5, w) each."""
        return self.scales.view_as(self.means), self.shifts.view_as(self.means)

    def _layers(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield weight, mean, variance, scale and shift of every hidden layer."""
        return zip(
            (self.first, *self.middle), self.means, self.variances, *self._affine(), strict=True
        )

    def look(self, ids: Tensor) -> Tensor:
        """Return the rows of ``ids`` (n,), (n, width)."""
        ids, back, _ = distinct(ids)
        hashes = torch.empty(len(ids), self.hashes.shape[1])
        hashed(*[*arrays(ids.cpu(), self.hashes.cpu().double(), hashes), BUCKETS])
        rows = self._hidden(hashes.to(self.last.weight))
        found: Tensor = self.last(rows).index_select(0, back)
        return found

    def _hidden(self, rows: Tensor) -> Tensor:
        """Return y_4 (n, w) of hashes (n, k); in training the running figures follow the batch."""
        n = len(rows)
        training = self.training and n > 1
        if training and rows.is_cpu and rows.dtype == torch.float32:
            apply: Any = _Hidden.apply  # torch leaves it without types
            found, means, variances = apply(rows, self.first, self.middle, *self._affine())
            self.means.lerp_(means, self.momentum)
            self.variances.lerp_(variances * (n / (n - 1)), self.momentum)
            return cast("Tensor", found)
        for weight, mean, variance, scale, shift in self._layers():
            known = nn.functional.batch_norm(
                rows @ weight.T, mean, variance, scale, shift,
                training=training, momentum=self.momentum, eps=_EPSILON,
            )  # fmt: skip
            rows = nn.functional.mish(known)
        return rows

    @torch.no_grad()
    def export(self) -> CompressedTable:
        """Return the hashes and the weights, with the normalization folded into them."""
        weights, biases = [], []
        for weight, mean, variance, scale, shift in self._layers():
            factor = scale * torch.rsqrt(variance + _EPSILON)
            weights.append((factor[:, None] * weight).cpu().numpy())
            biases.append((shift - factor * mean).cpu().numpy())
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
