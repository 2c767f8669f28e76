"""The command ``tokenspace serve``."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from contextlib import suppress
from typing import Any

import click

from tokenspace.cli import echo_json, json_option
from tokenspace.errors import ConfigError, MissingExtra

from .settings import LOOPBACK, Settings

_DEFAULT = Settings()


@click.command("serve")
@click.argument("space")
@click.option("--host", default="127.0.0.1", show_default=True, help="the address to listen at")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="its port; 0: a free one",
)
@click.option(
    "--token",
    metavar="TEXT",
    envvar="TOKENSPACE_TOKEN",
    help="what clients must send; better in the variable TOKENSPACE_TOKEN, which ps does not show",
)
@click.option(
    "--allow-anonymous", is_flag=True, help="let other machines in without a token, for once"
)
@click.option(
    "--proxy",
    metavar="ADDRESS",
    help="a reverse proxy whose X-Forwarded-For and Host are believed",
)
@click.option(
    "--rate",
    type=float,
    default=_DEFAULT.rate,
    show_default=True,
    help="requests a second for each client's address; 0: no bound",
)
@click.option(
    "--timeout",
    type=float,
    default=_DEFAULT.timeout,
    show_default=True,
    help="seconds that a request may take",
)
@click.option(
    "--max-body",
    type=int,
    default=_DEFAULT.max_body,
    show_default=True,
    help="bytes that a request may send",
)
@click.option(
    "--threads",
    type=int,
    default=_DEFAULT.threads,
    show_default=True,
    help="searches at a time; 0: one a core",
)
@click.option(
    "--queue",
    type=int,
    default=_DEFAULT.queue,
    show_default=True,
    help="searches that may wait for a thread",
)
@json_option
def serve_command(
    *,
    space: str,
    host: str,
    port: int,
    token: str | None,
    allow_anonymous: bool,
    proxy: str | None,
    as_json: bool,
    **bounds: Any,
) -> None:
    """Offer search in SPACE over HTTP, until Ctrl-C or SIGTERM.

    POST /search answers {"query": ..., "k": ..., "mode": ...} with hits as tokenspace search
    --json prints them. GET /docs describes every path; /health, /info and /metrics are for those
    who run it. What tokenspace add or remove changes is taken up within a second or two. With -v
    (tokenspace -v serve SPACE) every request is a line of the log.
    """
    local = _is_loopback(host)
    if not local and token is None and not allow_anonymous:
        raise ConfigError(
            f"serve: {host} lets other machines in, and there is no token",
            hint="set TOKENSPACE_TOKEN, or add --allow-anonymous, or stay at --host 127.0.0.1",
        )
    # A page in a browser can reach a loopback port under any name: only its own are answered.
    hosts = LOOPBACK | {host.lower()} if local and proxy is None else frozenset[str]()
    settings = Settings(token=token, hosts=hosts, **bounds)
    if "numpy" not in sys.modules:  # searches share the cores: threads inside each only wait
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        import uvicorn

        from .app import create_app
    except ImportError as fault:
        raise MissingExtra.named("serve", "tokenspace serve") from fault
    listener = _listen(host, port)
    with listener:
        app = create_app(space, settings)
        place = f"[{host}]" if ":" in host else host
        url = f"http://{place}:{listener.getsockname()[1]}"
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=proxy is not None,
            forwarded_allow_ips=proxy or "",
            ws="none",
            lifespan="on",
            timeout_graceful_shutdown=int(settings.timeout) + 1,
        )
        server = uvicorn.Server(config)
        if as_json:
            echo_json({"url": url, "space": space})
        else:
            click.echo(f"{space} is served at {url} (how to ask: {url}/docs; Ctrl-C ends it)")
        with suppress(KeyboardInterrupt, SystemExit):  # it has ended in order by then
            server.run(sockets=[listener])
    if not server.started:
        raise ConfigError("serve: the server did not start", hint="tokenspace -vv serve says why")
    click.echo("the server has ended", err=True)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket bound to the address, which uvicorn will listen at."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as fault:
        raise ConfigError(
            f"serve: cannot listen at {host} port {port}: {fault.strerror or fault}",
            hint="choose another --port, or 0 for a free one",
        ) from fault
