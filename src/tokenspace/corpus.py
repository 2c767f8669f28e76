"""A corpus: texts that can be read again and again, and their stream of token ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from .arrays import Ids
from .errors import InputError

__all__ = ["Corpus", "IdStream"]


class IdStream(NamedTuple):
    """Token ids of a corpus: ``ids`` (N,) int32, maybe memory-mapped; ``offsets`` (S + 1,) int64.

    Sentence ``i`` is ``ids[offsets[i]:offsets[i + 1]]``; windows never cross an offset.
    """

    ids: npt.NDArray[np.int32]
    offsets: Ids


class Corpus:
    """Texts, one a line of a file or one an item of a list; re-iterable and never held whole."""

    def __init__(self, texts: Sequence[str]) -> None:
        if isinstance(texts, str):
            raise InputError(
                "a corpus is a list of texts, not one string", hint="write Corpus([text])"
            )
        self.texts = texts
        self.paths: tuple[Path, ...] = ()

    @classmethod
    def load(cls, *paths: str | Path) -> Self:
        """Open text files (``.txt``, ``.gz``), one text a line; they are streamed, not read."""
        corpus = cls([])
        corpus.paths = tuple(Path(path) for path in paths)
        return corpus

    def __iter__(self) -> Iterator[str]:
        return iter(self.texts)
