"""What a server counts, in the form that Prometheus collects, in a registry of its own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

__all__ = ["Meters"]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Meters:
    """The figures of one server."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)
        self.requests = Counter(
            "tokenspace_requests", "Answered requests.", ["path", "status"], registry=registry
        )
        self.seconds = Histogram(
            "tokenspace_request_seconds",
            "Seconds from a request's headers to the end of its answer.",
            ["path"],
            registry=registry,
            buckets=_SECONDS,
        )
        self.in_flight = Gauge(
            "tokenspace_requests_in_flight", "Requests that are under way.", registry=registry
        )
        self.refused = Counter(
            "tokenspace_refused",
            "Requests that were refused, by reason.",
            ["reason"],
            registry=registry,
        )
        self.queries = Counter(
            "tokenspace_queries", "Queries that were ranked, by mode.", ["mode"], registry=registry
        )
        self.waiting = Gauge(
            "tokenspace_searches_held", "Searches that run or wait for a thread.", registry=registry
        )
        self.passages = Gauge("tokenspace_passages", "Passages in the space.", registry=registry)
        self.loads = Counter(
            "tokenspace_space_loads",
            "How often the space was opened anew, by outcome.",
            ["outcome"],
            registry=registry,
        )
