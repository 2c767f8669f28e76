"""Edits against WEFE: the permutation test of WEAT, hard debiasing, and how far apart figures are.

WEFE lives in ``.peers/wefe`` (``make peers``) and runs as a process of its own, which times itself.
The work of a test is counted in partitions of the targets: WEFE draws words with replacement, so
that its p-values are others, and scores and effect sizes must agree. In debiasing both compute the
direction, neutralise every word that is in no list, and equalise the pairs, on a copy.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import comb
from pathlib import Path

import numpy as np

from harness import ChildPeer, Result, compare, main, measure
from tokenspace.edit.association import ect, mac, rnd, weat
from tokenspace.edit.hard_debias import HardDebias
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary
from tokenspace.word_sets import WordSets

WEFE = "WEFE"
ITERATIONS = 1_000  # its time is in proportion; its default is ten times as many

TESTING = """
import json, numpy as np
from gensim.models import KeyedVectors
from wefe.metrics import ECT, MAC, RND, WEAT
from wefe.query import Query
from wefe.word_embedding_model import WordEmbeddingModel

vectors = np.load(rows)
words = [f"w{i}" for i in range(len(vectors))]
keyed = KeyedVectors(vectors.shape[1])
keyed.add_vectors(words, vectors)
model = WordEmbeddingModel(keyed, "made")
ends = np.cumsum([0, *sizes])
sets = [words[a:b] for a, b in zip(ends[:-1], ends[1:])]
query = Query(sets[:2], sets[2:])

def work():
    return WEAT().run_query(
        query, model, calculate_p_value=True, p_value_iterations=iterations
    )

def done(result):
    found = {key: float(result[key]) for key in ("weat", "effect_size", "p_value")}
    found["mac"] = float(MAC().run_query(query, model)["result"])
    found["ect"] = float(ECT().run_query(Query(sets[:2], [sets[2] + sets[3]]), model)["result"])
    found["rnd"] = float(RND().run_query(Query(sets[:2], sets[2:3]), model)["result"])
    with open(out, "w") as file:
        json.dump(found, file)
"""


DEBIASING = """
import contextlib, io, numpy as np
from gensim.models import KeyedVectors
from wefe.debias.hard_debias import HardDebias
from wefe.word_embedding_model import WordEmbeddingModel

vectors = np.load(rows)
words = [f"w{i}" for i in range(len(vectors))]
keyed = KeyedVectors(vectors.shape[1])
keyed.add_vectors(words, vectors)
model = WordEmbeddingModel(keyed, "made")
pairs = [words[i:i + 2] for i in range(0, 2 * equal, 2)]

def work():
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        method = HardDebias().fit(model, pairs[:definitional], pairs)
        return method.transform(model, ignore=words[:2 * equal])

def done(result):
    np.save(out, np.stack([result[word] for word in words]))
"""


def testing(quick: bool) -> list[Result]:
    """Return a line for each number of targets."""
    results = []
    repeats = 1 if quick else 3
    for targets in (4, 8) if quick else (4, 8, 25):
        sizes = [targets, targets, 8, 8]
        draw = np.random.default_rng(targets)
        vectors = draw.standard_normal((sum(sizes), 100)).astype(np.float32)
        X, Y, A, B = np.split(vectors, np.cumsum(sizes)[:-1])
        count = comb(2 * targets, targets)
        ours = weat(X, Y, A, B)
        with tempfile.TemporaryDirectory() as folder:
            file, out = Path(folder) / "rows.npy", Path(folder) / "found.json"
            np.save(file, vectors)
            values = {"rows": str(file), "out": str(out), "sizes": sizes}
            with ChildPeer("wefe", TESTING, {**values, "iterations": ITERATIONS}) as peer:
                mine = [measure(_test(X, Y, A, B)) for _ in range(repeats + 1)][1:]
                theirs = [peer.run() for _ in range(repeats)] if peer.run else []
                note = peer.note
            if theirs:
                found = json.loads(out.read_text())
                gaps = {
                    "weat": ours.score - found["weat"],
                    "effect": ours.effect - found["effect_size"],
                    "mac": mac(np.concatenate([X, Y]), [A, B]) - found["mac"],
                    "ect": ect(X, Y, np.concatenate([A, B])) - found["ect"],
                    "rnd": rnd(X, Y, A) - found["rnd"],
                }
                apart = ", ".join(f"{name} {gap:.1e}" for name, gap in gaps.items())
                note = f"p {ours.p_value:.4f} / {found['p_value']:.4f}; apart: {apart}"
        line = compare(
            f"p-value, {2 * targets} targets ({'all' if ours.exact else 'drawn of'} {count:,})",
            mine,
            [],
            peer_name=f"{WEFE}, {ITERATIONS:,} draws",
            amount=ours.partitions,
            unit="partitions/CPU-s",
            goal=100.0,
            note=note,
        )
        if theirs:
            other = compare("", theirs, [], peer_name="", amount=ITERATIONS, unit="", goal=None)
            line = _beside(line, other)
        results.append(line)
    return results


def _test(*sets: np.ndarray) -> Callable[[], object]:
    return lambda: weat(*sets)


def _beside(ours: Result, peer: Result) -> Result:
    assert ours.ours and peer.ours
    return replace(
        ours, peer=peer.ours, ratio=ours.ours / peer.ours, peak_mb_peer=peer.peak_mb_ours
    )


def debiasing(quick: bool) -> list[Result]:
    """Return a line for each size of the table."""
    results = []
    for size, width in ((20_000, 100),) if quick else ((20_000, 100), (100_000, 300)):
        definitional, equal = 10, 30
        draw = np.random.default_rng(size)
        vectors = draw.standard_normal((size, width)).astype(np.float32)
        vectors[: 2 * equal : 2, 0] += 4  # the first words of the pairs lie to one side
        words = [f"w{i}" for i in range(size)]
        table = EmbeddingTable(Vocabulary.words(words), vectors)
        pairs = [words[i : i + 2] for i in range(0, 2 * equal, 2)]
        lists = {"definitional": WordSets(pairs[:definitional]), "equalize": WordSets(pairs)}
        made = HardDebias(unit=True)(table, **lists).vectors
        with tempfile.TemporaryDirectory() as folder:
            file, out = Path(folder) / "rows.npy", Path(folder) / "out.npy"
            np.save(file, vectors)
            values = {"rows": str(file), "out": str(out)}
            values |= {"definitional": definitional, "equal": equal}
            with ChildPeer("wefe", DEBIASING, values) as peer:
                times = range(1 if quick else 3)
                mine = [measure(_work(table, lists)) for _ in times]
                theirs = [peer.run() for _ in times] if peer.run else []
                note = peer.note
            if theirs:
                gap = float(np.abs(made - np.load(out)).max())
                note = f"largest difference of a number: {gap:.1e}"
        results.append(
            compare(
                f"hard debiasing, {size:,} x {width}",
                mine,
                theirs,
                peer_name=WEFE,
                amount=size,
                unit="words/CPU-s",
                goal=1.0,
                note=note,
            )
        )
    return results


def _work(table: EmbeddingTable, lists: Mapping[str, WordSets]) -> Callable[[], object]:
    return lambda: HardDebias()(table, **lists)


if __name__ == "__main__":
    main("edit", lambda quick: testing(quick) + debiasing(quick), __doc__)
