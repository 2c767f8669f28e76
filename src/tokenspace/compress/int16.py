"""Store each row as 16-bit integers with a scale of its own.

The idea
--------
Half of the bytes, and an error that no task notices: a number keeps four to five digits, relative
to the largest of its row. It is what to take where a quarter of the bytes has shown to be too few.

Equations
---------
For a row x, (D,)::

    s   =  max |x| / 32767              the scale, float32
    q   =  round(x / s)                 the codes, int16 in [-32767, 32767]; ties to even
    x'  =  s q                          what is read back

D codes of 2 bytes and a scale of 4 a row. As a layer, one scale s serves all rows, and a row w
becomes integers when it is asked for, at random, so that small moves are not lost but happen now
and then::

    q   =  clip(floor(w / s + u), -32767, 32767),     u uniform in [0, 1)

``step`` 0 takes s from the initial values, whose largest then is a quarter of the range; s
doubles where more than a thousandth of the values of a step would be clipped.

Departures from the paper
-------------------------
As for `int8`, whose scheme this is.

Cost
----
Two passes over the table, and blocks of rows in float32. A layer draws a number for every value
that is looked up; between look-ups its rows are held in float32, as are the optimizer's moments.

When not to use it
------------------
Where `int8` serves, at half of the bytes.

Reference
---------
S. Gupta, A. Agrawal, K. Gopalakrishnan, P. Narayanan: Deep Learning with Limited Numerical
Precision. ICML 2015, arXiv:1502.02551, section 3. H. Zhang and others: arXiv:2311.15578.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np

from tokenspace.arrays import Floats2d, Ids
from tokenspace.recipe import Range, Recipe

from .table import CompressedTable, Tensors, check_source

if TYPE_CHECKING:
    from ._integer_net import IntegerEmbedding

__all__ = ["Int16"]

_LIMIT = 32767
_BLOCK = 1 << 20  # values that are held in float32 at a time


@dataclass(frozen=True, kw_only=True)
class Int16(Recipe):
    """Store each row as 16-bit integers with a scale of its own."""

    step: Annotated[float, Range(0, 1e6), "scale of a layer's integers (0: from its numbers)"] = 0.0

    tiny: ClassVar[Mapping[str, Any]] = {}

    def __call__(self, source: Floats2d, /) -> CompressedTable:
        """Return the table with (V, D) int16 codes; ``source`` is (V, D), maybe memory-mapped.

        Raises :class:`InputError` for a table without rows or with values that are not finite.
        """
        size, width = check_source(source, self.name)
        codes, scales = np.empty((size, width), np.int16), np.empty((size, 1), np.float32)
        height = max(1, _BLOCK // width)
        for start in range(0, size, height):
            block = np.asarray(source[start : start + height], np.float32)
            scale = np.abs(block).max(axis=1, keepdims=True) / np.float32(_LIMIT)
            steps = np.where(scale > 0, scale, np.float32(1))
            codes[start : start + height] = np.clip(np.rint(block / steps), -_LIMIT, _LIMIT)
            scales[start : start + height] = scale
        tensors: Tensors = {"codes": codes, "scale": scales}
        return CompressedTable(self.name, (size, width), tensors).measured(source)

    @staticmethod
    def read(tensors: Tensors, settings: Mapping[str, Any], ids: Ids) -> Floats2d:
        """Return the rows of ``ids`` (n,), (n, D) float32."""
        scale = tensors["scale"]
        found: Floats2d = tensors["codes"][ids] * (scale[ids] if scale.ndim == 2 else scale)
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

        return IntegerEmbedding(self.name, 16, self.step, size, width, init_std, seed)
