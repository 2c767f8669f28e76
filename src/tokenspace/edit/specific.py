"""Which words may lie along a direction: a classifier learns them from some that may.

For gender in English those are words such as *queen*, which no debiasing should touch, and not
*nurse* (Bolukbasi et al. 2016, https://arxiv.org/abs/1607.06520, appendix).
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np

from tokenspace.errors import InputError
from tokenspace.table import EmbeddingTable
from tokenspace.word_sets import WordSets

from ._linear import held_out, machine
from ._words import blocks, every, rows_of, usable

__all__ = ["Specific", "specific_words"]

FOLDS = 10


class Specific(NamedTuple):
    """The words found, seeds included, in the table's order.

    ``f1`` and ``balanced_accuracy`` are those of ten folds: of words that the classifier did not
    see. ``seeds`` are those with a row, ``missing`` the others.
    """

    words: list[str]
    seeds: int
    f1: float
    balanced_accuracy: float
    missing: list[str]


def specific_words(
    table: EmbeddingTable,
    seeds: WordSets,
    *,
    most: int = 50_000,
    balanced: bool = False,
    C: float = 1.0,
    seed: int = 0,
) -> Specific:
    """Return all words of a table that a classifier takes for words like the seeds.

    A linear support vector machine is trained on the first ``most`` words of the table (the most
    frequent ones, where it is ordered so) and all seeds, at unit length. ``balanced`` weighs both
    classes alike, which finds more words.

    Raises
    ------
    InputError
        Where fewer than 20 seeds, or other words, have a row.
    """
    has = usable(table)
    known = {word: [i for i in every(table.vocab, word) if has[i]] for word in seeds.words}
    ids = np.array(sorted({i for found in known.values() for i in found}), np.int64)
    is_seed = np.zeros(len(has), np.bool_)
    is_seed[ids] = True
    first = np.flatnonzero(has)[:most]
    train = np.union1d(first, ids)
    if len(ids) < 2 * FOLDS or len(train) - len(ids) < 2 * FOLDS:
        raise InputError(
            f"{len(ids)} seeds and {len(train) - len(ids)} other words have a row in the table",
            hint=f"{2 * FOLDS} of both are needed: give more with --seeds FILE",
        )
    rows, labels = rows_of(table, train), is_seed[train].astype(np.float64)
    fit = partial(machine, C=C, balanced=balanced)
    said = held_out(fit, rows, labels, folds=FOLDS, seed=seed)
    hits = float((said * labels).sum())
    recall, kept = hits / labels.sum(), float(((1 - said) * (1 - labels)).sum())
    plane = fit(rows, labels)
    inside = is_seed.copy()
    for part in blocks(len(has)):
        inside[part] |= has[part] & (plane(rows_of(table, np.arange(len(has))[part])) > 0)
    found = [table.vocab.surface(int(i)).decode("utf-8", "replace") for i in np.flatnonzero(inside)]
    return Specific(
        words=list(dict.fromkeys(word.strip() for word in found if word.strip())),
        seeds=len(ids),
        f1=2 * hits / float(labels.sum() + said.sum()),
        balanced_accuracy=(recall + kept / float((1 - labels).sum())) / 2,
        missing=[word for word, found in known.items() if not found],
    )
