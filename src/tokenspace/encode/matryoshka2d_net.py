"""The loss of 2D Matryoshka sentence embeddings, over what every layer gives at every width."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax, mse_loss, softmax

from tokenspace.nn.layers import column_vectors, layer_list, network_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from .matryoshka2d import Matryoshka2D

__all__ = ["MatryoshkaLoss", "compressed", "divergence"]

_T, _T_ESE = 0.3, 1.0  # temperatures of the divergences of either form
_FORGET = 0.9  # share of the former covariance that a step keeps


class MatryoshkaLoss(nn.Module):
    """Equation by equation what :mod:`tokenspace.encode.matryoshka2d` says, for one batch.

    ``base`` is a loss of sentence-transformers that is computed from vectors
    (``compute_loss_from_embeddings``).
    """

    def __init__(
        self,
        model: SentenceTransformer,
        base: nn.Module,
        recipe: Matryoshka2D,
        widths: Sequence[int],
    ) -> None:
        super().__init__()
        self.model, self.base = model, base
        self.form, self.layers, self.pca = recipe.form, recipe.layers, recipe.pca
        self.widths = tuple(widths)
        self.N = len(layer_list(network_of(model)))
        self.covariance: dict[int, Tensor] = {}

    def forward(self, features: Sequence[Mapping[str, Any]], labels: Tensor) -> Tensor:
        """Return the loss of a batch whose columns are ``features``."""
        X = column_vectors(self.model, features)
        if self.form == "ese":
            return self.ese(X, labels)
        loss = self._of(X[self.N], labels)
        if self.form == "2d" and self.N > 1:
            chosen = self._chosen()
            for n in chosen:
                loss = loss + self._of(X[n], labels) / len(chosen)
                part = divergence(torch.cat(list(X[n])), torch.cat(list(X[self.N])), _T)
                loss = loss + part / len(chosen)
        return loss

    def _of(self, X: Sequence[Tensor], labels: Tensor, *, whole: bool = True) -> Tensor:
        """Return l(X), where ``whole``, plus the mean over k of l(X[:k])."""
        parts = [self._base([x[:, :k] for x in X], labels) for k in self.widths]
        loss = torch.stack(parts).mean()
        return loss + self._base(list(X), labels) if whole else loss

    def _base(self, X: list[Tensor], labels: Tensor) -> Tensor:
        base: Any = self.base
        loss: Tensor = base.compute_loss_from_embeddings(X, labels)
        return loss

    def _chosen(self) -> list[int]:
        """Return the layers of this step, of 1..N-1."""
        prior = self.N - 1
        if self.form == "ese" or not 0 < self.layers < prior:
            return list(range(1, self.N))
        return (1 + torch.randperm(prior)[: self.layers]).sort().values.tolist()

    def ese(self, X: Sequence[Sequence[Tensor]], labels: Tensor) -> Tensor:
        """Return the loss of form ``ese`` for what every layer gives, N + 1 times the columns."""
        loss = self._of(X[self.N], labels) + self._compression(self.N, torch.cat(list(X[self.N])))
        chosen = self._chosen()
        for n in chosen:
            w = 1 / (1 + math.log(n))
            part = self._of(X[n], labels, whole=False) + self._compression(n, torch.cat(list(X[n])))
            loss = loss + w * part / len(chosen)
        return loss

    def _compression(self, n: int, X: Tensor) -> Tensor:
        """Return the mean over k of D(X[:k], PCA_k(X)) of layer ``n``."""
        with torch.no_grad():
            if self.pca == "true":
                centred = X - X.mean(0)
                now = centred.T @ centred / len(X)
                before = self.covariance.get(n)
                self.covariance[n] = (
                    now if before is None else _FORGET * before + (1 - _FORGET) * now
                )
            targets = [compressed(X, k, self.covariance.get(n)) for k in self.widths]
        parts = []
        for k, target in zip(self.widths, targets, strict=True):
            own = X[:, :k]
            parts.append(mse_loss(own, target) + divergence(own, target, _T_ESE))
        return torch.stack(parts).mean()


def divergence(X: Tensor, teacher: Tensor, T: float) -> Tensor:
    """Return T KL(softmax(teacher / T) || softmax(X / T)), a mean over rows; none flows to it."""
    target = softmax(teacher.detach() / T, dim=1)
    return T * kl_div(log_softmax(X / T, dim=1), target, reduction="batchmean")


def compressed(X: Tensor, k: int, covariance: Tensor | None = None) -> Tensor:
    """Return the target PCA_k(X), (B, k), whose columns point the way of those of ``X[:, :k]``.

    With a ``covariance`` (D, D) the rows are projected on its first k eigenvectors. Without, it is
    the reference's own: X U_k S_k of the singular vectors of A = softmax(X'X / sqrt(D), by rows).
    """
    if covariance is None:
        A = softmax(X.T @ X / math.sqrt(X.shape[1]), dim=1)
        U, S, _ = torch.linalg.svd(A)
        target = X @ (U[:, :k] * S[:k])
    else:
        target = X @ torch.linalg.eigh(covariance).eigenvectors[:, -k:].flip(1)
    agrees = (X[:, :k] * target).sum(0) >= 0
    return torch.where(agrees, target, -target)
