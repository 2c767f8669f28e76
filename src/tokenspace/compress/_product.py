"""Product codes: rows as numbers of typical parts. Trained by faiss, stored and read by us.

``books`` is (M, K, D / M) float32 and ``codes`` (V, ceil(M b / 8)) uint8, K = 2^b.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenspace import rng
from tokenspace.arrays import Floats2d, Ids
from tokenspace.errors import ConfigError
from tokenspace.jit import kernel

from ._budget import allowed, unreachable
from ._packing import pack, packed_width, unpack

__all__ = ["codes_of", "parts_within", "read_parts", "sample", "trained", "turned_back"]

Books = npt.NDArray[np.float32]
_SAMPLE = 65_536  # rows that code books are learned from
_ROWS = 1 << 12  # rows whose distances are held at a time
_ROUNDS = 25


def parts_within(budget: float, size: int, width: int, bits: int, extra: int, name: str) -> int:
    """Return M, the most parts within the budget, of which ``extra`` bytes go elsewhere.

    Raises :class:`ConfigError` where even one part costs more, or where there are fewer rows
    than centroids.
    """
    if size < 2**bits:
        raise ConfigError(
            f"{name}: {2**bits} centroids for {size} rows",
            hint=f"choose bits={max(1, size.bit_length() - 1)} or fewer",
        )
    divisors = [m for m in range(1, width + 1) if width % m == 0]
    fixed = extra + 4 * 2**bits * width
    costs = {m: fixed + size * packed_width(m, bits) for m in divisors}
    fitting = [m for m in divisors if costs[m] <= allowed(budget, size, width)]
    if not fitting:
        raise unreachable(name, budget, costs[1], size, width)
    return max(fitting)


def sample(source: Floats2d, seed: int) -> Floats2d:
    """Return at most 65,536 rows of the source, drawn without replacement, in their order."""
    if len(source) <= _SAMPLE:
        return np.ascontiguousarray(source, np.float32)
    drawn = rng.stream(seed, "sample").choice(len(source), _SAMPLE, replace=False)
    return np.ascontiguousarray(source[np.sort(drawn)], np.float32)


def trained(source: Floats2d, parts: int, bits: int, seed: int) -> Books:
    """Return the code books (M, K, D / M) of the source's rows."""
    import faiss

    width = source.shape[1]
    product = faiss.ProductQuantizer(width, parts, bits)
    product.cp.niter = _ROUNDS
    product.cp.seed = rng.derive(seed, "centroids") % (2**31 - 1)
    product.cp.min_points_per_centroid = 1
    product.cp.max_points_per_centroid = _SAMPLE
    rows = sample(source, seed)
    product.train(rows)
    found = faiss.vector_to_array(product.centroids).reshape(parts, 2**bits, width // parts)
    return _centred(rows, np.ascontiguousarray(found, np.float32))


def _centred(rows: Floats2d, books: Books) -> Books:
    """Return the books with every centroid at the mean of the parts that are nearest to it.

    faiss ends with centroids that it shifted by a thousandth to part them from their doubles.
    """
    parts, number, part = books.shape
    codes = unpack(codes_of(rows, books), number.bit_length() - 1, parts)
    found = books.copy()
    for j in range(parts):
        order = np.argsort(codes[:, j], kind="stable")
        used, starts = np.unique(codes[order, j], return_index=True)
        mine = rows[order, j * part : (j + 1) * part].astype(np.float64)
        sizes = np.diff(np.append(starts, len(rows)))
        found[j, used] = np.add.reduceat(mine, starts, axis=0) / sizes[:, None]
    return found


def codes_of(source: Floats2d, books: Books) -> npt.NDArray[np.uint8]:
    """Return the packed numbers of the nearest centroids; of equally near ones the first."""
    parts, number, part = books.shape
    bits = number.bit_length() - 1
    lengths = (books.astype(np.float64) ** 2).sum(axis=2).astype(np.float32)
    packed = np.empty((len(source), packed_width(parts, bits)), np.uint8)
    for start in range(0, len(source), _ROWS):
        block = np.asarray(source[start : start + _ROWS], np.float32)
        codes = np.empty((len(block), parts), np.int64)
        for j in range(parts):
            x = block[:, j * part : (j + 1) * part]
            codes[:, j] = np.argmin(lengths[j] - 2 * (x @ books[j].T), axis=1)
        packed[start : start + len(block)] = pack(codes, bits)
    return packed


def read_parts(tensors: Mapping[str, npt.NDArray[Any]], bits: int, ids: Ids) -> Floats2d:
    """Return the rows of ``ids`` (n,), (n, D) float32."""
    books = tensors["books"]
    codes = unpack(tensors["codes"], bits, len(books), ids)
    found: Floats2d = books[np.arange(len(books)), codes].reshape(
        len(ids), books.shape[0] * books.shape[2]
    )
    return found


def turned_back(rows: Floats2d, rotation: Floats2d) -> Floats2d:
    """Return rows Rᵀ; no BLAS, whose bits depend on how many rows there are."""
    found = np.zeros(rows.shape, np.float32)
    _add_product(rows, np.ascontiguousarray(rotation.T), found)
    return found


@kernel()
def _add_product(rows: Floats2d, matrix: Floats2d, found: Floats2d) -> None:
    for i in range(len(rows)):
        for k in range(len(matrix)):
            x = rows[i, k]
            for d in range(matrix.shape[1]):
                found[i, d] += x * matrix[k, d]
