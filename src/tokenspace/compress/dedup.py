"""Store blocks of rows that are nearly equal once.

The idea
--------
The table is cut into blocks. They are visited from the smallest to the largest, and one that is
nearly equal to a block that was kept before shares it; otherwise it is kept. What is near enough
is widened until the kept blocks fit the budget. A layer is trained in full first, cut then, and
the shared blocks are trained on.

Equations
---------
A block has ``block_rows`` rows of D / ``parts`` columns, L numbers v; missing rows are zeros.
With a tolerance t (at first ``tolerance``), ``similarity`` s, and U kept blocks that fit::

    order      by the 75th percentile of |v|, ascending
    near(v,u)  share of the L numbers with |v - u| <= t, if that is s or more
    proposed   the last kept blocks, 8 at most, in each of 16 buckets ceil((v . a + b) / (9 t)),
               a normal and b of [0, 9 t)   (p-stable hashing of L2 distances)
    v          shares the proposed block of the largest ``near``, if there is one

A pass that keeps more than U blocks is given up and begun again with 1.25 t, until one does not.
A pass stops looking as soon as all blocks that are left can be kept. What is stored of blocks that
share is their mean. With B blocks::

    bytes  =  4 U L + ceil(B / 8) b,    b = ceil(log2 U) bits an index (up to 16, else 32)

Departures from the paper
-------------------------
The paper stops short where its thresholds (t = 0.01, s = 0.7) do not meet the budget; the schedule
of t is ours, and so is that buckets grow with it (the paper's 0.09 is 9 t). A block shares only
kept blocks, so that there are no chains of blocks of which the ends are unlike. The mean in place
of the kept block, packed indices, and 16 bands of 8 candidates for 90 bands are ours. Blocks are
one row by default (the paper's 10,000 suit rows whose order means something).

Cost
----
As above. At most 128 comparisons of L numbers a block and pass, some ten to thirty passes of which
most are given up early. A row is one index a part and one look-up.

When not to use it
------------------
Where rows are all different: what is merged then is noise. With small blocks the indices are
dear: at one row of 16 numbers and 11 bits they take 2 % of the table. It trains the full table
first; `robe` and `compo` do not.

Reference
---------
L. Zhou, J. Chen, A. Das, H. Min, L. Yu, M. Zhao, J. Zou: Serving Deep Learning Models with
Deduplication from Relational Databases. PVLDB 15 (2022), arXiv:2201.10442; as a table
of ids in H. Zhang et al., PVLDB 2024, arXiv:2311.15578.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats2d, Ids
from tokenspace.errors import ConfigError
from tokenspace.jit import kernel
from tokenspace.recipe import Range, Recipe
from tokenspace.rng import stream

from ._budget import largest
from ._packing import pack, unpack
from .table import CompressedTable, Tensors, check_source

if TYPE_CHECKING:
    from .dedup_net import DedupEmbedding

__all__ = ["Dedup", "cut", "visit"]

_BANDS, _TRIES = 16, 8
_WIDER = 1.25
_BUCKET = 9.0  # tolerances wide


@dataclass(frozen=True, kw_only=True)
class Dedup(Recipe):
    """Store blocks of rows that are nearly equal once."""

    budget: Annotated[float, Range(1e-6, 1), "share of the table's float32 bytes"] = 0.1
    block_rows: Annotated[int, Range(1, 1_000_000), "rows of a block"] = 1
    parts: Annotated[int, Range(1, 65536), "blocks beside each other that make a row"] = 1
    tolerance: Annotated[float, Range(1e-9, 1e6), "difference of equal numbers, at first"] = 0.01
    similarity: Annotated[float, Range(0.01, 1), "share of equal numbers in equal blocks"] = 0.7
    seed: Annotated[int, Range(0, 2**63 - 1), "seed of the hashes that propose blocks"] = 0

    tiny: ClassVar[Mapping[str, Any]] = {"budget": 0.5}

    def __call__(self, source: Floats2d, /) -> CompressedTable:
        """Return the shared blocks and their indices; ``source`` is (V, D), maybe memory-mapped.

        Raises :class:`InputError` for a table without rows or with values that are not finite,
        and :class:`ConfigError` where D is not a multiple of ``parts`` or the budget is less than
        one block and the indices.
        """
        size, width = check_source(source, self.name)
        blocks, places = self.shared(source)
        return self.stored(blocks, places, size, width).measured(source)

    def shared(self, source: Floats2d) -> tuple[Floats2d, Ids]:
        """Return the shared blocks, (U, block_rows, D / parts), and the one of every block."""
        size, width = source.shape
        limit = self.kept(size, width)
        blocks = cut(source, self.block_rows, self.parts)
        order = np.argsort(np.percentile(np.abs(blocks), 75, axis=1), kind="stable")
        draw = stream(self.seed, "dedup")
        lines = draw.standard_normal((blocks.shape[1], _BANDS))
        shift, along = draw.random(_BANDS), blocks.astype(np.float64) @ lines
        equal = ceil(self.similarity * blocks.shape[1] - 1e-9)
        owner = np.empty(len(blocks), np.int64)
        tolerance = self.tolerance
        while True:
            buckets = np.ceil(along / (_BUCKET * tolerance) + shift)
            numbers = np.empty(buckets.shape, np.int32)
            total = 0
            for band in range(_BANDS):
                different, inverse = np.unique(buckets[:, band], return_inverse=True)
                numbers[:, band] = total + inverse
                total += len(different)
            slots = np.full((total, _TRIES), -1, np.int32)
            if visit(blocks, order, numbers, slots, tolerance, equal, limit, owner):
                break
            tolerance *= _WIDER
        kept, places = np.unique(owner, return_inverse=True)
        sums = np.zeros((len(kept), blocks.shape[1]))
        np.add.at(sums, places, blocks)
        means = sums / np.bincount(places)[:, None]
        shape = (len(kept), self.block_rows, width // self.parts)
        return means.astype(np.float32).reshape(shape), places

    def kept(self, size: int, width: int) -> int:
        """Return U, the number of blocks that can be kept."""
        if width % self.parts:
            raise ConfigError(
                f"{self.name}: width {width} is not a multiple of parts={self.parts}",
                hint=f"choose parts among the divisors of {width}",
            )
        total = -(-size // self.block_rows) * self.parts
        block = 4 * self.block_rows * width // self.parts

        def cost(kept: int) -> int:
            return kept * block + _index_bytes(total, kept)

        return largest(cost, 1, total, self.budget, size, width, self.name)

    def stored(self, blocks: Floats2d, places: Ids, size: int, width: int) -> CompressedTable:
        """Return the table of shared blocks, whose indices are packed."""
        bits = _bits(len(blocks))
        groups = np.pad(places, (0, -len(places) % 8)).reshape(-1, 8)
        index = groups.astype(np.int32) if bits > 16 else pack(groups, bits)
        tensors = {"blocks": blocks, "index": index}
        return CompressedTable(self.name, (size, width), tensors, {"parts": self.parts})

    @staticmethod
    def read(tensors: Tensors, settings: Mapping[str, Any], ids: Ids) -> Floats2d:
        """Return the rows of ``ids`` (n,), (n, D) float32."""
        blocks, index = tensors["blocks"], tensors["index"]
        kept, height, width = blocks.shape
        parts = int(settings["parts"])
        numbers = (ids // height)[:, None] * parts + np.arange(parts)
        group, lane = np.divmod(numbers.ravel(), 8)
        bits = _bits(kept)
        if bits > 16:
            places = index[group, lane]
        else:
            places = unpack(index, bits, 8, group)[np.arange(len(group)), lane]
        rows: Floats2d = blocks[places.reshape(-1, parts), (ids % height)[:, None]]
        return rows.reshape(len(ids), parts * width)

    def embedding(
        self,
        size: int,
        width: int,
        *,
        counts: Ids | None = None,
        fields: Ids | None = None,
        init_std: float = 0.05,
        seed: int = 0,
    ) -> DedupEmbedding:
        """Return a full layer, which is cut and shared when it is settled."""
        from .dedup_net import DedupEmbedding

        self.kept(size, width)
        return DedupEmbedding(self, size, width, init_std=init_std, seed=seed)


def _bits(kept: int) -> int:
    return max(1, (kept - 1).bit_length())


def _index_bytes(total: int, kept: int) -> int:
    bits = _bits(kept)
    return -(-total // 8) * (32 if bits > 16 else bits)


def cut(source: Floats2d, block_rows: int, parts: int) -> Floats2d:
    """Return the blocks of a table as rows, part after part and then downwards."""
    size, width = source.shape
    rows = np.pad(np.asarray(source, np.float32), ((0, -size % block_rows), (0, 0)))
    cells = rows.reshape(-1, block_rows, parts, width // parts).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(cells.reshape(-1, block_rows * width // parts))


@kernel()
def visit(
    blocks: Floats2d,
    order: Ids,
    buckets: npt.NDArray[np.int32],
    slots: npt.NDArray[np.int32],
    tolerance: float,
    equal: int,
    limit: int,
    owner: Ids,
) -> bool:
    """Write to ``owner`` (B,) the block that each one shares; say whether ``limit`` sufficed.

    ``buckets`` (B, bands) numbers the buckets of all bands together, and ``slots`` (buckets,
    tries), of -1 at first, takes up the blocks that were kept in each, the newest over the oldest.
    """
    count, length = blocks.shape
    filled = np.zeros(len(slots), np.int64)
    seen = np.full(count, -1, np.int64)
    kept = 0
    for at in range(count):
        i = order[at]
        if kept + count - at <= limit:
            owner[i] = i
            kept += 1
            continue
        best, most = -1, equal - 1
        for band in range(buckets.shape[1]):
            for j in slots[buckets[i, band]]:
                if j < 0 or seen[j] == i:
                    continue
                seen[j] = i
                near = 0
                for d in range(length):
                    near += abs(blocks[i, d] - blocks[j, d]) <= tolerance
                if near > most:
                    best, most = j, near
        if best >= 0:
            owner[i] = best
            continue
        kept += 1
        if kept > limit:
            return False
        owner[i] = i
        for band in range(buckets.shape[1]):
            bucket = buckets[i, band]
            slots[bucket, filled[bucket] % slots.shape[1]] = i
            filled[bucket] += 1
    return True
