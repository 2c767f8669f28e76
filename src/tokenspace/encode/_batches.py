"""Batches of texts of like length, in random order."""

from __future__ import annotations

import numpy as np

from tokenspace.arrays import Ids

__all__ = ["bucketed"]

POOL = 32  # batches that texts of like length are gathered among


def bucketed(lengths: Ids, batch: int, draw: np.random.Generator) -> list[Ids]:
    """Return every number below len(lengths) once, in batches of which one may be smaller.

    The order is random; of each 32 batches that follow one another in it, the texts are sorted by
    their lengths, so that little of a batch is padding.
    """
    order, found = draw.permutation(len(lengths)), []
    for start in range(0, len(order), POOL * batch):
        pool = order[start : start + POOL * batch]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        found += [pool[at : at + batch] for at in range(0, len(pool), batch)]
    return [found[index] for index in draw.permutation(len(found)).tolist()]
