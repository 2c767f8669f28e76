"""Orthogonal matching pursuit against mergekit's; WECHSEL's and FOCUS's sums against theirs.

mergekit pins other versions of its libraries, so it lives in ``.peers/mergekit`` (``make peers``)
and runs as a process of its own, which times itself: neither its start nor the files count. Both
get all targets in one call, as mergekit's command does by default, and both use every core. The
packages wechsel and deepfocus live and run likewise; what is timed is the step from the tokens'
vectors to their rows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from harness import ChildPeer, Result, alternate, compare, main
from tokenspace.transplant._neighbours import mixtures, unit
from tokenspace.transplant.focus import sparse_sums
from tokenspace.transplant.omp import pursue

PEER = """
import numpy, torch
from mergekit.tokensurgeon.omp import batch_omp

targets, anchors = (torch.from_numpy(numpy.load(f"{folder}/{name}.npy"))
                    for name in ("targets", "anchors"))

def work():
    return batch_omp(targets, anchors, k)

def done(result):
    numpy.save(f"{folder}/supports.npy", result[0].numpy())
"""


WECHSEL = """
import numpy, wechsel

given = numpy.load(f"{folder}/sides.npz")
new, old = (given[name].astype(float) for name in ("new", "old"))  # as the package makes them

class Tokens:
    '''What the package asks of a tokenizer, answered from lists.'''
    special_tokens_map = {}

    def __init__(self, count):
        self.tokens = [f"token {i}" for i in range(count)]
        self.vocab = {token: i for i, token in enumerate(self.tokens)}

    def __len__(self):
        return len(self.tokens)

    def convert_ids_to_tokens(self, ids):
        ids = numpy.asarray(ids)
        return [self.tokens[i] for i in ids] if ids.ndim else self.tokens[ids]

sides = Tokens(len(old)), Tokens(len(new))

def work():
    return wechsel.create_target_embeddings(old, new, *sides, given["rows"], verbose=False)[0]

def done(result):
    numpy.save(f"{folder}/result.npy", result)
"""

FOCUS = """
import os

os.environ["TQDM_DISABLE"] = "1"

import numpy, torch
from deepfocus.focus import focus_additional_token_initialization
from deepfocus.vocab_helper import NewToken, OverlappingToken, TokenClass

given = numpy.load(f"{folder}/sides.npz")
rows = torch.from_numpy(given["rows"])
token = [TokenClass("", i, "", "", "", "", False) for i in range(len(rows))]
new = {i: NewToken(token[i], vector) for i, vector in enumerate(given["new"])}
old = {i: OverlappingToken([token[i]], token[i], rows[i], vector)
       for i, vector in enumerate(given["old"])}

def work():
    out = torch.zeros((len(new), rows.shape[1]))
    return focus_additional_token_initialization(old, new, out, device="cpu")

def done(result):
    numpy.save(f"{folder}/result.npy", result.numpy())
"""


def combination(
    method: str,
    package: str,
    script: str,
    ours: Callable[..., np.ndarray],
    *,
    goal: float,
    less: float,
    quick: bool,
    repeats: int = 3,
) -> list[Result]:
    """Race how new rows are made of old ones, from vectors of both on: rate, and memory."""
    m, n, width, d = (500 if quick else 5000), 30_000, 300, 768
    draw = np.random.default_rng(0)
    new, old, rows = (
        draw.standard_normal(shape).astype(np.float32) for shape in ((m, width), (n, width), (n, d))
    )
    found: list[np.ndarray] = []

    def run() -> None:
        found[:] = [ours(new, old, rows)]

    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "sides.npz", new=new, old=old, rows=rows)
        with ChildPeer(package, script, {"folder": folder}) as peer:
            mine, theirs = alternate(run, peer.run, repeats)
            note = peer.note
        if theirs:
            off = np.abs(found[0] - np.load(Path(folder) / "result.npy")).max()
            note = f"largest difference {off:.0e}"
    work = f"{method} combination, {m} new tokens, {n} old, {width} and {d} dimensions"
    unit = "tokens per CPU second"
    rate = compare(work, mine, theirs, peer_name=package, amount=m, unit=unit, goal=goal, note=note)
    peaks = rate.peak_mb_ours, rate.peak_mb_peer
    if not peaks[0] or not peaks[1]:
        return [rate]
    memory = replace(
        rate,
        ours=peaks[0],
        peer=peaks[1],
        unit="peak megabytes beyond the inputs",
        ratio=peaks[1] / peaks[0],
        goal=less,
        note="ratio: how many times less",
    )
    return [rate, memory]


def by_wechsel(new: np.ndarray, old: np.ndarray, rows: np.ndarray) -> np.ndarray:
    means, ids, weights = mixtures(new, old, rows, 10, 0.1)
    ids.tolist(), weights.tolist()  # both sides keep what a row is made of
    return means


def by_focus(new: np.ndarray, old: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return sparse_sums(unit(new), unit(old), rows)[0]


def rows(quick: bool) -> Sequence[Result]:
    m, N, d, k = (300 if quick else 2000), 4000, 768, 64
    draw = np.random.default_rng(0)
    targets = draw.standard_normal((m, d)).astype(np.float32)
    anchors = draw.standard_normal((N, d)).astype(np.float32)
    work = f"OMP, {m} targets, {N} anchors, {d} dimensions, k={k}"
    supports: list[np.ndarray] = []  # of every run of ours

    def ours() -> None:
        supports.append(pursue(targets, anchors, k)[0])

    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "targets.npy", targets)
        np.save(Path(folder) / "anchors.npy", anchors)
        with ChildPeer("mergekit", PEER, {"folder": folder, "k": k}) as peer:
            mine, theirs = alternate(ours, peer.run)
            note = peer.note
        if theirs:
            chosen = np.load(Path(folder) / "supports.npy")
            equal = float((np.sort(supports[-1], 1) == np.sort(chosen, 1)).all(axis=1).mean())

    def rate(clock: str, unit: str, goal: float | None) -> Result:
        return compare(
            work,
            mine,
            theirs,
            peer_name="mergekit",
            amount=m,
            unit=unit,
            goal=goal,
            clock=clock,
            note=note,
        )

    results = [
        rate("cpu", "targets per CPU second", 12.0),
        rate("wall", "targets per second", None),
    ]
    first = results[0]
    if theirs:
        results.append(
            Result(
                work=work,
                ours=equal,
                peer=1.0,
                peer_name="mergekit",
                unit="share of equal supports",
                ratio=equal,
                goal=0.995,
                peak_mb_ours=None,
                peak_mb_peer=None,
            )
        )
        if first.peak_mb_ours and first.peak_mb_peer:
            results.append(
                Result(
                    work=work,
                    ours=first.peak_mb_ours,
                    peer=first.peak_mb_peer,
                    peer_name="mergekit",
                    unit="peak megabytes beyond the inputs",
                    ratio=first.peak_mb_peer / first.peak_mb_ours,
                    goal=1.0,
                    peak_mb_ours=first.peak_mb_ours,
                    peak_mb_peer=first.peak_mb_peer,
                    note="ratio: how many times less",
                )
            )
    return [
        *results,
        *combination("WECHSEL", "wechsel", WECHSEL, by_wechsel, goal=2.0, less=2.0, quick=quick),
        *combination(  # once: the peer takes minutes
            "FOCUS", "deepfocus", FOCUS, by_focus, goal=5.0, less=5.0, quick=quick, repeats=1
        ),
    ]


if __name__ == "__main__":
    main("transplant", rows, __doc__)
