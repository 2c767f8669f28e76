"""PLAID: two bits a number keep the ranking of exact MaxSim, and few documents need a score."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import lru_cache
from typing import cast

import numpy as np

from tokenspace import data
from tokenspace.arrays import Ids2d, Ragged
from tokenspace.claims._token_vectors import Collection, collections, embedded
from tokenspace.metrics import ndcg_at
from tokenspace.recipe import Recipe
from tokenspace.report import Claim
from tokenspace.retrieve.maxsim import MaxSim
from tokenspace.retrieve.plaid import PLAID, PLAIDIndex
from tokenspace.retrieve.store import TokenStore

NAMES = ("cran", "cisi", "med", "scifact_long")
POINT = 0.01

CLAIM = Claim(
    says="Two bits a number keep nDCG at 10 within a point of exact MaxSim, and one bit within "
    "three, at a fourteenth of the bytes of a token",
    paper="arXiv:2205.09707",
    metric="bytes_per_token",
    better="lower",
    baseline="exact MaxSim on float32 rows",
    margin=256 * (1 - 1 / 14),
    scale="papers: trained ColBERTv2 vectors of 128 dimensions, MS MARCO and larger; here: static "
    "vectors (PPMI, 64 dimensions) mixed with their neighbours, learned on the union of Cranfield, "
    "CISI, MED and scifact_long, 5,992 documents in one index. A query token weighs its idf. "
    "Bytes are those of a token's code and residual, and count as 256 where a quality is missed; "
    "bytes_in_all has centroids, lists and offsets in it. A seed is that of the sample and of "
    "k-means. Rows carry figures of the setting: recall of the ten best by exact MaxSim on float32 "
    "rows (of_exact) and on the restored ones (of_restored), with the 1-bit index too, and "
    "milliseconds a query on one thread. Without these files: titles of Python's default text",
    budget_s=600.0,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return bytes a token, nDCG at 10 with two bits and with one, recall and time of a search."""
    collection = _union(smoke=smoke)
    exact, exact_ms = _exact(smoke=smoke)
    quality = _ndcg(exact, collection)
    plain = 4.0 * collection.docs.width
    if method is None:
        return {
            "bytes_per_token": plain,
            "bytes_in_all": plain,
            "ndcg_at_10": quality,
            "ndcg_at_10_one_bit": quality,
            "recall_of_exact": 1.0,
            "recall_of_restored": 1.0,
            "recall_of_restored_one_bit": 1.0,
            "ms_a_query": exact_ms,
            "times_faster": 1.0,
        }
    recipe = replace(cast("PLAID", method), seed=seed, threads=1)
    tokens = TokenStore.pack(collection.docs)
    index = recipe.index(tokens)
    single = replace(recipe, nbits=1).index(tokens, centroids=index.store.centroids)
    found, ms = _timed(index, collection.queries)
    by_one, _ = _timed(single, collection.queries)
    two, one = _ndcg(found, collection), _ndcg(by_one, collection)
    kept = two >= quality - POINT and one >= quality - 3 * POINT
    return {
        "bytes_per_token": index.metrics["bytes_per_token"] if kept else plain,
        "bytes_in_all": index.nbytes / len(collection.docs.flat),
        "ndcg_at_10": two,
        "ndcg_at_10_one_bit": one,
        "recall_of_exact": _recall(found, exact),
        "recall_of_restored": _recall(found, _restored(index, collection.queries)),
        "recall_of_restored_one_bit": _recall(by_one, _restored(single, collection.queries)),
        "ms_a_query": ms,
        "times_faster": exact_ms / ms,
    }


@lru_cache(maxsize=2)
def _union(*, smoke: bool) -> Collection:
    """Return all collections as one, query tokens multiplied by their idf."""
    if smoke or not all(data.available(name) for name in NAMES):
        found = collections(smoke=smoke)[0]
    else:
        texts: list[list[str]] = []
        queries: list[list[str]] = []
        relevant: list[set[int]] = []
        for name in NAMES:
            part = data.retrieval(name)
            relevant += [{len(texts) + number for number in wanted} for wanted in part.relevant]
            texts += [data.words(text) for text in part.docs]
            queries += [data.words(query) for query in part.queries]
        found = embedded("union", texts, queries, relevant)
    weighted = found.queries.flat * found.query_weights[:, None]
    return replace(found, queries=Ragged(weighted, found.queries.offsets))


@lru_cache(maxsize=2)
def _exact(*, smoke: bool) -> tuple[Ids2d, float]:
    """Return the exact ten best of every query, and milliseconds a query."""
    collection = _union(smoke=smoke)
    index = MaxSim(threads=1)(collection.docs)
    index.search(collection.queries.take(np.arange(1)), 10)
    begin = time.process_time()
    ranked = index.search(collection.queries, 10)[0]
    return ranked, 1000 * (time.process_time() - begin) / len(ranked)


def _timed(index: PLAIDIndex, queries: Ragged) -> tuple[Ids2d, float]:
    index.search(queries.take(np.arange(1)), 10)
    begin = time.process_time()
    found = index.search(queries, 10)[0]
    return found, 1000 * (time.process_time() - begin) / len(found)


def _restored(index: PLAIDIndex, queries: Ragged) -> Ids2d:
    """Return the ten best of every query among all documents, scored by their restored rows."""
    rows = index.store.rows(0, int(index.store.offsets[-1]))
    return MaxSim()(Ragged(rows, index.store.offsets)).search(queries, 10)[0]


def _ndcg(ranked: Ids2d, collection: Collection) -> float:
    return float(ndcg_at(ranked, collection.relevant, 10).mean())


def _recall(found: Ids2d, truth: Ids2d) -> float:
    """Return the mean share of ``truth`` (Q, 10) that is in ``found``."""
    shared = [len(np.intersect1d(a, b)) for a, b in zip(found, truth, strict=True)]
    return float(np.mean(shared)) / int(truth.shape[1])
