"""Whether cosines of word vectors rank pairs of words as people do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tokenspace.metrics import Score, cosine, pearson
from tokenspace.resampling import kept, scored
from tokenspace.table import EmbeddingTable
from tokenspace.words.evaluation.lookup import Oov, find
from tokenspace.words.evaluation.results import Result

__all__ = ["similarity", "word_similarity"]


def similarity(
    table: EmbeddingTable,
    pairs: Sequence[tuple[str, str, float]],
    *,
    name: str = "pairs",
    oov: Oov = "skip",
    language: str = "",
    seed: int = 0,
    resamples: int = 1000,
) -> Result:
    """Return Spearman's correlation of cosines with people's scores; Pearson's beside it.

    A pair with an unknown word is left out (``oov="skip"``); with ``"zero"`` its cosine is 0, with
    ``"mean"`` the word has the mean vector of the table.
    """
    left = find(table, [first for first, _, _ in pairs], oov=oov, language=language)
    right = find(table, [second for _, second, _ in pairs], oov=oov, language=language)
    given = np.array([pair[2] for pair in pairs], np.float64)
    items = np.column_stack([given, cosine(left.vectors, right.vectors)])
    if oov == "skip":
        items[~(left.known & right.known)] = np.nan
    used = kept(items)
    return Result(
        task="similarity",
        set=name,
        measure="spearman",
        score=scored("spearman", items, seed, resamples),
        kind="spearman",
        items=items,
        unknown=tuple(sorted({*left.unknown, *right.unknown})),
        also={"pearson": pearson(used[:, 0], used[:, 1])},
    )


def word_similarity(
    table: EmbeddingTable,
    pairs: Sequence[tuple[str, str, float]],
    seed: int = 0,
    *,
    oov: Oov = "skip",
    language: str = "",
) -> Score:
    """Return the score of :func:`similarity`: Spearman's correlation with its interval.

    NaN where fewer than two pairs are known.
    """
    return similarity(table, pairs, oov=oov, language=language, seed=seed).score
