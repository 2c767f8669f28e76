"""Take the mean and the first few principal directions off, which all words share.

The idea
--------
Learned vectors have a large mean, and a few directions hold much of their length: they say how
frequent a word is rather than what it means. Without them the space is more even, and means of
words say more of a text.

Equations
---------
With mu the mean of all words and u_1 ... u_T the first eigenvectors of their covariance::

    w  <-  (w - mu) - sum_i (u_i . (w - mu)) u_i,    T = D / 100 unless given

Departures from the paper
-------------------------
Special tokens, rows without a token and zero rows are left alone and take no part. Where D is
below 50, T is 1.

Cost
----
O(V D^2) time for the covariance, in blocks of rows, and O(D^3).

When not to use it
------------------
For word similarity it may cost more than it brings with vectors learned from little text. In front
of a network that knows the mean, which a model's embedding is.

Reference
---------
J. Mu, P. Viswanath: All-but-the-Top: Simple and Effective Postprocessing for Word Representations.
ICLR 2018, arXiv:1702.01417, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from tokenspace.errors import ConfigError
from tokenspace.recipe import Range, Recipe
from tokenspace.table import EmbeddingTable
from tokenspace.weighting import top_directions, without_top

from ._spectrum import evenness
from ._words import Affine, edited, usable

__all__ = ["ABTT"]


@dataclass(frozen=True, kw_only=True)
class ABTT(Recipe):
    """Take the mean and the first few principal directions off, which all words share."""

    top: Annotated[
        int | Literal["auto"], Range(0, 4096), "directions taken off; auto: a hundredth of D"
    ] = "auto"

    tiny: ClassVar[Mapping[str, Any]] = {"top": 2}

    def __call__(self, source: EmbeddingTable, /) -> EmbeddingTable:
        """Return the table, (V, D), without its mean and its first directions.

        Raises :class:`InputError` for a table of fewer than two words with a vector, and
        :class:`ConfigError` where nothing would be left.
        """
        words, width = usable(source), source.shape[1]
        top = max(1, round(width / 100)) if self.top == "auto" else self.top
        if top >= width:
            raise ConfigError(
                f"abtt: top={top} of {width} directions: nothing would be left",
                hint=f"choose top below {width}",
            )
        vectors = np.array(source.vectors, np.float32)
        mu, U = top_directions(source.vectors[words], top)
        vectors[words] = without_top(source.vectors[words], mu, U)
        metrics = {"directions": float(top), **evenness(source, vectors, words)}
        W = np.eye(width) - U.T.astype(np.float64) @ U
        return edited(self, source, vectors, metrics, affine=Affine(W, -mu @ W))
