"""What every transplant starts from: the rows that are copied, and the tokens that are not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tokenspace.arrays import Floats2d, Ids
from tokenspace.errors import InputError
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary

__all__ = ["Draft", "begin", "places", "retrieval"]


@dataclass(frozen=True, eq=False)
class Draft:
    """A table in the making.

    ``rows`` (V, d) float32 holds the copied rows and, for every other token, the mean row of the
    source; ``unseen`` the ids of those others, by their strings, so that no result depends on the
    order of the target's ids.
    """

    rows: Floats2d
    unseen: Ids


def begin(source: EmbeddingTable, target: Vocabulary) -> Draft:
    """Copy the rows of tokens of equal bytes and of special tokens of equal role, bit for bit.

    Raises :class:`InputError` where one of the vocabularies is empty or nothing is shared.
    """
    if not len(target) or not len(source.vocab):
        raise InputError(f"transplant: {len(source.vocab)} source and {len(target)} target tokens")
    mean = source.vectors.mean(axis=0, dtype=np.float64)
    rows = np.empty((len(target), source.shape[1]), np.float32)
    rows[:] = mean
    partner = target.match(source.vocab).ids  # -1 where the source has none
    found = partner >= 0
    if not found.any():
        raise InputError(
            "transplant: source and target share no token",
            hint="check that both vocabularies are read with their tokenizers",
        )
    rows[found] = source.vectors[partner[found]]
    unseen = sorted(np.flatnonzero(~found).tolist(), key=target.tokens.__getitem__)
    return Draft(rows, np.array(unseen, np.int64))


def places(target: Vocabulary, donor: Vocabulary) -> Ids:
    """Return the donor's id of every token of the target, (V,), -1 where it has none."""
    if target.tokens == donor.tokens:
        return np.arange(len(target), dtype=np.int64)
    found = np.full(len(target), -1, np.int64)
    t, d = target.shared(donor)
    found[t] = d
    return found


def retrieval(rows: Floats2d, ids: Ids, table: EmbeddingTable) -> float:
    """Return the mean reciprocal rank of row ``ids[i]`` of ``table`` by cosine with ``rows[i]``.

    All rows of the table compete; ties count against the right one.
    """
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    scores = (rows / np.maximum(lengths, 1e-12)) @ table.unit.T
    right = np.take_along_axis(scores, ids[:, None], 1)
    return float((1 / (scores >= right).sum(axis=1)).mean())
