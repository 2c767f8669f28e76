"""Search by token vectors, beside the peers: encodings, exact scores, ours and theirs in turn.

Every side runs on one thread, so that seconds of the processor compare. fastembed's encoder loops
over tokens in Python and is given fewer documents; both sides are rates.
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

from dataclasses import replace  # noqa: E402

import faiss  # noqa: E402
import numpy as np  # noqa: E402

from harness import Result, main, pair  # noqa: E402
from tokenspace.arrays import Ragged  # noqa: E402
from tokenspace.data import topic_docs  # noqa: E402
from tokenspace.retrieve.fde import FDE  # noqa: E402
from tokenspace.retrieve.maxsim import MaxSim  # noqa: E402
from tokenspace.retrieve.muvera import MUVERA, carve  # noqa: E402

TOKENS, WIDTH, ASKED = 128, 128, 32


def unit(seed: int, count: int, tokens: int) -> np.ndarray:
    """Return random unit rows, (count, tokens, WIDTH) float32."""
    rows = np.random.default_rng(seed).standard_normal((count, tokens, WIDTH), np.float32)
    return rows / np.linalg.norm(rows, axis=2, keepdims=True)


def ragged(padded: np.ndarray) -> Ragged:
    count, tokens, width = padded.shape
    return Ragged(padded.reshape(-1, width), np.arange(count + 1) * tokens)


def encodings(quick: bool) -> list[Result]:
    try:
        from fastembed.postprocess import Muvera

        peer = Muvera(dim=WIDTH, k_sim=5, dim_proj=16, r_reps=20)
    except ImportError:
        peer = None
    docs, queries = unit(0, 200 if quick else 2000, TOKENS), unit(1, 200 if quick else 1000, ASKED)
    encoder = FDE(WIDTH, MUVERA(threads=1), fill=True)
    wide = MUVERA(repetitions=40, k_sim=6, d_proj=0, d_final=10_240, threads=1)
    streamed = FDE(WIDTH, wide, fill=True)
    rows = []
    for kind, items, part, goal in (("documents", docs, 0.1, 10.0), ("queries", queries, 0.2, 5.0)):
        share = max(20, int(len(items) * part))
        ours, packed = getattr(encoder, kind), ragged(items)
        theirs = None
        if peer is not None:
            one = peer.process_document if kind == "documents" else peer.process_query

            def theirs(one=one, items=items, share=share) -> None:
                for _ in range(len(items) // share):  # the same amount of work, fewer items
                    for item in items[:share]:
                        one(item)

        rows.append(
            pair(
                f"FDE of {len(items):,} {kind} x {items.shape[1]} tokens, 10,240 numbers, filled",
                lambda ours=ours, packed=packed: ours(packed),
                theirs,
                peer_name="fastembed Muvera",
                amount=len(items),
                unit=f"{kind}/CPU s",
                goal=goal,
                repeats=1 if not quick else 3,
            )
        )
    few = ragged(docs[:200])
    rows.append(
        pair(
            "FDE of 200 documents x 128 tokens, 327,680 numbers narrowed to 10,240, filled",
            lambda: streamed.documents(few),
            lambda: encoder.documents(few),
            peer_name="ours without d_final, 10,240 numbers",
            amount=len(few),
            unit="documents/CPU s",
            goal=None,
        )
    )
    return rows


def exact(quick: bool) -> list[Result]:
    docs, query = unit(2, 2000 if quick else 10_000, TOKENS), unit(3, 1, ASKED)
    batch = unit(4, 16, ASKED)
    try:
        import torch

        torch.set_num_threads(1)
        padded = torch.from_numpy(docs)
    except ImportError:
        padded = None
    indexes = {
        codec: MaxSim(codec=codec, threads=1)(ragged(docs)) for codec in ("f32", "f16", "i8")
    }
    rows = []
    for name, asked, codec, goal in (
        ("one query", query, "f32", 1.0),
        ("one query", query, "f16", None),
        ("one query", query, "i8", 1.5),
        ("16 queries", batch, "f32", None),
        ("16 queries", batch, "i8", None),
    ):
        index, packed = indexes[codec], ragged(asked)
        theirs = None
        if padded is not None:
            other = torch.from_numpy(asked.reshape(-1, WIDTH))
            shape = (len(docs), len(asked), ASKED)

            def theirs(other=other, shape=shape) -> object:
                return (padded @ other.T).amax(1).reshape(shape).sum(2)

        rows.append(
            pair(
                f"MaxSim of {name} x 32 tokens, {len(docs):,} documents, {codec}",
                lambda index=index, packed=packed: index.score(packed),
                theirs,
                peer_name="torch float32 GEMM",
                amount=len(docs) * len(asked),
                unit="documents/CPU s",
                goal=goal,
                repeats=5,
            )
        )
    return rows


def local_database(quick: bool) -> list[Result]:
    docs, query = unit(5, 200 if quick else 1000, TOKENS), unit(6, 1, ASKED)
    packed = ragged(query)
    theirs = None
    try:
        from qdrant_client import QdrantClient, models
    except ImportError:
        pass
    else:
        client = QdrantClient(":memory:")
        comparator = models.MultiVectorComparator.MAX_SIM
        client.create_collection(
            "docs",
            vectors_config=models.VectorParams(
                size=WIDTH,
                distance=models.Distance.COSINE,
                multivector_config=models.MultiVectorConfig(comparator=comparator),
            ),
        )
        for start in range(0, len(docs), 100):
            points = [
                models.PointStruct(id=start + i, vector=rows.tolist())
                for i, rows in enumerate(docs[start : start + 100])
            ]
            client.upsert("docs", points)

        def theirs() -> object:
            return client.query_points("docs", query=query[0].tolist(), limit=10)

    rows = []
    work = 2e-9 * docs.size * ASKED
    several = ragged(unit(7, 100, ASKED))
    exact = MaxSim(threads=1)(ragged(docs)).search(several, 10)[0]
    for codec, goal in (("f32", 40.0), ("f16", None), ("i8", 40.0)):
        index = MaxSim(codec=codec, threads=1)(ragged(docs))
        shared = recall(index.search(several, 10)[0], exact)

        def ours(index=index) -> None:  # twenty searches: one is too short for the clock
            for _ in range(20):
                index.search(packed, 10)

        rows.append(
            pair(
                f"search of {len(docs):,} documents, 32 query tokens, {codec}",
                ours,
                theirs and (lambda: scaled(theirs, 20)),
                peer_name="qdrant-client :memory:",
                amount=20.0,
                unit="searches/CPU s",
                goal=goal,
                note=f"{work:.2f} GFLOP a search; {shared:.3f} of the exact top 10 (100 queries)",
            )
        )
    return rows


def stages(quick: bool) -> list[Result]:
    """Compare the stages of MUVERA with themselves: codes with floats, carved with plain."""
    count = 600 if quick else 3000
    docs, _, _ = topic_docs(count, 60, 40, WIDTH, seed=7)
    # as in the paper, 32 query tokens in about six bunches
    queries = bunches(20 if quick else 50, 6, docs)
    recipe = MUVERA(repetitions=20, k_sim=4, d_proj=8, candidates=min(1000, count), threads=1)
    rows = []
    exact = replace(recipe, fde_codec="f32")(docs)
    copies = exact.engine.reconstruct_n(0, count)
    for codec in ("f16", "i8", "pq8"):
        index = replace(recipe, fde_codec=codec)(docs)
        shared = recall(index.find(queries, 100), exact.find(queries, 100))
        sides = []
        for engine in (index.engine, faiss.clone_index(exact.engine)):
            for _ in range(7):  # as many as need no cache
                engine.add(copies)
            sides.append(engine)
        encoded = exact.encoder.queries(queries)

        def scan(engine, encoded=encoded) -> None:
            for vector in encoded:
                engine.search(vector[None], 100)

        rows.append(
            pair(
                f"first stage over {8 * count:,} encodings of 2,560 numbers, {codec}",
                lambda engine=sides[0], scan=scan: scan(engine),
                lambda engine=sides[1], scan=scan: scan(engine),
                peer_name="faiss flat float32",
                amount=len(encoded),
                unit="queries/CPU s",
                goal=None,
                note=f"{index.engine.code_size} of 10,240 bytes; {shared:.3f} of its top 100",
            )
        )
    plain, carved = exact.search(queries, 10)[0], exact.search(queries, 10, tau=0.7)[0]
    left = carve(queries, 0.7).heights.mean()
    rows.append(
        pair(
            f"exact scores of {recipe.candidates:,} candidates, 32 query tokens, carved",
            lambda: exact.search(queries, 10, tau=0.7),
            lambda: exact.search(queries, 10),
            peer_name="the same, not carved",
            amount=len(queries),
            unit="queries/CPU s",
            goal=None,
            note=f"{left:.1f} vectors are left; {recall(carved, plain):.3f} of its top 10",
        )
    )
    return rows


def bunches(count: int, groups: int, docs: Ragged) -> Ragged:
    """Return queries of 32 unit rows around ``groups`` rows of a document each."""
    draw = np.random.default_rng(8)
    queries = []
    for number in range(count):
        rows = docs[number]
        own = rows[draw.integers(len(rows), size=groups)]
        tokens = own[np.arange(ASKED) % groups]
        tokens = tokens + 0.5 / WIDTH**0.5 * draw.standard_normal(tokens.shape)
        queries.append(tokens / np.linalg.norm(tokens, axis=1, keepdims=True))
    return Ragged.pack(queries)


def recall(found: np.ndarray, wanted: np.ndarray) -> float:
    shared = [len(np.intersect1d(a, b)) for a, b in zip(found, wanted, strict=True)]
    return float(np.mean(shared)) / wanted.shape[1]


def scaled(side, times: int):
    """Run a slow side once and count it ``times`` times."""
    from harness import Cost, measure

    cost = measure(side)
    return Cost(cost.wall * times, cost.cpu * times, cost.peak_mb)


def rows(quick: bool) -> list[Result]:
    return [*encodings(quick), *exact(quick), *local_database(quick), *stages(quick)]


if __name__ == "__main__":
    main("retrieve", rows, __doc__)
