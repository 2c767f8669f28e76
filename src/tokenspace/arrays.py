"""Array types, and ragged matrices: many matrices of unequal height without padding."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from .errors import InputError

__all__ = ["LINE", "Floats1d", "Floats2d", "Ids", "Ids2d", "Ragged", "check_finite", "lined"]

LINE = 64  # bytes of a line of the cache

Floats1d = npt.NDArray[np.float32]
Floats2d = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]
Ids2d = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Ragged:
    """N matrices of unequal height and equal width, row after row in one array.

    ``flat`` is (sum of heights, D) float32 and may be memory-mapped; ``offsets`` is (N + 1,)
    int64, and matrix ``i`` is ``flat[offsets[i]:offsets[i + 1]]``, a view. Length, indexing and
    iteration are those of the N matrices.
    """

    flat: Floats2d
    offsets: Ids

    @classmethod
    def pack(cls, matrices: Sequence[npt.ArrayLike], width: int | None = None) -> Self:
        """Pack matrices of shape (T_i, D); ``width`` is D, needed when all of them are empty."""
        rows = [np.asarray(matrix, dtype=np.float32) for matrix in matrices]
        width = width or next((matrix.shape[-1] for matrix in rows if matrix.size), 0)
        for index, matrix in enumerate(rows):
            if matrix.size and (matrix.ndim != 2 or matrix.shape[1] != width):
                raise InputError(
                    f"item {index} has shape {matrix.shape}; expected (rows, {width})",
                    hint="make all of them with one encoder",
                )
        heights = [len(matrix) if matrix.size else 0 for matrix in rows]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(heights, dtype=np.int64)])
        empty = np.zeros((0, width), np.float32)
        return cls(np.concatenate([empty, *(m for m in rows if m.size)]), offsets)

    @classmethod
    def single(cls, rows: Floats2d) -> Self:
        """Return N matrices of one row each, which are the rows of ``rows`` (N, D), not copied."""
        return cls(np.asarray(rows, np.float32), np.arange(len(rows) + 1, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Floats2d:
        if not -len(self) <= index < len(self):
            raise IndexError(f"matrix {index} of {len(self)}")
        index %= len(self)
        return self.flat[self.offsets[index] : self.offsets[index + 1]]

    def __iter__(self) -> Iterator[Floats2d]:
        return (self[index] for index in range(len(self)))

    @property
    def width(self) -> int:
        """Width D of every matrix."""
        return int(self.flat.shape[1])

    @property
    def heights(self) -> Ids:
        """The number of rows of every matrix, (N,) int64."""
        return np.diff(self.offsets)

    def take(self, indices: Ids) -> Ragged:
        """Return the chosen matrices, in the order of ``indices``, as a new pair."""
        return Ragged.pack([self[int(i)] for i in indices], width=self.width)

    def check(self, name: str, width: int | None = None) -> None:
        """Raise :class:`InputError` unless shapes, offsets and values are usable."""
        if self.flat.ndim != 2 or (width is not None and self.flat.shape[1] != width):
            raise InputError(
                f"{name}: token vectors have shape {self.flat.shape}, expected (tokens, {width})"
                if width is not None
                else f"{name}: token vectors have shape {self.flat.shape}, expected two dimensions",
                hint="encode both sides with one encoder, and join the documents by Ragged.pack",
            )
        sound = (
            len(self.offsets) > 0
            and self.offsets[0] == 0
            and self.offsets[-1] == len(self.flat)
            and bool((self.heights >= 0).all())
        )
        if not sound:
            raise InputError(
                f"{name}: the offsets do not describe {len(self.flat)} rows",
                hint="they begin with 0, never fall, and end with the number of rows: Ragged.pack",
            )
        check_finite(self.flat, name)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Load ``flat`` and ``offsets`` from a ``.safetensors`` or ``.npz`` file, or a space.

        The rows of a ``.npy`` matrix become matrices of one row each.
        """
        from .io import load_ragged

        return cls(*load_ragged(Path(path)))

    def save(self, path: str | Path) -> None:
        """Write both arrays to one ``.safetensors`` file, beside it first and then renamed."""
        from .io import save_tensors

        save_tensors(Path(path), {"flat": self.flat, "offsets": self.offsets})


def lined(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return an array without values whose first byte begins a line of the cache."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    room = np.empty(size + LINE, np.uint8)
    start = -room.ctypes.data % LINE
    return room[start : start + size].view(dtype).reshape(shape)


def check_finite(matrix: Floats2d, name: str, labels: Sequence[str] | None = None) -> None:
    """Raise :class:`InputError`, naming the first five bad rows, if any value is NaN or infinite.

    Checked in blocks, so that a memory-mapped matrix is never copied whole.
    """
    bad: list[int] = []
    for start in range(0, len(matrix), 65536):
        block = np.isfinite(matrix[start : start + 65536])
        if not block.all():
            bad += [int(i) + start for i in np.flatnonzero(~block.all(axis=1))]
        if len(bad) >= 5:
            break
    if bad:
        rows = ", ".join(repr(labels[i]) if labels else str(i) for i in bad[:5])
        raise InputError(
            f"{name}: rows with NaN or infinite values: {rows}",
            hint="remove or repair these rows before using the table",
        )
