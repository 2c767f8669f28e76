"""Search over HTTP: what is answered, what is refused, and that a refusal looks the same always."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tokenspace.errors import ConfigError, InputError
from tokenspace.serve import Settings, create_app
from tokenspace.serve.gate import Buckets, client_of
from tokenspace.serve.reader import Reader, Snapshot
from tokenspace.serve.work import Busy, Late, Workers
from tokenspace.space import Space
from tokenspace.space.search import MODES, Collection

Serve = Callable[..., TestClient]
TOKEN = "a-token-of-more-than-sixteen"


def assert_refused(reply: Any, status: int, *words: str) -> None:
    """Fail unless the reply has the status and the one shape of refusals, and says ``words``."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/json"
    said = reply.json()
    assert said.keys() == {"error", "hint"}
    assert "Traceback" not in reply.text
    for word in words:
        assert word in said["error"]


# --------------------------------------------------------------------------------------- answers


@pytest.mark.parametrize("mode", MODES)
def test_hits_are_those_of_the_command(
    serve: Serve, built: Path, mode: str, cli: Callable[..., Any]
) -> None:
    asked = {"query": "how do I catch an exception", "k": 3, "mode": mode}
    reply = serve().post("/search", json=asked)
    assert reply.status_code == 200
    found = reply.json()
    assert (found["mode"], found["generation"]) == (mode, "g000001")
    (result,) = found["results"]
    assert result["query"] == asked["query"]
    printed = cli("search", built, asked["query"], "-k", 3, "--mode", mode, "--json").out
    assert result["hits"] == json.loads(printed)


def test_a_batch_is_its_queries_one_by_one(serve: Serve) -> None:
    client, queries = serve(), ["with statement", "\U0001f9a9", "class body"]
    found = client.post("/search", json={"query": queries, "k": 2}).json()["results"]
    assert [result["query"] for result in found] == queries
    for query, result in zip(queries, found, strict=True):
        alone = client.post("/search", json={"query": query, "k": 2}).json()["results"]
        assert alone == [result]
    assert [bool(result["error"]) for result in found] == [False, True, False]
    assert [bool(result["hits"]) for result in found] == [True, False, True]


@pytest.mark.parametrize(("query", "says"), [(" ", "empty"), ("\U0001f9a9", "no token")])
def test_a_query_without_a_known_word_has_no_hits_and_a_hint(
    serve: Serve, query: str, says: str
) -> None:
    reply = serve().post("/search", json={"query": query})
    assert reply.status_code == 200
    (result,) = reply.json()["results"]
    assert result["hits"] == []
    assert says in result["error"]
    assert result["hint"]


def test_without_explanation_the_hits_are_the_same(serve: Serve) -> None:
    client, asked = serve(), {"query": "class body", "k": 4}
    long = client.post("/search", json=asked).json()["results"][0]["hits"]
    short = client.post("/search", json={**asked, "explain": False}).json()["results"][0]["hits"]
    assert all(hit["alignment"] for hit in long)
    assert short == [{**hit, "alignment": []} for hit in long]


def test_info_names_the_space_and_the_limits_but_no_path(serve: Serve, built: Path) -> None:
    reply = serve(max_body=5000, rate=7.0).get("/info")
    info = reply.json()
    assert info["space"] == built.name
    assert info["holds"]["sources"] == 4
    assert (info["limits"]["body_bytes"], info["limits"]["requests_a_second"]) == (5000, 7.0)
    assert str(built.parent) not in reply.text


def test_health_and_metrics(serve: Serve) -> None:
    client = serve()
    assert client.get("/health").json() == {"live": True, "ready": True, "generation": "g000001"}
    assert client.get("/health/ready").status_code == 200
    client.post("/search", json={"query": ["class", "with"], "mode": "bm25"})
    client.post("/search", json={"query": ""})
    client.get("/zoo")
    figures = client.get("/metrics").text
    assert 'tokenspace_requests_total{path="/search",status="200"} 1.0' in figures
    assert 'tokenspace_requests_total{path="/search",status="422"} 1.0' in figures
    assert 'tokenspace_requests_total{path="other",status="404"} 1.0' in figures
    assert 'tokenspace_queries_total{mode="bm25"} 2.0' in figures
    assert 'tokenspace_request_seconds_count{path="/search"} 2.0' in figures
    assert "tokenspace_requests_in_flight 1.0" in figures  # this one
    assert "tokenspace_searches_held 0.0" in figures


def test_every_application_counts_for_itself(serve: Serve) -> None:
    first, second = serve(), serve()
    first.get("/info")
    assert 'path="/info"' not in second.get("/metrics").text


def test_the_page_opens_without_a_network_and_names_every_path(serve: Serve) -> None:
    client = serve(token=TOKEN)
    page = client.get("/docs").text
    assert not re.findall(r"<(?:script|link|img|iframe)|(?:src|href)=.http", page)
    api = client.get("/openapi.json").json()
    assert set(api["paths"]) == {"/search", "/info", "/health", "/health/ready", "/metrics"}
    for path, methods in api["paths"].items():
        assert f"{next(iter(methods)).upper()} {path}" in page
    assert "curl" in page
    assert TOKEN not in page
    assert "HTTPBearer" in api["components"]["securitySchemes"]


# -------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "query"),
        ({"query": ""}, "query"),
        ({"query": []}, "query"),
        ({"query": ["a"] * 65}, "query"),
        ({"query": "a" * 2001}, "query"),
        ({"query": 1}, "query"),
        ({"query": "class", "k": 0}, "k"),
        ({"query": "class", "k": 101}, "k"),
        ({"query": "class", "k": "5"}, "k"),
        ({"query": "class", "k": 1.5}, "k"),
        ({"query": "class", "mode": "best"}, "mode"),
        ({"query": "class", "limit": 3}, "limit"),
        ([], "the body"),
    ],
)
def test_what_is_outside_its_bounds_is_named(serve: Serve, body: Any, says: str) -> None:
    assert_refused(serve().post("/search", json=body), 422, says)


def test_what_is_no_json_is_refused(serve: Serve) -> None:
    client, kind = serve(), {"content-type": "application/json"}
    assert_refused(client.post("/search", content=b"{", headers=kind), 400, "not JSON")
    assert_refused(client.post("/search", content=b"\xff\xfe", headers=kind), 400, "not JSON")
    assert client.post("/search", content=b'"\\ud800"', headers=kind).status_code == 422
    lone = client.post("/search", content=b'{"query": "\\ud800 class"}', headers=kind)
    assert lone.status_code == 422
    for odd in (b"[" * 200_000, b'{"query": "class", "k": 1' + b"0" * 5000 + b"}"):
        assert_refused(client.post("/search", content=odd, headers=kind), 400)
    for number in (b"1e999", b"NaN", b"-1", b"true"):
        body = b'{"query": "class", "k": ' + number + b"}"
        assert_refused(client.post("/search", content=body, headers=kind), 422, "k")
    assert_refused(client.post("/search", content=b"a=1"), 415, "application/json")
    assert_refused(client.post("/search", data={"query": "class"}), 415, "form")


def test_paths_and_methods_that_do_not_exist(serve: Serve) -> None:
    client = serve()
    assert client.post("/search", json={"query": "class", "k": 2.0}).status_code == 200
    assert_refused(client.get("/zoo"), 404)
    assert_refused(client.get("/../etc/passwd"), 404)
    wrong = client.get("/search")
    assert_refused(wrong, 405, "GET")
    assert wrong.headers["allow"] == "POST"


def test_a_large_body_is_refused_however_it_is_sent(serve: Serve) -> None:
    client, kind = serve(max_body=1000), {"content-type": "application/json"}
    large = json.dumps({"query": ["a" * 100] * 20}).encode()
    assert_refused(client.post("/search", content=large, headers=kind), 413, "1000 bytes")

    def pieces() -> Iterator[bytes]:
        yield from (large[i : i + 100] for i in range(0, len(large), 100))

    chunked = client.post("/search", content=pieces(), headers=kind)
    assert "content-length" not in chunked.request.headers
    assert_refused(chunked, 413, "1000 bytes")
    small = client.post("/search", content=iter([b'{"query": ', b'"class"}']), headers=kind)
    assert small.status_code == 200


def test_the_token_is_asked_for_where_something_is_given(serve: Serve) -> None:
    client = serve(token=TOKEN)
    asked = {"query": "class"}
    for headers in ({}, {"authorization": f"Basic {TOKEN}"}, {"authorization": "Bearer wrong"}):
        reply = client.post("/search", json=asked, headers=headers)
        assert_refused(reply, 401, "token")
        assert reply.headers["www-authenticate"] == "Bearer"
        assert_refused(client.get("/metrics", headers=headers), 401)
        assert_refused(client.get("/info", headers=headers), 401)
    right = {"authorization": f"bearer {TOKEN}"}
    assert client.post("/search", json=asked, headers=right).status_code == 200
    assert client.get("/metrics", headers=right).status_code == 200
    for path in ("/health", "/health/ready", "/docs", "/openapi.json"):
        assert client.get(path).status_code == 200
    assert_refused(
        client.post("/search", json=asked, headers={"authorization": "Bearer é".encode()}), 401
    )


def test_another_name_for_this_machine_is_refused(serve: Serve) -> None:
    client = serve(hosts=frozenset({"127.0.0.1", "[::1]"}))
    assert_refused(client.get("/health", headers={"host": "evil.example"}), 400, "host")
    for host in ("127.0.0.1", "127.0.0.1:8000", "[::1]:8000"):
        assert client.get("/health", headers={"host": host}).status_code == 200


def test_too_many_requests_are_told_when_to_come_again(serve: Serve) -> None:
    client = serve(rate=0.5)
    asked = {"query": ["class", "with", "for"], "mode": "bm25"}
    assert client.post("/search", json=asked).status_code == 200  # owes two more
    reply = client.post("/search", json=asked)
    assert_refused(reply, 429, "0.5 requests a second")
    assert 5 <= int(reply.headers["retry-after"]) <= 6
    assert client.get("/health").status_code == 200


def test_buckets_fill_with_time_and_are_forgotten_in_order() -> None:
    now = [0.0]
    buckets = Buckets(2.0, clock=lambda: now[0], most=2)
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0]  # twice the rate at once
    assert buckets.take("a") == pytest.approx(0.5)
    now[0] = 0.5
    assert buckets.take("a") == 0
    assert buckets.take("a") == pytest.approx(0.5)
    assert buckets.take("b") == 0
    assert buckets.take("c") == 0  # the third forgets the first
    assert buckets.take("a") == 0
    assert Buckets(0).take("a") == 0


@pytest.mark.parametrize(
    ("host", "client"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:10.0.0.7", "10.0.0.7"),
        ("testclient", "testclient"),
    ],
)
def test_a_client_is_an_address_or_a_network(host: str, client: str) -> None:
    assert client_of({"client": (host, 1)}) == client
    assert client_of({"client": None}) == ""


# ------------------------------------------------------------------------- time and too much work


class Slow:
    """Makes every search wait until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go, self.begun = threading.Event(), threading.Semaphore(0)
        true = Collection.search

        def search(*args: Any, **kwargs: Any) -> Any:
            self.begun.release()
            assert self.go.wait(20)
            return true(*args, **kwargs)

        monkeypatch.setattr(Collection, "search", search)


def test_a_late_search_is_given_up_and_a_batch_stops(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve(timeout=1, threads=1)
    slow = Slow(monkeypatch)
    assert_refused(client.post("/search", json={"query": ["class", "for"]}), 504, "1 seconds")
    slow.go.set()
    for _ in range(100):
        if "tokenspace_searches_held 0.0" in client.get("/metrics").text:
            break
        time.sleep(0.02)
    assert "tokenspace_searches_held 0.0" in client.get("/metrics").text
    assert slow.begun.acquire(blocking=False)
    assert not slow.begun.acquire(blocking=False)  # nobody waits for the second query
    assert client.post("/search", json={"query": "class"}).status_code == 200


def test_more_searches_than_may_wait_are_refused(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve(threads=1, queue=1)
    slow, replies = Slow(monkeypatch), []

    def ask() -> None:
        replies.append(client.post("/search", json={"query": "class", "mode": "bm25"}).status_code)

    callers = [threading.Thread(target=ask) for _ in range(2)]
    for caller in callers:
        caller.start()
    assert slow.begun.acquire(timeout=10)
    for _ in range(200):
        if not client.get("/health").json()["ready"]:
            break
        time.sleep(0.02)
    assert client.get("/health").status_code == 200
    assert client.get("/health/ready").status_code == 503
    refused = client.post("/search", json={"query": "class"})
    assert_refused(refused, 503, "2 searches")
    assert refused.headers["retry-after"] == "1"
    slow.go.set()
    for caller in callers:
        caller.join()
    assert replies == [200, 200]
    assert client.get("/health/ready").status_code == 200


def test_workers_hold_a_place_until_the_job_is_done() -> None:
    async def story() -> None:
        workers, begun, go = Workers(1, 1), threading.Event(), threading.Event()

        def slow(stop: threading.Event) -> bool:
            begun.set()
            return go.wait(20)

        first = asyncio.create_task(workers.run(slow, 1.0))
        second = asyncio.create_task(workers.run(lambda stop: 2, 1.0))
        assert await asyncio.to_thread(begun.wait, 10)
        with pytest.raises(Busy):
            await workers.run(lambda stop: 3, 1)
        for late in (first, second):
            with pytest.raises(Late):
                await late
        assert workers.held == 1  # the one that waited is gone, the one that runs is not
        go.set()
        assert await workers.run(lambda stop: stop.is_set(), 5) is False
        workers.close()
        with pytest.raises(Busy):
            await workers.run(lambda stop: 4, 1)
        assert workers.held == 0

    asyncio.run(story())


def test_a_slow_body_is_given_up() -> None:
    async def story() -> list[Any]:
        from tokenspace.serve.gate import Gate
        from tokenspace.serve.meters import Meters

        async def never(*_: Any) -> None:
            raise AssertionError

        async def receive() -> Any:
            await asyncio.sleep(0.02)
            return {"type": "http.request", "body": b" ", "more_body": True}

        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        settings = Settings(timeout=0.1)
        headers = [(b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/search", "headers": headers}
        await Gate(never, settings, Meters(), Buckets(0))(scope, receive, send)
        return sent

    start, body = asyncio.run(story())
    assert start["status"] == 408
    assert (b"connection", b"close") in start["headers"]
    assert "0.1 seconds" in json.loads(body["body"])["error"]


def test_a_fault_is_logged_and_told_without_its_traceback(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = serve()

    def burst(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("a secret of the machine")

    monkeypatch.setattr(Collection, "search", burst)
    reply = client.post("/search", json={"query": "class"})
    assert_refused(reply, 500)
    assert "secret" not in reply.text
    assert "a secret of the machine" in caplog.text


def test_every_request_is_one_line_of_the_log(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    client = serve()
    with caplog.at_level(logging.INFO, "tokenspace.serve.access"):
        client.post("/search", json={"query": "class secret"})
        client.get("/zoo%0aPOST /faked 200")
    lines = [r.getMessage() for r in caplog.records if r.name == "tokenspace.serve.access"]
    assert re.fullmatch(r"testclient POST /search 200 [\d.]+ ms \d+ bytes", lines[0])
    assert "\n" not in lines[1]
    assert " 404 " in lines[1]


# ------------------------------------------------------------------------------- a changing space


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "space"))


def test_what_is_added_is_found_without_a_restart(serve: Serve, copy: Path, tmp_path: Path) -> None:
    client = serve(copy, reload=0.05)
    asked = {"query": "walruses", "mode": "bm25", "k": 1}
    assert client.post("/search", json=asked).json()["results"][0]["hits"] == []
    (tmp_path / "new.md").write_text("# New\n\nA short note on walruses and class bodies.\n")
    Space.open(copy).add([tmp_path / "new.md"])
    for _ in range(600):
        found = client.post("/search", json=asked).json()
        if found["generation"] == "g000002":
            break
        time.sleep(0.05)
    assert found["results"][0]["hits"][0]["source"] == "new.md"
    assert client.get("/info").json()["holds"]["sources"] == 5
    assert client.get("/health").json()["generation"] == "g000002"
    assert 'tokenspace_space_loads_total{outcome="opened"} 1.0' in client.get("/metrics").text


def test_a_snapshot_answers_on_when_its_files_are_gone(copy: Path, tmp_path: Path) -> None:
    reader = Reader(copy)
    former = reader.current
    before = former.collection.search("class body", 3, "hybrid")
    (tmp_path / "new.md").write_text("# New\n\nA short note on walruses and class bodies.\n")
    Space.open(copy).add([tmp_path / "new.md"])
    assert not (copy / former.generation).exists()
    for mode in MODES:
        assert former.collection.search("class body", 3, mode)
    assert former.collection.search("class body", 3, "hybrid") == before
    assert reader.refresh() == "opened"
    assert reader.refresh() == "same"


def test_a_damaged_change_is_not_taken_up(
    copy: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Reader(copy)
    kept = (copy / "manifest.json").read_text()
    (copy / "manifest.json").write_text("{")
    assert [reader.refresh(), reader.refresh()] == ["failed", "failed"]
    assert len(caplog.records) == 1  # said once
    (copy / "manifest.json").unlink()
    assert reader.refresh() == "failed"
    (copy / "manifest.json").write_text(kept.replace("{", " {", 1))

    def burst(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("as faiss does")

    with monkeypatch.context() as patched:
        patched.setattr(Snapshot, "open", burst)
        assert reader.refresh() == "failed"
    assert reader.current.collection.search("class body", 1, "hybrid")
    (copy / "manifest.json").write_text(kept)
    assert reader.refresh() == "opened"


def test_many_threads_get_what_one_gets(built: Path) -> None:
    snapshot = Reader(built).current
    queries = ["class body", "with statement", "for loop", "catch an exception"]
    expected = {q: snapshot.collection.search(q, 5, "hybrid") for q in queries}
    wrong: list[str] = []

    def ask(offset: int) -> None:
        for i in range(12):
            query = queries[(i + offset) % len(queries)]
            if snapshot.collection.search(query, 5, "hybrid") != expected[query]:
                wrong.append(query)

    callers = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


# ------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"rate": -1}, "rate"),
        ({"timeout": 0}, "timeout"),
        ({"max_body": 1}, "max_body"),
        ({"threads": -1}, "threads"),
        ({"queue": 0}, "queue"),
        ({"token": ""}, "0 characters"),
        ({"token": "short"}, "5 characters"),
        ({"token": "with spaces in the token"}, "header"),
        ({"token": "größere-geheimnisse"}, "header"),
    ],
)
def test_settings_outside_their_bounds(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Settings(**settings)


def test_settings_do_not_show_the_token() -> None:
    assert TOKEN not in repr(Settings(token=TOKEN))


def test_a_space_that_is_none_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no space"):
        create_app(tmp_path)
