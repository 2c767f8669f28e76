"""The family's common data and yardstick: two views of one set of meanings, with rows withheld."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tokenspace.metrics import cosine
from tokenspace.rng import stream
from tokenspace.table import EmbeddingTable
from tokenspace.transplant._shared import retrieval
from tokenspace.vocab import Vocabulary

__all__ = ["bag", "judge"]


def bag(seed: int = 0, *, tiny: bool = False) -> dict[str, Any]:
    """Return ``source``, ``target``, ``donor`` and ``truth``.

    Every word has a meaning: a sparse mixture of topics with a little of its own. Source and donor
    are two linear images of it with noise. ``truth`` is the whole source; ``source`` lacks the
    words called ``new``, which ``target`` and ``donor`` have.
    """
    draw = stream(seed, "transplant trial")
    old, both, new, topics, wide, narrow = (
        (20, 60, 12, 8, 16, 12) if tiny else (500, 2000, 500, 64, 128, 96)
    )
    n = old + both + new
    mixture = draw.standard_normal((n, topics)) * (draw.random((n, topics)) < 4 / topics)
    meaning = mixture + 0.1 * draw.standard_normal((n, topics))

    def view(width: int) -> np.ndarray:
        image = meaning @ (draw.standard_normal((topics, width)) / topics**0.5)
        return np.asarray(image + 0.05 * draw.standard_normal((n, width)), np.float32)

    names = [f"old{i}" for i in range(old)] + [f"both{i}" for i in range(both)]
    names += [f"new{i}" for i in range(new)]
    truth = EmbeddingTable(Vocabulary.words(names), view(wide))
    known = old + both
    source = EmbeddingTable(Vocabulary.words(names[:known]), truth.vectors[:known])
    order = old + draw.permutation(both + new)
    target = Vocabulary.words([names[i] for i in order])
    donor = EmbeddingTable(target, view(narrow)[order])
    return {"source": source, "target": target, "donor": donor, "truth": truth}


def judge(result: EmbeddingTable, bag: Mapping[str, Any]) -> dict[str, float]:
    """Return how near the new rows are to the withheld ones.

    ``cosine``: their mean cosine; ``mrr``: the mean reciprocal rank of the withheld row among all
    rows of the truth.
    """
    truth: EmbeddingTable = bag["truth"]
    new = [token for token in result.vocab.tokens if token not in bag["source"].vocab.ids]
    rows = result.rows(np.array([result.id(token) for token in new]))
    ids = np.array([truth.id(token) for token in new])
    return {
        "cosine": float(cosine(rows, truth.rows(ids)).mean()),
        "mrr": retrieval(rows, ids, truth),
        "bytes": float(result.nbytes),
    }
