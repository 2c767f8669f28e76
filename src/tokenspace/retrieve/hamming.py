"""Binary codes: packing, counting differing bits, the nearest codes, and buckets of short codes.

A code of b bits is a row of ceil(b / 64) uint64: bit j is bit ``j % 64`` of word ``j // 64``, and
bits from b on are zero. The distance of two codes is the number of bits in which they differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Ids, Ids2d
from tokenspace.errors import InputError
from tokenspace.jit import kernel

from ._kernel import _intrinsic
from .store import fixed

__all__ = [
    "Buckets",
    "Codes",
    "check_codes",
    "nearest",
    "nearest_of",
    "pack_bits",
    "unpack_bits",
]

Codes = npt.NDArray[np.uint64]
_DIRECT = 16  # leading bits that buckets are looked up by at once
_SHORT = 32  # bits that a bucket table takes at most
_PROBES = 1 << 24  # codes that one look-up may try


def pack_bits(bits: npt.NDArray[np.bool_]) -> Codes:
    """Pack rows of bits (N, b) into codes (N, ceil(b / 64)) uint64."""
    words = -(-bits.shape[1] // 64)
    packed = np.zeros((len(bits), 8 * words), np.uint8)
    packed[:, : -(-bits.shape[1] // 8)] = np.packbits(bits, axis=1, bitorder="little")
    return np.asarray(packed.view("<u8"), np.uint64)


def unpack_bits(codes: Codes, bits: int) -> npt.NDArray[np.bool_]:
    """Undo :func:`pack_bits`: (N, bits) bool."""
    packed = np.ascontiguousarray(codes, "<u8").view(np.uint8)
    return np.unpackbits(packed, axis=1, count=bits, bitorder="little").astype(np.bool_)


def check_codes(codes: Codes, bits: int, name: str) -> None:
    """Raise :class:`InputError` unless ``codes`` are (N, ceil(bits / 64)) uint64."""
    words = -(-bits // 64)
    if codes.dtype != np.uint64 or codes.ndim != 2 or codes.shape[1] != words:
        raise InputError(
            f"{name}: {codes.dtype} of shape {codes.shape}, expected uint64 (N, {words}) "
            f"for codes of {bits} bits",
            hint="codes of different lengths cannot be compared; pack them with pack_bits",
        )


@_intrinsic
def _ones(typing: Any, word: Any) -> Any:
    """Count the ones of a uint64 by the processor's own instruction."""
    from numba.core import types

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), code


@kernel()
def _distance(one: Codes, other: Codes) -> np.int64:
    """Count the bits in which two codes (words,) differ."""
    if len(one) == 2:  # the usual 128 bits, without a loop
        return np.int64(_ones(one[0] ^ other[0]) + _ones(one[1] ^ other[1]))
    distance = np.uint64(0)
    for w in range(len(one)):
        distance += _ones(one[w] ^ other[w])
    return np.int64(distance)


@kernel()
def _total(codes: Codes, first: int, last: int, query: Codes) -> np.int64:
    """Sum, over query codes, the least distance to a code from ``first`` to ``last``."""
    if last - first == 1 and len(query) == 1:
        return _distance(codes[first], query[0])
    total = np.int64(0)
    for q in range(len(query)):
        least = np.int64(1) << 62
        for row in range(first, last):
            least = min(least, _distance(codes[row], query[q]))
        total += least
    return total


@kernel()
def _scan(
    codes: Codes, offsets: Ids, query: Codes, counts: Ids, kept: Ids2d, numbers: Ids, least: Ids
) -> None:
    """Write the ``len(numbers)`` documents of the smallest totals, ties in the order of number.

    A document is kept if fewer than k before it are as near. ``counts`` (totals,) tells how many
    are kept of each total up to ``far``, which falls as nearer ones come; ``kept`` (2, N) holds
    them in their order.
    """
    k, far, size, length = len(numbers), len(counts) - 1, 0, 0
    alone = len(offsets) == 0
    for i in range(kept.shape[1]):
        if alone:
            total = _distance(codes[i], query[0])
        else:
            total = _total(codes, offsets[i], offsets[i + 1], query)
        if total < far or (total == far and size < k):
            kept[0, length], kept[1, length] = i, total
            length += 1
            size += 1
            counts[total] += 1
            while size - counts[far] >= k:
                size -= counts[far]
                far -= 1
    begin = 0
    for level in range(far + 1):
        begin, counts[level] = begin + counts[level], begin
    for j in range(length):
        level = kept[1, j]
        if level <= far and counts[level] < k:
            numbers[counts[level]], least[counts[level]] = kept[0, j], level
            counts[level] += 1


def nearest(codes: Codes, queries: Codes, bits: int, k: int) -> tuple[Ids2d, Ids2d]:
    """Return the ``k`` nearest codes of every query code and their distances, (Q, min(k, N)).

    Nearest first; equal distances in the order of number.
    """
    check_codes(codes, bits, "codes")
    check_codes(queries, bits, "queries")
    found = [nearest_of(codes, queries[i : i + 1], bits, k) for i in range(len(queries))]
    shape = len(queries), min(k, len(codes))
    numbers = np.array([row for row, _ in found], np.int64).reshape(shape)
    return numbers, np.array([row for _, row in found], np.int64).reshape(shape)


def nearest_of(
    codes: Codes, query: Codes, bits: int, k: int, offsets: Ids | None = None
) -> tuple[Ids, Ids]:
    """Return the ``k`` nearest documents of one query and their distances, (min(k, N),) each.

    Document i has the codes ``offsets[i]`` to ``offsets[i + 1]``, or without ``offsets`` the code
    i alone. Its distance is the sum, over the query's codes (m, words), of the least number of
    differing bits. Nearest first; equal distances in the order of number.
    """
    count = len(codes) if offsets is None else len(offsets) - 1
    alone = len(query) == 1 and count == len(codes)
    if offsets is None or alone:
        offsets = np.zeros(0, np.int64) if alone else np.arange(count + 1)
    numbers, least = np.empty((2, min(k, count)), np.int64)
    counts, kept = np.zeros(len(query) * bits + 1, np.int64), np.empty((2, count), np.int64)
    if len(numbers):
        _scan(fixed(codes), fixed(offsets), fixed(query), counts, kept, numbers, least)
    return numbers, least


@dataclass(frozen=True, eq=False)
class Buckets:
    """Codes of at most 32 bits in order, so that all within a few bits of one are looked up.

    ``keys`` (N,) uint32 are the sorted codes, ``numbers`` (N,) where they were, and ``starts``
    (2^min(bits, 16) + 1,) says where each value of the leading bits begins among them.
    """

    keys: npt.NDArray[np.uint32]
    numbers: Ids
    starts: Ids
    bits: int

    @classmethod
    def of(cls, codes: Codes, bits: int) -> Self:
        """Sort codes (N, 1); :class:`InputError` for more than 32 bits."""
        if bits > _SHORT:
            raise InputError(
                f"buckets of {bits} bits: {_SHORT} at most",
                hint="longer codes are scanned: nearest",
            )
        check_codes(codes, bits, "codes")
        keys = codes[:, 0].astype(np.uint32)
        order = np.argsort(keys, kind="stable")
        direct = min(bits, _DIRECT)
        leading = np.arange(2**direct + 1, dtype=np.uint64) << np.uint64(bits - direct)
        starts = np.searchsorted(keys[order].astype(np.uint64), leading)
        return cls(keys[order], order.astype(np.int64), starts.astype(np.int64), bits)

    @property
    def nbytes(self) -> int:
        """Bytes of the three arrays."""
        return int(self.keys.nbytes + self.numbers.nbytes + self.starts.nbytes)

    def within(self, query: Codes, radius: int) -> tuple[Ids, Ids]:
        """Return the codes within ``radius`` bits of ``query`` (1,) and their distances.

        Nearest first; equal distances in the order of number. One look-up for each of the
        Σ_r C(bits, r) codes that near, or a pass over all keys where these are fewer.
        """
        if radius < 0:
            raise InputError(f"radius={radius} is outside [0, {self.bits}]")
        radius = min(radius, self.bits)
        word = np.uint64(query[0])
        probes = sum(comb(self.bits, r) for r in range(radius + 1))
        if probes > min(_PROBES, len(self.keys)):
            distance = np.bitwise_count(self.keys ^ np.uint32(word)).astype(np.int64)
            places = np.flatnonzero(distance <= radius)
            numbers, distances = self.numbers[places], distance[places]
        else:
            ends = np.empty((probes, 3), np.int64)
            _probe(fixed(self.keys), fixed(self.starts), int(word), self.bits, radius, ends)
            sizes = ends[:, 1] - ends[:, 0]
            hit = ends[sizes > 0]
            spans = [np.arange(first, last) for first, last, _ in hit.tolist()]
            places = np.concatenate([np.zeros(0, np.int64), *spans])
            numbers, distances = self.numbers[places], np.repeat(hit[:, 2], sizes[sizes > 0])
        order = np.lexsort((numbers, distances))
        return numbers[order], distances[order]


@kernel()
def _find(keys: npt.NDArray[np.uint32], low: int, high: int, key: np.int64) -> int:
    """Return the first place from ``low`` to ``high`` whose key is at least ``key``."""
    while low < high:
        middle = (low + high) // 2
        if np.int64(keys[middle]) < key:
            low = middle + 1
        else:
            high = middle
    return low


@kernel()
def _probe(
    keys: npt.NDArray[np.uint32], starts: Ids, word: int, bits: int, radius: int, ends: Ids2d
) -> None:
    """Write where the keys of each code within ``radius`` begin and end, and its distance.

    The patterns of r ones follow each other by the smallest larger number with as many ones.
    """
    shift = max(0, bits - 16)
    limit = np.int64(1) << np.int64(bits)
    row = 0
    for r in range(radius + 1):
        pattern = (np.int64(1) << np.int64(r)) - 1
        while pattern < limit:
            key = np.int64(word) ^ pattern
            lead = key >> shift
            first = _find(keys, starts[lead], starts[lead + 1], key)
            last = _find(keys, first, starts[lead + 1], key + 1)
            ends[row, 0], ends[row, 1], ends[row, 2] = first, last, r
            row += 1
            if pattern == 0:
                break
            lowest = pattern & -pattern
            ripple = pattern + lowest
            pattern = (((pattern ^ ripple) >> 2) // lowest) | ripple
