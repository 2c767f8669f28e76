"""Sums of products and affine maps of many rows, in float64 a block at a time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats2d

__all__ = ["Values", "affine", "products"]

Values = npt.NDArray[np.float64]

_BLOCK = 4096  # rows that are held in float64 at once


def products(A: Floats2d, a: Values, B: Floats2d, b: Values) -> Values:
    """Return Σ_i (A_i − a)(B_i − b)ᵀ, (d_A, d_B), of the rows of two matrices of equal height."""
    total = np.zeros((A.shape[1], B.shape[1]))
    for start in range(0, len(A), _BLOCK):
        block = slice(start, start + _BLOCK)
        total += (A[block] - a).T @ (B[block] - b)
    return total


def affine(X: Floats2d, a: Values, M: Values, b: Values) -> Floats2d:
    """Return b + (x − a) M for every row of X, (m, d) float32."""
    rows = np.empty((len(X), M.shape[1]), np.float32)
    for start in range(0, len(X), _BLOCK):
        block = slice(start, start + _BLOCK)
        rows[block] = b + (X[block] - a) @ M
    return rows
