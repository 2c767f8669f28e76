"""Groups of rows, each as wide as it deserves: a table and a way back to the whole width.

The stored form is ``table.g`` (n_g, d_g) and ``out.g`` (d_g, D) float32 for group g; without
``out.g`` a row is the first d_g of D columns, and a group without a table reads as zeros. Which
group a row is in takes nothing where there is one group, 8 bytes a group where rows of a group are
neighbours, and else a few bits a row, with how many rows of each group come before every block.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats2d, Ids
from tokenspace.errors import InputError, MissingEvidence
from tokenspace.jit import kernel

from ._packing import pack, packed_width, unpack
from .table import Tensors, check_counts

__all__ = [
    "allocate",
    "buckets",
    "effective",
    "factored",
    "gram",
    "grouped",
    "members",
    "membership_bytes",
    "mixed_bytes",
    "principal",
    "read_mixed",
    "store_mixed",
]

Figures = npt.NDArray[np.float64]
_BLOCK = 128  # rows whose groups are counted together
_ROWS = 1 << 14  # rows that are held in float64 at a time


def check_fields(fields: Ids, size: int, name: str) -> Ids:
    """Return ``fields`` (V,); :class:`InputError` unless they cut the rows into 0 ... F - 1."""
    fields = np.asarray(fields)
    whole = fields.shape == (size,) and fields.dtype.kind in "iu" and int(fields.min()) >= 0
    if not whole or len(np.unique(fields)) != int(fields.max()) + 1:
        raise InputError(
            f"{name}: fields have shape {fields.shape}, or leave a number out; expected ({size},)"
            " whole numbers 0 ... F - 1, each at least once",
            hint="number the features from 0 on, and give every row the number of its own",
        )
    return fields.astype(np.int64)


def buckets(counts: Ids, number: int) -> Ids:
    """Return the bucket of every row, (V,): 0 holds the most frequent, each 4 times the last."""
    size = len(counts)
    shares = np.cumsum(4.0 ** np.arange(number)) / (4.0**number - 1) * 3
    rank = np.empty(size, np.int64)
    rank[np.argsort(-counts, kind="stable")] = np.arange(size)
    bounds = np.maximum(np.floor(shares * size), np.arange(1, number + 1))
    found = np.minimum(np.searchsorted(bounds, rank, side="right"), number - 1)
    return np.unique(found, return_inverse=True)[1].astype(np.int64)


def grouped(size: int, counts: Ids | None, fields: Ids | None, number: int, name: str) -> Ids:
    """Return the group of every row: its field, or without fields its bucket by frequency.

    Raises :class:`InputError` for counts or fields that do not fit ``size`` rows, and
    :class:`MissingEvidence` where both are absent.
    """
    counts = None if counts is None else check_counts(counts, size, name)
    if fields is not None:
        return check_fields(fields, size, name)
    if counts is None:
        raise MissingEvidence(
            f"{name} needs fields or counts",
            hint="give the feature of every row (--fields), or how often it occurs (--counts)",
        )
    return buckets(counts, number)


def _bits(groups: int) -> int:
    return max(1, int(groups - 1).bit_length())


def membership_bytes(size: int, groups: int, *, neighbours: bool = False) -> int:
    """Return the bytes that say which of ``groups`` every row is in, and its place there."""
    if groups == 1 or neighbours:
        return 0 if groups == 1 else 8 * groups
    return -(-size // _BLOCK) * (packed_width(_BLOCK, _bits(groups)) + 4 * groups)


def _membership(group: Ids, groups: int) -> Tensors:
    if groups == 1:
        return {}
    counts = np.bincount(group, minlength=groups)
    if (np.diff(group) >= 0).all():
        return {"starts": np.cumsum(counts) - counts}
    blocks = -(-len(group) // _BLOCK)
    padded = np.zeros(blocks * _BLOCK, np.int64)
    padded[: len(group)] = group
    codes = padded.reshape(blocks, _BLOCK)
    each = np.stack([(codes == g).sum(axis=1) for g in range(groups)], axis=1)
    before = (np.cumsum(each, axis=0) - each).astype(np.int32)
    return {"group": pack(codes, _bits(groups)), "before": before}


def _locate(tensors: Tensors, ids: Ids) -> tuple[Ids, Ids]:
    """Return the group of every id, and its place among the rows of that group."""
    if "starts" in tensors:
        starts = tensors["starts"]
        group = np.searchsorted(starts, ids, side="right") - 1
        return group, ids - starts[group]
    if "group" not in tensors:
        return np.zeros(len(ids), np.int64), ids
    groups = tensors["before"].shape[1]
    blocks, which = np.unique(ids // _BLOCK, return_inverse=True)
    within = ids % _BLOCK
    codes = unpack(tensors["group"], _bits(groups), _BLOCK, blocks)
    group, place = codes[which, within], np.empty(len(ids), np.int64)
    for g in range(groups):
        same = codes == g
        earlier = np.cumsum(same, axis=1) - same + tensors["before"][blocks, g, None]
        chosen = group == g
        place[chosen] = earlier[which[chosen], within[chosen]]
    return group, place


def store_mixed(
    group: Ids, tables: Sequence[Floats2d], outs: Sequence[Floats2d | None] | None = None
) -> Tensors:
    """Return the stored form; ``tables[g]`` has the rows of group g in their order."""
    stored = dict(_membership(group, len(tables)))
    for g, table in enumerate(tables):
        if table.shape[1]:
            stored[f"table.{g}"] = np.ascontiguousarray(table, np.float32)
        out = outs[g] if outs else None
        if out is not None and table.shape[1]:
            stored[f"out.{g}"] = np.ascontiguousarray(out, np.float32)
    return stored


def read_mixed(tensors: Tensors, width: int, ids: Ids) -> Floats2d:
    """Return the rows of ``ids`` (n,), (n, width) float32."""
    found = np.zeros((len(ids), width), np.float32)
    group, place = _locate(tensors, ids)
    for g in np.unique(group):
        table, out = tensors.get(f"table.{g}"), tensors.get(f"out.{g}")
        rows = np.flatnonzero(group == g)
        if table is not None and out is None:
            found[rows, : table.shape[1]] = table[place[rows]]
        elif table is not None and out is not None:
            _project(np.asarray(table), np.asarray(out), place[rows], rows, found)
    return found


@kernel()
def _project(table: Floats2d, out: Floats2d, place: Ids, rows: Ids, found: Floats2d) -> None:
    """Add table @ out to the zeros of ``found``; no BLAS, whose bits depend on the batch."""
    for i in range(len(place)):
        for k in range(table.shape[1]):
            x = table[place[i], k]
            for d in range(out.shape[1]):
                found[rows[i], d] += x * out[k, d]


def effective(counts: Ids, widths: Sequence[int], width: int) -> list[int]:
    """Return the widths d_g of groups of ``counts`` rows: D where narrowing would cost more."""
    return [
        int(w) if n * w + w * width < n * width else width
        for n, w in zip(counts.tolist(), widths, strict=True)
    ]


def mixed_bytes(counts: Ids, widths: Sequence[int], width: int) -> int:
    """Return the bytes of tables and ways out, without those of the membership."""
    return sum(
        4 * (n * w + (w * width if w < width else 0))
        for n, w in zip(counts.tolist(), effective(counts, widths, width), strict=True)
    )


def gram(source: Floats2d, rows: Ids) -> Figures:
    """Return Σ x xᵀ over ``rows`` of the source, (D, D) float64, block by block."""
    total = np.zeros((source.shape[1], source.shape[1]))
    for start in range(0, len(rows), _ROWS):
        block = np.asarray(source[rows[start : start + _ROWS]], np.float64)
        total += block.T @ block
    return total


def principal(squares: Figures) -> tuple[Figures, Figures]:
    """Return the eigenvalues of a (D, D) Gram matrix, largest first, and the axes as rows."""
    values, vectors = np.linalg.eigh(squares)
    return np.maximum(values[::-1], 0), np.ascontiguousarray(vectors[:, ::-1].T)


def members(group: Ids) -> list[Ids]:
    """Return the rows of every group, in their order."""
    order = np.argsort(group, kind="stable")
    return np.split(order, np.cumsum(np.bincount(group))[:-1])


def factored(source: Floats2d, group: Ids, widths: Sequence[int]) -> Tensors:
    """Return the stored form of least squared error: each group on its first d_g axes."""
    tables: list[Floats2d] = []
    outs: list[Floats2d | None] = []
    for rows, width in zip(members(group), widths, strict=True):
        if width == source.shape[1]:
            tables.append(np.asarray(source[rows], np.float32))
            outs.append(None)
            continue
        axes = principal(gram(source, rows))[1][:width]
        parts = [
            np.asarray(source[rows[start : start + _ROWS]], np.float64) @ axes.T
            for start in range(0, len(rows), _ROWS)
        ]
        tables.append(np.concatenate(parts).astype(np.float32))
        outs.append(axes.astype(np.float32))
    return store_mixed(group, tables, outs)


def allocate(gains: Figures, costs: Figures, limit: int) -> list[int] | None:
    """Choose one candidate a group: the most gain that ``limit`` bytes buy, by one price.

    ``gains`` and ``costs`` are (F, C), costs not falling along a row. A price on bytes is raised
    until the dearest choice that it allows fits; what is left buys single steps up. None where
    even the first candidates cost more than the limit.
    """
    each = np.arange(len(gains))

    def choice(price: float) -> npt.NDArray[np.int64]:
        return np.asarray(np.argmax(gains - price * costs, axis=1), np.int64)

    def cost(chosen: npt.NDArray[np.int64]) -> float:
        return float(costs[each, chosen].sum())

    found = choice(0.0)
    if cost(found) > limit:
        found = np.zeros(len(gains), np.int64)
        if cost(found) > limit:
            return None
        low, high = 0.0, float(np.ptp(gains) + 1)
        for _ in range(80):
            middle = (low + high) / 2 if low else high / 4
            if cost(choice(middle)) <= limit:
                high, found = middle, choice(middle)
            else:
                low = middle
    while True:
        steps = [
            (float(gains[f, c] - gains[f, found[f]]), f, c)
            for f in range(len(gains))
            for c in range(int(found[f]) + 1, gains.shape[1])
            if gains[f, c] > gains[f, found[f]]
            and cost(found) + costs[f, c] - costs[f, found[f]] <= limit
        ]
        if not steps:
            return [int(c) for c in found]
        _, f, c = max(steps)
        found[f] = c
