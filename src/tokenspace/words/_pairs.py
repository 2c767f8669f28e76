"""Count how often words stand near each other, one row of the matrix after the other.

A row needs the places of one word only, and its sums fit into the processor's cache; so there is
no hash table, nothing is sorted, threads share nothing, and every sum is taken in the order of the
text, whatever their number.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tokenspace import jit
from tokenspace.arrays import Floats1d, Ids
from tokenspace.corpus import IdStream
from tokenspace.jit import kernel
from tokenspace.progress import Meter
from tokenspace.sgd import share

__all__ = ["PairCounts", "count_pairs"]

PORTION = 1 << 21  # places, or pairs at most, of the rows that a thread counts at a time


class PairCounts(NamedTuple):
    """The lower triangle of a symmetric (V, V) matrix: row w has columns c <= w, each once.

    Row w is ``columns[starts[w]:starts[w + 1]]`` (int32) with ``values`` (float32, > 0).
    """

    starts: Ids
    columns: npt.NDArray[np.int32]
    values: Floats1d


def count_pairs(stream: IdStream, weights: npt.NDArray[np.float64], threads: int) -> PairCounts:
    """Count pairs of one text at each distance d = 1 .. L, which weighs ``weights[d - 1]``.

    Both directions count, so that a word near itself counts twice, as in the whole matrix.
    """
    size, window = len(stream.vocab), len(weights)
    begins = np.concatenate([[0], np.cumsum(stream.counts)])
    narrow = len(stream.ids) < 2**31
    places: npt.NDArray[Any] = np.zeros(len(stream.ids), np.int32 if narrow else np.int64)
    reach = np.zeros((len(stream.ids), 2), np.uint8)
    _find(stream.ids, stream.offsets, window, begins[:-1].copy(), places, reach)

    bounds = np.minimum(np.arange(1, size + 1), stream.counts * 2 * window)
    work_sizes = np.cumsum(np.maximum(bounds, stream.counts))
    marks = np.searchsorted(work_sizes, np.arange(PORTION, work_sizes[-1] + PORTION, PORTION))
    cuts = np.unique(np.concatenate([[0], np.minimum(marks + 1, size)])).tolist()
    lengths = np.zeros(size, np.int64)
    parts: list[tuple[npt.NDArray[np.int32], Floats1d] | None] = [None] * (len(cuts) - 1)

    def work(_: int, index: int) -> int:
        first, last = cuts[index], cuts[index + 1]
        columns = np.empty(bounds[first:last].sum(), np.int32)
        values = np.empty(len(columns), np.float32)
        n = _count(
            stream.ids, begins, places, reach, weights, first, last, lengths, columns, values,
            np.zeros(size, np.float64),
        )  # fmt: skip
        parts[index] = (columns[:n].copy(), values[:n].copy())
        return int(begins[last] - begins[first])

    with Meter("count", len(stream.ids)) as meter:
        share(work, 0, len(parts), jit.threads(threads), meter)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    columns, values = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.float32)
    for index, first in enumerate(cuts[:-1]):
        part = parts[index]
        parts[index] = None  # so that the pairs are not held twice
        if part is not None:
            at = slice(starts[first], starts[first] + len(part[0]))
            columns[at], values[at] = part
    return PairCounts(starts, columns, values)


@kernel()
def _find(
    ids: npt.NDArray[np.int32],
    offsets: Ids,
    window: int,
    ends: Ids,
    places: Ids,
    reach: npt.NDArray[np.uint8],
) -> None:
    """Note where each word stands, and how far the window reaches there before and after it."""
    for sentence in range(len(offsets) - 1):
        begin, end = offsets[sentence], offsets[sentence + 1]
        for p in range(begin, end):
            at = ends[ids[p]]
            ends[ids[p]] += 1
            places[at] = p
            reach[at, 0] = min(window, p - begin)
            reach[at, 1] = min(window, end - 1 - p)


@kernel()
def _count(
    ids: npt.NDArray[np.int32],
    begins: Ids,
    places: Ids,
    reach: npt.NDArray[np.uint8],
    weights: npt.NDArray[np.float64],
    first: int,
    last: int,
    lengths: Ids,
    columns: npt.NDArray[np.int32],
    values: Floats1d,
    sums: npt.NDArray[np.float64],
) -> int:
    """Count the rows [first, last) one after the other; return how many pairs they have."""
    total = 0
    for row in range(first, last):
        begin = total
        for at in range(begins[row], begins[row + 1]):
            p = np.int64(places[at])
            for d in range(1, reach[at, 0] + 1):
                c = ids[p - d]
                if c <= row:
                    if sums[c] == 0:
                        columns[total] = c
                        total += 1
                    sums[c] += weights[d - 1]
            for d in range(1, reach[at, 1] + 1):
                c = ids[p + d]
                if c <= row:
                    if sums[c] == 0:
                        columns[total] = c
                        total += 1
                    sums[c] += weights[d - 1]
        for at in range(begin, total):
            values[at] = sums[columns[at]]
            sums[columns[at]] = 0
        lengths[row] = total - begin
    return total
