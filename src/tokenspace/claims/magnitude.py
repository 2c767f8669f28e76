"""Magnitude: which values are kept matters."""

from __future__ import annotations

import numpy as np

from tokenspace.claims._tables import SEEDS, recall10, words
from tokenspace.compress._sparse import capacity, store_sparse
from tokenspace.compress.magnitude import Magnitude
from tokenspace.compress.table import CompressedTable
from tokenspace.recipe import Recipe, apply
from tokenspace.report import Claim
from tokenspace.rng import stream

CLAIM = Claim(
    says="The largest values of word vectors keep more of their neighbours than as many others",
    paper="arXiv:1506.02626",
    metric="recall10",
    better="higher",
    baseline="as many values, drawn at random, in as many bytes",
    margin=0.1,
    scale="paper: the layers of AlexNet and VGG-16, pruned nine- and thirteenfold without loss, "
    "after training again; here: a finished table of 20,000 words by 256, at a quarter of its "
    "bytes",
    seeds=SEEDS,
    budget_s=300,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return the share of the exact ten nearest rows that is kept, and the share of the bytes."""
    vectors = words(seed, smoke=smoke)
    if method is None:
        count = capacity(Magnitude().budget, len(vectors), vectors.shape[1], "random")
        mask = np.zeros(vectors.size, bool)
        mask[stream(seed, "values").choice(vectors.size, count, replace=False)] = True
        tensors = store_sparse(vectors, mask.reshape(vectors.shape))
        stored = CompressedTable("magnitude", vectors.shape, tensors, {"width": vectors.shape[1]})
    else:
        stored = apply(method, {"source": vectors})
    return {"recall10": recall10(stored, vectors, seed, smoke=smoke), "ratio": stored.ratio}
