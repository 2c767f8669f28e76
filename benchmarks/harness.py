"""Run ours and a peer side by side: alternating, in one run, with ratios and peak memory.

Every ``benchmarks/<family>.py`` describes its rows with :class:`Row` and ends in ``main(rows)``,
which gives it ``--quick``, ``--json``, ``--record`` and the table.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
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
    mine, theirs = alternate(ours, peer, repeats)
    return compare(
        work,
        mine,
        theirs,
        peer_name=peer_name,
        amount=amount,
        unit=unit,
        goal=goal,
        clock=clock,
        note=note if peer is not None else (note or "peer absent"),
    )


def alternate(ours: Side, peer: Side | None, repeats: int = 3) -> tuple[list[Cost], list[Cost]]:
    """Run ours and the peer in turns, after one warm-up of ours; return what each call cost."""
    measure(ours)
    mine, theirs = [], []
    for _ in range(repeats):
        mine.append(measure(ours))
        if peer is not None:
            theirs.append(measure(peer))
    return mine, theirs


def compare(
    work: str,
    mine: Sequence[Cost],
    theirs: Sequence[Cost],
    *,
    peer_name: str,
    amount: float,
    unit: str,
    goal: float | None,
    clock: str = "cpu",
    note: str = "",
) -> Result:
    """Turn costs into a line of the table; ``theirs`` is empty where the peer is absent."""
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
        note=note,
    )


_CHILD = """
import json, sys, time
given = json.loads(sys.argv[1])
globals().update(given["values"])
exec(compile(given["script"], "peer", "exec"))

def status(field):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))

print("ready", flush=True)
for _ in sys.stdin:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    base, wall, cpu = status("VmRSS"), time.perf_counter(), time.process_time()
    result = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(json.dumps([wall, cpu, round(max(0.0, status("VmHWM") - base), 1)]), flush=True)
    done(result)
"""


class ChildPeer:
    """A peer in a virtual environment of its own, ``.peers/NAME``, as a process that waits.

    ``script`` defines ``work()``, what is timed, and ``done(result)``, what is not; ``values``
    are variables that it finds. The process times itself, so that its start counts nowhere. Where
    the environment is absent, ``run`` is None and ``note`` names the command that makes it.
    """

    def __init__(self, name: str, script: str, values: Mapping[str, object]) -> None:
        python = Path(__file__).resolve().parents[1] / ".peers" / name / "bin" / "python"
        self._child: subprocess.Popen[str] | None = None
        self.note = "" if python.is_file() else f"{name} absent: make peers"
        if python.is_file():
            given = json.dumps({"script": script, "values": values})
            self._child = subprocess.Popen(
                [python, "-c", _CHILD, given],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            self._answer()

    @property
    def run(self) -> Side | None:
        """One call of the peer, which returns its :class:`Cost`."""
        return self._run if self._child else None

    def _run(self) -> Cost:
        assert self._child and self._child.stdin
        self._child.stdin.write("go\n")
        self._child.stdin.flush()
        return Cost(*json.loads(self._answer()))

    def _answer(self) -> str:
        assert self._child and self._child.stdout
        line = self._child.stdout.readline()
        if not line:
            raise RuntimeError(f"the peer ended with exit code {self._child.wait()}")
        return line

    def __enter__(self) -> ChildPeer:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._child is not None and self._child.stdin and self._child.stdout:
            self._child.stdin.close()
            self._child.wait()
            self._child.stdout.close()


_LAUNCH = """
import json, resource, subprocess, sys, time
wall = time.perf_counter()
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
wall = time.perf_counter() - wall
if done.returncode:
    sys.exit(done.stdout + done.stderr)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([wall, used.ru_utime + used.ru_stime, round(used.ru_maxrss / 1024, 1)]))
"""


def run_command(*arguments: str | Path) -> Cost:
    """Run a command as a process and return what it cost as a whole, its start included.

    A small process starts it, since the kernel counts the memory of who starts as a first peak.
    """
    launch = [sys.executable, "-c", _LAUNCH, *map(str, arguments)]
    done = subprocess.run(launch, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{arguments[0]}: {done.stderr[-2000:]}")
    return Cost(*json.loads(done.stdout))


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
