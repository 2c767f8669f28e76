"""Orthogonal matching pursuit: ours against mergekit's, on the same arrays.

mergekit pins other versions of its libraries, so it lives in ``.peers/mergekit`` (``make peers``)
and runs as a process of its own, which times itself: neither its start nor the files count. Both
get all targets in one call, as mergekit's command does by default, and both use every core.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness import ChildPeer, Result, alternate, compare, main
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
    return results


if __name__ == "__main__":
    main("transplant", rows, __doc__)
