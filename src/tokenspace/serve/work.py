"""A bounded number of threads that search, and a bounded number of searches that wait for one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tokenspace.jit import threads as cores

__all__ = ["Busy", "Late", "Workers"]

T = TypeVar("T")


class Busy(Exception):
    """As many searches as may wait are waiting."""


class Late(Exception):
    """A search was not finished in time."""


class Workers:
    """Runs jobs on ``threads`` threads (0: one a core); ``queue`` more may wait."""

    def __init__(self, threads: int, queue: int) -> None:
        self._count = cores(threads)
        self.limit = self._count + queue
        self._pool = ThreadPoolExecutor(self._count, "search")
        self._turn = threading.Lock()
        self._held = 0

    @property
    def held(self) -> int:
        """How many jobs run or wait."""
        return self._held

    async def run(self, job: Callable[[threading.Event], T], seconds: float) -> T:
        """Return ``job(stop)``; ``stop`` is set when nobody waits for the result any more.

        A job that runs cannot be interrupted from outside: it holds its place until it is done,
        so that late ones cannot pile up. Raises :class:`Busy` and :class:`Late`.
        """
        with self._turn:
            if self._held >= self.limit:
                raise Busy
            self._held += 1
        stop = threading.Event()
        try:
            future = self._pool.submit(job, stop)
        except RuntimeError:  # the pool is closed: the server ends
            self._release()
            raise Busy from None
        future.add_done_callback(lambda _: self._release())
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise Late from None
        finally:
            stop.set()

    def _release(self) -> None:
        with self._turn:
            self._held -= 1

    def open(self) -> None:
        """Take jobs, also after :meth:`close`."""
        self._pool = ThreadPoolExecutor(self._count, "search")

    def close(self) -> None:
        """Let what runs end and drop what waits."""
        self._pool.shutdown(wait=True, cancel_futures=True)
