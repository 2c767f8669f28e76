"""The stored form of every compressed table: named arrays, and the method that reads rows.

A method's recipe has a static function ``read(tensors, settings, ids)`` which makes rows of the
arrays it stored, with numpy alone. This class adds what is the same for all: checks of ids, honest
bytes, measured errors, and one ``.safetensors`` file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tokenspace import catalog
from tokenspace.arrays import Floats2d, Ids, check_finite
from tokenspace.errors import ConfigError, FormatError, InputError, MissingEvidence
from tokenspace.io import read_tensors, save_tensors

__all__ = [
    "CompressedTable",
    "check_counts",
    "check_ids",
    "check_source",
    "errors_of",
    "needed_counts",
]

Tensors = Mapping[str, npt.NDArray[Any]]
_BLOCK = 1 << 20  # values that are held in float32 at a time


def check_source(source: Floats2d, name: str) -> tuple[int, int]:
    """Return (V, D) of a table; :class:`InputError` unless it has rows of finite numbers."""
    if source.ndim != 2 or 0 in source.shape:
        raise InputError(
            f"{name}: source has shape {source.shape}, expected (rows, width)",
            hint="give a matrix with at least one row and one column",
        )
    size, width = source.shape
    step = max(1, _BLOCK // width)
    for start in range(0, size, step):
        block = np.asarray(source[start : start + step], np.float32)
        if not np.isfinite(block).all():
            check_finite(block, f"{name}, rows from {start}")
    return size, width


def check_ids(ids: Ids, size: int) -> Ids:
    """Return ``ids`` as (n,) int64; :class:`InputError` where one is not in [0, size - 1]."""
    if np.asarray(ids).dtype.kind not in "iu" and np.size(ids):
        raise InputError(
            f"ids have type {np.asarray(ids).dtype}", hint="give whole numbers of rows"
        )
    ids = np.ascontiguousarray(ids, np.int64)
    if len(ids) and not 0 <= ids.min() <= ids.max() < size:
        wrong = int(ids.min()) if ids.min() < 0 else int(ids.max())
        raise InputError(
            f"row {wrong} is outside [0, {size - 1}]",
            hint="ids number the rows of the compressed table",
        )
    return ids


def check_counts(counts: Ids, size: int, name: str) -> Ids:
    """Return ``counts`` (V,); :class:`InputError` unless there is one >= 0 for every row."""
    counts = np.asarray(counts)
    if counts.shape != (size,) or (size and counts.min() < 0):
        raise InputError(
            f"{name}: counts have shape {counts.shape} or are negative, expected ({size},)",
            hint="give how often each row of the table occurs, in the table's order",
        )
    return counts.astype(np.int64)


def needed_counts(counts: Ids | None, size: int, name: str) -> Ids:
    """Return :func:`check_counts`; :class:`MissingEvidence` where there are none."""
    if counts is None:
        raise MissingEvidence(
            f"{name} needs counts: which rows are frequent",
            hint=f"give counts, ({size},) whole numbers (--counts)",
        )
    return check_counts(counts, size, name)


@dataclass(frozen=True, eq=False)
class CompressedTable:
    """Rows behind :class:`tokenspace.compress.Lookup`. Immutable.

    ``method`` is the catalogue's name, ``tensors`` what it stored (maybe memory-mapped),
    ``settings`` the few plain values that reading needs. ``metrics`` says what the compression
    cost where it was made from a finished table (:func:`errors_of`).
    """

    method: str
    shape: tuple[int, int]
    tensors: Tensors
    settings: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self.tensors.values())

    @property
    def ratio(self) -> float:
        """Share of the bytes that the table takes in float32: what budgets are measured in."""
        return self.nbytes / (4 * self.shape[0] * self.shape[1])

    def rows(self, ids: Ids) -> Floats2d:
        """Return the rows of ``ids`` (n,), read back as (n, D) float32.

        Raises :class:`InputError` where an id is not a row.
        """
        ids = check_ids(ids, self.shape[0])
        recipe: Any = catalog.find(self.method).load()
        found = recipe.read(self.tensors, self.settings, ids)
        return np.ascontiguousarray(found, np.float32).reshape(len(ids), self.shape[1])

    def measured(self, source: Floats2d) -> Self:
        """Return the same with ``metrics`` of how far it is from ``source`` (V, D)."""
        return type(self)(
            self.method,
            self.shape,
            self.tensors,
            self.settings,
            {**errors_of(self, source), "ratio": self.ratio},
        )

    def save(self, path: str | Path) -> None:
        """Write all arrays to one ``.safetensors`` file."""
        about = {"shape": self.shape, "settings": dict(self.settings)}
        about["metrics"] = dict(self.metrics)
        save_tensors(
            Path(path), self.tensors, {"method": self.method, "compressed": json.dumps(about)}
        )

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Open a saved table; its arrays are mapped into memory, not read.

        Raises :class:`FormatError` where the file holds something else.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), "numpy") as file:
                metadata = file.metadata() or {}
            about = json.loads(metadata["compressed"])
            height, width = (int(number) for number in about["shape"])
            method = catalog.find(metadata["method"]).name
            settings, metrics = dict(about["settings"]), dict(about["metrics"])
        except (
            OSError, SafetensorError, ValueError, KeyError, TypeError, ConfigError,
        ) as fault:  # fmt: skip
            raise FormatError(
                f"{path}: not a compressed table ({fault})",
                hint="compress the table again, and save that",
            ) from fault
        table = cls(method, (height, width), read_tensors(path), settings, metrics)
        try:
            table.rows(np.array([0, height - 1]))
        except (InputError, KeyError, IndexError, ValueError, TypeError, AttributeError) as fault:
            raise FormatError(
                f"{path}: the arrays do not fit the method {method} ({fault})",
                hint="compress the table again, and save that",
            ) from fault
        return table


def errors_of(table: Any, source: Floats2d) -> dict[str, float]:
    """Return what a lookup lost of ``source`` (V, D), block by block.

    ``rms_error`` is the root of the summed squared error over the summed squares, ``max_error``
    the largest difference of a value, ``cosine`` the mean over the rows (equal zero rows: 1).
    """
    size, width = source.shape
    squares = errors = worst = cosines = 0.0
    step = max(1, _BLOCK // width)
    for start in range(0, size, step):
        exact = np.asarray(source[start : start + step], np.float64)
        kept = table.rows(np.arange(start, start + len(exact))).astype(np.float64)
        squares += float((exact**2).sum())
        errors += float(((exact - kept) ** 2).sum())
        worst = max(worst, float(np.abs(exact - kept).max()))
        lengths = np.linalg.norm(exact, axis=1) * np.linalg.norm(kept, axis=1)
        same = (exact == kept).all(axis=1)
        cosines += float(
            np.where(lengths > 0, (exact * kept).sum(axis=1) / np.maximum(lengths, 1e-300), same)
            .sum()
        )  # fmt: skip
    return {
        "rms_error": (errors / squares) ** 0.5 if squares else 0.0,
        "max_error": worst,
        "cosine": cosines / size,
    }
