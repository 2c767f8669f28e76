"""Store each row as small integers under a scale that is learned along with it.

The idea
--------
`int8` must guess one scale for all rows before it sees any training. Here every row has its own,
and the loss moves it: a row whose values are clipped widens its scale, one whose values are
lost between two integers narrows it.

Equations
---------
With b ``bits``, codes q_i in [-L, L], L = 2^(b-1) - 1, and scales Δ (V,)::

    x'_i   =  Δ_i q_i
    w_i    =  x'_i moved by the optimizer                          the row, Δ_i fixed
    ∂Δ_i   =  Σ_d G_id ψ(w_id / Δ_i) / sqrt(n D L)                 then Adam on Δ_i
    ψ(v)   =  round(v) - v  for |v| <= L,  else sign(v) L
    q_i    =  clip(floor(w_i / Δ_i + u), -L, L),                   u uniform in [0, 1)

G is the gradient at the rows x'_i that the step asked for, n how many those were. Δ begins where
the largest initial value is a quarter of the range (or at ``start``), and Adam's rate is ``rate``
times that. A row becomes integers when it is next asked for.

Of a finished table, Δ_i is the scale of least squared error: from max |x_i| / L, in turns the
nearest codes and Δ_i = Σ x q / Σ q².

Departures from the paper
-------------------------
The paper runs the model a second time, with the moved rows, to have G there for the scale. A layer
in the place of `torch.nn.Embedding` cannot run the model that it is in; G of the first run is
used, which differs by the curvature of the loss over one step. A row is rounded when it is next
asked for, and not at once, because AdamW's momentum goes on moving it meanwhile. The paper's rate
of 2e-5 is for scales that begin at 0.01, whatever the bits; 0.002 of the beginning is the same
there.

Cost
----
b D / 8 + 4 bytes a row. A training step adds up G over equal ids, and otherwise is that of `int8`.
For a finished table 10 passes over each block of rows.

When not to use it
------------------
With 8 bits and a sound scale `int8` is as good, and takes 4 bytes a row less: at D = 16 that is a
sixteenth of the table. Scales pay at 4 bits and less.

Reference
---------
S. Li, H. Guo, L. Hou, W. Zhang, X. Tang, R. Tang, R. Zhang, R. Li: Adaptive Low-Precision Training
for Embeddings in Click-Through Rate Prediction. AAAI 2023, arXiv:2212.05735. S. Esser and others:
Learned Step Size Quantization. ICLR 2020, arXiv:1902.08153. H. Zhang and others: arXiv:2311.15578.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np

from tokenspace.arrays import Floats1d, Floats2d, Ids
from tokenspace.recipe import Range, Recipe

from ._packing import pack, packed_width, unpack
from .table import CompressedTable, Tensors, check_source

if TYPE_CHECKING:
    from .alpt_net import ALPTEmbedding

__all__ = ["ALPT"]

_ROUNDS = 10
_ROWS = 1 << 12  # rows that are held in float64 at a time


@dataclass(frozen=True, kw_only=True)
class ALPT(Recipe):
    """Store each row as small integers under a scale that is learned along with it."""

    bits: Annotated[int, Range(2, 16), "bits of a value"] = 8
    start: Annotated[float, Range(0, 1e6), "first scale of a layer (0: from its numbers)"] = 0.0
    rate: Annotated[float, Range(0, 0.1), "most that a step changes a scale by, relative"] = 0.002

    tiny: ClassVar[Mapping[str, Any]] = {}

    def __call__(self, source: Floats2d, /) -> CompressedTable:
        """Return codes under the best scales; ``source`` is (V, D), maybe memory-mapped.

        Raises :class:`InputError` for a table without rows or with values that are not finite.
        """
        size, width = check_source(source, self.name)
        limit = 2 ** (self.bits - 1) - 1
        codes = np.empty((size, packed_width(width, self.bits)), np.uint8)
        scales = np.empty(size, np.float32)
        for start in range(0, size, _ROWS):
            block = np.asarray(source[start : start + _ROWS], np.float64)
            scale = fitted(block, limit)
            steps = np.where(scale > 0, scale, 1)[:, None].astype(np.float64)
            found = np.clip(np.rint(block / steps), -limit, limit).astype(np.int64)
            codes[start : start + len(block)] = pack(found + limit, self.bits)
            scales[start : start + len(block)] = scale
        tensors: Tensors = {"codes": codes, "scale": scales}
        settings = {"bits": self.bits, "width": width}
        return CompressedTable(self.name, (size, width), tensors, settings).measured(source)

    @staticmethod
    def read(tensors: Tensors, settings: Mapping[str, Any], ids: Ids) -> Floats2d:
        """Return the rows of ``ids`` (n,), (n, D) float32."""
        bits = int(settings["bits"])
        codes = unpack(tensors["codes"], bits, settings["width"], ids) - (2 ** (bits - 1) - 1)
        found: Floats2d = codes.astype(np.float32) * tensors["scale"][ids, None]
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
    ) -> ALPTEmbedding:
        """Return a layer of integers with a scale a row that is yet to be trained."""
        from .alpt_net import ALPTEmbedding

        return ALPTEmbedding(self.bits, self.start, self.rate, size, width, init_std, seed)


def fitted(rows: np.ndarray[Any, np.dtype[np.float64]], limit: int) -> Floats1d:
    """Return the scale of least squared error of each row, (n,); of zeros 0."""
    scale = np.abs(rows).max(axis=1) / limit
    best, least = scale.copy(), np.full(len(rows), np.inf)
    for _ in range(_ROUNDS):
        codes = np.clip(np.rint(rows / np.where(scale > 0, scale, 1)[:, None]), -limit, limit)
        error = ((rows - codes * scale[:, None]) ** 2).sum(axis=1)
        best = np.where(error < least, scale, best)
        least = np.minimum(error, least)
        squares = (codes**2).sum(axis=1)
        scale = np.where(squares > 0, (rows * codes).sum(axis=1) / np.maximum(squares, 1), 0)
    found: Floats1d = best.astype(np.float32)
    return found
