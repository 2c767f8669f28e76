"""The layer of `deeplight`: pruned every ten steps, by a share that nears its target."""

from __future__ import annotations

import torch

from ._sparse_net import SparseEmbedding, largest_mask

__all__ = ["DeepLightEmbedding"]

_EVERY = 10
_REACHED = 0.9  # share of the steps after which a thousandth of the pruning is left


class DeepLightEmbedding(SparseEmbedding):
    """e(x) = W[x], whose smallest values are set to zero by :meth:`after_step`."""

    def __init__(
        self, keep: int, size: int, width: int, init_std: float, seed: int, warmup: float
    ) -> None:
        super().__init__("deeplight", keep, size, width, init_std, seed)
        self.warmup = warmup

    def dropped(self, step: int, total: int) -> int:
        """Return how many values are zero after ``step`` of ``total``."""
        target = self.weight.numel() - self.keep
        begin, end = self.warmup * total, _REACHED * total
        passed = max(0.0, (step - begin) / (end - begin))
        return target if step >= total else int(target * (1 - 1e-3**passed))

    @torch.no_grad()
    def after_step(self, step: int, total: int) -> None:
        """Set the smallest values to zero, every ten steps and in the last."""
        dropped = self.dropped(step, total)
        if dropped and (step % _EVERY == 0 or step == total):
            self.weight.mul_(largest_mask(self.weight.abs(), self.weight.numel() - dropped))
