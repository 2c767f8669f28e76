"""What a space costs as it grows: time and memory to build and to search it, time of a query.

Three sizes, each ten times the former, the largest two million passages. The text is made: every
passage has a topic, most of its 24 to 40 words are drawn from the topic's own list and the rest
from all words, by their rank (Zipf). Every space is built and searched by a process of its own,
with the commands that a user types (``tokenspace build``). Its peak is what the kernel counts as
resident, mapped files included, and times are those of the processor.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from harness import Result, main, run_command
from tokenspace.rng import stream

WORDS, TOPICS, OWN = 6_000, 2_000, 60
SETTINGS = ("--text-field", "text", "--dim", "64", "--epochs", "1", "--threads", "2")

_SEARCH = """
import json, statistics, sys, time
from tokenspace import Space

def status(field):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))

space, queries = Space.open(sys.argv[1], verify=False), json.loads(sys.argv[2])
found = {}
for mode in ("fde", "maxsim", "bm25", "hybrid"):
    space.search(queries[0], mode=mode)
    took = []
    for query in queries[1:]:
        begin = time.process_time()
        space.search(query, mode=mode)
        took.append(1000 * (time.process_time() - begin))
    found[mode] = statistics.median(took)
print(json.dumps({"ms": found, "peak": status("VmHWM"), "bytes": space.nbytes}))
"""


class Text:
    """Made passages: the same for a number, however many there are."""

    def __init__(self) -> None:
        draw = stream(0, "scale words")
        letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
        self.words = ["".join(draw.choice(letters, draw.integers(3, 10))) for _ in range(WORDS)]
        self.own = draw.integers(WORDS, size=(TOPICS, OWN))

    def passages(self, count: int) -> Iterator[str]:
        """Yield ``count`` passages."""
        draw = stream(0, "scale passages")
        for _ in range(0, count, 1000):
            topics, lengths = draw.integers(TOPICS, size=1000), draw.integers(24, 41, size=1000)
            common = np.minimum(draw.zipf(1.1, size=(1000, 40)), WORDS) - 1
            own = self.own[topics[:, None], draw.integers(OWN, size=(1000, 40))]
            chosen = np.where(draw.random((1000, 40)) < 0.6, own, common)
            for row, length in zip(chosen, lengths, strict=True):
                yield " ".join(self.words[word] for word in row[:length])

    def queries(self, count: int) -> list[str]:
        """Return queries of five words of one topic each."""
        draw = stream(0, "scale queries")
        return [
            " ".join(self.words[word] for word in draw.choice(row, 5))
            for row in self.own[draw.integers(TOPICS, size=count)]
        ]


def rows(quick: bool) -> list[Result]:
    sizes = (500, 2_000, 8_000) if quick else (20_000, 200_000, 2_000_000)
    text, table, former = Text(), [], None
    for size in sizes:
        with tempfile.TemporaryDirectory() as place:
            source, space = Path(place) / "text.jsonl", Path(place) / "space"
            with source.open("w", encoding="utf-8") as file:
                for passage in text.passages(size):
                    file.write(json.dumps({"text": passage}) + "\n")
            command = Path(sys.executable).with_name("tokenspace")
            built = run_command(command, "build", source, "--out", space, *SETTINGS)
            asked = [sys.executable, "-c", _SEARCH, space, json.dumps(text.queries(21))]
            done = subprocess.run(asked, check=True, capture_output=True, text=True)
            searched = json.loads(done.stdout)
        now = {"build": built.peak_mb or 0.0, "search": searched["peak"], **searched["ms"]}
        grown = {name: now[name] / former[name] for name in now} if former else {}
        table += [
            Result(
                work=f"build {size:,} passages",
                ours=size / built.cpu,
                peer=None,
                peer_name="",
                unit="passages/CPU s",
                ratio=None,
                goal=None,
                peak_mb_ours=built.peak_mb,
                peak_mb_peer=None,
                note=f"{searched['bytes'] / 1e6:,.0f} MB on disk"
                + (f"; peak x {grown['build']:.2f} of the former size" if grown else ""),
            ),
            *(
                Result(
                    work=f"search {size:,} passages, {mode}",
                    ours=ms,
                    peer=None,
                    peer_name="",
                    unit="CPU ms a query, median (ratio: growth)",
                    ratio=grown.get(mode),
                    goal=None,
                    peak_mb_ours=round(searched["peak"], 1),
                    peak_mb_peer=None,
                )
                for mode, ms in searched["ms"].items()
            ),
        ]
        former = now
    return table


if __name__ == "__main__":
    main("scale", rows, __doc__)
