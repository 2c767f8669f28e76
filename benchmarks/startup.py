"""What starting costs: CPU seconds of import, of the root's, a family's and a method's help.

Each row is a whole process, user and system time, against its limit; a ratio above 1 is within
it. Modules are compiled beforehand, as they are where the package is installed. Tests assert
which modules are loaded, and never a time.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Sequence

from harness import Result, main
from tokenspace.catalog import CATALOG


def cpu_seconds(*arguments: str) -> float:
    """Return the user and system seconds of one child process."""
    compiled = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, env=compiled
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    return user + system


def row(work: str, limit: float, repeats: int, *arguments: str) -> Result:
    """Alternate the command with the bare interpreter, and hold its cost against the limit."""
    ours, bare = [], []
    cpu_seconds(*arguments)
    for _ in range(repeats):
        ours.append(cpu_seconds(*arguments))
        bare.append(cpu_seconds("-c", "pass"))
    cost = statistics.median(ours)
    return Result(
        work=work,
        ours=cost,
        peer=limit,
        peer_name="the limit",
        unit="CPU seconds",
        ratio=limit / cost,
        goal=1.0,
        peak_mb_ours=None,
        peak_mb_peer=None,
        note=f"bare interpreter {statistics.median(bare):.3f}",
    )


def rows(quick: bool) -> Sequence[Result]:
    """Return the four rows; the method is the slowest of the catalogue's help pages."""
    repeats = 3 if quick else 9
    help_of = ("-m", "tokenspace")
    slowest = max(CATALOG, key=lambda e: cpu_seconds(*help_of, e.family, e.name, "--help"))
    return [
        row("import tokenspace", 0.10, repeats, "-c", "import tokenspace"),
        row("tokenspace --help", 0.10, repeats, *help_of, "--help"),
        row("tokenspace FAMILY --help", 0.20, repeats, *help_of, slowest.family, "--help"),
        row(
            f"tokenspace {slowest.family} {slowest.name} --help",
            0.30,
            repeats,
            *(*help_of, slowest.family, slowest.name, "--help"),
        ),
    ]


if __name__ == "__main__":
    main("startup", rows, __doc__)
