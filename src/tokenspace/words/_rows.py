"""Products with rows of a flat matrix that lie anywhere in it, in whole registers.

``R`` says where the rows begin; their width is a multiple of eight.
"""

from __future__ import annotations

import numpy as np

from tokenspace.arrays import Floats1d, Ids
from tokenspace.jit import kernel
from tokenspace.simd import LANES, fma, load, splat, store, sums

__all__ = ["dots", "mixed", "spread"]


@kernel()
def dots(M: Floats1d, R: Ids, n: int, x: Floats1d, width: int, out: Floats1d) -> None:
    """Set ``out`` to the products of ``n`` rows of ``M`` with ``x``; eight rows at a time.

    The lengths of ``R`` and ``out`` are multiples of eight, and all of ``R`` are places of rows.
    """
    zero = splat(np.float32(0))
    for k in range(0, n, LANES):
        t0, t1, t2, t3, t4, t5, t6, t7 = zero, zero, zero, zero, zero, zero, zero, zero
        r0, r1, r2, r3 = R[k], R[k + 1], R[k + 2], R[k + 3]
        r4, r5, r6, r7 = R[k + 4], R[k + 5], R[k + 6], R[k + 7]
        for q in range(0, width, LANES):
            p = load(x, q)
            t0, t1 = fma(load(M, r0 + q), p, t0), fma(load(M, r1 + q), p, t1)
            t2, t3 = fma(load(M, r2 + q), p, t2), fma(load(M, r3 + q), p, t3)
            t4, t5 = fma(load(M, r4 + q), p, t4), fma(load(M, r5 + q), p, t5)
            t6, t7 = fma(load(M, r6 + q), p, t6), fma(load(M, r7 + q), p, t7)
        store(out, k, sums(t0, t1, t2, t3, t4, t5, t6, t7))


@kernel()
def mixed(M: Floats1d, R: Ids, n: int, a: Floats1d, width: int, out: Floats1d) -> None:
    """Set ``out`` to the sum of ``n`` rows of ``M``, each times its number of ``a``."""
    for q in range(0, width, LANES):
        total = splat(np.float32(0))
        for k in range(n):
            total = fma(splat(a[k]), load(M, R[k] + q), total)
        store(out, q, total)


@kernel()
def spread(M: Floats1d, R: Ids, n: int, a: Floats1d, x: Floats1d, width: int) -> None:
    """Add ``x`` to ``n`` rows of ``M``, each times its number of ``a``."""
    for k in range(n):
        h = splat(a[k])
        for q in range(0, width, LANES):
            store(M, R[k] + q, fma(h, load(x, q), load(M, R[k] + q)))
