"""What the methods of this family are compared on: documents around topics, queries made of them.

A query repeats tokens of one document with noise added. Figures are read off the scored list of
an index: how much of the exact top 10 it holds, and whether the query's own document is found.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tokenspace.data import topic_docs
from tokenspace.metrics import reciprocal_rank

from . import Index
from ._shared import best, chamfer
from .store import TokenStore

__all__ = ["bag", "judge"]


def bag(seed: int = 0, *, tiny: bool = False) -> dict[str, Any]:
    """Return ``docs``, for :func:`judge` ``queries`` and what is ``relevant`` to each, and pairs.

    2,000 documents of 24 to 48 tokens in 64 dimensions and 100 queries of 8 tokens; ``tiny``: 40
    documents of at most 12 tokens in 16 dimensions. A query of every other document is the
    ``train_queries``, and its document the ``train_docs``, of methods that learn.
    """
    if tiny:
        asked, made = 10, topic_docs(40, 8, 12, 16, seed=seed, n_queries=40)
    else:
        asked, made = 100, topic_docs(2000, 60, 48, 64, 0.8, seed=seed, n_queries=2000)
    docs, queries, relevant = made
    answers = np.array([min(found) for found in relevant[asked:]], np.int64)
    return {
        "docs": docs,
        "queries": queries.take(np.arange(asked)),
        "relevant": relevant[:asked],
        "train_queries": queries.take(np.arange(asked, len(queries))),
        "train_docs": docs.take(answers),
    }


def judge(result: Index, bag: Mapping[str, Any]) -> dict[str, float]:
    """Return the recall of the exact top 10, the mean reciprocal rank, and the index's bytes."""
    docs, queries = bag["docs"], bag["queries"]
    exact, _ = best(chamfer(TokenStore.pack(docs), queries), 10)
    found, _ = result.search(queries, 10)
    shared = [len(np.intersect1d(a, b)) for a, b in zip(exact, found, strict=True)]
    return {
        "recall_of_exact_top10": float(np.mean(shared)) / exact.shape[1],
        "mrr_at_10": float(reciprocal_rank(found, bag["relevant"], 10).mean()),
        "bytes": float(result.nbytes),
    }
