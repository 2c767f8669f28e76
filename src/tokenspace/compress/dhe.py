"""Compute each row from many hashes of its number, by a small network; there is no table.

The idea
--------
An id is turned into k hash values, which is a dense description that no two ids share, and a
network of five hidden layers turns the description into the row. What would be the table are the
weights of the network: all ids share them, and an id that was never seen gets a row as well.

Equations
---------
For k hashes with a_j of [1, p_j), b_j of [0, p_j), different primes p_j >= m, and m = 1,000,000::

    h_j(x)  =  ((a_j x + b_j) mod p_j) mod m,     x' = 2 h / (m - 1) - 1          k numbers
    y_0     =  mish(norm(W_0 x')),                y_i = mish(norm(W_i y_(i-1))),  i = 1..4
    e(x)    =  W_5 y_4 + c_5,                     mish(t) = t tanh(ln(1 + exp t))

``norm`` is batch normalization over the different ids of a batch, which is folded into W_i and a
bias c_i when the layer is exported. All hidden layers are as wide as the budget allows, w::

    numbers = (k + 1) w + 4 w (w + 1) + (w + 1) D + 3 k          k = min(1024, 2^floor(log2 sqrt N))

of N allowed ones; the last term are the coefficients of the hashes, 4 bytes each.

The last layer is scaled, before training, so that the rows of a sample of ids have the standard
deviation ``init_std``. A finished table is fitted by ``steps`` steps of AdamW on the mean squared
error of batches of rows.

Departures from the paper
-------------------------
The hashes are made uniform on [-1, 1] (the paper also tries normal ones), and computed in 64 bits:
the survey's 32 bits overflow at ids of a few thousand. k falls with the budget, since at 1,024
hashes nothing would be left for small tables. The fit of a finished table is ours.

Cost
----
As above. A row costs k hashes and k w + 4 w^2 multiplications: by far the slowest look-up of all.

When not to use it
------------------
Where look-ups must be fast, or V is a few thousand. The network has to learn each row by heart
through weights that all rows share, so that it needs many more steps than a table.

Reference
---------
W.-C. Kang, D. Z. Cheng, T. Yao, X. Yi, T. Chen, L. Hong, E. H. Chi: Learning to Embed Categorical
Features without Embedding Tables for Recommendation. KDD 2021, arXiv:2010.10784.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats2d, Ids
from tokenspace.recipe import Range, Recipe
from tokenspace.rng import stream

from ._budget import allowed, largest
from .table import CompressedTable, Tensors, check_source

if TYPE_CHECKING:
    from .dhe_net import DheEmbedding

__all__ = ["BUCKETS", "DHE", "Shape"]

BUCKETS = 1_000_000
MIDDLE = 4  # hidden layers after the first
_BLOCK = 1 << 12  # ids that are hashed at a time


class Shape(NamedTuple):
    """The number of hashes, the width of hidden layers, and that of the rows."""

    hashes: int
    hidden: int
    width: int

    @property
    def numbers(self) -> int:
        """How many numbers of four bytes are stored."""
        k, w, d = self
        return (k + 1) * w + MIDDLE * w * (w + 1) + (w + 1) * d + 3 * k


@dataclass(frozen=True, kw_only=True)
class DHE(Recipe):
    """Compute each row from many hashes of its number, by a small network; there is no table."""

    budget: Annotated[float, Range(1e-6, 1), "share of the table's float32 bytes"] = 0.1
    steps: Annotated[int, Range(1, 10_000_000), "steps of fitting a finished table"] = 3_000
    lr: Annotated[float, Range(1e-6, 1), "learning rate of the fit"] = 5e-3
    seed: Annotated[int, Range(0, 2**63 - 1), "seed of hashes and of the fit"] = 0

    tiny: ClassVar[Mapping[str, Any]] = {"budget": 0.7, "steps": 150, "lr": 0.02}

    def __call__(self, source: Floats2d, /) -> CompressedTable:
        """Return the network that was fitted to the rows; ``source`` is (V, D), maybe mapped.

        Raises :class:`InputError` for a table without rows or with values that are not finite,
        and :class:`ConfigError` where the budget is less than hidden layers of one unit.
        """
        size, width = check_source(source, self.name)
        self.shape(size, width)  # an unreachable budget is told before torch is loaded
        from .dhe_net import fit

        spread = float(np.std(source[: 1 << 16], dtype=np.float64))
        layer = self.embedding(size, width, init_std=max(spread, 1e-6), seed=self.seed)
        fit(layer, source, steps=self.steps, lr=self.lr, seed=self.seed)
        return layer.export().measured(source)

    def shape(self, size: int, width: int) -> Shape:
        """Return the number of hashes and the largest width of hidden layers that fits."""
        numbers = allowed(self.budget, size, width) // 4
        hashes = 1
        while hashes < 1024 and 4 * hashes**2 <= numbers:
            hashes *= 2
        return Shape(
            hashes,
            largest(
                lambda w: 4 * Shape(hashes, w, width).numbers,
                1, max(1, numbers), self.budget, size, width, self.name,
            ),
            width,
        )  # fmt: skip

    def coefficients(self, count: int) -> npt.NDArray[np.int32]:
        """Draw a, b and p of ``count`` hashes, (3, count) int32."""
        draw = stream(self.seed, "dhe")
        primes = draw.permutation(_primes(BUCKETS, BUCKETS + 20_000))[:count]
        a = 1 + (draw.random(count) * (primes - 1)).astype(np.int64)
        b = (draw.random(count) * primes).astype(np.int64)
        return np.stack([a, b, primes]).astype(np.int32)

    @staticmethod
    def read(tensors: Tensors, settings: Mapping[str, Any], ids: Ids) -> Floats2d:
        """Return the rows of ``ids`` (n,), (n, D) float32."""
        a, b, p = np.asarray(tensors["hashes"], np.int64)
        found = np.empty((len(ids), len(tensors["last"])), np.float32)
        for start in range(0, len(ids), _BLOCK):
            part = ids[start : start + _BLOCK, None]
            hashed = (a * part + b) % p % BUCKETS
            rows = np.asarray(hashed * (2 / (BUCKETS - 1)) - 1, np.float32)
            rows = rows[:, None]  # one product a row, whose rounding no other row has a part in
            rows = _mish(rows @ tensors["first"].T + tensors["first_bias"])
            for weight, bias in zip(tensors["middle"], tensors["middle_bias"], strict=True):
                rows = _mish(rows @ weight.T + bias)
            rows = rows @ tensors["last"].T + tensors["last_bias"]
            found[start : start + _BLOCK] = rows[:, 0]
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
    ) -> DheEmbedding:
        """Return a layer of a network that is yet to be trained."""
        from .dhe_net import DheEmbedding

        shape = self.shape(size, width)
        return DheEmbedding(shape, self.coefficients(shape.hashes), size, init_std, seed)


def _mish(x: Floats2d) -> Floats2d:
    found: Floats2d = x * np.tanh(np.logaddexp(np.float32(0), x))
    return found


def _primes(low: int, high: int) -> npt.NDArray[np.int64]:
    """Return all primes of [low, high), by Eratosthenes' sieve."""
    sieve = np.ones(high, bool)
    sieve[:2] = False
    for number in range(2, int(high**0.5) + 1):
        if sieve[number]:
            sieve[number**2 :: number] = False
    return low + np.flatnonzero(sieve[low:])
