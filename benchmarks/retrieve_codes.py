"""Search by codes of few bits: centroids and residuals, and bits alone, beside exact and peers.

Every side runs on one thread. fast-plaid lives in an environment of its own (``.peers/pylate``),
since it pins another torch; it searches the same documents with the same number of bits, and both
sides tell in the note how much of the exact ten best they find, and the megabytes that their
process holds more than before it opened its index.
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import json  # noqa: E402
import tempfile  # noqa: E402
from dataclasses import replace  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402

from harness import ChildPeer, Result, main, pair  # noqa: E402
from tokenspace import data  # noqa: E402
from tokenspace.arrays import Ragged  # noqa: E402
from tokenspace.claims._token_vectors import collections  # noqa: E402
from tokenspace.data import topic_docs  # noqa: E402
from tokenspace.retrieve.hamming import nearest  # noqa: E402
from tokenspace.retrieve.maxsim import MaxSim  # noqa: E402
from tokenspace.retrieve.plaid import PLAID, PLAIDIndex  # noqa: E402

FAST_PLAID = """
import json, os, sys
import numpy as np, torch
from fast_plaid import search

torch.set_num_threads(1)
held = np.load(data)
docs = [torch.from_numpy(held["docs"][a:b].copy())
        for a, b in zip(held["ends"][:-1], held["ends"][1:])]
asked = [torch.from_numpy(held["asked"][a:b].copy())
         for a, b in zip(held["starts"][:-1], held["starts"][1:])]
queries = torch.nn.utils.rnn.pad_sequence(asked, batch_first=True)
if not os.path.exists(folder):
    search.FastPlaid(index=folder, device="cpu").create(documents_embeddings=docs, nbits=2)
del docs

def resident():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))

before = resident()
index = search.FastPlaid(index=folder, device="cpu")

def work():
    return index.search(queries, top_k=10, show_progress=False, n_processes=1, **setting)

first = work()
size = sum(os.path.getsize(os.path.join(at, f)) for at, _, files in os.walk(folder) for f in files)
with open(answer, "w") as file:
    json.dump({"found": [[int(i) for i, _ in row] for row in first],
               "resident": resident() - before, "bytes": size}, file)

def done(result):
    pass
"""


def share(found: list[list[int]], exact: np.ndarray) -> float:
    """Return the mean share of the exact ten that was found."""
    return (
        float(np.mean([len(set(a) & set(b)) for a, b in zip(found, exact.tolist(), strict=True)]))
        / 10
    )


def resident() -> float:
    """Return the megabytes that this process holds."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def collection(quick: bool) -> tuple[str, Ragged, Ragged]:
    """Return scifact_long with the claims' token vectors, or made-up documents without it."""
    if quick or not data.available("scifact_long"):
        docs, queries, _ = topic_docs(500, 50, 60, 64, 0.5, n_queries=20, query_tokens=16)
        return "made-up documents", docs, queries
    found = collections(smoke=False)[-1]
    return found.name, found.docs, found.queries.take(np.arange(100))


def centroids(quick: bool, folder: Path) -> list[Result]:
    name, docs, queries = collection(quick)
    index = MaxSim(threads=1)(docs)
    exact = index.search(queries, 10)[0]
    PLAID(threads=1)(docs).save(folder / "plaid")
    values = {
        "data": str(folder / "docs.npz"),
        "answer": str(folder / "answer.json"),
        "folder": str(folder / "fast"),
    }
    arrays = {"docs": docs.flat, "ends": docs.offsets}
    np.savez(values["data"], **arrays, asked=queries.flat, starts=queries.offsets)
    rows = []
    for label, knobs, setting in (
        ("defaults of both", {}, {}),
        ("8 probes on both sides", {"probes": 8, "candidates": 1024}, {}),
        ("4 probes, 1,024 scored", {"probes": 4, "candidates": 1024}, {"n_ivf_probe": 4}),
    ):
        before = resident()
        ours = PLAIDIndex.load(folder / "plaid")
        ours.recipe = replace(ours.recipe, **knobs)
        found = ours.search(queries, 10)[0].tolist()
        note = f"ours {share(found, exact):.3f} of the exact 10, {ours.nbytes / 1e6:.1f} MB, "
        note += f"{resident() - before:.0f} MB resident"
        work = f"search of {name}, {len(docs):,} documents, 2 bits: {label}"
        common = {"amount": len(queries), "unit": "searches/CPU s"}

        def mine(ours: PLAIDIndex = ours) -> object:
            return ours.search(queries, 10)

        rows.append(
            pair(
                work,
                mine,
                lambda: index.search(queries, 10),
                peer_name="exact MaxSim, float32",
                goal=5.0,
                note=f"{note}; exact: {docs.flat.nbytes / 1e6:.0f} MB",
                **common,
            )
        )
        with ChildPeer("pylate", FAST_PLAID, {**values, "setting": setting}) as peer:
            if not peer.note:
                theirs = json.loads((folder / "answer.json").read_text())
                note += (
                    f"; theirs {share(theirs['found'], exact):.3f}, "
                    f"{theirs['bytes'] / 1e6:.1f} MB, {theirs['resident']:.0f} MB resident"
                )
            rows.append(
                pair(
                    work,
                    mine,
                    peer.run,
                    peer_name="fast-plaid 1.7.0",
                    goal=2.0,
                    note=peer.note or note,
                    **common,
                )
            )
    return rows


def bits(quick: bool) -> Result:
    count, asked = (100_000, 20) if quick else (1_000_000, 50)
    draw = np.random.default_rng(0)
    codes = draw.integers(0, 2**63, (count, 2)).astype(np.uint64)
    queries = draw.integers(0, 2**63, (asked, 2)).astype(np.uint64)
    import faiss

    peer = faiss.IndexBinaryFlat(128)
    peer.add(codes.view(np.uint8))

    def theirs() -> None:
        for query in queries.view(np.uint8):
            peer.search(query[None], 10)

    found = pair(
        f"ten nearest of {count:,} codes of 128 bits, one query at a time",
        lambda: nearest(codes, queries, 128, 10),
        theirs,
        peer_name="faiss IndexBinaryFlat",
        amount=asked,
        unit="searches/CPU s",
        goal=None,
        repeats=5,
        note=f"{codes.nbytes / 1e6:.0f} MB on both sides; goal: 40 searches/CPU s (25 ms)",
    )
    return found


def rows(quick: bool) -> list[Result]:
    with tempfile.TemporaryDirectory() as folder:
        return [*centroids(quick, Path(folder)), bits(quick)]


if __name__ == "__main__":
    main("retrieve_codes", rows, __doc__)
