"""Passages on disk: one JSON object a line, and the offset of every line.

Any passage is one look-up away, and none is held in memory. The file is read and not mapped: a
mapping of which every page is touched counts as memory whole.
"""

from __future__ import annotations

import json
import threading
import weakref
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from tokenspace.arrays import Ids
from tokenspace.errors import FormatError
from tokenspace.io import replacing

from .passages import Passage

__all__ = ["PassageFile"]


class PassageFile:
    """A read-only sequence of passages in the directory ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offsets: Ids = np.load(path / "offsets.npy", allow_pickle=False)
        size = (path / "passages.jsonl").stat().st_size
        if size != self.offsets[-1]:
            raise FormatError(
                f"{path / 'passages.jsonl'}: {size} bytes where the offsets end at "
                f"{self.offsets[-1]}",
                hint="build the space again",
            )
        # Open for good: another process may commit a space without this generation.
        self._file = (path / "passages.jsonl").open("rb")
        self._turn = threading.Lock()
        weakref.finalize(self, self._file.close)

    @classmethod
    def write(cls, path: Path, passages: Iterable[Passage]) -> PassageFile:
        """Write ``passages`` to the directory ``path``, streaming, and open it."""
        offsets = array("q", [0])
        with replacing(path) as partial:
            partial.mkdir()
            with (partial / "passages.jsonl").open("wb") as file:
                for passage in passages:
                    line = json.dumps(asdict(passage), ensure_ascii=False).encode() + b"\n"
                    file.write(line)
                    offsets.append(offsets[-1] + len(line))
            np.save(partial / "offsets.npy", np.frombuffer(offsets, np.int64))
        return cls(path)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Passage:
        start, stop = self.offsets[index : index + 2].tolist()
        with self._turn:
            self._file.seek(start)
            line = self._file.read(stop - start)
        return Passage(**json.loads(line))

    def __iter__(self) -> Iterator[Passage]:
        return (self[index] for index in range(len(self)))
