"""Progress of long work: silent in a library call, a bar inside ``with show_progress():``.

The command line opens that block on a terminal; a method only ever says
``for batch in track(batches, "train")`` and never asks whether anybody looks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

__all__ = ["Meter", "show_progress", "track"]

T = TypeVar("T")
_bars: ContextVar[Progress | None] = ContextVar("tokenspace_progress", default=None)


@contextmanager
def show_progress(console: Console | None = None) -> Iterator[None]:
    """Show a bar on standard error for every ``track`` and ``Meter`` inside the block."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    bars = Progress(
        TextColumn("[progress.description]{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        console=console or Console(stderr=True),
        transient=True,
    )
    with bars:
        token = _bars.set(bars)
        try:
            yield
        finally:
            _bars.reset(token)


class Meter:
    """A bar that is advanced by hand: ``with Meter("encode", total=n) as meter: meter.add(1)``."""

    def __init__(self, label: str, total: float | None) -> None:
        self._bars = _bars.get()
        self._task = self._bars.add_task(label, total=total) if self._bars else None

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bars is not None and self._task is not None:
            self._bars.remove_task(self._task)

    def add(self, amount: float = 1) -> None:
        """Advance by ``amount`` of the total."""
        if self._bars is not None and self._task is not None:
            self._bars.advance(self._task, amount)


def track(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Yield ``items`` and show how far along they are."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with Meter(label, total) as meter:
        for item in items:
            yield item
            meter.add()
