"""What a table is worth where a text is the mean of its words' vectors."""

from __future__ import annotations

import numpy as np

from tokenspace import data
from tokenspace.claims.sif import SETS, correlation, known_item
from tokenspace.encode.sif import SIF
from tokenspace.table import EmbeddingTable

__all__ = ["SCALE", "points"]

MEAN = SIF(a=1e9, components=0, top=0, unit=False)
"""Every word weighs the same and nothing is removed: the plain mean of the rows as they are."""

SCALE = (
    "skip-gram of 4.4 million words of novels, 100 dimensions. points: mean Pearson x 100 of the "
    "cosines of means of word vectors with people's scores on STS 2014, STS 2015 and the STS "
    "benchmark's development set. Without these files: MRR x 100 of finding the entry of Python's "
    "reference that a title belongs to"
)


def points(table: EmbeddingTable, *, smoke: bool) -> dict[str, float]:
    """Return the correlation on every set, and their mean as ``points``."""
    if not all(data.available(name) for name in ("novels", *SETS)):
        return {"points": 100 * known_item(MEAN, table, smoke=smoke)}
    each = {name: 100 * correlation(MEAN, table, name, smoke=smoke) for name in SETS}
    return {"points": float(np.mean(list(each.values()))), **each}
