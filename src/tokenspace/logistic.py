"""Multinomial logistic regression on frozen vectors, by L-BFGS."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats2d, Ids

__all__ = ["fit", "predict"]

Weights = npt.NDArray[np.float64]


def fit(
    X: Floats2d,
    y: Ids,
    classes: int,
    *,
    C: float = 1.0,
    weights: npt.NDArray[np.float64] | None = None,
    start: Weights | None = None,
    iterations: int = 200,
) -> Weights:
    """Return weights and offsets, (classes, D + 1), that minimise |W|^2 / 2 + C times the loss.

    The loss is the sum over rows of -ln P(y), times ``weights`` (N,) where they are given; the
    offsets, in the last column, are not penalised. Of two classes the penalty is half of what it
    is for one vector of weights: C here is half the C of a binary classifier.
    """
    from scipy.optimize import minimize

    N, D = X.shape
    rows = np.arange(N)
    w = np.ones(N) if weights is None else np.asarray(weights, np.float64)

    def loss(flat: Weights) -> tuple[float, Weights]:
        W = flat.reshape(classes, D + 1)
        Z = (X @ W[:, :-1].T.astype(np.float32)).astype(np.float64) + W[:, -1]
        Z -= Z.max(axis=1, keepdims=True)
        P = np.exp(Z)
        total = P.sum(axis=1)
        value = C * float(w @ (np.log(total) - Z[rows, y])) + float((W[:, :-1] ** 2).sum()) / 2
        P /= total[:, None]
        P[rows, y] -= 1
        P *= C * w[:, None]
        G = np.empty_like(W)
        G[:, :-1] = (P.T.astype(np.float32) @ X) + W[:, :-1]
        G[:, -1] = P.sum(axis=0)
        return value, G.ravel()

    begin = np.zeros(classes * (D + 1)) if start is None else start.ravel()
    found = minimize(
        loss, begin, jac=True, method="L-BFGS-B", options={"maxiter": iterations, "gtol": 1e-4}
    )
    W: Weights = np.asarray(found.x, np.float64).reshape(classes, D + 1)
    return W


def predict(X: Floats2d, W: Weights) -> Ids:
    """Return the class of greatest probability of every row, (N,)."""
    best: Ids = np.argmax(X @ W[:, :-1].T.astype(np.float32) + W[:, -1], axis=1)
    return best
