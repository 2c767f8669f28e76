"""Records on disk: one JSON object a line, and the offset of every line.

Any record is one look-up away, and none is held in memory. The file is read and not mapped: a
mapping of which every page is touched counts as memory whole.
"""

from __future__ import annotations

import io
import json
import threading
import weakref
from array import array
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .arrays import Ids
from .errors import FormatError
from .io import replacing

__all__ = ["JsonLines"]

SMALL = 1 << 16  # bytes up to which a file is held, so that many of them need no open files


class JsonLines:
    """A read-only sequence of JSON objects in the directory ``path``.

    ``stem`` names the file, ``STEM.jsonl``; ``offsets.npy`` lies beside it.
    """

    def __init__(self, path: Path, stem: str, mend: str) -> None:
        file = path / f"{stem}.jsonl"
        self.offsets: Ids = np.load(path / "offsets.npy", allow_pickle=False)
        size = file.stat().st_size
        if size != self.offsets[-1]:
            raise FormatError(
                f"{file}: {size} bytes where the offsets end at {self.offsets[-1]}", hint=mend
            )
        # Open for good: another process may remove the file while this one still reads it.
        self._file: BinaryIO = io.BytesIO(file.read_bytes()) if size <= SMALL else file.open("rb")
        self._turn = threading.Lock()
        weakref.finalize(self, self._file.close)

    @staticmethod
    def write(path: Path, stem: str, records: Iterable[Mapping[str, Any]]) -> None:
        """Write ``records`` to the directory ``path``, streaming; it appears whole or not."""
        offsets = array("q", [0])
        with replacing(path) as partial:
            partial.mkdir()
            with (partial / f"{stem}.jsonl").open("wb") as file:
                for record in records:
                    line = json.dumps(record, ensure_ascii=False).encode() + b"\n"
                    file.write(line)
                    offsets.append(offsets[-1] + len(line))
            np.save(partial / "offsets.npy", np.frombuffer(offsets, np.int64))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> dict[str, Any]:
        start, stop = self.offsets[index : index + 2].tolist()
        with self._turn:
            self._file.seek(start)
            line = self._file.read(stop - start)
        record: dict[str, Any] = json.loads(line)
        return record

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[index] for index in range(len(self)))
