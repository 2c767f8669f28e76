"""Product codes: each part of a row is the number of one of K vectors that all rows share.

Some rows may choose among all K, the others among the first few: a group of rows is its ids and
how many vectors it may use.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats2d, Ids, Ids2d
from tokenspace.errors import ConfigError
from tokenspace.rng import stream

from ._budget import allowed, unreachable
from ._packing import packed_width

__all__ = ["Books", "Group", "books_bytes", "chosen", "fitted", "joined", "nearest"]

Books = npt.NDArray[np.float32]
"""The vectors of each part, (parts, K, D / parts)."""
Group = tuple[Ids, int]
_BLOCK = 1 << 22  # distances that are held at a time
_MOST_BITS = 8  # of what is chosen; more may be asked for


def books_bytes(width: int, centroids: int) -> int:
    """Return the bytes of the vectors of all parts."""
    return 4 * width * centroids


def chosen(
    parts: int,
    centroids: int,
    heights: Sequence[tuple[int, int]],
    beside: int,
    budget: float,
    size: int,
    width: int,
    name: str,
) -> tuple[int, int]:
    """Return the number of parts and of vectors of each part, where 0 stands for any.

    ``heights`` are the number of rows of each group, and by how many bits their codes are
    shorter; ``beside`` bytes are spent on something else. Of all forms within the budget the one
    of most bits a row is taken, and of those the one of most vectors.

    Raises :class:`ConfigError` where the width is not a multiple of ``parts``, or no form fits.
    """
    if parts and width % parts:
        raise ConfigError(
            f"{name}: width {width} is not a multiple of parts={parts}",
            hint=f"choose parts among the divisors of {width}, or 0",
        )
    shorter = max(less for _, less in heights)
    counts = (
        [centroids] if centroids else [1 << bits for bits in range(1 + shorter, _MOST_BITS + 1)]
    )
    divisors = [parts] if parts else [p for p in range(1, width + 1) if width % p == 0]
    found = []
    for k in counts:
        bits = (k - 1).bit_length()
        for part in divisors:
            codes = sum(rows * packed_width(part, bits - less) for rows, less in heights)
            found.append((codes + books_bytes(width, k) + beside, part * bits, k, part))
    limit = allowed(budget, size, width)
    within = [item[1:] for item in found if item[0] <= limit]
    if not within:
        raise unreachable(name, budget, min(found)[0], size, width)
    _, k, part = max(within)
    return part, k


def fitted(
    source: Floats2d, parts: int, centroids: int, groups: Sequence[Group], sweeps: int, seed: int
) -> Books:
    """Return the vectors of Lloyd's algorithm for each part of (V, D) rows, ``sweeps`` times.

    A row's distance is to the nearest vector that its group may use. The first vectors are rows,
    those that only one group may use are rows of that group; one that no row chose becomes a row
    again.
    """
    width = source.shape[1] // parts
    books = np.empty((parts, centroids, width), np.float32)
    narrow = min(limit for _, limit in groups)
    free = np.concatenate([ids for ids, limit in groups if limit == centroids])
    for part in range(parts):
        draw = stream(seed, "codebook", part)
        columns = np.ascontiguousarray(source[:, part * width : (part + 1) * width], np.float32)
        starts = _some(draw, np.arange(len(columns)), narrow)
        starts = np.concatenate([starts, _some(draw, free, centroids - narrow)])
        book = columns[starts].astype(np.float64)
        for _ in range(sweeps):
            sums, total = np.zeros_like(book), np.zeros(centroids)
            for ids, limit in groups:
                codes = _nearest(columns[ids], book[:limit].astype(np.float32))
                np.add.at(sums, codes, columns[ids])
                total += np.bincount(codes, minlength=centroids)
            used = total > 0
            book[used] = sums[used] / total[used, None]
            idle = np.flatnonzero(~used)
            book[idle] = columns[_some(draw, free, len(idle))]
        books[part] = book
    return books


def _some(draw: np.random.Generator, ids: Ids, count: int) -> Ids:
    """Return ``count`` of ``ids``, each once as long as there are enough."""
    return np.resize(draw.permutation(ids)[:count], count)


def nearest(rows: Floats2d, books: Books, limit: int) -> Ids2d:
    """Return the numbers of the nearest of the first ``limit`` vectors of each part, (n, parts)."""
    parts, _, width = books.shape
    codes = np.empty((len(rows), parts), np.int64)
    for part in range(parts):
        columns = np.ascontiguousarray(rows[:, part * width : (part + 1) * width], np.float32)
        codes[:, part] = _nearest(columns, books[part, :limit])
    return codes


def _nearest(columns: Floats2d, book: Floats2d) -> Ids:
    """Return the number of the nearest vector for each row; the first of equals."""
    codes = np.empty(len(columns), np.int64)
    lengths = (book**2).sum(axis=1) / 2
    step = max(1, _BLOCK // len(book))
    for start in range(0, len(columns), step):
        scores = columns[start : start + step] @ book.T - lengths
        codes[start : start + step] = scores.argmax(axis=1)
    return codes


def joined(books: Books, codes: Ids2d) -> Floats2d:
    """Return the rows that codes (n, parts) spell, (n, D) float32."""
    parts, _, width = books.shape
    rows: Floats2d = books[np.arange(parts), codes].reshape(len(codes), parts * width)
    return rows
