"""Compile numeric loops with numba at their first call, so that importing a method stays cheap.

numba costs half a second to import; a method's ``--help`` must not pay it. ``@kernel`` keeps
the plain Python function (``.python``, the readable reference) and compiles on demand.
"""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, ParamSpec, TypeVar

__all__ = ["Kernel", "instructions", "kernel", "spread", "threads"]

P = ParamSpec("P")
R = TypeVar("R")
log = logging.getLogger(__name__)


class Kernel(Generic[P, R]):
    """A function compiled at its first call; kernels may call kernels of the same module."""

    def __init__(self, function: Callable[P, R], options: dict[str, Any]) -> None:
        functools.update_wrapper(self, function)
        self.python = function
        self.options = options

    @functools.cached_property
    def compiled(self) -> Callable[P, R]:
        """The numba dispatcher of this function."""
        import numba

        names = self.python.__globals__
        for name in self.python.__code__.co_names:
            if isinstance(names.get(name), Kernel):  # numba must see dispatchers, not us
                names[name] = names[name].compiled
        dispatcher: Callable[P, R] = numba.njit(**self.options)(self.python)
        return dispatcher

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the compiled function, and log what the compilation cost."""
        fresh = "compiled" not in self.__dict__
        begin = time.perf_counter()
        result = self.compiled(*args, **kwargs)
        if fresh:
            log.debug("%s: first call %.2f s", self.python.__name__, time.perf_counter() - begin)
        return result


def kernel(**options: Any) -> Callable[[Callable[P, R]], Kernel[P, R]]:
    """Mark a function for numba; ``options`` go to ``numba.njit`` (cached and GIL-free here)."""
    return lambda function: Kernel(function, {"cache": True, "nogil": True, **options})


@functools.cache
def instructions() -> frozenset[str]:
    """Return what kernels are compiled for beyond the processor's least, by LLVM's names."""
    from numba.core.registry import cpu_target

    features: str = cpu_target.target_context.codegen().magic_tuple()[2]
    return frozenset(name[1:] for name in features.split(",") if name.startswith("+"))


def threads(count: int) -> int:
    """Return how many threads to use: ``count``, or every core that this process may use if 0.

    ``OMP_NUM_THREADS`` bounds the latter, as in other numeric libraries: workers that share a
    machine are given it.
    """
    if count:
        return count
    affinity = getattr(os, "sched_getaffinity", None)  # not on every system
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    bound = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(bound)) if bound.isdecimal() and int(bound) else cores


def spread(work: Callable[[int, int], object], count: int, *, workers: int = 0) -> None:
    """Call ``work(start, stop)`` over ``range(count)`` in contiguous parts, one a thread.

    Kernels run without the interpreter's lock, so plain threads use every core; each part must
    write to places of its own.
    """
    workers = max(1, min(threads(workers), count))
    borders = [count * part // workers for part in range(workers + 1)]
    if workers == 1:
        work(0, count)
        return
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, borders[:-1], borders[1:]))
