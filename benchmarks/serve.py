"""Search over HTTP: 64 clients at a time against a server process, and what HTTP costs.

The space is built from Cranfield (from the default text where ``TOKENSPACE_DATA`` is not set), and
every question of the collection is asked. A client is a connection that is kept open and asks its
next question when the last is answered; all of them live in this process and share the machine with
the server. Peers: the same searches called in a plain loop in one process, on one thread, and an
endpoint of bare FastAPI that answers with a constant. Processor time is that of the server's
process; latencies are seen by the clients.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from harness import Cost, Result, compare, main
from tokenspace import Space, data
from tokenspace.space.measure import known_items

CLIENTS = 64
OPTIONS = ("--port", "0", "--rate", "0", "--timeout", "120")
QUICK = {"vocab_size": 2000, "dim": 32, "epochs": 1}
BARE = """
import socket
import uvicorn
from fastapi import FastAPI
app = FastAPI()

@app.get("/health")
async def health() -> dict[str, bool]:
    return {"live": True}

with socket.create_server(("127.0.0.1", 0)) as place:
    print(f"http://127.0.0.1:{place.getsockname()[1]}", flush=True)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, ws="none"))
    server.run(sockets=[place])
"""


class Server:
    """A server process and its address."""

    def __init__(self, url: str, pid: int) -> None:
        self.host, self.port = str(urlsplit(url).hostname), urlsplit(url).port
        self.pid = pid
        self.latencies: list[float] = []

    def cpu(self) -> float:
        """Return the processor seconds that the process has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_mb(self) -> float:
        """Return the greatest resident memory of the process since it began."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024

    def load(self, requests: Sequence[bytes]) -> Cost:
        """Send the requests from 64 clients; the cost is the server's, and the wall time."""
        cpu, wall = self.cpu(), time.perf_counter()
        self.latencies += asyncio.run(self._clients(requests))
        return Cost(time.perf_counter() - wall, self.cpu() - cpu, self.peak_mb())

    async def _clients(self, requests: Sequence[bytes]) -> list[float]:
        waiting, seen = iter(requests), []

        async def client() -> None:
            reader, writer = await asyncio.open_connection(self.host, self.port)
            for request in waiting:
                begin = time.perf_counter()
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(re.findall(rb"content-length: (\d+)", head, re.I)[0])
                body = await reader.readexactly(size)
                seen.append(time.perf_counter() - begin)
                if not head.startswith(b"HTTP/1.1 200"):
                    raise RuntimeError(f"{head.decode()}{body.decode()}")
            writer.close()
            await writer.wait_closed()

        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        return seen


@contextmanager
def running(*command: str | Path) -> Iterator[Server]:
    """Run a server that prints its address, and end it afterwards."""
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        try:
            line = next((line for line in run.stdout if "http://" in line), "")
            yield Server(re.findall(r"http://[\d.]+:\d+", line)[0], run.pid)
        finally:
            run.terminate()


def post(body: object) -> bytes:
    """Return the bytes of a search."""
    text = json.dumps(body).encode()
    head = f"POST /search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(text)}\r\n"
    return f"{head}Content-Type: application/json\r\n\r\n".encode() + text


GET = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def collection(folder: Path, quick: bool) -> tuple[Space, list[str]]:
    """Build the space and return it with the questions."""
    settings = QUICK if quick else {}
    if not data.available("cran"):
        space = Space.build(out=folder / "space", **settings)
        items = known_items(space.generation.passages, 0)
        return space, [item.query for item in items]
    found = data.retrieval("cran")
    lines = [json.dumps({"text": doc}) for doc in found.docs if doc.strip()]
    (folder / "cran.jsonl").write_text("\n".join(lines), encoding="utf-8")
    texts = [folder / "cran.jsonl"]
    return Space.build(texts, out=folder / "space", text_field="text", **settings), found.queries


def looped(space: Space, queries: Sequence[str], mode: str, times: int) -> Cost:
    """Ask every question in a plain loop, and write the hits as the server does."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(times):
        for query in queries:
            json.dumps([hit.to_dict() for hit in space.search(query, k=10, mode=mode)])
    return Cost(time.perf_counter() - wall, time.process_time() - cpu, None)


def rows(quick: bool) -> list[Result]:
    with tempfile.TemporaryDirectory() as name:
        space, queries = collection(Path(name), quick)
        with (
            running("-m", "tokenspace", "serve", space.root, *OPTIONS) as ours,
            running("-c", BARE) as bare,
        ):
            times = 1 if quick else 2
            return [
                *searches(ours, space, queries, times, quick),
                batched(ours, space, queries, times),
                nothing(ours, bare, 500 if quick else 4000),
            ]


def searches(
    ours: Server, space: Space, queries: Sequence[str], times: int, quick: bool
) -> list[Result]:
    """Measure the default mode alternating with the loop: rates, and what clients waited."""
    table: list[Result] = []
    busy = f"{os.cpu_count()} cores with the clients, load {os.getloadavg()[0]:.1f} beforehand"
    for mode in ("hybrid",) if quick else ("hybrid", "bm25"):
        requests = [post({"query": query, "mode": mode}) for query in queries] * times
        ours.load(requests)
        looped(space, queries, mode, 1)
        ours.latencies.clear()
        mine, theirs = [], []
        for _ in range(3):
            mine.append(ours.load(requests))
            theirs.append(looped(space, queries, mode, times))
        waited = np.array(ours.latencies) * 1000
        work = f"{len(requests):,} searches, {CLIENTS} clients, {len(space):,} passages, {mode}"
        loop = "the same in a plain loop"
        for clock, unit in (("cpu", "searches/CPU s"), ("wall", "searches/s")):
            table.append(
                compare(
                    work,
                    mine,
                    theirs,
                    peer_name=loop,
                    amount=len(requests),
                    unit=unit,
                    goal=None,
                    clock=clock,
                    note="" if clock == "cpu" else busy,
                )
            )
        each = statistics.median(cost.wall for cost in theirs) / len(requests) * 1000
        for share in (50, 99):
            seen = float(np.percentile(waited, share))
            table.append(
                Result(
                    work=f"{work}: p{share} that a client waits",
                    ours=seen,
                    peer=each,
                    peer_name="one search alone",
                    unit="ms",
                    ratio=each / seen,
                    goal=None,
                    peak_mb_ours=max(cost.peak_mb or 0.0 for cost in mine),
                    peak_mb_peer=None,
                    note=f"{CLIENTS} at a time: {seen / CLIENTS:.2f} ms each",
                )
            )
    return table


def batched(ours: Server, space: Space, queries: Sequence[str], times: int) -> Result:
    """Measure requests of 25 questions each."""
    size = 25
    parts = [list(queries[i : i + size]) for i in range(0, len(queries), size)]
    requests = [post({"query": part, "explain": True}) for part in parts] * times
    mine, theirs = [], []
    ours.load(requests)
    for _ in range(3):
        mine.append(ours.load(requests))
        theirs.append(looped(space, queries, "hybrid", times))
    return compare(
        f"the same {len(queries) * times:,} searches in requests of {size}",
        mine,
        theirs,
        peer_name="the same in a plain loop",
        amount=len(queries) * times,
        unit="searches/CPU s",
        goal=None,
    )


def nothing(ours: Server, bare: Server, count: int) -> Result:
    """Measure a request that asks for nothing: what the gate, the log and the meters cost."""
    requests = [GET] * count
    mine, theirs = [], []
    ours.load(requests)
    bare.load(requests)
    for _ in range(3):
        mine.append(ours.load(requests))
        theirs.append(bare.load(requests))
    return compare(
        f"{count:,} requests to /health, {CLIENTS} clients",
        mine,
        theirs,
        peer_name="an endpoint of bare FastAPI",
        amount=count,
        unit="requests/CPU s",
        goal=None,
    )


if __name__ == "__main__":
    main("serve", rows, __doc__)
