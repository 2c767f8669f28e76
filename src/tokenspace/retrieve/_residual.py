"""Token vectors as the number of a centroid and a few bits a dimension: the residual codec.

``x ~ centroid[code] + weight[bucket]`` dimension by dimension, one table of ``2^nbits`` weights for
all dimensions and tokens. Value j of a row lies in byte ``j·nbits // 8``, lowest bits first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats1d, Floats2d, Ids, Ids2d, Ragged
from tokenspace.jit import kernel

from ._kernel import ROWS, _best_sum, _tile, _unpack, pack_lanes, sum_lanes
from .store import DocumentTokens, fixed

__all__ = [
    "ResidualStore",
    "approximate",
    "buckets",
    "flat",
    "inverted",
    "nearest",
    "panels_of",
    "reaching",
    "top",
]

Bytes2d = npt.NDArray[np.uint8]
Codes = npt.NDArray[Any]  # uint16, or uint32 beyond 65,536 centroids
_BLOCK = 65536  # rows that are encoded at a time
_BINS = 1 << 16  # of the histogram that quantiles are read from
LANES = 8  # query tokens that are looked up together
_CHUNK = 96  # rows that are restored at a time
_GROUP = 256  # documents that are scored at a time


def nearest(rows: Floats2d, engine: Any) -> Ids:
    """Return the number of each row's nearest centroid, (n,).

    ``engine`` is a :func:`flat` index of the centroids. Among unit centroids the nearest is that
    of the largest inner product.
    """
    found: Ids = engine.search(np.ascontiguousarray(rows, np.float32), 1)[1][:, 0]
    return found


def buckets(
    rows: Floats2d, codes: Ids, centroids: Floats2d, nbits: int
) -> tuple[Floats1d, Floats1d]:
    """Return the cutoffs (2^nbits - 1,) and the weights (2^nbits,) of the residuals of ``rows``.

    They are the quantiles i / 2^nbits and (i + 1/2) / 2^nbits of all residuals of all dimensions,
    read from a histogram of 65,536 equal bins, block by block, so that no array of all residuals
    is sorted.
    """
    blocks = range(0, len(rows), _BLOCK // 8)

    def residuals(start: int) -> Floats2d:
        part = slice(start, start + _BLOCK // 8)
        return np.asarray(rows[part] - centroids[codes[part]], np.float32)

    peak = max((float(np.abs(residuals(start)).max()) for start in blocks), default=0.0)
    counts = np.zeros(_BINS, np.int64)
    for start in blocks:
        counts += np.histogram(residuals(start), _BINS, (-peak, peak))[0]
    edges = np.linspace(-peak, peak, _BINS + 1)
    below = np.concatenate([np.zeros(1), np.cumsum(counts)]) / max(1, int(counts.sum()))
    levels = 1 << nbits
    shares = np.arange(1, 2 * levels) / (2 * levels)
    marks = np.interp(shares, below, edges).astype(np.float32)
    return marks[1::2].copy(), marks[::2].copy()


@dataclass(frozen=True, eq=False)
class ResidualStore:
    """Token vectors of N documents by the residual codec.

    ``codes`` is (rows,) uint16 or uint32, ``residuals`` (rows, bytes) uint8, ``offsets`` (N + 1,)
    int64, ``centroids`` (K, D), ``cutoffs`` (2^nbits - 1,) and ``weights`` (2^nbits,) float32; the
    first two may be memory-mapped. With ``unit`` a restored row is scaled to length 1.
    """

    codes: Codes
    residuals: Bytes2d
    offsets: Ids
    centroids: Floats2d
    cutoffs: Floats1d
    weights: Floats1d
    unit: bool

    @classmethod
    def encode(
        cls,
        tokens: DocumentTokens,
        centroids: Floats2d,
        cutoffs: Floats1d,
        weights: Floats1d,
        *,
        unit: bool,
    ) -> ResidualStore:
        """Encode every token, 65,536 of them at a time."""
        engine = flat(centroids)
        total, nbits = int(tokens.offsets[-1]), len(weights).bit_length() - 1
        codes = np.empty(total, np.uint16 if len(centroids) <= 65536 else np.uint32)
        residuals = np.zeros((total, -(-tokens.width * nbits // 8)), np.uint8)
        for start in range(0, total, _BLOCK):
            rows = tokens.rows(start, min(start + _BLOCK, total))
            part = slice(start, start + len(rows))
            codes[part] = nearest(rows, engine)
            near = fixed(codes[part])
            _pack(fixed(rows), near, fixed(centroids), fixed(cutoffs), nbits, residuals[part])
        offsets = np.array(tokens.offsets, np.int64)
        return cls(codes, residuals, offsets, centroids, cutoffs, weights, unit)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def width(self) -> int:
        """Width D of every token vector."""
        return int(self.centroids.shape[1])

    @property
    def nbits(self) -> int:
        """Bits a dimension."""
        return len(self.weights).bit_length() - 1

    @property
    def nbytes(self) -> int:
        """Bytes of codes, residuals, offsets, centroids and bucket tables."""
        tables = self.centroids.nbytes + self.cutoffs.nbytes + self.weights.nbytes
        return self.codes.nbytes + self.residuals.nbytes + self.offsets.nbytes + tables

    @cached_property
    def table(self) -> Floats2d:
        """The weights that each byte stands for, (256, 8 / nbits)."""
        places = np.arange(0, 8, self.nbits)
        digits = (np.arange(256)[:, None] >> places) & (len(self.weights) - 1)
        return np.asarray(self.weights[digits], np.float32)

    def rows(self, start: int, stop: int) -> Floats2d:
        """Restore token vectors ``start`` to ``stop``, (stop - start, D) float32."""
        out = np.empty((stop - start, self.width), np.float32)
        parts = fixed(self.codes[start:stop]), fixed(self.residuals[start:stop])
        _restore(*parts, fixed(self.centroids), fixed(self.table), self.unit, out)
        return out

    def __getitem__(self, document: int) -> Floats2d:
        """Restore the matrix of one document, (T, D) float32."""
        return self.rows(int(self.offsets[document]), int(self.offsets[document + 1]))

    def scorer(self, queries: Ragged) -> Callable[[Ids], Floats2d]:
        """Return a function that scores documents (n,) against all ``queries``: (n, Q) float32.

        The score is MaxSim with the restored rows. The function may run on several threads.
        """
        panels, lane_scales = pack_lanes(queries.flat, whole=False)
        codes, residuals, offsets = fixed(self.codes), fixed(self.residuals), fixed(self.offsets)
        centroids, table, panels = fixed(self.centroids), fixed(self.table), fixed(panels)
        lane_scales, starts = fixed(lane_scales), fixed(queries.offsets)
        ones, unit = fixed(np.ones(_CHUNK, np.float32)), self.unit

        def score(documents: Ids) -> Floats2d:
            sums = np.empty((len(documents), len(queries)), np.float32)
            for low in range(0, len(documents), _GROUP):
                group = fixed(np.asarray(documents[low : low + _GROUP], np.int64))
                found = np.full((len(group), len(lane_scales)), -np.inf, np.float32)
                found[offsets[group] == offsets[group + 1]] = 0.0
                held = codes, residuals, offsets, centroids, table
                _best(*held, unit, ones, group, panels, found)
                sum_lanes(found, lane_scales, starts, sums[low : low + _GROUP])
            return sums

        return score


def flat(centroids: Floats2d) -> Any:
    """Return a flat faiss index of the centroids by Euclidean distance."""
    import faiss

    engine = faiss.IndexFlatL2(centroids.shape[1])
    engine.add(np.ascontiguousarray(centroids, np.float32))
    return engine


@kernel()
def _pack(
    rows: Floats2d, codes: Codes, centroids: Floats2d, cutoffs: Floats1d, nbits: int, out: Bytes2d
) -> None:
    """Write the buckets of ``rows - centroids[codes]`` into zeroed bytes, by halving the range."""
    for t in range(len(rows)):
        centre = centroids[codes[t]]
        for j in range(rows.shape[1]):
            value, bucket = rows[t, j] - centre[j], 0
            for bit in range(nbits - 1, -1, -1):
                if value > cutoffs[bucket + (1 << bit) - 1]:
                    bucket += 1 << bit
            out[t, j * nbits // 8] |= np.uint8(bucket << (j * nbits % 8))


@kernel(fastmath={"contract", "reassoc"})
def _restore(
    codes: Codes,
    residuals: Bytes2d,
    centroids: Floats2d,
    table: Floats2d,
    unit: bool,
    out: Floats2d,
) -> None:
    """Write ``centroid + weights`` of every row, scaled to length 1 if ``unit``."""
    width, share = centroids.shape[1], table.shape[1]
    scales = np.empty(len(codes), np.float32)
    for t in range(len(codes)):
        if share == 8:
            total = _unpack(residuals, codes, t, centroids, table, 8, out)
        elif share == 4:
            total = _unpack(residuals, codes, t, centroids, table, 4, out)
        elif share == 2:
            total = _unpack(residuals, codes, t, centroids, table, 2, out)
        else:
            total = _unpack(residuals, codes, t, centroids, table, 1, out)
        for j in range(width // share * share, width):
            out[t, j] = centroids[codes[t], j] + table[residuals[t, j // share], j % share]
            total += out[t, j] * out[t, j]
        scales[t] = total
    if unit:  # in passes of their own, or every row would wait for its root
        for t in range(len(codes)):
            scales[t] = np.float32(1) / np.sqrt(scales[t]) if scales[t] > 0 else np.float32(1)
        for t in range(len(codes)):
            for j in range(width):
                out[t, j] *= scales[t]


@kernel()
def _best(
    codes: Codes,
    residuals: Bytes2d,
    offsets: Ids,
    centroids: Floats2d,
    table: Floats2d,
    unit: bool,
    scales: Floats1d,
    documents: Ids,
    panels: npt.NDArray[np.float32],
    best: Floats2d,
) -> None:
    """Raise ``best[i]`` (lanes,) to each lane's best product with a token of ``documents[i]``."""
    wide = np.zeros((_CHUNK, centroids.shape[1]), np.float32)
    for i in range(len(documents)):
        start, stop = offsets[documents[i]], offsets[documents[i] + 1]
        for low in range(start, stop, _CHUNK):
            high = min(low + _CHUNK, stop)
            rows = wide[: high - low]
            _restore(codes[low:high], residuals[low:high], centroids, table, unit, rows)
            for number in range(len(panels)):
                for first in range(0, high - low, ROWS):
                    _tile(wide, scales, first, high - low - 1, panels, number, best, i)


def panels_of(similar: Floats2d) -> npt.NDArray[np.float32]:
    """Lay ``similar`` (m, K) into panels of eight query tokens, filled up with zeros: (P, K, 8)."""
    panels = np.zeros((-(-len(similar) // LANES), similar.shape[1], LANES), np.float32)
    for i, row in enumerate(similar):
        panels[i // LANES, :, i % LANES] = row
    return panels


@kernel(fastmath={"nnan", "nsz"})
def approximate(
    panels: npt.NDArray[np.float32],
    kept: npt.NDArray[np.bool_],
    codes: Codes,
    offsets: Ids,
    documents: Ids,
    floor: bool,
    scores: Floats1d,
) -> None:
    """Score documents by their tokens' centroids alone: ``panels`` are those of :func:`panels_of`.

    Tokens whose centroid is not ``kept`` (K,) are passed over; with ``floor`` no query token
    counts less than 0, without it every document must keep a token.
    """
    least = np.float32(0 if floor else -np.inf)
    longest = 0
    for i in range(len(documents)):
        longest = max(longest, offsets[documents[i] + 1] - offsets[documents[i]])
    used = np.empty(longest, np.int64)
    for i in range(len(documents)):
        count = 0
        for t in range(offsets[documents[i]], offsets[documents[i] + 1]):
            used[count] = codes[t]
            count += kept[codes[t]]
        total = np.float32(0)
        for number in range(len(panels) if count else 0):
            total += _best_sum(panels, number, used, 0, count, least)
        scores[i] = total


@kernel()
def reaching(similar: Floats2d, thresholds: Floats1d, kept: npt.NDArray[np.bool_]) -> None:
    """Mark the columns of ``similar`` (m, K) where a row reaches its threshold (m,)."""
    kept[:] = False
    for i in range(len(similar)):
        for c in range(similar.shape[1]):
            kept[c] |= similar[i, c] >= thresholds[i]


@kernel()
def top(similar: Floats2d, found: Ids2d) -> None:
    """Write where the largest numbers of each row of ``similar`` (m, K) are: ``found`` (m, p).

    Largest first; equal numbers in their order.
    """
    count = found.shape[1]
    values = np.empty(count, np.float32)
    for i in range(len(similar)):
        values[:] = -np.inf
        for c in range(similar.shape[1]):
            value = similar[i, c]
            if value > values[count - 1]:
                place = count - 1
                while place > 0 and value > values[place - 1]:
                    values[place], found[i, place] = values[place - 1], found[i, place - 1]
                    place -= 1
                values[place], found[i, place] = value, c


def inverted(codes: Codes, offsets: Ids, count: int) -> tuple[Ids, npt.NDArray[np.uint32]]:
    """Return, for each of ``count`` centroids, the sorted numbers of the documents that use it.

    The documents of centroid c are ``documents[starts[c] : starts[c + 1]]``, each named once.
    """
    codes, offsets = fixed(codes), fixed(offsets)
    starts = np.zeros(count + 1, np.int64)
    _count(codes, offsets, starts)
    starts = np.cumsum(starts)
    documents = np.empty(int(starts[-1]), np.uint32)
    _fill(codes, offsets, starts[:-1].copy(), documents)
    return starts, documents


@kernel()
def _count(codes: Codes, offsets: Ids, sizes: Ids) -> None:
    """Count the documents of centroid c in ``sizes[c + 1]``."""
    seen = np.full(len(sizes), -1, np.int64)
    for document in range(len(offsets) - 1):
        for t in range(offsets[document], offsets[document + 1]):
            if seen[codes[t]] != document:
                seen[codes[t]] = document
                sizes[codes[t] + 1] += 1


@kernel()
def _fill(codes: Codes, offsets: Ids, places: Ids, documents: npt.NDArray[np.uint32]) -> None:
    """Write each document to the place of every centroid that it uses, and move the place on."""
    seen = np.full(len(places), -1, np.int64)
    for document in range(len(offsets) - 1):
        for t in range(offsets[document], offsets[document + 1]):
            code = codes[t]
            if seen[code] != document:
                seen[code] = document
                documents[places[code]] = document
                places[code] += 1
