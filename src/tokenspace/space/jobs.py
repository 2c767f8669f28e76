"""Where the passes over a space's text run: in this process, or as Ray Data jobs on many.

A *job* is a function of one item: split documents into passages, encode a range of passages, make
the encodings of a range. It is mapped over the items here (:data:`HERE`) or by Ray's workers
(``engine="ray"``), always in the order of the items, so that a space has the same bytes either
way. A job is sent to workers as what it needs to open its files again: the space's directory must
be in the same place on every machine of the cluster. Pickles pass between this process and its own
workers alone, as all that Ray sends; none is read from a file.
"""

from __future__ import annotations

import functools
import logging
import os
import pickle
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, Protocol, TypeVar

from tokenspace.errors import ConfigError, MissingExtra, TokenspaceError

__all__ = ["ENGINES", "HERE", "Jobs", "jobs_of"]

A = TypeVar("A")
B = TypeVar("B")

ENGINES = ("local", "ray")
WAVE = 1 << 26  # bytes of items that are handed to Ray at a time
TRIES = 4  # how often an item is begun whose worker dies


class Jobs(Protocol):
    """A way of running jobs."""

    def map(self, job: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
        """Yield ``job(item)`` of every item, in their order; raise what a job raises."""


class _Here:
    """One item after the other, in this process."""

    def map(self, job: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
        return map(job, items)


HERE: Jobs = _Here()
"""Run jobs in this process."""


class _RayJobs:
    """Ray Data's tasks: one item each, on every core of the cluster.

    Ray starts an item whose worker died again on another one, without end; here ``TRIES`` times.
    """

    def map(self, job: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
        import ray

        sent: bytes = ray.cloudpickle.dumps(job)  # type: ignore[no-untyped-call]
        for wave in _waves(items):
            yield from self._run(sent, wave)

    def _run(self, sent: bytes, wave: list[bytes]) -> Iterator[Any]:
        import ray

        begun = ray.remote(num_cpus=0)(_Begun).remote()
        rows = [{"number": number, "item": item} for number, item in enumerate(wave)]
        done = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            _work,  # type: ignore[arg-type]
            fn_kwargs={"job": sent, "begun": begun},
        )
        for row in done.iter_rows():
            result = pickle.loads(row["result"])
            if isinstance(result, TokenspaceError):
                raise result
            yield result


class _Begun:
    """Counts how often each item was begun: an actor, which outlives the workers."""

    def __init__(self) -> None:
        self.times: Counter[int] = Counter()

    def count(self, number: int) -> int:
        self.times[number] += 1
        return self.times[number]


def _work(row: dict[str, Any], job: bytes, begun: Any) -> dict[str, bytes]:
    """Do one item, in a worker."""
    import ray

    try:
        if ray.get(begun.count.remote(row["number"])) > TRIES:
            raise TokenspaceError(
                f"ray: the worker of one item died {TRIES} times",
                hint="give workers more memory, or leave --engine ray out",
            )
        result = _opened(job)(pickle.loads(row["item"]))
    except TokenspaceError as fault:  # what the user is told, not a failure to try again
        result = fault
    return {"result": pickle.dumps(result)}


@functools.lru_cache(maxsize=1)
def _opened(job: bytes) -> Callable[[Any], Any]:
    """Return the job, which a worker keeps with all that it has opened."""
    found: Callable[[Any], Any] = pickle.loads(job)
    return found


def _waves(items: Iterable[Any]) -> Iterator[list[bytes]]:
    """Yield lists of items, pickled, of about ``WAVE`` bytes together."""
    wave: list[bytes] = []
    size = 0
    for item in items:
        wave.append(pickle.dumps(item))
        size += len(wave[-1])
        if size >= WAVE:
            yield wave
            wave, size = [], 0
    if wave:
        yield wave


@contextmanager
def jobs_of(engine: Literal["local", "ray"]) -> Iterator[Jobs]:
    """Open an engine: ``local``, or ``ray``.

    Ray uses the cluster that ``RAY_ADDRESS`` names or that the process is connected to already,
    and otherwise starts one on this machine for as long as the block runs.

    Raises :class:`ConfigError` for another name and :class:`MissingExtra` without Ray.
    """
    if engine not in ENGINES:
        raise ConfigError(
            f"engine={engine!r} is not one of {', '.join(ENGINES)}", hint="leave it out for local"
        )
    if engine == "local":
        yield HERE
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent home
    try:
        import ray
        import ray.data
    except ImportError as fault:
        raise MissingExtra.named("scale", "--engine ray") from fault
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    begun = not ray.is_initialized()
    if begun:
        ray.init(
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": {"RAYON_NUM_THREADS": "1"}},  # a worker has one core
        )
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    try:
        yield _RayJobs()
    finally:
        if begun:
            ray.shutdown()
