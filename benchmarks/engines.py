"""Our own index beside Lance and Qdrant's local mode, through the same calls, in turns.

Every side runs on one thread, so that seconds of the processor compare. A Qdrant server is
measured as well where TOKENSPACE_QDRANT_URL names one; its own seconds are not counted, so there
the clock is the wall's.
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import tempfile  # noqa: E402
import uuid  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from contextlib import ExitStack, contextmanager  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402

from harness import Result, main, pair  # noqa: E402
from tokenspace.arrays import Ragged  # noqa: E402
from tokenspace.data import topic_docs  # noqa: E402
from tokenspace.retrieve.engines import Engine, create_index  # noqa: E402
from tokenspace.retrieve.muvera import MUVERA  # noqa: E402

WIDTH, TOKENS, ASKED = 64, 96, 16
ENCODINGS = MUVERA(repetitions=20, k_sim=4, d_proj=8, fill="off", threads=1)
NAMES = {
    "lance": "LanceDB",
    "qdrant": "Qdrant local mode",
    "qdrant server": "Qdrant server",
}


@contextmanager
def made(name: str) -> Iterator[Engine]:
    """Make an empty index of an engine, which is gone at the end."""
    with tempfile.TemporaryDirectory() as folder:
        place = {
            "lance": f"lance:{folder}",
            "qdrant": "qdrant::memory:",
            "qdrant server": f"qdrant:{os.environ.get('TOKENSPACE_QDRANT_URL')}#{uuid.uuid4().hex}",
        }.get(name, name)
        path = Path(folder) / "index" if name.startswith("faiss") else None
        with create_index(place, path, width=WIDTH, muvera=ENCODINGS) as index:
            yield index


def adding(docs: Ragged, peer: str) -> Result:
    """Add all documents to an empty index, as one change."""

    def add(name: str) -> None:
        with made(name) as index:
            index.add(range(len(docs)), docs, [{"n": i} for i in range(len(docs))])

    return pair(
        f"add {len(docs):,} documents x {int(docs.heights.mean())} tokens",
        lambda: add("faiss:flat"),
        lambda: add(peer),
        peer_name=NAMES[peer],
        amount=len(docs),
        unit="documents/CPU s" if peer != "qdrant server" else "documents/s",
        goal=20.0 if peer == "qdrant" else None,
        clock="wall" if peer == "qdrant server" else "cpu",
    )


def searching(
    indexes: dict[str, Engine], kind: str, peer: str | None, queries: Ragged, candidates: int
) -> Result:
    """Ask every query, exactly or through encodings."""
    how = f"{candidates} candidates by encodings" if candidates else "all scored"

    def ask(name: str) -> None:
        for i in range(len(queries)):
            indexes[name].search(Ragged.pack([queries[i]]), 10, candidates=candidates)

    wall = peer == "qdrant server"
    exact = indexes[kind].search(queries, 10)
    found = indexes[kind].search(queries, 10, candidates=candidates)
    shared = [len({*a.ids} & {*b.ids}) / 10 for a, b in zip(exact, found, strict=True)]
    return pair(
        f"{kind}: search {len(indexes[kind]):,} documents, {ASKED} query tokens, {how}",
        lambda: ask(kind),
        (lambda: ask(peer)) if peer else None,
        peer_name=NAMES[peer] if peer else "",
        amount=len(queries),
        unit="searches/s" if wall else "searches/CPU s",
        goal=40.0 if peer == "qdrant" and not candidates else None,
        clock="wall" if wall else "cpu",
        note=f"recall of the exact 10: {np.mean(shared):.3f}",
    )


def rows(quick: bool) -> list[Result]:
    server = ["qdrant server"] if "TOKENSPACE_QDRANT_URL" in os.environ else []
    few, many = (300, 1000) if quick else (2000, 20_000)
    docs, queries, _ = topic_docs(
        many, max(20, many // 40), TOKENS, WIDTH, 0.8, n_queries=20, query_tokens=ASKED
    )
    part = docs.take(np.arange(few))
    results = [adding(part, peer) for peer in ("lance", "qdrant", *server)]
    with ExitStack() as stack:
        small = {
            name: stack.enter_context(made(name))
            for name in ("faiss:flat", "lance", "qdrant", *server)
        }
        for index in small.values():
            index.add(range(few), part)
        for peer in ("lance", "qdrant", *server):
            results.append(searching(small, "faiss:flat", peer, queries, 0))
    with ExitStack() as stack:
        large = {
            name: stack.enter_context(made(name))
            for name in ("faiss:flat", "faiss:hnsw", "lance", *server)
        }
        for index in large.values():
            for start in range(0, many, 5000):
                numbers = np.arange(start, min(start + 5000, many))
                index.add(numbers.tolist(), docs.take(numbers))
            index.compact()
        results.append(searching(large, "faiss:flat", None, queries, 0))
        for kind in ("faiss:flat", "faiss:hnsw"):
            for peer in ("lance", *server):
                results.append(searching(large, kind, peer, queries, 200))
    return results


if __name__ == "__main__":
    main("engines", rows, __doc__)
