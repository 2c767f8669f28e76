"""Linear classifiers of a few thousand rows, and how well they do on rows that they did not see."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tokenspace.rng import stream

__all__ = ["Plane", "held_out", "logistic", "machine"]

Values = npt.NDArray[np.float64]


class Plane(NamedTuple):
    """What separates two classes: weights (D,) and a bias."""

    weights: Values
    bias: float

    def __call__(self, rows: npt.ArrayLike) -> Values:
        """Return w x + b of every row, above 0 on the side of the label 1."""
        value: Values = np.asarray(rows, np.float64) @ self.weights + self.bias
        return value


def logistic(rows: npt.ArrayLike, labels: npt.ArrayLike, C: float = 1.0) -> Plane:
    """Fit a logistic regression: minimise |w|²/2 + C Σ_i log(1 + exp(-y_i (w x_i + b))).

    ``rows`` (N, D), ``labels`` (N,) of 0 and 1; y is -1 and 1. The bias is not penalised.
    """
    share = np.ones(len(np.asarray(labels)))

    def loss(margin: Values) -> tuple[Values, Values]:
        return np.logaddexp(0, -margin), -1 / (1 + np.exp(np.clip(margin, -500, 500)))

    return _fit(rows, labels, C * share, loss)


def machine(
    rows: npt.ArrayLike, labels: npt.ArrayLike, C: float = 1.0, *, balanced: bool = False
) -> Plane:
    """Fit a linear support vector machine: minimise |w|²/2 + C Σ_i max(0, 1 - y_i (w x_i + b))².

    ``balanced`` weighs every row by N over twice the size of its class.
    """
    given = np.asarray(labels, np.float64)
    share = np.ones(len(given))
    if balanced:
        ones = given.sum()
        share = len(given) / (2 * np.where(given > 0, ones, len(given) - ones))

    def loss(margin: Values) -> tuple[Values, Values]:
        short = np.maximum(0, 1 - margin)
        return short**2, -2 * short

    return _fit(rows, labels, C * share, loss)


def _fit(
    rows: npt.ArrayLike,
    labels: npt.ArrayLike,
    C: Values,
    loss: Callable[[Values], tuple[Values, Values]],
) -> Plane:
    """Minimise |w|²/2 + Σ_i C_i loss(y_i (w x_i + b)); ``loss`` gives values and derivatives."""
    from scipy.optimize import minimize

    x, y = np.asarray(rows, np.float64), 2 * np.asarray(labels, np.float64) - 1

    def objective(p: Values) -> tuple[float, Values]:
        values, slopes = loss(y * (x @ p[:-1] + p[-1]))
        pull = C * y * slopes
        return (
            float(p[:-1] @ p[:-1] / 2 + C @ values),
            np.append(p[:-1] + x.T @ pull, pull.sum()),
        )

    found = minimize(
        objective,
        np.zeros(x.shape[1] + 1),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 5000, "ftol": 1e-13, "gtol": 1e-8},
    ).x
    return Plane(found[:-1], float(found[-1]))


def held_out(
    fit: Callable[[Values, Values], Plane], rows: Values, labels: Values, *, folds: int, seed: int
) -> Values:
    """Return for every row on which side a classifier puts it that saw only the other folds.

    The classes are spread evenly over the folds. (N,) of 0 and 1.
    """
    draw = stream(seed, "folds")
    fold = np.empty(len(labels), np.int64)
    for value in (0, 1):
        of = np.flatnonzero(labels == value)
        fold[of] = draw.permutation(len(of)) % folds
    said = np.empty(len(labels))
    for k in range(folds):
        apart = fold == k
        said[apart] = fit(rows[~apart], labels[~apart])(rows[apart]) > 0
    return said
