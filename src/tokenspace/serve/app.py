"""The application: which paths there are, what each answers, and how every refusal looks."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from tokenspace import __version__
from tokenspace.errors import FormatError, InputError

from .gate import Buckets, Gate, Refused, client_of
from .meters import Meters
from .page import render
from .reader import Reader, Snapshot
from .schema import LONGEST, MOST_HITS, MOST_QUERIES, Ask, Found, Health, Info, Limits, Refusal
from .settings import Settings
from .work import Busy, Late, Workers

__all__ = ["create_app"]

_WHY = {
    400: "the body is not JSON, or the host is not served here",
    401: "the token is missing or wrong",
    408: "the body came too slowly",
    413: "the body is too large",
    415: "the body is not of type application/json",
    422: "a value is outside its bounds",
    429: "too many requests; the header Retry-After says how long to wait",
    503: "too many searches wait, or the server is ending; try again later",
    504: "the search was not finished in time",
}


def _refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Refusal, "description": _WHY[status]} for status in statuses}


def create_app(space: str | Path, settings: Settings | None = None) -> FastAPI:
    """Open the space in the directory ``space`` and return the application that serves it.

    Raises what :meth:`tokenspace.Space.open` raises.
    """
    settings = settings or Settings()
    reader, meters, buckets = Reader(space), Meters(), Buckets(settings.rate)
    workers = Workers(settings.threads, settings.queue)
    meters.waiting.set_function(lambda: workers.held)
    meters.passages.set_function(lambda: reader.current.info["holds"]["passages"])
    ending = threading.Event()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        ending.clear()
        workers.open()
        watch = asyncio.create_task(_watch(reader, meters, settings.reload))
        yield
        ending.set()
        watch.cancel()
        with suppress(asyncio.CancelledError):
            await watch
        await asyncio.to_thread(workers.close)

    app = FastAPI(
        title=f"Search in {reader.current.info['space']}",
        description="Passages for a query, with the tokens that matched.",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        exception_handlers={
            RequestValidationError: _invalid,
            HTTPException: _no_such,
        },
    )
    app.add_middleware(Gate, settings=settings, meters=meters, buckets=buckets)
    guard = [Security(HTTPBearer(auto_error=False))] if settings.token else []
    common = (400, 401, 408, 413, 429) if settings.token else (400, 408, 413, 429)

    @app.post(
        "/search",
        summary="Find passages",
        response_model=Found,
        responses=_refusals(*common, 415, 422, 503, 504),
        dependencies=guard,
    )
    async def search(ask: Ask, request: Request) -> Response:
        """Rank passages for a query, or for each of a list of queries."""
        queries = [ask.query] if isinstance(ask.query, str) else ask.query
        buckets.owe(client_of(request.scope), len(queries) - 1)
        snapshot = reader.current
        meters.queries.labels(ask.mode).inc(len(queries))
        try:
            body = await workers.run(
                lambda stop: _answer(snapshot, ask, queries, stop), settings.timeout
            )
        except Busy:
            raise Refused(
                503,
                "busy",
                f"{workers.limit} searches run or wait already",
                "try again in a second",
                {"retry-after": "1"},
            ) from None
        except Late:
            raise Refused(
                504,
                "timeout",
                f"the search took more than {settings.timeout:g} seconds",
                "ask fewer or shorter queries at a time, or in mode single",
            ) from None
        return Response(body, media_type="application/json")

    @app.get(
        "/info",
        summary="What is served",
        response_model=Info,
        responses=_refusals(*common),
        dependencies=guard,
    )
    async def info() -> Mapping[str, Any]:
        """Describe the space and the bounds of a request."""
        current = reader.current
        limits = Limits(
            hits=MOST_HITS,
            query_characters=LONGEST,
            queries=MOST_QUERIES,
            body_bytes=settings.max_body,
            seconds=settings.timeout,
            requests_a_second=settings.rate or None,
        )
        return {**current.info, "generation": current.generation, "limits": limits}

    def health() -> Health:
        ready = not ending.is_set() and workers.held < workers.limit
        return Health(live=True, ready=ready, generation=reader.current.generation)

    @app.get("/health", summary="Is it alive?", responses=_refusals(400, 408, 413))
    async def alive() -> Health:
        """Answer 200 while the process lives, and say whether it is ready."""
        return health()

    @app.get(
        "/health/ready",
        summary="Is it ready?",
        responses={503: {"model": Health, "description": _WHY[503]}, **_refusals(400, 408, 413)},
    )
    async def ready(response: Response) -> Health:
        """Answer 200 while searches are taken, 503 while none is."""
        found = health()
        response.status_code = 200 if found.ready else 503
        return found

    @app.get(
        "/metrics",
        summary="Figures for Prometheus",
        response_class=Response,
        responses={
            200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
            **_refusals(*common),
        },
        dependencies=guard,
    )
    async def metrics() -> Response:
        """Count requests, refusals, queries and seconds."""
        return Response(generate_latest(meters.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(render(app.openapi()))

    return app


async def _watch(reader: Reader, meters: Meters, seconds: float) -> None:
    """Look again and again whether the space has changed."""
    while True:
        await asyncio.sleep(seconds)
        outcome = await asyncio.to_thread(reader.refresh)
        if outcome != "same":
            meters.loads.labels(outcome).inc()


def _answer(snapshot: Snapshot, ask: Ask, queries: list[str], stop: threading.Event) -> bytes:
    """Rank every query and return the JSON of :class:`~tokenspace.serve.schema.Found`.

    A query that the space has no word for is no fault: its answer has no hits and says why.
    """
    begin, results = time.perf_counter(), []
    for query in queries:
        if stop.is_set():
            break
        result: dict[str, Any] = {"query": query, "hits": [], "error": None, "hint": None}
        try:
            hits = snapshot.collection.search(query, ask.k, ask.mode, explain=ask.explain)
            result["hits"] = [hit.to_dict() for hit in hits]
        except FormatError:  # the space is damaged: not the client's doing
            raise
        except InputError as fault:
            result |= {"error": str(fault), "hint": fault.hint}
        results.append(result)
    found = {
        "generation": snapshot.generation,
        "mode": ask.mode,
        "seconds": round(time.perf_counter() - begin, 6),
        "results": results,
    }
    # A lone surrogate, as a file's name may hold, is written as the escape that JSON has for it.
    return json.dumps(found, ensure_ascii=False).encode("utf-8", "backslashreplace")


def _refusal(status: int, error: str, hint: str | None, **headers: str) -> Response:
    return JSONResponse(
        {"error": error.encode("utf-8", "backslashreplace").decode(), "hint": hint},
        status,
        {name.replace("_", "-"): value for name, value in headers.items()},
    )


async def _invalid(request: Request, fault: Exception) -> Response:
    """Say which value of the body is outside its bounds."""
    assert isinstance(fault, RequestValidationError)
    first = fault.errors()[0]
    where = [str(part) for part in first["loc"] if part != "body"]
    if first["type"] == "json_invalid":
        return _refusal(400, "the body is not JSON", 'send {"query": "what you ask"}')
    if where[:1] == ["query"]:
        bounds = f"a text of 1 to {LONGEST:,} characters, or a list of 1 to {MOST_QUERIES} of them"
        return _refusal(422, f"query is not {bounds}", 'send {"query": "what you ask"}')
    said = f"{'.'.join(where) or 'the body'}: {first['msg'][:1].lower()}{first['msg'][1:]}"
    return _refusal(422, said, "GET /docs says what is allowed")


async def _no_such(request: Request, fault: Exception) -> Response:
    """Say that a path, or a method of it, does not exist."""
    assert isinstance(fault, HTTPException)
    headers = dict(fault.headers or {})
    if fault.status_code == 405:
        allowed = headers.get("Allow", headers.get("allow", ""))
        error = f"{request.method} is not allowed here"
        return _refusal(405, error, f"use {allowed}" if allowed else None, allow=allowed)
    error = "there is no such path" if fault.status_code == 404 else str(fault.detail)
    return _refusal(fault.status_code, error, "GET /docs lists the paths")
