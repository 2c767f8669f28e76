"""Vectors for words that a table lacks, from the character n-grams that they are made of.

A fastText model holds rows for n-grams beside those of its words. The n-grams of ``<word>``,
``minn`` to ``maxn`` characters long, fall into *buckets* by a hash; the vector of a word is the
mean of its own row, if it has one, and of its n-grams' rows (Bojanowski, Grave, Joulin, Mikolov
2017, arXiv:1607.04606, section 3.2). There are three ways to give n-grams rows:

- *buckets*, as fastText has them. Only those in which an n-gram of the text lies need a row
  (``keys`` says which they are); the others are zero.
- *exact*: each n-gram has a row of its own, which is known by 64 bits of its hash.
- *floret*: each n-gram, and ``<word>`` as well, is the sum of ``hashes`` rows of one small table,
  and words have no rows of their own (the format of explosion/floret and spaCy).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice, repeat
from typing import Any

import numpy as np
import numpy.typing as npt

from .arrays import Floats2d, Ids
from .errors import InputError
from .jit import kernel

__all__ = ["LONGEST", "SEED", "Subwords", "gram_keys"]

LONGEST = 64  # characters of an n-gram
SEED = 2166136261  # of floret's hash, and the start of fastText's
_BLOCK = 4096  # words whose n-grams are held at a time
_WHOLE = b"</s>"  # fastText's mark for the end of a sentence has no n-grams


@dataclass(frozen=True, eq=False)
class Subwords:
    """The rows of n-grams of ``minn`` to ``maxn`` characters.

    ``rows`` is (R, D) float32 and may be memory-mapped. ``buckets`` is how many buckets there are
    (by default R), or 0 where each n-gram has its own row; ``keys`` (R,) int64, ascending, is the
    bucket, or the hash, that each row belongs to (by default row i is that of bucket i).
    ``hashes`` is how many rows floret adds up for an n-gram; 0 stands for fastText's hash.
    """

    rows: Floats2d
    minn: int
    maxn: int
    buckets: int | None = None
    keys: Ids | None = None
    hashes: int = 0

    def __post_init__(self) -> None:
        size = len(self.rows) if self.rows.ndim == 2 else -1
        if self.buckets is None:
            object.__setattr__(self, "buckets", size)
        keyed = self.keys is not None and self.keys.shape == (size,)
        whole = self.keys is None and self.buckets == size > 0
        if not 1 <= self.minn <= self.maxn <= LONGEST or not 0 <= self.hashes <= 4:
            raise InputError(
                f"n-grams of {self.minn} to {self.maxn} characters by {self.hashes} hashes",
                hint=f"give 1 <= minn <= maxn <= {LONGEST}, and at most 4 hashes",
            )
        if not (keyed or whole) or not 0 <= (self.buckets or 0) < 1 << 31:
            raise InputError(
                f"n-grams: rows of shape {self.rows.shape} for {self.buckets} buckets",
                hint="give a row for every bucket, or the bucket of every row as keys",
            )

    def vectors(self, words: Sequence[str]) -> Floats2d:
        """Return the mean of the n-grams' rows of every word, (N, D); zero where it has none.

        An n-gram without a row counts as a row of zeros.
        """
        out = np.zeros((len(words), self.rows.shape[1]), np.float32)
        used = self.add_to(out, [word.encode("utf-8", "surrogatepass") for word in words])
        out /= np.maximum(used, 1)[:, None]
        return out

    def add_to(self, out: Floats2d, words: Sequence[bytes]) -> npt.NDArray[np.int64]:
        """Add every word's n-gram rows to its row of ``out``; return how many those were, (N,).

        The end-of-sentence mark ``</s>`` has no n-grams.
        """
        used = np.zeros(len(words), np.int64)
        for start in range(0, len(words), _BLOCK):
            places, starts = self.places(words[start : start + _BLOCK])
            _add_rows(self.rows, places, starts, out[start : start + _BLOCK])
            used[start : start + _BLOCK] = np.diff(starts)
        return used

    def places(self, words: Sequence[bytes]) -> tuple[Ids, Ids]:
        """Return the rows of every word's n-grams, -1 where there is none, and their offsets.

        Those of word i are ``places[offsets[i]:offsets[i + 1]]``.
        """
        keys, starts = gram_keys(words, self.minn, self.maxn, self.buckets or 0, self.hashes)
        if self.keys is None:
            return keys, starts
        if not len(self.keys):
            return np.full(len(keys), -1), starts
        found = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[found] == keys, found, -1), starts

    def grams(self, words: Iterable[str]) -> dict[int, list[str]]:
        """List the n-grams of the words that lie in each row, in the order in which they occur."""
        found: dict[int, dict[str, None]] = {}
        each = iter(words)
        while block := list(islice(each, _BLOCK)):
            places, _ = self.places([word.encode("utf-8", "surrogatepass") for word in block])
            spelled = (gram for word in block for gram in self._spell(word))
            for place, gram in zip(places.tolist(), spelled, strict=True):
                if place >= 0:
                    found.setdefault(place, {})[gram] = None
        return {place: list(found[place]) for place in sorted(found)}

    def _spell(self, word: str) -> Iterable[str]:
        """Yield the n-grams of a word in the order of their keys, as often as each has one."""
        text = f"<{word}>"
        if text[1:-1].encode("utf-8", "surrogatepass") == _WHOLE:
            return
        if self.hashes:
            yield from repeat(text, self.hashes)
        for i in range(len(text)):
            for n in range(self.minn, min(self.maxn, len(text) - i) + 1):
                if not (n == 1 and i in (0, len(text) - 1)):
                    yield from repeat(text[i : i + n], max(1, self.hashes))


def gram_keys(
    words: Sequence[bytes], minn: int, maxn: int, buckets: int, hashes: int = 0
) -> tuple[Ids, Ids]:
    """Return the bucket of every n-gram of every word, and where each word's begin, (N + 1,).

    With ``buckets=0``, 64 bits of its hash; with ``hashes``, floret's buckets, as many as that an
    n-gram, and the first ones those of the whole word.
    """
    offsets = np.zeros(len(words) + 1, np.int64)
    np.cumsum([len(word) + 2 for word in words], out=offsets[1:])
    flat = np.frombuffer(b"".join(b"<" + word + b">" for word in words), np.uint8)
    whole = np.array([word == _WHOLE for word in words], np.bool_)
    starts = np.zeros(len(words) + 1, np.int64)
    if len(words):
        keys = np.zeros(0, np.int64)
        total = _keys(flat, offsets, whole, minn, maxn, buckets, hashes, keys, starts)
        keys = np.zeros(total, np.int64)
        if total:
            _keys(flat, offsets, whole, minn, maxn, buckets, hashes, keys, starts)
        return keys, starts
    return np.zeros(0, np.int64), starts


@kernel(error_model="numpy")
def _add_rows(rows: Any, places: Ids, starts: Ids, out: Any) -> None:
    for w in range(len(starts) - 1):
        for p in range(starts[w], starts[w + 1]):
            if places[p] >= 0:
                for d in range(out.shape[1]):
                    out[w, d] += rows[places[p], d]


@kernel()
def _rotate(x: np.uint64, r: int) -> np.uint64:
    return np.uint64((x << np.uint64(r)) | (x >> np.uint64(64 - r)))


@kernel()
def _mix(x: np.uint64) -> np.uint64:
    x = np.uint64((x ^ (x >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD))
    x = np.uint64((x ^ (x >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53))
    return np.uint64(x ^ (x >> np.uint64(33)))


@kernel()
def _murmur(flat: Any, begin: int, stop: int, seed: int, h: Any) -> None:
    """Hash bytes by MurmurHash3 (x64, 128 bits; Austin Appleby, public domain) into ``h`` (2,)."""
    c1, c2 = np.uint64(0x87C37B91114253D5), np.uint64(0x4CF5AD432745937F)
    five = np.uint64(5)
    h1 = h2 = np.uint64(seed)
    length = np.uint64(stop - begin)
    for block in range(begin, stop, 16):
        k1 = k2 = np.uint64(0)
        for i in range(block, min(block + 8, stop)):
            k1 |= np.uint64(flat[i]) << np.uint64(8 * (i - block))
        for i in range(block + 8, min(block + 16, stop)):
            k2 |= np.uint64(flat[i]) << np.uint64(8 * (i - block - 8))
        h1 ^= np.uint64(_rotate(np.uint64(k1 * c1), 31) * c2)
        if block + 16 <= stop:
            h1 = np.uint64((_rotate(h1, 27) + h2) * five + np.uint64(0x52DCE729))
        h2 ^= np.uint64(_rotate(np.uint64(k2 * c2), 33) * c1)
        if block + 16 <= stop:
            h2 = np.uint64((_rotate(h2, 31) + h1) * five + np.uint64(0x38495AB5))
    h1 ^= length
    h2 ^= length
    h1 += h2
    h2 += h1
    h1, h2 = _mix(h1), _mix(h2)
    h1 += h2
    h[0], h[1] = h1, h2 + h1


@kernel()
def _put(
    flat: Any, begin: int, stop: int, buckets: int, hashes: int, h: Any, keys: Any, at: int
) -> int:
    """Write the keys of one n-gram that fastText's hash does not make; return how many."""
    _murmur(flat, begin, stop, SEED, h)
    if buckets == 0:
        keys[at] = np.int64(h[0])
        return 1
    for k in range(hashes):
        word = h[k // 2] >> np.uint64(32 * (k % 2)) & np.uint64(0xFFFFFFFF)
        keys[at + k] = np.int64(word) % buckets
    return hashes


@kernel(error_model="numpy")
def _keys(
    flat: Any,
    offsets: Any,
    whole: Any,
    minn: int,
    maxn: int,
    buckets: int,
    hashes: int,
    keys: Any,
    starts: Any,
) -> int:
    """Write the keys of all n-grams, or only count them where ``keys`` is empty; return how many.

    N-grams count Unicode characters. fastText's hash is FNV-1a over bytes as *signed* numbers, so
    that one above 127 changes the upper bits too. ``flat`` holds ``<word>`` after ``<word>``; words
    marked ``whole`` have no n-grams.
    """
    h = np.zeros(2, np.uint64)
    each = max(1, hashes)
    total = 0
    for w in range(len(offsets) - 1):
        begin, stop = offsets[w], offsets[w + 1]
        if hashes > 0 and not whole[w]:
            if len(keys) > 0:
                _put(flat, begin, stop, buckets, hashes, h, keys, total)
            total += each
        for i in range(begin, begin if whole[w] else stop):
            if flat[i] & 0xC0 == 0x80:  # inside a character
                continue
            fnv = np.uint32(SEED)
            n, j = 1, i
            while j < stop and n <= maxn:
                while True:
                    byte = np.uint32(flat[j])
                    if byte >= 128:
                        byte = np.uint32(byte | np.uint32(0xFFFFFF00))
                    fnv = np.uint32(np.uint32(fnv ^ byte) * np.uint32(16777619))
                    j += 1
                    if j >= stop or flat[j] & 0xC0 != 0x80:
                        break
                if n >= minn and not (n == 1 and (i == begin or j == stop)):
                    if len(keys) > 0:
                        if hashes > 0 or buckets == 0:
                            _put(flat, i, j, buckets, hashes, h, keys, total)
                        else:
                            keys[total] = np.int64(fnv) % buckets
                    total += each
                n += 1
        starts[w + 1] = total
    return total
