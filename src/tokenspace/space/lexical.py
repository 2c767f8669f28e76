"""BM25 over the passages, by the library bm25s, in shards of bounded memory.

Document frequencies are those of a shard, as in every sharded search engine; below
``SHARD`` passages there is one shard and the figures are exact.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np

from tokenspace.arrays import Floats1d
from tokenspace.io import drop_pages, replacing
from tokenspace.progress import track

from .analysis import analyse

__all__ = ["Lexical"]

SHARD = 100_000
K1, B = 1.2, 0.4  # passages have about one length, so length says little (benchmarks/search.py)


class Lexical:
    """Shards of BM25 scores; ``scores`` gives one figure a passage."""

    def __init__(self, shards: Sequence[Any]) -> None:
        self._shards = shards
        self.sizes = [int(shard.scores["num_docs"]) for shard in shards]

    @classmethod
    def fit(cls, texts: Iterator[str]) -> Self:
        """Index ``texts`` in memory."""
        return cls(list(_shards(texts)))

    @classmethod
    def write(cls, path: Path, texts: Iterator[str]) -> Self:
        """Index ``texts`` into the directory ``path``, one shard in memory at a time."""
        with replacing(path) as partial:
            partial.mkdir()
            for number, shard in enumerate(_shards(texts)):
                shard.save(partial / f"{number:04d}", show_progress=False)
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Map the shards below ``path``."""
        import bm25s

        folders = sorted(folder for folder in path.iterdir() if folder.is_dir())
        return cls([bm25s.BM25.load(folder, mmap=True, show_progress=False) for folder in folders])

    def knows(self, words: Sequence[str]) -> list[str]:
        """Return those of ``words`` that occur in some passage."""
        return [word for word in words if any(word in shard.vocab_dict for shard in self._shards)]

    def scores(self, words: Sequence[str]) -> Floats1d:
        """Return the BM25 score of every passage, (N,) float32, 0 where no word occurs."""
        parts = []
        for shard, size in zip(self._shards, self.sizes, strict=True):
            known = [word for word in words if word in shard.vocab_dict]
            found = shard.get_scores(known) if known else np.zeros(size, np.float32)
            parts.append(np.asarray(found, np.float32))
            if len(self._shards) > 1:
                _rest(shard)
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _rest(shard: Any) -> None:
    """Give back the memory of a shard's mapped files until the next query."""
    for array in shard.scores.values():
        base: Any = getattr(array, "base", None)
        if isinstance(base, mmap.mmap):
            drop_pages(base)


def _shards(texts: Iterator[str]) -> Iterator[Any]:
    import bm25s

    known: dict[str, str] = {}  # one object a word, however often it occurs
    words = (
        [known.setdefault(word, word) for word in analyse(text)] for text in track(texts, "bm25")
    )
    while batch := list(islice(words, SHARD)):
        shard = bm25s.BM25(k1=K1, b=B, method="lucene")
        shard.index(batch, show_progress=False)
        yield shard
