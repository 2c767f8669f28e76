"""What every text encoder is tried on: half of a text must find the other half."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from tokenspace.corpus import Corpus
from tokenspace.data import zipf_text
from tokenspace.definitions import Definitions
from tokenspace.encode import TextEncoder
from tokenspace.examples import Examples
from tokenspace.labels import Labels
from tokenspace.metrics import reciprocal_rank
from tokenspace.table import EmbeddingTable
from tokenspace.toy_encoder import ToyEncoder
from tokenspace.vocab import Vocabulary

__all__ = ["CURVES", "bag", "cooccurrence_table", "judge"]

CURVES = ("cpu_seconds", ("mrr",))
"""What a page draws as a curve for every method that is given with several numbers of steps."""


def bag(seed: int = 0, *, tiny: bool = False) -> dict[str, Any]:
    """Return a ``corpus`` of invented sentences by topic and a ``table`` learned from it.

    The table holds the singular vectors of the words' positive pointwise mutual information.
    ``encoder`` is a toy that knows letters and neighbours; ``labels`` tell in which half of the
    alphabet a text begins.
    Where torch is, ``model`` and ``decoder`` are networks of two layers that were never trained.
    ``examples`` are pairs of which either has every second word of a text, and ``tasks`` are the
    labels again, ``general`` the first texts. ``definitions`` let the first word of a text be
    defined by the others.
    """
    sizes = (120, 60, 4) if tiny else (4_000, 600, 24)
    texts = zipf_text(*sizes, seed=seed)
    table = cooccurrence_table(texts, 12 if tiny else 64)
    halves = [text.split() for text in texts]
    return {
        "corpus": Corpus(texts),
        "examples": Examples(
            {
                "anchor": [" ".join(words[::2]) for words in halves if len(words) > 1],
                "positive": [" ".join(words[1::2]) for words in halves if len(words) > 1],
            }
        ),
        "definitions": Definitions(
            (words[0], " ".join(words[1:])) for words in halves if len(words) > 1
        ),
        "tasks": Examples(
            {"text": texts, "label": ["early" if text[0] < "n" else "late" for text in texts]}
        ),
        "general": Examples({"text": texts[:40]}),
        **_network(tuple(texts), seed),
        "table": table,
        "encoder": ToyEncoder(seed=seed),
        "labels": Labels("early" if text[0] < "n" else "late" for text in texts),
    }


@cache  # nothing that is given to a method is changed by it
def _network(texts: tuple[str, ...], seed: int) -> dict[str, Any]:
    if find_spec("torch") is None or find_spec("transformers") is None:
        return {}
    from tokenspace.nn.fresh import fresh_encoder

    return {
        "model": fresh_encoder(texts, seed=seed),
        "decoder": fresh_encoder(texts, kind="llama", seed=seed),
    }


def cooccurrence_table(texts: list[str], width: int) -> EmbeddingTable:
    """Return PPMI-SVD vectors (Levy and Goldberg 2014), a sentence being the window."""
    words = sorted({word for text in texts for word in text.split()})
    ids = {word: index for index, word in enumerate(words)}
    incidence = np.zeros((len(texts), len(words)), np.float32)
    for row, text in zip(incidence, texts, strict=True):
        for word in text.split():
            row[ids[word]] += 1
    counts = incidence.sum(axis=0)
    together = incidence.T @ incidence
    np.fill_diagonal(together, 0)
    share = together.sum(axis=1)
    expected = np.outer(share, share) / max(1.0, float(share.sum()))
    ratio = np.divide(together, expected, out=np.ones_like(together), where=together > 0)
    U, S, _ = np.linalg.svd(np.maximum(np.log(ratio), 0))
    signs = np.where(U.sum(axis=0) < 0, -1, 1)
    vectors = np.ascontiguousarray((U * signs * np.sqrt(S))[:, :width], dtype=np.float32)
    return EmbeddingTable(Vocabulary.words(words), vectors, counts.astype(np.int64))


def judge(result: TextEncoder, bag: Mapping[str, Any]) -> dict[str, float]:
    """Return how well halves of texts find each other, and how alike unrelated texts look.

    Every second word of a text is the query, the other words are the document, among all texts
    (1,000 at most): ``mrr`` is the mean reciprocal rank of the text's own half by cosine,
    ``unrelated`` the mean cosine of halves of different texts.
    """
    texts = [text.split() for text in bag["corpus"]][:1000]
    texts = [text for text in texts if len(text) > 1]
    first, second = (
        _unit(result.encode([" ".join(text[half::2]) for text in texts])) for half in (0, 1)
    )
    scores = first @ second.T
    ranked = np.argsort(-scores, axis=1, kind="stable").astype(np.int64)
    own = [{index} for index in range(len(texts))]
    n = len(texts)
    return {
        "mrr": float(reciprocal_rank(ranked, own).mean()),
        "unrelated": float((scores.sum() - np.trace(scores)) / max(1, n * (n - 1))),
        "dim": float(result.dim),
    }


def _unit(vectors: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    unit: np.ndarray[Any, np.dtype[np.float64]] = wide / np.where(lengths > 0, lengths, 1)
    return unit
