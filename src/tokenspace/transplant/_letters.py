"""Tokens as bags of hashed letters: a likeness of spelling that every token has."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from tokenspace.arrays import Floats2d
from tokenspace.transplant._neighbours import unit

__all__ = ["letters"]

LENGTHS = (3, 4)


def letters(surfaces: Sequence[bytes], width: int = 512) -> Floats2d:
    """Return unit vectors (n, width) float32 of the runs of 3 and 4 bytes in every ``<surface>``.

    A run adds 1 or -1 at one of ``width`` places, both by its CRC-32, so that strangers are
    orthogonal on the average. Bytes need no encoding to be valid in.
    """
    rows, places, signs = [], [], []
    for row, surface in enumerate(surfaces):
        marked = b"<" + surface + b">"
        for n in LENGTHS:
            for start in range(len(marked) - n + 1):
                code = zlib.crc32(marked[start : start + n])
                rows.append(row)
                places.append(code % width)
                signs.append(1 - 2 * (code // width & 1))
    out = np.zeros((len(surfaces), width), np.float32)
    np.add.at(out, (np.array(rows, np.int64), np.array(places, np.int64)), signs)
    return unit(out)
