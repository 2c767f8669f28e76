"""Progress of long work: silent in a library call, a bar inside ``with show_progress():``.

The command line opens that block on a terminal; a method only ever says
``for batch in track(batches, "train")`` and never asks whether anybody looks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

__all__ = ["Meter", "show_progress", "track"]

T = TypeVar("T")


class _Board:
    """The bars of a terminal: there while something is under way, gone when nothing is.

    So whatever is printed between two steps finds a clean line.
    """

    def __init__(self, console: Console | None) -> None:
        self._console = console

    @cached_property
    def _bars(self) -> Progress:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        return Progress(
            TextColumn("[progress.description]{task.description}"),
            BarColumn(),
            TaskProgressColumn(show_speed=True),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=self._console or Console(stderr=True),
            transient=True,
        )

    def begin(self, label: str, total: float | None) -> TaskID:
        if not self._bars.tasks:
            self._bars.start()
        return self._bars.add_task(label, total=total)

    def advance(self, task: TaskID, amount: float) -> None:
        self._bars.advance(task, amount)

    def end(self, task: TaskID) -> None:
        if len(self._bars.tasks) == 1:
            self._bars.stop()
        self._bars.remove_task(task)

    def close(self) -> None:
        if "_bars" in self.__dict__:
            self._bars.stop()


_board: ContextVar[_Board | None] = ContextVar("tokenspace_progress", default=None)


@contextmanager
def show_progress(console: Console | None = None) -> Iterator[None]:
    """Show a bar on standard error for every ``track`` and ``Meter`` inside the block."""
    board = _Board(console)
    token = _board.set(board)
    try:
        yield
    finally:
        _board.reset(token)
        board.close()


class Meter:
    """A bar that is advanced by hand: ``with Meter("encode", total=n) as meter: meter.add(1)``."""

    def __init__(self, label: str, total: float | None) -> None:
        self._board = _board.get()
        self._task = self._board.begin(label, total) if self._board else None

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._board is not None and self._task is not None:
            self._board.end(self._task)
            self._task = None

    def add(self, amount: float = 1) -> None:
        """Advance by ``amount`` of the total."""
        if self._board is not None and self._task is not None:
            self._board.advance(self._task, amount)


def track(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Yield ``items`` and show how far along they are."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with Meter(label, total) as meter:
        for item in items:
            yield item
            meter.add()
