"""Tables of which only the largest values are kept: sparse rows, with their indices paid for.

Two forms, of which the one that holds more values within the bytes is taken: *compressed rows*
(``starts`` (V + 1,), and for every value its column) and, where few values a row are left,
*coordinates* (for every value its row and its column, in order). Values are float32, rows int32,
columns one byte up to 256 columns and two above.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats2d, Ids

from ._budget import allowed, unreachable

__all__ = ["capacity", "kept", "read_sparse", "store_sparse"]

Tensors = dict[str, npt.NDArray[Any]]
_INT32 = 2**31 - 1


def _column(width: int) -> int:
    return 1 if width <= 256 else 2


def _forms(limit: int, size: int, width: int) -> tuple[int, int]:
    """Return how many values fit as compressed rows, and how many as coordinates."""
    pointer = 4 if size * width <= _INT32 else 8
    value = 4 + _column(width)
    return (limit - pointer * (size + 1)) // value, limit // (4 + value)


def capacity(budget: float, size: int, width: int, name: str) -> int:
    """Return how many values the budget holds with their indices, at most V D.

    Raises :class:`ConfigError` where there is not room for one.
    """
    most = max(_forms(allowed(budget, size, width), size, width))
    if most < 1:
        raise unreachable(name, budget, 8 + _column(width), size, width)
    return min(most, size * width)


def kept(importance: Floats2d, count: int) -> npt.NDArray[np.bool_]:
    """Return a mask (V, D) of the ``count`` largest; of equal ones the first, and no zeros."""
    flat = importance.reshape(-1)
    if count >= flat.size:
        return np.asarray(importance > 0)
    edge = np.partition(flat, flat.size - count)[flat.size - count]
    mask = flat > edge
    if edge > 0:
        mask[np.flatnonzero(flat == edge)[: count - int(mask.sum())]] = True
    return np.asarray(mask.reshape(importance.shape))


def store_sparse(values: Floats2d, mask: npt.NDArray[np.bool_]) -> Tensors:
    """Return the stored form of ``values`` where ``mask`` is set, in whichever form is smaller."""
    size, width = values.shape
    rows, columns = np.nonzero(mask)
    stored: Tensors = {
        "values": np.ascontiguousarray(values[rows, columns], np.float32),
        "columns": columns.astype(np.uint8 if _column(width) == 1 else np.uint16),
    }
    starts = np.searchsorted(rows, np.arange(size + 1))
    pointers = starts.astype(np.int32 if size * width <= _INT32 else np.int64)
    if pointers.nbytes <= 4 * len(rows):
        return {**stored, "starts": pointers}
    return {**stored, "rows": rows.astype(np.int32)}


def read_sparse(tensors: Mapping[str, npt.NDArray[Any]], width: int, ids: Ids) -> Floats2d:
    """Return the rows of ``ids`` (n,), (n, width) float32."""
    if "starts" in tensors:
        first, last = tensors["starts"][ids], tensors["starts"][ids + 1]
    else:
        first = np.searchsorted(tensors["rows"], ids, side="left")
        last = np.searchsorted(tensors["rows"], ids, side="right")
    counts = np.asarray(last, np.int64) - first
    ends = np.cumsum(counts)
    where = np.arange(ends[-1] if len(ends) else 0) + np.repeat(first - (ends - counts), counts)
    found = np.zeros((len(ids), width), np.float32)
    found[np.repeat(np.arange(len(ids)), counts), tensors["columns"][where]] = tensors["values"][
        where
    ]
    return found
