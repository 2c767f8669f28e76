"""Search in two stages, and by bits alone, beside exact search and the peers, end to end.

First centroids with residuals of few bits beside fast-plaid, then encodings with an exact re-rank
of 100 candidates (the default) or 300 beside PyLate with its own index and defaults. Every side
runs on one thread. The peers live in environments of their own (``.peers/fastplaid``,
``.peers/pylate``), since each pins another fast-plaid; they search the same token vectors. The note
tells of both sides how much of the exact ten best they find, their bytes on disk, and the megabytes
that their process holds more than before it opened its index.
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import json  # noqa: E402
import tempfile  # noqa: E402
from collections.abc import Callable  # noqa: E402
from dataclasses import dataclass, replace  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402

from harness import ChildPeer, Result, main, pair  # noqa: E402
from tokenspace import data  # noqa: E402
from tokenspace.arrays import Ragged  # noqa: E402
from tokenspace.claims._token_vectors import collections  # noqa: E402
from tokenspace.data import topic_docs  # noqa: E402
from tokenspace.retrieve.hamming import nearest  # noqa: E402
from tokenspace.retrieve.maxsim import MaxSim, MaxSimIndex  # noqa: E402
from tokenspace.retrieve.muvera import MUVERA, MUVERAIndex  # noqa: E402
from tokenspace.retrieve.plaid import PLAID, PLAIDIndex  # noqa: E402

OPENED = """
import json, os
import numpy as np, torch

torch.set_num_threads(1)
held = np.load(data)

def cut(rows, ends):
    return [torch.from_numpy(held[rows][a:b].copy())
            for a, b in zip(held[ends][:-1], held[ends][1:])]

def resident():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))

def done(result):
    pass
"""
FAST_PLAID = """
from fast_plaid import search

queries = torch.nn.utils.rnn.pad_sequence(cut("asked", "starts"), batch_first=True)
if not os.path.exists(folder):
    docs = cut("docs", "ends")
    search.FastPlaid(index=folder, device="cpu").create(documents_embeddings=docs, nbits=2)
    del docs
before = resident()
index = search.FastPlaid(index=folder, device="cpu")

def work():
    return index.search(queries, top_k=10, show_progress=False, n_processes=1, **setting)

found = [[int(i) for i, _ in row] for row in work()]
"""
PYLATE = """
from pylate import indexes, retrieve

queries = cut("asked", "starts")
settings = dict(index_folder=folder, device="cpu", num_threads=1, show_progress=False)
if not os.path.exists(folder):
    child = os.fork()  # what building leaves in memory is not of the search
    if not child:
        docs = cut("docs", "ends")
        ids = [str(i) for i in range(len(docs))]
        indexes.PLAID(**settings).add_documents(ids, docs)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
before = resident()
retriever = retrieve.ColBERT(index=indexes.PLAID(**settings))

def work():
    return retriever.retrieve(queries, k=10, device="cpu")

found = [[int(hit["id"]) for hit in row] for row in work()]
"""
ANSWER = """
size = sum(os.path.getsize(os.path.join(at, f)) for at, _, files in os.walk(folder) for f in files)
with open(answer, "w") as file:
    json.dump({"found": found, "resident": resident() - before, "bytes": size}, file)
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


@dataclass(frozen=True)
class Case:
    """Documents and queries, the exact ten, and the files that the peers read and write."""

    name: str
    docs: Ragged
    queries: Ragged
    index: MaxSimIndex
    exact: np.ndarray
    folder: Path

    @classmethod
    def of(cls, quick: bool, folder: Path) -> Case:
        """Return the real documents, or made-up ones, and write them for the peers."""
        name, docs, queries = collection(quick)
        index = MaxSim(threads=1)(docs)
        arrays = {"docs": docs.flat, "ends": docs.offsets}
        np.savez(folder / "docs.npz", **arrays, asked=queries.flat, starts=queries.offsets)
        return cls(name, docs, queries, index, index.search(queries, 10)[0], folder)

    def rows(
        self,
        label: str,
        opened: Callable[[], Any],
        peer: str,
        peer_name: str,
        script: str,
        setting: dict[str, object],
        goals: tuple[float | None, float | None],
    ) -> list[Result]:
        """Measure an index that ``opened`` opens, beside exact search and beside a peer."""
        before = resident()
        ours = opened()

        def mine() -> object:
            return ours.search(self.queries, 10)

        found = ours.search(self.queries, 10)[0].tolist()
        note = f"ours {share(found, self.exact):.3f} of the exact 10, {ours.nbytes / 1e6:.1f} MB, "
        note += f"{resident() - before:.0f} MB resident"
        work = f"search of {self.name}, {len(self.docs):,} documents, {label}"
        common = {"amount": len(self.queries), "unit": "searches/CPU s"}
        first = pair(
            work,
            mine,
            lambda: self.index.search(self.queries, 10),
            peer_name="exact MaxSim, float32",
            goal=goals[0],
            note=f"{note}; exact: {self.docs.flat.nbytes / 1e6:.0f} MB",
            **common,
        )
        files = {"data": "docs.npz", "answer": "answer.json", "folder": f"of {peer}"}
        values = {key: str(self.folder / file) for key, file in files.items()}
        whole = OPENED + script + ANSWER
        with ChildPeer(peer, whole, {**values, "setting": setting}) as child:
            if not child.note:
                theirs = json.loads((self.folder / "answer.json").read_text())
                note += (
                    f"; theirs {share(theirs['found'], self.exact):.3f}, "
                    f"{theirs['bytes'] / 1e6:.1f} MB, {theirs['resident']:.0f} MB resident"
                )
            second = pair(
                work,
                mine,
                child.run,
                peer_name=peer_name,
                goal=goals[1],
                note=child.note or note,
                **common,
            )
        return [first, second]


def centroids(case: Case) -> list[Result]:
    PLAID(threads=1)(case.docs).save(case.folder / "plaid")
    rows = []
    for label, knobs, setting in (
        ("defaults of both", {}, {}),
        ("8 probes on both sides", {"probes": 8, "candidates": 1024}, {}),
        ("4 probes, 1,024 scored", {"probes": 4, "candidates": 1024}, {"n_ivf_probe": 4}),
    ):

        def opened(knobs: dict[str, int] = knobs) -> PLAIDIndex:
            ours = PLAIDIndex.load(case.folder / "plaid")
            ours.recipe = replace(ours.recipe, **knobs)
            return ours

        rows += case.rows(
            f"2 bits: {label}",
            opened,
            "fastplaid",
            "fast-plaid 1.7.0",
            FAST_PLAID,
            setting,
            (5.0, 2.0),
        )
    return rows


def encodings(case: Case) -> list[Result]:
    rows = []
    for label, recipe in (
        ("FDE, 100 scored exactly", MUVERA(threads=1)),
        ("FDE, 300 scored exactly", MUVERA(candidates=300, threads=1)),
        ("i8: FDE, 100 scored", MUVERA(fde_codec="i8", codec="i8", threads=1)),
        ("i8: FDE, 300 scored", MUVERA(fde_codec="i8", codec="i8", candidates=300, threads=1)),
    ):
        recipe(case.docs).save(case.folder / label)

        def opened(label: str = label) -> MUVERAIndex:
            return MUVERAIndex.load(case.folder / label)

        rows += case.rows(
            label, opened, "pylate", "PyLate 1.6.0, retrieve.ColBERT", PYLATE, {}, (None, 2.0)
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
        case = Case.of(quick, Path(folder))
        return [*centroids(case), *encodings(case), bits(quick)]


if __name__ == "__main__":
    main("retrieve_codes", rows, __doc__)
