"""Passages on disk, as JSON lines: any of them is one look-up away, and none is in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from tokenspace.arrays import Ids
from tokenspace.json_lines import JsonLines

from .passages import Passage

__all__ = ["PassageFile"]


class PassageFile:
    """A read-only sequence of passages in the directory ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines = JsonLines(path, "passages", "build the space again")

    @classmethod
    def write(cls, path: Path, passages: Iterable[Passage]) -> PassageFile:
        """Write ``passages`` to the directory ``path``, streaming, and open it."""
        JsonLines.write(path, "passages", (asdict(passage) for passage in passages))
        return cls(path)

    @property
    def offsets(self) -> Ids:
        """Where each passage's line begins, and where the last ends, in bytes: (N + 1,)."""
        return self._lines.offsets

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, index: int) -> Passage:
        return Passage(**self._lines[index])

    def __iter__(self) -> Iterator[Passage]:
        return (self[index] for index in range(len(self)))
