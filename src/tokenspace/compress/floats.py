"""Rows of plain floating-point numbers on disk, and any saved rows opened by what they hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats2d, Ids
from tokenspace.errors import FormatError
from tokenspace.io import read_tensors, save_tensors

from . import Lookup
from .int8 import QuantizedTable
from .table import CompressedTable

__all__ = ["FloatTable", "open_rows"]


@dataclass(frozen=True, eq=False)
class FloatTable:
    """Rows behind :class:`tokenspace.compress.Lookup`, (V, D) float32 or float16, maybe mapped."""

    vectors: npt.NDArray[Any]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and width, (V, D)."""
        return (self.vectors.shape[0], self.vectors.shape[1])

    @property
    def nbytes(self) -> int:
        """Bytes of the rows."""
        return self.vectors.nbytes

    def rows(self, ids: Ids) -> Floats2d:
        """Return the rows of ``ids`` (n,), as (n, D) float32."""
        return np.ascontiguousarray(self.vectors[ids], np.float32)

    def save(self, path: str | Path) -> None:
        """Write the rows to one ``.safetensors`` file."""
        save_tensors(Path(path), {"vectors": self.vectors})


def open_rows(path: str | Path) -> Lookup:
    """Map the rows that a method of this family, or :class:`FloatTable`, saved.

    Raises :class:`FormatError` where the file holds neither.
    """
    tensors = read_tensors(path)
    vectors = tensors.get("vectors")
    if vectors is None:
        return QuantizedTable.load(path) if "scales" in tensors else CompressedTable.load(path)
    if vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.floating):
        raise FormatError(f"{path}: 'vectors' is no matrix of numbers", hint="write it again")
    return FloatTable(vectors)
