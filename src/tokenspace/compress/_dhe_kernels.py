"""The loops of `dhe`: hashes of ids, and a normalization and mish in one round over a batch."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats1d, Floats2d, Ids
from tokenspace.jit import kernel

__all__ = ["activate", "descend", "hashed"]

Figures = npt.NDArray[np.float64]
_f = np.float32
_ONE, _TWO, _FOUR = _f(1), _f(2), _f(4)
_MOST, _LEAST = _f(20), _f(-80)  # mish(t) is t from 20 on, and 0 up to -80
_ROUND = _f(3 << 22)  # what is added to it becomes a whole number, in its lowest bits
_LOG2E, _LN2, _LN2_REST = _f(1 / math.log(2)), _f(0.693359375), _f(math.log(2) - 0.693359375)
_P5, _P4, _P3, _P2, _P1, _P0 = (  # of e^f = 1 + f + f^2 P(f) for |f| <= ln 2 / 2 (Cephes)
    _f(each) for each in (1.98756915e-4, 1.39819995e-3, 8.33345191e-3, 4.16657959e-2,
                          1.66666655e-1, 5.00000012e-1)
)  # fmt: skip


@kernel()
def _exp(x: np.float32) -> np.float32:
    """Return e^x = 2^k e^f for x of [-87, 88], to 1e-7 of it; unlike math.exp a loop stays vector.

    k goes into the exponent by its bits.
    """
    k = _f(x * _LOG2E + _ROUND)
    f = x - (k - _ROUND) * _LN2 - (k - _ROUND) * _LN2_REST
    e = ((((_P5 * f + _P4) * f + _P3) * f + _P2) * f + _P1) * f + _P0
    e = _f(e * f * f + f + _ONE)
    bits = np.int32(e.view(np.int32) + (k.view(np.int32) << np.int32(23)))
    return bits.view(np.float32)


@kernel(error_model="numpy")
def hashed(ids: Ids, coefficients: Figures, found: Floats2d, buckets: int) -> None:
    """Write (a x + b) mod p mod ``buckets``, brought to [-1, 1], of ids (n,) into (n, k).

    ``coefficients`` are a, b and p, (3, k) whole numbers in float64, whose division is quicker
    than that of int64, and exact to the floor for a x + b < 2^53.
    """
    step = 2 / (buckets - 1)
    for i in range(len(ids)):
        x = float(ids[i])
        for j in range(coefficients.shape[1]):
            total = coefficients[0, j] * x + coefficients[1, j]
            rest = total - np.floor(total / coefficients[2, j]) * coefficients[2, j]
            rest -= np.floor(rest / buckets) * buckets
            found[i, j] = rest * step - 1


@kernel(error_model="numpy", fastmath={"contract"})
def activate(
    rows: Floats2d,
    found: Floats2d,
    slope: Floats2d,
    scale: Floats1d,
    shift: Floats1d,
    means: Floats1d,
    variances: Floats1d,
    epsilon: float,
) -> None:
    """Write mish(t) of t = scale norm(rows) + shift into ``found``, and its slope at t.

    ``rows`` (n, w) become norm(rows): (rows - means) / sqrt(variances + epsilon), by column.

    With e = e^t, v = e (e + 2) and d = 1 / (v + 2), mish(t) = t v d and its slope is
    v d + 4 t d^2 e (e + 1): one exponential, no logarithm and no tanh.
    """
    n, width = rows.shape
    sums, factor = np.zeros(width), np.empty_like(scale)
    for i in range(n):
        for j in range(width):
            sums[j] += rows[i, j]
    means[:] = sums / n
    sums[:] = 0
    for i in range(n):
        for j in range(width):
            off = rows[i, j] - means[j]
            sums[j] += off * off
    variances[:] = sums / n
    factor[:] = 1 / np.sqrt(sums / n + epsilon)
    for i in range(n):
        for j in range(width):
            x = (rows[i, j] - means[j]) * factor[j]
            rows[i, j] = x
            t = x * scale[j] + shift[j]
            e = _exp(max(min(t, _MOST), _LEAST))
            v = e * (e + _TWO)
            d = _ONE / (v + _TWO)
            found[i, j] = t * v * d
            slope[i, j] = v * d + _FOUR * t * d * d * e * (e + _ONE)


@kernel(error_model="numpy", fastmath={"contract"})
def descend(
    gradient: Floats2d,
    normed: Floats2d,
    slope: Floats2d,
    found: Floats2d,
    factor: Floats1d,
    scales: Floats1d,
    shifts: Floats1d,
) -> None:
    """Write the gradients of what :func:`activate` was given: of its rows, scale and shift.

    ``factor`` (w,) is scale / sqrt(variances + epsilon).
    """
    n, width = gradient.shape
    first, second = np.zeros(width), np.zeros(width)
    for i in range(n):
        for j in range(width):
            g = gradient[i, j] * slope[i, j]
            found[i, j] = g
            first[j] += g
            second[j] += g * normed[i, j]
    shifts[:] = first
    scales[:] = second
    level, tilt = (first / n).astype(np.float32), (second / n).astype(np.float32)
    for i in range(n):
        for j in range(width):
            found[i, j] = factor[j] * (found[i, j] - level[j] - normed[i, j] * tilt[j])
