"""The command and a real server process: sockets, signals, and what the command refuses."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

Cli = Callable[..., Any]
TOKEN = "a-token-of-more-than-sixteen"


@contextmanager
def process(space: Path, *options: str, **variables: str) -> Iterator[tuple[str, Any]]:
    """Run the command; give its address and its process, which is ended at the end."""
    run = subprocess.Popen(
        [sys.executable, "-m", "tokenspace", "-v", "serve", space, "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **variables},
    )
    with run:
        try:
            assert run.stdout is not None
            lines = iter(run.stdout.readline, "")
            line = next((line for line in lines if "http://" in line), "")
            assert line, run.communicate()
            yield re.findall(r"http://[\w.:]+[0-9]", line)[0], run
        finally:
            if run.poll() is None:
                run.kill()


def ask(url: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = Request(url, data, {"Content-Type": "application/json", **headers})
    try:
        with urlopen(request, timeout=20) as reply:
            return reply.status, json.load(reply)
    except HTTPError as fault:
        with fault:
            return fault.code, json.load(fault)


def spoken(url: str, text: bytes) -> bytes:
    """Send bytes over a plain socket and return all that comes until the server hangs up."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as line:
        line.sendall(text)
        parts = []
        while part := line.recv(65536):
            parts.append(part)
    return b"".join(parts)


def test_a_process_answers_refuses_and_ends_in_order(built: Path) -> None:
    with process(built, "--max-body", "2000", TOKENSPACE_TOKEN=TOKEN) as (url, run):
        right = {"Authorization": f"Bearer {TOKEN}"}
        status, found = ask(f"{url}/search", {"query": "class body", "k": 2}, **right)
        assert status == 200
        assert [hit["rank"] for hit in found["results"][0]["hits"]] == [1, 2]
        assert ask(f"{url}/search", {"query": "class"})[0] == 401
        assert ask(f"{url}/health/ready") == (200, {**ask(f"{url}/health")[1], "ready": True})
        assert ask(f"{url}/health", Host="evil.example")[0] == 400
        head = f"POST /search HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        head += "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        piece = f"{1000:x}\r\n{' ' * 1000}\r\n"
        refused = spoken(url, (head + piece * 4).encode())  # and hangs up, though more could come
        assert refused.startswith(b"HTTP/1.1 413")
        assert b"2000 bytes" in refused
        assert spoken(url, b"\x00\x01\x02\r\n\r\n").startswith(b"HTTP/1.1 400")
        assert ask(f"{url}/search", {"query": "class"}, **right)[0] == 200
        run.send_signal(signal.SIGTERM)
        out, err = run.communicate(timeout=30)
    assert run.returncode == 0, err
    assert "POST /search 200" in err  # the access log
    assert "the server has ended" in err
    assert "Traceback" not in err
    assert TOKEN not in err + out


def test_json_and_a_port_that_is_taken(built: Path) -> None:
    with process(built, "--json") as (url, _):
        port = url.rpartition(":")[2]
        ended = subprocess.run(
            [sys.executable, "-m", "tokenspace", "serve", built, "--port", port],
            capture_output=True,
            text=True,
            check=False,
        )
    assert ended.returncode == 2
    assert "cannot listen" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--host", "0.0.0.0"], 2, "no token"),
        (["--host", "::", "--allow-anonymous", "--token", "short"], 2, "guessed"),
        (["--rate", "-1"], 2, "rate"),
        (["--timeout", "0"], 2, "timeout"),
        (["--port", "70000"], 2, "70000"),
        (["--host", "no.such.host.invalid", "--token", TOKEN], 2, "cannot listen"),
    ],
)
def test_what_the_command_refuses(
    cli: Cli, built: Path, words: list[str], code: int, says: str
) -> None:
    ended = cli("serve", built, *words)
    assert ended.code == code
    assert says in ended.err
    assert "hint" in ended.err
    assert ended.err.strip().count("\n") == 0


def test_a_space_that_is_none_and_an_extra_that_is_absent(
    cli: Cli, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = cli("serve", tmp_path, "--port", 0)
    assert (ended.code, "no space here" in ended.err) == (3, True)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    ended = cli("serve", built, "--port", 0)
    assert ended.code == 2
    assert "pip install 'tokenspace[serve]'" in ended.err


def test_help_needs_nothing_of_the_extra() -> None:
    code = (
        "import sys; from tokenspace.cli import root\n"
        "root.main(['serve', '--help'], standalone_mode=False)\n"
        "heavy = {'fastapi', 'uvicorn', 'pydantic', 'prometheus_client', 'numpy'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
