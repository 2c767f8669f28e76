"""Pooling token vectors against scikit-learn's k-means and sentence-transformers' Ward pooling.

Both sides get the same documents of 60 to 140 unit vectors, one thread each. The last rows search
the same documents with all tokens and pooled, 32 tokens a query: what the memory buys in time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from harness import Result, main, pair
from tokenspace.arrays import Ragged
from tokenspace.report import readable_bytes
from tokenspace.retrieve.maxsim import MaxSim
from tokenspace.retrieve.pooling import pool
from tokenspace.rng import stream

WIDTH = 128
TOPICS = 64


def collection(documents: int) -> Ragged:
    """Return documents of a few topics each, so that there is something to cluster."""
    draw = stream(0, "documents")
    topics = draw.standard_normal((TOPICS, WIDTH))
    heights = draw.integers(60, 141, documents)
    made = []
    for height in heights.tolist():
        own = topics[draw.integers(TOPICS, size=6)][draw.integers(6, size=height)]
        rows = own + draw.standard_normal((height, WIDTH))
        made.append(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    return Ragged.pack(made)


def rows(quick: bool) -> list[Result]:
    """Measure on one thread: idle threads that wait for work would count as CPU seconds."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        return [*clusterings(quick), *searches(5_000 if quick else 20_000)]


def clusterings(quick: bool) -> list[Result]:
    """Measure clustering by k-means and by Ward."""
    import torch
    from sentence_transformers.multi_vector_encoder.modules import token_pooling
    from sklearn.cluster import KMeans

    torch.set_num_threads(1)
    docs = collection(100 if quick else 500)
    tensors = [torch.from_numpy(matrix.copy()) for matrix in docs]
    results = []
    for share in (8, 32):
        model = KMeans(share, n_init=1, max_iter=20, tol=0.0, random_state=0)
        results.append(
            pair(
                f"k-means, {share} clusters a document",
                partial(pool, docs, f"kmeans:{share}", side="document", threads=1),
                partial(_each, model.fit, list(docs)),
                peer_name="scikit-learn KMeans",
                amount=len(docs),
                unit="documents/CPU s",
                goal=1.0,
            )
        )
    for factor in (2, 4):
        peer = token_pooling.HierarchicalTokenPooling(factor)
        results.append(
            pair(
                f"Ward, a {factor}th of the tokens" if factor > 2 else "Ward, half of the tokens",
                partial(pool, docs, f"ward:{factor}", side="document", threads=1),
                partial(_each, peer.pool_one, tensors),
                peer_name="sentence-transformers HierarchicalTokenPooling",
                amount=len(docs),
                unit="documents/CPU s",
                goal=1.0,
            )
        )
    return results


def _each(work: Callable[[Any], object], items: Sequence[Any]) -> None:
    for item in items:
        work(item)


def searches(documents: int) -> list[Result]:
    """Measure exact search of pooled documents beside that of all their tokens."""
    docs = collection(documents)
    queries = Ragged.pack([docs[i][:32] for i in range(0, documents, documents // 20)])
    every = MaxSim(threads=1)(docs)
    results = []
    for how in ("kmeans:32", "kmeans:8"):
        index = MaxSim(threads=1)(pool(docs, how, side="document"))
        sizes = f"{readable_bytes(index.nbytes)} instead of {readable_bytes(every.nbytes)}"
        results.append(
            pair(
                f"exact search, {documents:,} documents, {how}",
                partial(index.search, queries, 10),
                partial(every.search, queries, 10),
                peer_name="the same without pooling",
                amount=len(queries),
                unit="queries/CPU s",
                goal=None,
                note=sizes,
            )
        )
    return results


if __name__ == "__main__":
    main("pooling", rows, __doc__)
