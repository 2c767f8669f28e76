"""Codes of 1 to 16 bits, packed without gaps inside a row; every row begins at a byte."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Ids

__all__ = ["pack", "packed_width", "unpack"]

Packed = npt.NDArray[np.uint8]


def packed_width(count: int, bits: int) -> int:
    """Return the bytes of a row of ``count`` codes of ``bits`` bits."""
    return -(-count * bits // 8)


def pack(codes: npt.NDArray[Any], bits: int) -> Packed:
    """Pack (n, count) whole numbers in [0, 2^bits) into (n, packed_width) uint8, low bit first."""
    if bits in (8, 16):
        kind = np.dtype(f"<u{bits // 8}")
        return np.ascontiguousarray(codes, kind).view(np.uint8)
    lanes = (codes[:, :, None] >> np.arange(bits)) & 1
    return np.packbits(
        lanes.reshape(len(codes), codes.shape[1] * bits).astype(bool), axis=1, bitorder="little"
    )


def unpack(packed: Packed, bits: int, count: int, ids: Ids | None = None) -> npt.NDArray[Any]:
    """Read back the codes of rows ``ids`` (all by default), (n, count) int64."""
    rows = np.ascontiguousarray(packed if ids is None else packed[ids])
    if bits in (8, 16):
        return rows.view(np.dtype(f"<u{bits // 8}")).astype(np.int64)
    lanes = np.unpackbits(rows, axis=1, count=count * bits, bitorder="little")
    return lanes.reshape(len(rows), count, bits).astype(np.int64) @ (1 << np.arange(bits))
