"""The door that every request passes: who may enter, how often, with how much, for how long.

It is an ASGI middleware. It reads the body itself, so that neither a long body nor a slow one
reaches the application, counts and logs every answer, and turns an unexpected fault into a reply
without a traceback.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, NoReturn

from .meters import Meters
from .settings import Settings

__all__ = ["Buckets", "Gate", "Refused", "client_of"]

log = logging.getLogger(__name__)
access = logging.getLogger("tokenspace.serve.access")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

OPEN = frozenset({"/health", "/health/ready", "/docs", "/openapi.json"})
"""Paths that need no token: probes have none, and a description is no secret."""
UNCOUNTED = frozenset({"/health", "/health/ready"})
"""Paths that the rate does not bound: a probe must not be refused for what others ask."""
KNOWN = OPEN | {"/search", "/info", "/metrics"}


class Refused(Exception):
    """A request is not answered: its status, the reason's short name, and what the reply says."""

    def __init__(
        self,
        status: int,
        reason: str,
        error: str,
        hint: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(error)
        self.status, self.reason, self.error, self.hint = status, reason, error, hint
        self.headers = dict(headers or {})


class _Gone(Exception):
    """The client went away before its request was whole."""


def client_of(scope: Mapping[str, Any]) -> str:
    """Return what the rate is counted by: an IPv4 address, or the /64 network of an IPv6 one."""
    host = str((scope.get("client") or ("",))[0])
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return host


class Buckets:
    """A token bucket for every client: ``rate`` tokens a second flow in, up to twice as many.

    Of the clients only the ``most`` latest are remembered; a client that is forgotten begins
    with a full bucket. ``rate`` 0 admits everything.
    """

    def __init__(
        self, rate: float, *, clock: Callable[[], float] = time.monotonic, most: int = 10_000
    ) -> None:
        self.rate, self.size = rate, max(1.0, 2 * rate)
        self._clock, self._most = clock, most
        self._held: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str, count: float = 1.0) -> float:
        """Take ``count`` tokens; return the seconds to wait, 0 where they were there.

        A bucket with one token admits any count and owes the rest, so that a batch costs what its
        queries cost and can still be asked.
        """
        if self.rate == 0:
            return 0.0
        now = self._clock()
        level, since = self._held.pop(client, (self.size, now))
        level = min(self.size, level + (now - since) * self.rate)
        wait = 0.0 if level >= 1 else (1 - level) / self.rate
        self._held[client] = (level if wait else level - count, now)
        if len(self._held) > self._most:
            self._held.popitem(last=False)
        return wait

    def owe(self, client: str, count: float) -> None:
        """Take ``count`` tokens more of a client that was admitted."""
        if self.rate and client in self._held:
            level, since = self._held[client]
            self._held[client] = (level - count, since)


class Gate:
    """Wraps the application ``app`` and everything that it may answer."""

    def __init__(self, app: App, settings: Settings, meters: Meters, buckets: Buckets) -> None:
        self.app, self.settings = app, settings
        self.meters, self.buckets = meters, buckets

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request, or pass on what is none."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begin, reply = time.perf_counter(), _Reply(send)
        with self.meters.in_flight.track_inprogress():
            try:
                self._admit(scope)
                body = await self._body(scope, receive)
                await self.app(scope, _replay(body, receive), reply)
            except Refused as no:
                await self._refuse(reply, no)
            except _Gone:
                reply.status = 499
            except Exception:
                log.exception("%s %s failed", scope["method"], _shown(scope))
                if not reply.status:
                    await self._refuse(reply, _broken())
            finally:
                self._record(scope, reply, time.perf_counter() - begin)

    def _admit(self, scope: Mapping[str, Any]) -> None:
        """Raise :class:`Refused` by what the first lines of the request say."""
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        path, settings = scope["path"], self.settings
        host = headers.get(b"host", "").lower()
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if settings.hosts and name not in settings.hosts:
            raise Refused(
                400,
                "host",
                "the host that the request names is not served here",
                "use the address that tokenspace serve printed; behind a proxy give --proxy",
            )
        if path not in UNCOUNTED and (wait := self.buckets.take(client_of(scope))):
            seconds = str(max(1, math.ceil(wait)))
            raise Refused(
                429,
                "rate",
                f"more than {settings.rate:g} requests a second",
                f"wait {wait:.3g} seconds",
                {"retry-after": seconds},
            )
        if settings.token is not None and path not in OPEN:
            scheme, _, token = headers.get(b"authorization", "").partition(" ")
            known = secrets.compare_digest(token.strip().encode(), settings.token.encode())
            if scheme.lower() != "bearer" or not known:
                raise Refused(
                    401,
                    "token",
                    "this server needs its token" if not token else "the token is not the server's",
                    "send the header: Authorization: Bearer TOKEN",
                    {"www-authenticate": "Bearer"},
                )
        length = headers.get(b"content-length", "")
        if length.isdecimal() and int(length) > settings.max_body:
            self._too_large()
        kind = headers.get(b"content-type", "").partition(";")[0].strip().lower()
        if scope["method"] == "POST" and path == "/search" and kind != "application/json":
            raise Refused(
                415,
                "type",
                f"the body is {kind or 'of no stated type'}, not application/json",
                "send the header: Content-Type: application/json",
            )

    def _too_large(self) -> NoReturn:
        raise Refused(
            413,
            "size",
            f"the body has more than {self.settings.max_body} bytes",
            "send fewer queries at a time",
            {"connection": "close"},
        )

    async def _body(self, scope: Mapping[str, Any], receive: Receive) -> bytes:
        """Read the whole body, however it is sent, within the bounds of size and of time."""
        parts, size = [], 0
        try:
            async with asyncio.timeout(self.settings.timeout):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _Gone
                    part = message.get("body", b"")
                    size += len(part)
                    if size > self.settings.max_body:
                        self._too_large()
                    parts.append(part)
                    if not message.get("more_body"):
                        return b"".join(parts)
        except TimeoutError:
            raise Refused(
                408,
                "slow",
                f"the body did not come within {self.settings.timeout:g} seconds",
                "send it at once",
                {"connection": "close"},
            ) from None

    async def _refuse(self, reply: _Reply, no: Refused) -> None:
        self.meters.refused.labels(no.reason).inc()
        body = json.dumps({"error": no.error, "hint": no.hint}).encode()
        headers = {"content-type": "application/json", "content-length": str(len(body))}
        pairs = [(k.encode(), v.encode()) for k, v in {**headers, **no.headers}.items()]
        await reply({"type": "http.response.start", "status": no.status, "headers": pairs})
        await reply({"type": "http.response.body", "body": body})

    def _record(self, scope: Mapping[str, Any], reply: _Reply, seconds: float) -> None:
        path = scope["path"] if scope["path"] in KNOWN else "other"
        self.meters.requests.labels(path, str(reply.status)).inc()
        self.meters.seconds.labels(path).observe(seconds)
        access.info(
            "%s %s %s %d %.1f ms %d bytes",
            (scope.get("client") or ("-",))[0],
            scope["method"],
            _shown(scope),
            reply.status,
            seconds * 1000,
            reply.size,
        )


class _Reply:
    """Passes an answer on and remembers its status (0: none yet) and its size."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status, self.size = 0, 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message["headers"], (b"x-content-type-options", b"nosniff")]
        else:
            self.size += len(message.get("body", b""))
        await self._send(message)


def _broken() -> Refused:
    return Refused(500, "fault", "the server failed at this request", "its log says more")


def _shown(scope: Mapping[str, Any]) -> str:
    """Return the path as one line of plain characters: it comes from outside."""
    return ascii(scope["path"])[1:-1]


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a channel that gives the body that was read, and then what comes after it."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
