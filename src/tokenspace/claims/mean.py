"""The mean's claim: new output rows that leave every greedy choice as it was."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from tokenspace import data, rng
from tokenspace.corpus import Corpus
from tokenspace.recipe import Recipe, apply, make
from tokenspace.report import Claim
from tokenspace.stdlib_text import documents
from tokenspace.table import EmbeddingTable
from tokenspace.transplant._hull import max_logit_violation
from tokenspace.vocab import Vocabulary

CLAIM = Claim(
    says="rows inside the convex hull of the old ones leave every greedy choice unchanged",
    paper="arXiv:2407.05841",
    metric="violations",
    better="lower",
    baseline="new rows drawn from a normal distribution with the mean and deviation of each column",
    margin=0.01,
    scale="paper: RoBERTa and LLaMA-2-7B with thousands of new tokens; here: a skip-gram table as "
    "the output matrix, a tenth of its size in new rows, and 100,000 hidden states",
    seeds=(0, 1, 2),
    budget_s=120,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Append new output rows and count the hidden states whose greedy choice becomes a new token.

    ``violations``: their share; the margin asks that the usual random rows disturb at least one
    choice in a hundred more. Half of the hidden states are drawn from a normal distribution, half
    are means of the vectors of a word's neighbours in text, as CBOW would use. A new token has to
    win by more than 1e-6 ‖h‖ max‖v‖ in float64, so that a tie keeps the old token.
    """
    table, text = _table(seed, smoke)
    n, d = table.shape
    new = n // 10
    if method is None:
        draw = rng.stream(seed, "univariate rows")
        rows = draw.normal(table.vectors.mean(0), table.vectors.std(0), (new, d))
    else:
        words = [*table.vocab.tokens, *(f"new token {i}" for i in range(new))]
        made = apply(method, {"source": table, "target": Vocabulary.words(words)})
        rows = made.vectors[n:].astype(np.float64)
    H = _states(table, text, 2_000 if smoke else 100_000, seed)
    beaten = int((max_logit_violation(rows, table.vectors, H) > 1e-6).sum())
    return {"violations": beaten / len(H), "states": float(len(H)), "new": float(new)}


@functools.lru_cache(maxsize=1)
def _table(seed: int, smoke: bool) -> tuple[EmbeddingTable, list[str]]:
    limit = 2_000 if smoke else 40_000
    if data.available("novels"):
        text = data.novels(limit)
    else:
        text = [" ".join(data.words(document.text)) for document in documents()][:limit]
    train = make("sgns", dim=64, epochs=1 if smoke else 3, min_count=10, seed=seed)
    table: EmbeddingTable = apply(train, {"corpus": Corpus(text, split="whitespace")})
    return table, text


def _states(
    table: EmbeddingTable, text: list[str], count: int, seed: int
) -> npt.NDArray[np.float64]:
    """Return hidden states (count, d): half of them random, half of them contexts."""
    draw = rng.stream(seed, "hidden states")
    random = draw.standard_normal((count // 2, table.shape[1]))
    ids = table.vocab.ids
    stream = np.array([ids[word] for line in text for word in line.split() if word in ids])
    at = draw.integers(5, len(stream) - 5, count - count // 2)
    around = np.concatenate([np.arange(-5, 0), np.arange(1, 6)])
    contexts = np.zeros((len(at), table.shape[1]))
    for step in around:
        contexts += table.vectors[stream[at + step]]
    return np.concatenate([random, contexts / len(around)])
