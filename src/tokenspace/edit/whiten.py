"""Give every direction the same variance, and no two directions anything in common.

The idea
--------
Cosines assume that the axes are at right angles and of one scale; those of learned vectors are
not. After whitening the covariance is the identity. Which covariance counts: half of a vocabulary
are words that hardly occur, and a text is made of the others, so words are weighed by how often
they occur where the table says it (Zipfian whitening). ``zca`` stays as near to the old vectors as
it can, so that a dimension still means what it did; ``pca`` has the principal directions as axes,
the largest first, of which ``dims`` can be kept.

Equations
---------
With mean mu and covariance U diag(l) U^T of all words, each with weight p(w)::

    zca:   w  <-  U diag(l)^-1/2 U^T (w - mu)
    pca:   w  <-  diag(l)^-1/2 U^T (w - mu),  the first dims of it

Departures from the paper
-------------------------
The authors have ``pca``, whose cosines are those of ``zca``. Directions whose variance is below
``floor`` times the largest are rounding or rank that is missing, and get zero. Zero rows stay zero
and take no part; special tokens move with the space and take no part.

Cost
----
O(V D^2) time for the covariance, in blocks of rows, and O(D^3).

When not to use it
------------------
Where the counts are not known and texts are to be compared: even weights bring less than `abtt`,
which takes only the largest directions off. A model that reads the vectors expects them as they
were.

Reference
---------
S. Yokoi, H. Bao, H. Kurita, H. Shimodaira: Zipfian Whitening. NeurIPS 2024, arXiv:2411.00680. J.
Su, J. Cao, W. Liu, Y. Ou: Whitening Sentence Representations for Better Semantics and Faster
Retrieval, arXiv:2103.15316. A. Kessy, A. Lewin, K. Strimmer: Optimal Whitening and Decorrelation.
The American Statistician 2018, arXiv:1512.00809.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from tokenspace.errors import ConfigError, InputError
from tokenspace.recipe import Range, Recipe
from tokenspace.table import EmbeddingTable

from ._spectrum import covariance, evenness, mapped, mean_of, moved
from ._words import Affine, edited, usable

__all__ = ["Whiten"]


@dataclass(frozen=True, kw_only=True)
class Whiten(Recipe):
    """Give every direction the same variance, and no two directions anything in common."""

    kind: Annotated[Literal["zca", "pca"], "near to the old axes, or on the principal ones"] = "zca"
    dims: Annotated[
        int | Literal["all"], Range(1, 65_536), "principal directions that are kept, with pca"
    ] = "all"
    weights: Annotated[
        Literal["auto", "counts", "even"], "words by their counts, or all alike; auto: if known"
    ] = "auto"
    floor: Annotated[float, Range(0, 1), "share of the largest variance that counts as none"] = 1e-9

    tiny: ClassVar[Mapping[str, Any]] = {}

    def __call__(self, source: EmbeddingTable, /) -> EmbeddingTable:
        """Return the table, (V, D) or (V, dims), with the identity as its covariance.

        The covariance is that of the words by their counts, or of all alike (``weights``).

        Raises :class:`InputError` for a table of fewer than two words with a vector, and for
        ``weights="counts"`` where the table has none; :class:`ConfigError` where ``dims`` are more
        than there are, or given with ``zca``.
        """
        width = source.shape[1]
        if self.dims != "all" and (self.kind == "zca" or self.dims > width):
            raise ConfigError(
                f"whiten: dims={self.dims} of {width} directions with kind={self.kind}",
                hint="zca keeps all of them; with pca choose at most as many as there are",
            )
        words = usable(source)
        p = self._weights(source, words)
        mu = mean_of(source, p)
        values, U = np.linalg.eigh(covariance(source, p, mu))
        values, U = values[::-1], U[:, ::-1]
        kept = values > self.floor * max(float(values[0]), 1e-300)
        scale = np.where(kept, 1 / np.sqrt(np.where(kept, values, 1)), 0)
        W = (U * scale) @ U.T if self.kind == "zca" else U * scale
        if self.dims != "all":
            W = W[:, : self.dims]
        vectors = mapped(source, moved(source), mu, np.asarray(W))
        metrics = {
            "by_counts": float(p.dtype != bool),
            "rank": float(kept.sum()),
            "largest_to_smallest": float(values[0] / values[kept][-1]) if kept.any() else 0.0,
            **evenness(source, vectors, words),
        }
        return edited(self, source, vectors, metrics, affine=Affine(W, -mu @ W))

    def _weights(
        self, source: EmbeddingTable, words: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.bool_] | npt.NDArray[np.float64]:
        """Return what each row counts, (V,): how often it occurs, or whether it is a word."""
        counts = source.counts
        known = counts is not None and int((counts[words] > 0).sum()) > 1
        if self.weights == "counts" and not known:
            raise InputError(
                "whiten: the table does not say how often its words occur",
                hint="give a table with counts, such as tokenspace words makes, or --weights even",
            )
        if counts is None or not known or self.weights == "even":
            return words
        return np.where(words, counts, 0).astype(np.float64)
