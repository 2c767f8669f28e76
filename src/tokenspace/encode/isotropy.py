"""How evenly a model's vectors fill their space, and a linear layer after which they do so better.

Vectors of text tend to lie in a narrow cone: any two look alike, and few directions tell them
apart. :func:`evenness` says how far that goes, and :func:`evened` fits a map on vectors of texts
and writes it into the model as a stock linear layer, before the normalisation where there is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from tokenspace.arrays import Floats2d, check_finite
from tokenspace.errors import ConfigError, InputError, MissingExtra
from tokenspace.metrics import isotropy
from tokenspace.text_encoder import PretrainedEncoder
from tokenspace.weighting import directions

from ._axes import Map, effective_rank, independent, principal, white

__all__ = ["TRANSFORMS", "Transform", "evened", "evenness"]

Transform = Literal["centre", "top", "pca", "zca", "ica"]

TRANSFORMS: dict[Transform, str] = {
    "centre": "the mean of all vectors is taken off",
    "top": "and their first principal directions are taken out (all but the top)",
    "pca": "white, on the principal directions, the greatest first",
    "zca": "white, moved as little as can be",
    "ica": "independent components",
}
"""The maps, with what each does."""


def evenness(vectors: Floats2d) -> dict[str, float]:
    """Return three figures of vectors (N, D), N at least 2.

    ``cosine``: the mean of that of two different rows, 0 where they point everywhere.
    ``isotropy``: that of :func:`tokenspace.metrics.isotropy`, 1 for a space that is the same in all
    directions. ``rank``: the effective rank, at most D.

    Raises :class:`InputError` for fewer vectors, and for one that is not finite.
    """
    N = len(vectors)
    if N < 2:
        raise InputError(f"{N} vectors fill no space", hint="give at least two different texts")
    check_finite(vectors, "vectors")
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    unit = wide / np.where(lengths > 0, lengths, 1)
    together = float(np.square(unit.sum(axis=0)).sum() - np.square(unit).sum())
    return {
        "cosine": together / (N * (N - 1)),
        "isotropy": isotropy(vectors),
        "rank": effective_rank(vectors),
    }


def evened(
    model: PretrainedEncoder,
    texts: Sequence[str],
    transform: Transform,
    *,
    top: int = 1,
    seed: int = 0,
) -> PretrainedEncoder:
    """Return an encoder whose vectors pass a map fitted on ``texts``; ``model`` stays as it is.

    ``transform`` is one of :data:`TRANSFORMS`; ``top`` counts the directions that it takes out. A
    model whose vectors are of unit length gives such again: the map comes before. ``seed`` is that
    of ``ica``.

    Raises :class:`ConfigError` for an unknown map and as many directions as the vectors have
    numbers, and :class:`InputError` for too few texts (for a white space more than these numbers)
    and vectors that are not finite.
    """
    if transform not in TRANSFORMS:
        raise ConfigError(f"transform={transform!r} is not one of {', '.join(TRANSFORMS)}")
    try:
        from tokenspace.nn.sentence import copied, inserted, wrapped
    except ImportError as fault:
        raise MissingExtra.named("models", "changing a model's space") from fault
    different = list(dict.fromkeys(texts))
    _check(len(different), model.dim, transform, top)
    made: Any = copied(model)
    bare: Any = copied(model)
    if type(bare[-1]).__name__ == "Normalize":
        del bare[len(bare) - 1]
    vectors = wrapped(bare).encode(different)
    check_finite(vectors, "the model's vectors", different)
    found = _fitted(vectors, transform, top, seed)
    made.truncate_dim = bare.truncate_dim = None  # the layer that is put in does what it did
    kept = np.eye(vectors.shape[1], wrapped(bare).dim)
    W = np.ascontiguousarray(found.W.T @ kept, np.float32)
    return wrapped(inserted(made, W, np.asarray(-found.mean @ found.W, np.float32)))


def _check(N: int, D: int, transform: Transform, top: int) -> None:
    """Refuse before anything is encoded: ``N`` texts, vectors of ``D`` numbers."""
    if transform == "top" and not 1 <= top < D:
        raise ConfigError(f"top={top} is outside [1, {D - 1}]", hint="take out fewer directions")
    least = 2 if transform == "centre" else top + 1 if transform == "top" else D + 1
    if least > N:
        raise InputError(
            f"{N} different texts for {transform} in {D} dimensions",
            hint=f"give {least} texts or more",
        )


def _fitted(X: Floats2d, transform: Transform, top: int, seed: int) -> Map:
    N, D = X.shape
    if transform == "ica":
        return independent(X, seed)
    if transform in ("pca", "zca"):
        return principal(X) if transform == "pca" else white(X)
    mean = X.mean(axis=0, dtype=np.float64)
    if transform == "centre":
        return Map(mean, np.eye(D))
    U = directions((X - mean).T @ (X - mean) / N, top).astype(np.float64)
    return Map(mean, np.eye(D) - U.T @ U)
