"""The vectors of words out of a table, and what becomes of words that it lacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats2d, Ids
from tokenspace.errors import ConfigError
from tokenspace.lexicon import lower
from tokenspace.table import EmbeddingTable

__all__ = ["OOV", "Found", "Oov", "check_oov", "find", "row_ids"]

Oov = Literal["skip", "zero", "mean"]
OOV = ("skip", "zero", "mean")


@dataclass(frozen=True, eq=False)
class Found:
    """What a table has of N words.

    ``vectors`` is (N, D) float32: the rows of words that are ``known`` (N,), of the others the
    mean of the table where the policy is ``"mean"``, else zero. ``ids`` (N,) are the rows of the
    table, -1 where it has none. A word may be known without a row, by its character n-grams.
    """

    words: tuple[str, ...]
    vectors: Floats2d
    ids: Ids
    known: npt.NDArray[np.bool_]

    @property
    def unknown(self) -> tuple[str, ...]:
        """The words without a vector of their own, each once, in alphabetic order."""
        left = {word for word, known in zip(self.words, self.known, strict=True) if not known}
        return tuple(sorted(left))


def check_oov(oov: str) -> None:
    """Refuse a policy for unknown words that does not exist."""
    if oov not in OOV:
        raise ConfigError(
            f"oov={oov!r} is not one of {', '.join(map(repr, OOV))}",
            hint="skip leaves items with unknown words out, zero and mean give such words a vector",
        )


def row_ids(table: EmbeddingTable, words: Sequence[str], language: str = "") -> Ids:
    """Return the row of every word, (N,), or -1.

    A word is looked up as it is written, then in small letters (those of the language), then with
    a capital first letter. In the vocabulary of a tokenizer, where a token may stand for a space
    and a word, it is the token whose bytes are those of the word.
    """
    if table.vocab.kind != "words":
        found = (table.vocab.find(f" {word}") for word in words)
        return np.array([ids[0] if ids else -1 for ids in found], np.int64)
    ids = table.vocab.ids
    rows = np.full(len(words), -1, np.int64)
    for place, word in enumerate(words):
        small = lower(word, language)
        for form in (word, small, small.capitalize()):
            if form in ids:
                rows[place] = ids[form]
                break
    return rows


def find(
    table: EmbeddingTable, words: Sequence[str], *, oov: Oov = "skip", language: str = ""
) -> Found:
    """Look words up in a table; see :class:`Found` and :func:`row_ids`.

    Where the table carries the n-grams of a fastText model, a word without a row is known by them,
    if it has any.
    """
    check_oov(oov)
    ids = row_ids(table, words, language)
    known = ids >= 0
    vectors = np.zeros((len(words), table.shape[1]), np.float32)
    vectors[known] = table.rows(ids[known])
    if table.subwords is not None and not known.all():
        left = np.flatnonzero(~known)
        made = table.subwords.vectors([lower(words[int(i)], language) for i in left])
        vectors[left] = made
        known[left] = made.any(axis=1)
    if oov == "mean" and not known.all():
        vectors[~known] = table.vectors.mean(axis=0, dtype=np.float64)
    return Found(tuple(words), vectors, ids, known)
