"""Read all rows, slice by slice, from one small array that they share.

The idea
--------
All numbers of the table live in one array of M floats. A hash says where in the array a row (or
each of its ``chunks``) begins, and a second hash gives every number a sign. Rows overlap by a few
numbers each with many others, at other places and with random signs, so that what one row needs
disturbs the others like noise, and no two ids get the same row.

Equations
---------
With P = 2,038,074,743, numbers A..H of [1, P) drawn once, and D / Z numbers a chunk::

    M        =  floor of what the budget allows, in floats
    at(x,i)  =  ((B x + C (i // (D/Z)) + A + i mod (D/Z))  mod P)  mod M
    e(x)_i   =  s(x,i) A[at(x,i)],       s(x,i) = 1 - 2 (((F x + G i + H) mod P) mod 2)

Of a finished table, every number belongs to one cell, so that the least squared error is in each
cell the mean of the numbers that read it, with their signs (and the weights of ``counts``).

Departures from the paper
-------------------------
The array is drawn with the standard deviation ``init_std``; the survey's Xavier rule would make it
sqrt(2 / (M + 1)). There is no coefficient for fields, since ids of all fields are numbered
together. As in the survey, Z is the number of chunks of a row (one slice for the whole row by
default), where the paper's Z is the length of a block. The fit of a finished table is ours.

Cost
----
4 M bytes and the six coefficients, 48 bytes, whatever V is: any budget can be met. A row is D
look-ups that lie beside each other. The fit reads the table once.

When not to use it
------------------
Of a finished table: c of the bytes keep c of the squared norm, whatever the table holds. Where
look-ups must cost nothing, the hash of every number is dearer than a plain row.

Reference
---------
A. Desai, L. Chou, A. Shrivastava: Random Offset Block Embedding Array (ROBE) for CriteoTB
Benchmark MLPerf DLRM Model: 1000x Compression and 3.1x Faster Inference. MLSys 2022,
arXiv:2108.02191.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats2d, Ids, Ids2d
from tokenspace.errors import ConfigError
from tokenspace.recipe import Range, Recipe
from tokenspace.rng import stream

from ._budget import largest
from .table import CompressedTable, Tensors, check_counts, check_source

if TYPE_CHECKING:
    from .robe_net import RobeEmbedding

__all__ = ["PRIME", "ROBE", "places", "signs"]

PRIME = 2_038_074_743
_BLOCK = 1 << 20  # values that are held at a time
Wide = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ROBE(Recipe):
    """Read all rows, slice by slice, from one small array that they share."""

    budget: Annotated[float, Range(1e-6, 1), "share of the table's float32 bytes"] = 0.1
    chunks: Annotated[int, Range(1, 4096), "slices of a row that each begin at their own place"] = 1
    seed: Annotated[int, Range(0, 2**63 - 1), "seed of the hashes"] = 0

    tiny: ClassVar[Mapping[str, Any]] = {"budget": 0.6}

    def __call__(self, source: Floats2d, /, *, counts: Ids | None = None) -> CompressedTable:
        """Return the array of signed means; ``source`` is (V, D), maybe memory-mapped.

        Raises :class:`InputError` for a table without rows or with values that are not finite,
        and :class:`ConfigError` where D is not a multiple of ``chunks`` or the budget is less than
        one number.
        """
        size, width = check_source(source, self.name)
        cells = self.cells(size, width)
        weights: Wide = np.ones(size)
        if counts is not None:
            weights = np.maximum(check_counts(counts, size, self.name), 1e-9, dtype=np.float64)
        tensors: dict[str, npt.NDArray[Any]] = {"hashes": self.hashes(size, width, self.seed)}
        sums, total = np.zeros(cells), np.zeros(cells)
        step = max(1, _BLOCK // width)
        for start in range(0, size, step):
            ids = np.arange(start, min(start + step, size))
            at = places(tensors["hashes"], ids, width, self.chunks, cells).ravel()
            w = weights[ids, None] * signs(tensors["hashes"], ids, width)
            read = (w * source[start : start + step]).ravel()
            sums += np.bincount(at, read, minlength=cells)
            total += np.bincount(at, np.abs(w).ravel(), minlength=cells)
        tensors["array"] = (sums / np.maximum(total, 1e-300)).astype(np.float32)
        settings = {"width": width, "chunks": self.chunks}
        return CompressedTable(self.name, (size, width), tensors, settings).measured(source)

    def cells(self, size: int, width: int) -> int:
        """Return M, the length of the array."""
        if width % self.chunks:
            raise ConfigError(
                f"{self.name}: width {width} is not a multiple of chunks={self.chunks}",
                hint=f"choose chunks among the divisors of {width}",
            )
        if size >= PRIME:
            raise ConfigError(f"{self.name}: {size:,} rows are not below {PRIME:,}")
        return largest(
            lambda m: 4 * m + 48, 1, size * width, self.budget, size, width, self.name
        )  # fmt: skip

    @staticmethod
    def hashes(size: int, width: int, seed: int) -> Ids:
        """Draw the coefficients A, B, C of places and F, G, H of signs, (6,) int64."""
        return stream(seed, "robe", size, width).integers(1, PRIME, 6)

    @staticmethod
    def read(tensors: Tensors, settings: Mapping[str, Any], ids: Ids) -> Floats2d:
        """Return the rows of ``ids`` (n,), (n, D) float32."""
        array, hashes, width = tensors["array"], tensors["hashes"], int(settings["width"])
        at = places(hashes, ids, width, int(settings["chunks"]), len(array))
        found = array[at] * signs(hashes, ids, width)
        return found.astype(np.float32, copy=False)

    def embedding(
        self,
        size: int,
        width: int,
        *,
        counts: Ids | None = None,
        fields: Ids | None = None,
        init_std: float = 0.05,
        seed: int = 0,
    ) -> RobeEmbedding:
        """Return a layer of an array that is yet to be trained."""
        from .robe_net import RobeEmbedding

        hashes = self.hashes(size, width, self.seed)
        cells = self.cells(size, width)
        return RobeEmbedding(hashes, cells, self.chunks, size, width, init_std, seed)


def places(hashes: Ids, ids: Ids, width: int, chunks: int, cells: int) -> Ids2d:
    """Return where each number of each row lies in an array of ``cells``, (n, width) int64."""
    chunk, offset = np.divmod(np.arange(width), width // chunks)
    start: Ids2d = hashes[1] * ids[:, None] + (hashes[2] * chunk + hashes[0] + offset)
    return start % PRIME % cells


def signs(hashes: Ids, ids: Ids, width: int) -> npt.NDArray[np.int8]:
    """Return 1 or -1 for each number of each row, (n, width)."""
    odd: Ids2d = (hashes[3] * ids[:, None] + (hashes[4] * np.arange(width) + hashes[5])) % PRIME & 1
    return (1 - 2 * odd).astype(np.int8)
