"""Cut a text encoder: to its first layers, to its first numbers, or to its principal components.

What is written opens in plain ``SentenceTransformer``: the layers are gone from the network, and
the vectors are cut by a linear layer before the normalisation, so that they stay of unit length
where they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tokenspace.arrays import Floats2d
from tokenspace.corpus import Corpus
from tokenspace.errors import ConfigError, InputError, MissingExtra
from tokenspace.examples import Examples
from tokenspace.metrics import cosine, spearman
from tokenspace.progress import track
from tokenspace.text_encoder import PretrainedEncoder
from tokenspace.weighting import directions

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["layer_grid", "shortened", "write_grid"]

_BATCH = 32


def shortened(
    model: PretrainedEncoder,
    *,
    layers: int | None = None,
    dim: int | None = None,
    rotate: Corpus | None = None,
) -> PretrainedEncoder:
    """Return a smaller encoder; ``model`` stays as it is.

    ``layers`` are kept from the first on, and ``dim`` numbers of every vector: the first ones, or,
    with texts to ``rotate`` by, the coordinates on the first principal components of the (cut)
    model's vectors of these texts, which is the best that no training can do.

    Raises :class:`ConfigError` for a number that the model does not have, or nothing to do, and
    :class:`InputError` for a model without layers and for fewer texts than ``dim``.
    """
    if layers is None and dim is None:
        raise ConfigError("neither layers nor dim is given", hint="give --layers, --dim or both")
    if rotate is not None and dim is None:
        raise ConfigError("rotate without dim", hint="say how many components to keep: --dim")
    if dim is not None and not 1 <= dim <= model.dim:
        raise ConfigError(
            f"dim={dim} is outside [1, {model.dim}]",
            hint=f"the model gives vectors of {model.dim} numbers",
        )
    try:
        from tokenspace.nn.layers import keep_layers, network_of
        from tokenspace.nn.sentence import copied, inserted, wrapped
    except ImportError as fault:
        raise MissingExtra.named("models", "shortening a network") from fault
    made = copied(model)
    if layers is not None:
        keep_layers(network_of(made), layers)
    if dim is not None:
        made.truncate_dim = None  # the layer that is put in does what it did
        whole = wrapped(made)
        weights = np.eye(dim, whole.dim, dtype=np.float32)
        if rotate is not None:
            weights = _components(whole.encode(list(rotate)), dim)
        made = inserted(made, weights)
    return wrapped(made)


def _components(vectors: Floats2d, dim: int) -> Floats2d:
    """Return the first principal components of vectors (N, D) as rows, (dim, D)."""
    if len(vectors) <= dim:
        raise InputError(
            f"{len(vectors)} texts do not tell {dim} components", hint="give more texts"
        )
    return np.ascontiguousarray(directions(np.cov(vectors.T.astype(np.float64)), dim), np.float32)


def layer_grid(
    model: PretrainedEncoder, examples: Examples, dims: Sequence[int], *, batch_size: int = _BATCH
) -> Floats2d:
    """Return Spearman's correlation of cosines with the scores, (N + 1, len(dims)).

    Row n is the model of its first n layers, row 0 what enters the first; column j keeps
    ``dims[j]`` numbers. All are read off one pass of the whole network. Raises
    :class:`ConfigError` for a number of numbers that the model does not have, and
    :class:`InputError` where ``examples`` have no scores.
    """
    if examples.scores is None:
        raise InputError(
            f"{examples.kind} have no scores", hint="give pairs with a score: anchor,positive,score"
        )
    if not dims or not all(1 <= k <= model.dim for k in dims):
        raise ConfigError(
            f"dims={list(dims)}: each must be in [1, {model.dim}]",
            hint=f"the model gives vectors of {model.dim} numbers",
        )
    every = _every_layer(model, examples.texts, batch_size)
    rows = {text: row for row, text in enumerate(examples.texts)}
    first, second = (
        [rows[text] for text in examples.columns[side]] for side in ("anchor", "positive")
    )
    grid = np.empty((len(every), len(dims)), np.float32)
    for n, vectors in enumerate(every):
        for j, k in enumerate(dims):
            near = cosine(vectors[first, :k], vectors[second, :k])
            grid[n, j] = spearman(near, examples.scores)
    return grid


def _every_layer(model: PretrainedEncoder, texts: Sequence[str], batch_size: int) -> list[Floats2d]:
    """Return what :func:`tokenspace.nn.layers.layer_vectors` gives, for all texts."""
    try:
        import torch

        from tokenspace.nn.layers import layer_vectors
        from tokenspace.nn.sentence import copied
    except ImportError as fault:
        raise MissingExtra.named("models", "running a network") from fault
    made: Any = copied(model)
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    found: list[Floats2d] = []
    with torch.inference_mode():
        for start in track(range(0, len(order), batch_size), "layers"):
            chosen = order[start : start + batch_size]
            features = made.preprocess([texts[i] for i in chosen])
            features = {
                key: value.to(made.device) if hasattr(value, "to") else value
                for key, value in features.items()
            }
            layers = layer_vectors(made, features)
            if not found:
                found = [np.empty((len(texts), x.shape[1]), np.float32) for x in layers]
            for whole, part in zip(found, layers, strict=True):
                whole[chosen] = part.float().cpu().numpy()
    return found


def write_grid(path: str | Path, grid: Floats2d, dims: Sequence[int]) -> None:
    """Draw a grid of :func:`layer_grid` as SVG: curves over the layers, one a number of numbers."""
    from tokenspace.io import replacing
    from tokenspace.page import draw

    def paint(axes: Axes) -> None:
        for j, k in enumerate(dims):
            axes.plot(range(len(grid)), 100 * grid[:, j], marker="o", label=str(k))
        axes.set_xlabel("layers kept")
        axes.set_ylabel("Spearman x 100")
        axes.legend(title="numbers kept", frameon=False)

    with replacing(path) as partial:
        partial.write_text(draw(paint, 4.0), encoding="utf-8")
