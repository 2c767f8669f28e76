"""Vectors for words that a table lacks, from the character n-grams that they are made of.

A fastText model holds a row for every bucket of n-grams beside those of its words. The n-grams of
``<word>``, ``minn`` to ``maxn`` characters long, fall into the buckets by a hash; the vector of a
word is the mean of its own row, if it has one, and of its n-grams' rows (Bojanowski, Grave,
Joulin, Mikolov 2017, arXiv:1607.04606, section 3.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .arrays import Floats2d
from .jit import kernel

__all__ = ["Subwords"]


@dataclass(frozen=True, eq=False)
class Subwords:
    """The rows of n-grams: (buckets, D) float32, may be memory-mapped, for lengths minn to maxn."""

    rows: Floats2d
    minn: int
    maxn: int

    def vectors(self, words: Sequence[str]) -> Floats2d:
        """Return the mean of the n-grams' rows of every word, (N, D); zero where it has none."""
        out = np.zeros((len(words), self.rows.shape[1]), np.float32)
        used = self.add_to(out, [word.encode("utf-8", "surrogatepass") for word in words])
        out /= np.maximum(used, 1)[:, None]
        return out

    def add_to(self, out: Floats2d, words: Sequence[bytes]) -> npt.NDArray[np.int64]:
        """Add every word's n-gram rows to its row of ``out``; return how many those were, (N,).

        The end-of-sentence mark ``</s>`` has no n-grams.
        """
        used = np.zeros(len(words), np.int64)
        offsets = np.zeros(len(words) + 1, np.int64)
        np.cumsum([len(word) + 2 for word in words], out=offsets[1:])
        flat = np.frombuffer(b"".join(b"<" + word + b">" for word in words), np.uint8)
        whole = np.array([word == b"</s>" for word in words], np.bool_)
        if len(words) and len(self.rows):
            _add_grams(self.rows, flat, offsets, whole, self.minn, self.maxn, out, used)
        return used


@kernel(error_model="numpy")
def _add_grams(
    rows: Any, flat: Any, offsets: Any, whole: Any, minn: int, maxn: int, out: Any, used: Any
) -> None:
    """Add up rows by n-grams, which count Unicode characters and are hashed by FNV-1a.

    The hash is that of fastText's program: over bytes as *signed* numbers, so that one above 127
    changes the upper bits too. ``flat`` holds ``<word>`` after ``<word>``; words marked ``whole``
    have no n-grams.
    """
    for w in range(len(offsets) - 1):
        begin, stop = offsets[w], offsets[w + 1]
        for i in range(begin, begin if whole[w] else stop):
            if flat[i] & 0xC0 == 0x80:  # inside a character
                continue
            h = np.uint32(2166136261)
            n, j = 1, i
            while j < stop and n <= maxn:
                while True:
                    byte = np.uint32(flat[j])
                    if byte >= 128:
                        byte = np.uint32(byte | np.uint32(0xFFFFFF00))
                    h = np.uint32(np.uint32(h ^ byte) * np.uint32(16777619))
                    j += 1
                    if j >= stop or flat[j] & 0xC0 != 0x80:
                        break
                if n >= minn and not (n == 1 and (i == begin or j == stop)):
                    row = np.int64(h) % len(rows)
                    for d in range(out.shape[1]):
                        out[w, d] += rows[row, d]
                    used[w] += 1
                n += 1
