"""A faiss index whose codes stay on disk."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np

from tokenspace.io import drop_pages

__all__ = ["MappedIndex"]

SMALL = 1 << 18  # bytes up to which a file is read: a mapping keeps a file open


class MappedIndex:
    """The faiss index of one file; ``index`` reads its codes where they lie."""

    def __init__(self, path: Path) -> None:
        import faiss

        self._mapping: mmap.mmap | None = None
        if path.stat().st_size <= SMALL:
            self.index = faiss.deserialize_index(np.fromfile(path, np.uint8))
            return
        with path.open("rb") as file:
            self._mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._bytes = np.frombuffer(self._mapping, np.uint8)  # faiss holds no reference to it
        reader = faiss.ZeroCopyIOReader(  # type: ignore[attr-defined]
            faiss.swig_ptr(self._bytes), self._bytes.size
        )
        self.index = faiss.read_index(reader)

    def __len__(self) -> int:
        return int(self.index.ntotal)

    def rest(self) -> None:
        """Give the memory of the codes back; what is needed again is mapped again."""
        if self._mapping is not None:
            drop_pages(self._mapping)
