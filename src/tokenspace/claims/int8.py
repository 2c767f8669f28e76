"""Int8: a quarter of the bytes keeps the ranking, which a quarter of the dimensions does not."""

from __future__ import annotations

from typing import cast

import numpy as np

from tokenspace.arrays import Floats2d
from tokenspace.claims._vectors import learned
from tokenspace.compress.int8 import Int8
from tokenspace.compress.trial import neighbors, overlap
from tokenspace.recipe import Recipe
from tokenspace.report import Claim
from tokenspace.rng import stream

CLAIM = Claim(
    says="Eight bits a value keep the nearest neighbours of word vectors",
    paper="arXiv:2103.13630",
    metric="recall10",
    better="higher",
    baseline="as many bytes spent on float32 principal components",
    margin=0.05,
    scale="survey: weights and activations of networks on image classification; here: the ten "
    "nearest words by cosine in 100-dimensional skip-gram vectors of novels (of Python's own text "
    "where the novels are absent), 1,000 queries in full precision",
    budget_s=600.0,
)
K = 10


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return the share of the exact ten nearest rows that is kept, and the bytes of a row."""
    vectors = learned(seed, smoke=smoke).vectors
    stored = cast("Int8", method or Int8())(vectors)
    size = len(vectors)
    chosen = stream(seed, "queries").permutation(size)[: 100 if smoke else 1_000]
    exact = neighbors(vectors, vectors[chosen], K + 1)[:, 1:]
    if method is None:
        kept = components(vectors, stored.nbytes // (4 * size))
        found = neighbors(kept, kept[chosen], K + 1)
        row_bytes = 4.0 * kept.shape[1]
    else:
        found = neighbors(stored.rows(np.arange(size)), vectors[chosen], K + 1)
        row_bytes = stored.nbytes / size
    return {"recall10": float(overlap(exact, found, K + 1).mean()), "bytes_per_row": row_bytes}


def components(vectors: Floats2d, count: int) -> Floats2d:
    """Return the coordinates on the first ``count`` principal directions, without centring.

    Cosines are about the origin, so that this is the projection that keeps most of them; the
    directions themselves are not counted as bytes, in the baseline's favour.
    """
    _, directions = np.linalg.eigh(vectors.T.astype(np.float64) @ vectors)
    return np.ascontiguousarray(vectors @ directions[:, : -count - 1 : -1], dtype=np.float32)
