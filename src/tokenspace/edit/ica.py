"""Turn the axes so that each says one thing: as far from a normal distribution as can be.

The idea
--------
The axes of learned vectors mean nothing: any rotation of them serves as well. But sums of many
causes look normal, and single causes do not. Independent component analysis whitens the space and
turns it until every axis is as little normal as it can be; then few words lie far out on an axis,
and they have something in common: sports, months, endings.

Equations
---------
Z (V, d): the whitened words, B (d, d): a rotation, from a random one until it stays::

    y  =  B z,    g = tanh
    B <-  E[g(y) z^T] - diag(E[g'(y)]) B,    B <- (B B^T)^-1/2 B

Every axis is turned so that its long tail is positive, and the axes are sorted by their skewness.

Departures from the paper
-------------------------
FastICA is fitted on at most ``sample`` words, drawn at random, and ends after ``steps`` at the
latest; the report says how much the last step still turned. Special tokens move with the space and
take no part; zero rows stay zero.

Cost
----
O(n d^2) a step, n words of the sample; O(V D d) for the map.

When not to use it
------------------
To make vectors better at likeness: the cosines are those of `whiten`. In front of a model.

Reference
---------
H. Yamagiwa, M. Oyama, H. Shimodaira: Discovering Universal Geometry in Embeddings with ICA. EMNLP
2023, arXiv:2305.13175. A. Hyvärinen: Fast and Robust Fixed-Point Algorithms for Independent
Component Analysis. IEEE Transactions on Neural Networks 1999.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from tokenspace.errors import ConfigError
from tokenspace.progress import track
from tokenspace.recipe import Range, Recipe
from tokenspace.rng import stream
from tokenspace.table import EmbeddingTable

from ._spectrum import covariance, mapped, mean_of, moved
from ._words import Affine, edited, usable

__all__ = ["ICA", "rotation"]

Values = npt.NDArray[np.float64]

_FLOOR = 1e-9


@dataclass(frozen=True, kw_only=True)
class ICA(Recipe):
    """Turn the axes so that each says one thing: as far from a normal distribution as can be."""

    dims: Annotated[
        int | Literal["all"], Range(1, 65_536), "principal directions that are turned"
    ] = "all"
    steps: Annotated[int, Range(1, 1_000_000), "steps at most"] = 300
    tolerance: Annotated[float, Range(0, 1), "1 - |cosine| of an axis with itself, to end at"] = (
        1e-4
    )
    sample: Annotated[int, Range(2, 1_000_000_000), "words that are looked at, at most"] = 50_000
    seed: Annotated[int, Range(0, 2**32 - 1), "of the sample and of the first rotation"] = 0

    tiny: ClassVar[Mapping[str, Any]] = {"steps": 10}

    def __call__(self, source: EmbeddingTable, /) -> EmbeddingTable:
        """Return the coordinates of the words on the new axes, (V, D) or (V, dims).

        Raises :class:`InputError` for a table of fewer than two words with a vector, and
        :class:`ConfigError` where ``dims`` are more than there are.
        """
        width = source.shape[1]
        if self.dims != "all" and self.dims > width:
            raise ConfigError(
                f"ica: dims={self.dims} of {width} directions",
                hint=f"choose dims up to {width}",
            )
        words = usable(source)
        mu = mean_of(source, words)
        values, U = np.linalg.eigh(covariance(source, words, mu))
        kept = values > _FLOOR * max(float(values[-1]), 1e-300)
        d = width if self.dims == "all" else self.dims
        K = (U[:, kept] / np.sqrt(values[kept]))[:, ::-1][:, :d]  # whitens, largest first
        ids = np.flatnonzero(words)
        some = np.sort(stream(self.seed, "sample").permutation(ids)[: self.sample])
        Z = (source.vectors[some] - mu) @ K
        B, turned, steps = rotation(Z, self.seed, self.steps, self.tolerance)
        S = Z @ B.T
        skewness = (S**3).mean(axis=0)  # the axes have variance 1
        order = np.argsort(-np.abs(skewness), kind="stable")
        signs = np.where(skewness < 0, -1.0, 1.0)
        W = np.zeros((width, d))
        W[:, : K.shape[1]] = (K @ (B.T * signs))[:, order]
        vectors = mapped(source, moved(source), mu, W)
        metrics = {
            "steps": float(steps),
            "turned": turned,
            "rank": float(K.shape[1]),
            "skewness": float(np.abs(skewness).mean()),
            "kurtosis": float((S**4).mean() - 3),
        }
        said = (
            []
            if turned <= self.tolerance
            else [f"the last step still turned an axis: {turned:.2g}"]
        )
        return edited(self, source, vectors, metrics, said, affine=Affine(W, -mu @ W))


def rotation(Z: Values, seed: int, steps: int, tolerance: float) -> tuple[Values, float, int]:
    """Return B (d, d) for white rows Z (n, d), how much its last step turned, and the steps."""
    n, d = Z.shape
    B = _orthogonal(stream(seed, "rotation").standard_normal((d, d)))
    turned, count = 1.0, 0
    for count in track(range(1, steps + 1), "rotate"):  # noqa: B007
        G = np.tanh(Z @ B.T)
        new = _orthogonal(G.T @ Z / n - (1 - (G**2).mean(axis=0))[:, None] * B)
        turned = float((1 - np.abs(np.einsum("ij,ij->i", new, B))).max())
        B = new
        if turned <= tolerance:
            break
    return B, turned, count


def _orthogonal(B: Values) -> Values:
    """Return (B B^T)^-1/2 B."""
    U, _, Vt = np.linalg.svd(B)
    return np.asarray(U @ Vt)
