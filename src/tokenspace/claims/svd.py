"""SVD: the directions that vary most, against as many columns as they stand."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np

from tokenspace.claims._tables import SEEDS, recall10, words
from tokenspace.compress.floats import FloatTable
from tokenspace.compress.svd import SVD
from tokenspace.compress.table import CompressedTable
from tokenspace.recipe import Recipe, apply
from tokenspace.report import Claim

CLAIM = Claim(
    says="The directions of greatest variance keep more neighbours than as many columns",
    paper="Psychometrika 1936 (Eckart, Young)",
    metric="recall10",
    better="higher",
    baseline="the first columns, as many bytes, in float32",
    margin=0.03,
    scale="survey: 21 million passages by 768; here: 20,000 words of novels by 256 (fewer words, "
    "of the default text, where the novels are absent), at a quarter of the bytes",
    seeds=SEEDS,
    budget_s=300,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return the share of the exact ten nearest rows that is kept, and the share of the bytes."""
    vectors = words(seed, smoke=smoke)
    stored: CompressedTable | FloatTable
    if method is None:
        first = np.arange(vectors.shape[1]) < vectors.shape[1] // 4
        stored, ratio = FloatTable(np.where(first, vectors, np.float32(0))), 0.25
    else:
        stored = apply(replace(cast("SVD", method), budget=0.25), {"source": vectors})
        ratio = stored.nbytes / vectors.nbytes
    return {"recall10": recall10(stored, vectors, seed, smoke=smoke), "ratio": ratio}
