"""Run ours and a peer side by side: alternating, in one run, with ratios and peak memory.

Every ``benchmarks/<family>.py`` describes its rows with :class:`Row` and ends in ``main(rows)``,
which gives it ``--quick``, ``--json``, ``--record`` and the table.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

Side = Callable[[], object]


@dataclass(frozen=True)
class Result:
    """One line of the table: medians of both sides and the median of the paired ratios."""

    work: str
    ours: float | None
    peer: float | None
    peer_name: str
    unit: str
    ratio: float | None
    goal: float | None
    peak_mb_ours: float | None
    peak_mb_peer: float | None
    note: str = ""


@dataclass(frozen=True)
class Cost:
    """What one call cost: seconds (wall and CPU of all threads) and megabytes above its start."""

    wall: float
    cpu: float
    peak_mb: float | None


def measure(side: Side) -> Cost:
    """Run ``side`` once. A side that runs elsewhere may return the :class:`Cost` itself."""
    base = _reset_peak()
    wall, cpu = time.perf_counter(), time.process_time()
    value = side()
    cost = Cost(time.perf_counter() - wall, time.process_time() - cpu, _peak(base))
    return value if isinstance(value, Cost) else cost


def _status(field: str) -> float | None:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return None


def _reset_peak() -> float | None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return _status("VmRSS")


def _peak(base: float | None) -> float | None:
    peak = _status("VmHWM")
    return None if base is None or peak is None else round(max(0.0, peak - base), 1)


def pair(
    work: str,
    ours: Side,
    peer: Side | None,
    *,
    peer_name: str,
    amount: float,
    unit: str,
    goal: float | None,
    repeats: int = 3,
    clock: str = "cpu",
    note: str = "",
) -> Result:
    """Alternate ours and the peer ``repeats`` times, after one warm-up of ours.

    ``amount`` is how much work one call does, so that ``ours`` and ``peer`` are rates in ``unit``
    (e.g. documents per CPU second); ``ratio`` is the median of ours / peer over the pairs. A peer
    that cannot be had is given as None and reported as absent.
    """
    measure(ours)
    mine, theirs = [], []
    for _ in range(repeats):
        mine.append(measure(ours))
        if peer is not None:
            theirs.append(measure(peer))
    rate = [amount / getattr(cost, clock) for cost in mine]
    other = [amount / getattr(cost, clock) for cost in theirs]
    peaks = [[c.peak_mb for c in side if c.peak_mb is not None] for side in (mine, theirs)]
    return Result(
        work=work,
        ours=statistics.median(rate),
        peer=statistics.median(other) if other else None,
        peer_name=peer_name,
        unit=unit,
        ratio=statistics.median(a / b for a, b in zip(rate, other, strict=True)) if other else None,
        goal=goal,
        peak_mb_ours=max(peaks[0], default=None),
        peak_mb_peer=max(peaks[1], default=None),
        note=note if other or peer is not None else (note or "peer absent"),
    )


def main(
    family: str, rows: Callable[[bool], Sequence[Result]], description: str | None = None
) -> None:
    """Parse ``--quick``, ``--json`` and ``--record``, run ``rows(quick)`` and print the results."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="smaller work, under a minute a row")
    parser.add_argument("--json", action="store_true", help="print an array of objects")
    parser.add_argument("--record", action="store_true", help="keep under docs/results/")
    options = parser.parse_args()
    results = [asdict(result) for result in rows(options.quick)]
    if options.record:
        folder = Path(__file__).resolve().parents[1] / "docs" / "results"
        (folder / f"bench_{family}.json").write_text(json.dumps(results, indent=2) + "\n")
    if options.json:
        json.dump(results, sys.stdout, indent=2)
        print()
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("work", "ours", "peer", "", "unit", "ratio", "goal", "MB ours", "MB peer", "note")
    for row in results:
        cells = [row[key] for key in list(Result.__dataclass_fields__)]
        table.add_row(*(f"{c:,.3g}" if isinstance(c, float) else str(c or "–") for c in cells))
    Console(width=180).print(table)
