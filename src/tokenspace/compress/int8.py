"""Store each row as 8-bit integers with a scale of its own.

The idea
--------
A float32 spends 32 bits on a number of which neighbours in a ranking rarely need more than
eight. Each row of the table is divided by a scale, so that its largest value becomes 127, and
rounded to integers. A scale of its own keeps rows of very different lengths equally exact,
which one scale for the whole table would not.

Equations
---------
For a row x, (D,), cut into ``groups`` parts x_g of D / groups values each::

    s_g  =  max |x_g| / 127           the scale, float32
    q_g  =  round(x_g / s_g)          the codes, int8 in [-127, 127]; ties to even
    x'_g =  s_g q_g                   what is read back

The error of a value is at most s_g / 2. A part of zeros has s_g = 0 and reads back as zeros.
Codes are (V, D) int8 and scales (V, groups) float32: D + 4 groups bytes a row.

As a layer, one scale s serves all rows. A row w becomes integers when it is asked for, at random,
so that moves of less than s happen now and then and are not lost::

    q  =  clip(floor(w / s + u), -127, 127),     u uniform in [0, 1)

``step`` 0 takes s from the initial values, whose largest then is a quarter of the range; s
doubles where more than a thousandth of the values of a step would be clipped.

Departures from the paper
-------------------------
The survey describes a whole family. This is its symmetric, uniform, static scheme with rounding
to nearest, at the granularity of rows (groups of a row with ``groups`` > 1), and without its
zero point: vectors of a table are centred well enough that an offset gains nothing. -128 is not
used, so that a vector and its negative have opposite codes. A layer's row is
rounded when it is next asked for and not after every step, because AdamW's momentum goes on moving
it meanwhile: putting it back cost 0.009 AUC on clicks. A fixed scale clips; here it grows.

Cost
----
Two passes over the table (one checks that it is finite), O(V D) time. Beside the result, one
block of rows in float32 is held, so a memory-mapped table may be larger than the memory. A layer
draws a number for every value that is looked up; between look-ups its rows are held in float32.

When not to use it
------------------
Where rows have single values far larger than the rest (outlier dimensions of large language
models): they set the scale and the others are lost; give more ``groups``, or rotate first. Where
a quarter of the bytes is still too much, a product code takes a tenth and needs a second look at
the candidates.

Reference
---------
Gholami, Kim, Dong, Yao, Mahoney, Keutzer: A Survey of Quantization Methods for Efficient Neural
Network Inference, 2021, arXiv:2103.13630, sections III.A to III.D. As a layer: H. Zhang and
others: arXiv:2311.15578; S. Gupta and others: Deep Learning with Limited Numerical Precision. ICML
2015, arXiv:1502.02551, section 3.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats2d, Ids, check_finite
from tokenspace.errors import ConfigError, FormatError, InputError
from tokenspace.io import read_tensors, save_tensors
from tokenspace.jit import kernel
from tokenspace.recipe import Range, Recipe

from .table import Tensors

if TYPE_CHECKING:
    from ._integer_net import IntegerEmbedding

__all__ = ["Int8", "QuantizedTable"]

_BLOCK = 1 << 20  # values that are held in float32 at a time
Codes = npt.NDArray[np.int8]


@dataclass(frozen=True, kw_only=True)
class Int8(Recipe):
    """Store each row as 8-bit integers with a scale of its own."""

    groups: Annotated[int, Range(1, 4096), "parts of a row that each have a scale"] = 1
    step: Annotated[float, Range(0, 1e6), "scale of a layer's integers (0: from its numbers)"] = 0.0

    tiny: ClassVar[Mapping[str, Any]] = {}

    def __call__(self, source: Floats2d, /) -> QuantizedTable:
        """Return the table with (V, D) int8 codes; ``source`` is (V, D), maybe memory-mapped.

        Raises :class:`InputError` for a table without rows or with values that are not finite,
        and :class:`ConfigError` where D is not a multiple of ``groups``.
        """
        if source.ndim != 2 or 0 in source.shape:
            raise InputError(
                f"int8: source have shape {source.shape}, expected (rows, width)",
                hint="give a matrix with at least one row and one column",
            )
        size, width = source.shape
        if width % self.groups:
            raise ConfigError(
                f"int8: width {width} is not a multiple of groups={self.groups}",
                hint=f"choose groups among the divisors of {width}",
            )
        codes = np.empty((size, width), np.int8)
        scales = np.empty((size, self.groups), np.float32)
        sums = np.zeros(4)
        height = max(1, _BLOCK // width)
        for start in range(0, size, height):
            block = np.ascontiguousarray(source[start : start + height], np.float32)
            _check(block, start)
            quantize(block, codes[start : start + height], scales[start : start + height], sums)
        squares, errors, worst, cosines = sums.tolist()
        metrics = {
            "rms_error": (errors / squares) ** 0.5 if squares else 0.0,
            "max_error": worst,
            "cosine": cosines / size,
        }
        return QuantizedTable(codes, scales, metrics)

    @staticmethod
    def read(tensors: Tensors, settings: Mapping[str, Any], ids: Ids) -> Floats2d:
        """Return the rows of ``ids`` (n,) of what a layer stored, (n, D) float32."""
        found: Floats2d = tensors["codes"][ids] * tensors["scale"]
        return found

    def embedding(
        self,
        size: int,
        width: int,
        *,
        counts: Ids | None = None,
        fields: Ids | None = None,
        init_std: float = 0.05,
        seed: int = 0,
    ) -> IntegerEmbedding:
        """Return a layer of integers with one scale that is yet to be trained."""
        from ._integer_net import IntegerEmbedding

        return IntegerEmbedding(self.name, 8, self.step, size, width, init_std, seed)


def _check(block: Floats2d, start: int) -> None:
    if not np.isfinite(block).all():
        check_finite(block, f"int8, rows from {start}")


@dataclass(frozen=True, eq=False)
class QuantizedTable:
    """Rows of 8-bit integers behind :class:`tokenspace.compress.Lookup`. Immutable.

    ``codes`` is (V, D) int8 and ``scales`` (V, G) float32, one for every D / G columns; both may
    be memory-mapped. ``metrics`` says what the rounding cost, measured against the original:
    ``rms_error`` (root of the summed squared error over the summed squares), ``max_error`` (the
    largest difference of a value) and ``cosine`` (mean over the rows; equal zero rows count 1).
    """

    codes: Codes
    scales: Floats2d
    metrics: Mapping[str, float]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and width, (V, D)."""
        return (self.codes.shape[0], self.codes.shape[1])

    @property
    def nbytes(self) -> int:
        """Bytes of the codes and the scales."""
        return self.codes.nbytes + self.scales.nbytes

    def rows(self, ids: Ids) -> Floats2d:
        """Return the rows of ``ids`` (n,), read back as (n, D) float32.

        Raises :class:`InputError` where an id is not a row.
        """
        ids = np.ascontiguousarray(ids, np.int64)
        if len(ids) and not 0 <= ids.min() <= ids.max() < len(self.codes):
            raise InputError(
                f"row {int(ids.min()) if ids.min() < 0 else int(ids.max())} is outside"
                f" [0, {len(self.codes) - 1}]",
                hint="ids number the rows of the compressed table",
            )
        found = np.empty((len(ids), self.codes.shape[1]), np.float32)
        read(self.codes, self.scales, ids, found)
        return found

    def save(self, path: str | Path) -> None:
        """Write codes and scales to one ``.safetensors`` file."""
        save_tensors(
            Path(path),
            {"codes": self.codes, "scales": self.scales},
            {"method": "int8", "metrics": json.dumps(dict(self.metrics))},
        )

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Open a saved table; codes and scales are mapped into memory, not read.

        Raises :class:`FormatError` where the file holds something else.
        """
        from safetensors import SafetensorError, safe_open

        tensors = read_tensors(path)
        codes, scales = tensors.get("codes"), tensors.get("scales")
        sound = (
            codes is not None
            and scales is not None
            and codes.dtype == np.int8
            and scales.dtype == np.float32
            and (codes.ndim, scales.ndim) == (2, 2)
            and len(codes) == len(scales)
            and scales.shape[1] > 0
            and codes.shape[1] % scales.shape[1] == 0
        )
        try:
            with safe_open(str(path), "numpy") as file:
                metrics = json.loads((file.metadata() or {}).get("metrics", "{}"))
        except (SafetensorError, ValueError) as fault:
            raise FormatError(
                f"{path}: not a table of 8-bit rows ({fault})",
                hint="compress the table again, and save that",
            ) from fault
        if not sound:
            raise FormatError(
                f"{path}: not a table of 8-bit rows",
                hint="expected codes (V, D) int8 and scales (V, G) float32, G a divisor of D",
            )
        return cls(np.asarray(codes, np.int8), np.asarray(scales, np.float32), metrics)


@kernel(fastmath={"reassoc", "nsz", "contract"}, error_model="numpy")
def quantize(
    vectors: Floats2d, codes: Codes, scales: Floats2d, sums: npt.NDArray[np.float64]
) -> None:
    """Write the codes and scales of (n, D) vectors, and add to four sums over all rows.

    The sums are: squares of the values, squares of the errors, largest error so far, cosines.
    """
    size, width = vectors.shape
    part = width // scales.shape[1]
    for i in range(size):
        xx = yy = xy = ee = 0.0
        for g in range(scales.shape[1]):
            x = vectors[i, g * part : (g + 1) * part]
            q = codes[i, g * part : (g + 1) * part]
            peak = np.float32(0)
            for d in range(part):
                peak = max(peak, abs(x[d]))
            scale = peak / np.float32(127)
            scales[i, g] = scale
            step = scale if scale > 0 else np.float32(1)  # a vanishing scale gives zeros
            for d in range(part):
                # the scale of the tiniest values is rounded itself: stay within a byte
                code = min(np.rint(x[d] / step), np.float32(127))
                q[d] = np.int8(max(code, np.float32(-127)))
            worst = np.float32(0)
            for d in range(part):
                y = scale * np.float32(q[d])
                worst = max(worst, abs(x[d] - y))
                xx += np.float64(x[d]) * np.float64(x[d])
                yy += np.float64(y) * np.float64(y)
                xy += np.float64(x[d]) * np.float64(y)
                ee += (np.float64(x[d]) - np.float64(y)) ** 2
            sums[2] = max(sums[2], worst)
        sums[0] += xx
        sums[1] += ee
        norm = np.sqrt(xx) * np.sqrt(yy)
        sums[3] += xy / norm if norm > 0 else np.float64(xx == yy)


@kernel()
def read(codes: Codes, scales: Floats2d, ids: npt.NDArray[np.int64], found: Floats2d) -> None:
    """Write the rows of ``ids`` as float32 to ``found``, (n, D)."""
    groups = scales.shape[1]
    part = codes.shape[1] // groups
    for i in range(len(ids)):
        for g in range(groups):
            scale = scales[ids[i], g]
            q = codes[ids[i], g * part : (g + 1) * part]
            y = found[i, g * part : (g + 1) * part]
            for d in range(part):
                y[d] = scale * np.float32(q[d])
