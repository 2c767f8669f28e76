"""8-bit rows against faiss' ScalarQuantizer (SQ8): writing, reading, and what is kept.

SQ8 keeps the lowest and highest value of every dimension, 8 bits a value and nothing a row; int8
keeps a scale a row. Both run on one thread; rates are rows a CPU second.
"""

from __future__ import annotations

import faiss
import numpy as np

from harness import Result, main, pair
from tokenspace.compress import trial
from tokenspace.compress.int8 import Int8
from tokenspace.rng import stream

PEER = "faiss ScalarQuantizer QT_8bit"
K = 10


def rows(quick: bool) -> list[Result]:
    """Measure speed on large random tables and recall on the family's trial table."""
    faiss.omp_set_num_threads(1)  # idle threads that wait for work would count as CPU seconds
    size, width = (50_000, 128) if quick else (400_000, 128)
    draw = stream(0, "bench")
    vectors = draw.standard_normal((size, width), np.float32)
    ids = draw.permutation(size)
    table = Int8()(vectors)
    sq8 = faiss.ScalarQuantizer(width, faiss.ScalarQuantizer.QT_8bit)
    sq8.train(vectors)
    codes = sq8.compute_codes(vectors)

    def write() -> object:
        fresh = faiss.ScalarQuantizer(width, faiss.ScalarQuantizer.QT_8bit)
        fresh.train(vectors)
        return fresh.compute_codes(vectors)

    shape = f"{size:,} x {width}"
    common = {"peer_name": PEER, "amount": size, "unit": "rows/CPU s", "goal": 1.0, "repeats": 5}
    return [
        pair(
            f"write {shape} (ours: with the error measured)",
            lambda: Int8()(vectors),
            write,
            note=f"{table.nbytes / size:.0f} and {codes.nbytes / size:.0f} bytes a row",
            **common,
        ),
        pair(
            f"read all rows of {shape}, shuffled",
            lambda: table.rows(ids),
            lambda: sq8.decode(codes[ids]),
            **common,
        ),
        pair(
            f"read 1,000 rows of {shape}",
            lambda: [table.rows(ids[i : i + 1_000]) for i in range(0, 50_000, 1_000)],
            lambda: [sq8.decode(codes[ids[i : i + 1_000]]) for i in range(0, 50_000, 1_000)],
            **{**common, "amount": 50_000},
        ),
        recall(quick),
    ]


def recall(quick: bool) -> Result:
    """Compare the share of the exact ten nearest rows that each keeps; nothing is timed."""
    vectors = trial.bag(0)["source"]
    size, width = vectors.shape
    chosen = stream(0, "queries").permutation(size)[: 200 if quick else 1_000]
    exact = trial.neighbors(vectors, vectors[chosen], K + 1)[:, 1:]
    table = Int8()(vectors)
    sq8 = faiss.ScalarQuantizer(width, faiss.ScalarQuantizer.QT_8bit)
    sq8.train(vectors)
    kept = (table.rows(np.arange(size)), sq8.decode(sq8.compute_codes(vectors)))
    ours, theirs = (
        float(trial.overlap(exact, trial.neighbors(side, vectors[chosen], K + 1), K + 1).mean())
        for side in kept
    )
    return Result(
        work=f"recall of the ten nearest rows, {size:,} x {width}",
        ours=ours,
        peer=theirs,
        peer_name=PEER,
        unit="recall@10",
        ratio=ours / theirs,
        goal=1.0,
        peak_mb_ours=None,
        peak_mb_peer=None,
        note=f"{table.nbytes / size:.0f} and {width} bytes a row",
    )


if __name__ == "__main__":
    main("compress", rows, __doc__)
