"""The loops of `autodim`: a batch of mixed rows, and the way back of their gradients."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats2d, Ids
from tokenspace.jit import kernel
from tokenspace.simd import LANES, fma, load, splat, store, total

__all__ = ["descend", "mix"]

Floats3d = npt.NDArray[np.float32]


@kernel(error_model="numpy", fastmath={"contract"})
def _widen(
    ids: Ids, group: Ids, ways: Floats3d, tables: tuple[Floats2d, ...], normed: Floats3d
) -> None:
    """Write T_c[x] P_fc of every id and choice into ``normed`` (n, C, W)."""
    n, choices, width = normed.shape
    way, wide = ways.reshape(-1), normed.reshape(-1)
    for i in range(n):
        at = group[ids[i]] * ways.shape[1] * width
        for c in range(choices):
            table = tables[c]
            for d in range(0, width, LANES):
                row = splat(0.0)
                for k in range(table.shape[1]):
                    row = fma(splat(table[ids[i], k]), load(way, at + k * width + d), row)
                store(wide, (i * choices + c) * width + d, row)
            at += table.shape[1] * width


@kernel(error_model="numpy", fastmath={"contract"})
def mix(
    ids: Ids,
    back: Ids,
    times: Ids,
    group: Ids,
    shares: Floats2d,
    ways: Floats3d,
    tables: tuple[Floats2d, ...],
    normed: Floats3d,
    means: Floats2d,
    variances: Floats2d,
    found: Floats2d,
    epsilon: float,
) -> None:
    """Write the mixed rows Σ_c p_fc z_c of ``ids[back]`` into ``found`` (m, D).

    ``ids`` (n,) differ from each other, and each stands in the batch so many ``times``; ``group``
    (V,) says which f a row is in. ``tables`` are the T_c (V, d_c), ``ways`` (F, Σ d_c, W) the P_fc
    below each other, and ``shares`` (F, C) the p. The z go into ``normed`` (n, C, W), and what
    they were normalized by into ``means`` and ``variances`` (C, W). W is D, filled up with zeros
    to whole registers.
    """
    n, choices, width = normed.shape
    _widen(ids, group, ways, tables, normed)
    rows, sums = normed.reshape(n, choices * width), np.zeros(choices * width)
    for i in range(n):
        weight = times[i] / len(back)
        for d in range(len(sums)):
            sums[d] += weight * rows[i, d]
    mean = sums.astype(np.float32)
    sums[:] = 0
    for i in range(n):
        weight = times[i] / len(back)
        for d in range(len(sums)):
            rows[i, d] -= mean[d]
            sums[d] += weight * (rows[i, d] * rows[i, d])
    means[:] = mean.reshape(choices, width)
    variances[:] = sums.reshape(choices, width)
    factor = (1 / np.sqrt(sums + epsilon)).astype(np.float32)
    mixed = np.zeros((n, width), np.float32)
    for i in range(n):
        for d in range(len(factor)):
            rows[i, d] *= factor[d]
        for c in range(choices):
            share = shares[group[ids[i]], c]
            for d in range(width):
                mixed[i, d] += share * normed[i, c, d]
    for j in range(len(back)):
        place = back[j]
        for d in range(found.shape[1]):
            found[j, d] = mixed[place, d]


@kernel()
def _summed(gradient: Floats2d, back: Ids, n: int, width: int) -> Floats2d:
    """Return the sums of a gradient (m, D) over all places of each of n ids, (n, width)."""
    found = np.zeros((n, width), np.float32)
    for j in range(len(back)):
        place = back[j]
        for d in range(gradient.shape[1]):
            found[place, d] += gradient[j, d]
    return found


@kernel(error_model="numpy", fastmath={"contract"})
def descend(
    gradient: Floats2d,
    ids: Ids,
    back: Ids,
    times: Ids,
    group: Ids,
    shares: Floats2d,
    ways: Floats3d,
    tables: tuple[Floats2d, ...],
    normed: Floats3d,
    factors: Floats2d,
    share_slopes: Floats2d,
    way_slopes: Floats3d,
    table_slopes: tuple[Floats2d, ...],
) -> None:
    """Add the gradients of what :func:`mix` was given to arrays of zeros.

    ``gradient`` (m, D) is that of the rows; ``factors`` (C, W) are 1 / sqrt(variances + epsilon).
    """
    n, choices, width = normed.shape
    summed = _summed(gradient, back, n, width)
    whole = np.zeros((len(shares), width))
    along = np.zeros((len(shares), choices, width))
    for i in range(n):
        f = group[ids[i]]
        for d in range(width):
            whole[f, d] += summed[i, d]
        for c in range(choices):
            for d in range(width):
                along[f, c, d] += summed[i, d] * normed[i, c, d]
    level = np.zeros((choices, width), np.float32)  # what the means and the variances take back
    tilt = np.zeros((choices, width), np.float32)
    for f in range(len(shares)):
        for c in range(choices):
            share_slopes[f, c] = along[f, c].sum()
            for d in range(width):
                level[c, d] += shares[f, c] * whole[f, d]
                tilt[c, d] += shares[f, c] * along[f, c, d]
    way, way_slope = ways.reshape(-1), way_slopes.reshape(-1)
    slope = np.empty(width, np.float32)
    for i in range(n):
        at = group[ids[i]] * ways.shape[1] * width
        weight = np.float32(times[i] / len(back))
        for c in range(choices):
            share = shares[group[ids[i]], c]
            for d in range(width):
                taken = weight * (level[c, d] + normed[i, c, d] * tilt[c, d])
                slope[d] = factors[c, d] * (share * summed[i, d] - taken)
            for k in range(tables[c].shape[1]):
                number, dot = splat(tables[c][ids[i], k]), splat(0.0)
                for d in range(0, width, LANES):
                    part = load(slope, d)
                    dot = fma(part, load(way, at + d), dot)
                    store(way_slope, at + d, fma(number, part, load(way_slope, at + d)))
                table_slopes[c][ids[i], k] = total(dot)
                at += width
