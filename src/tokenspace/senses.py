"""A table whose rows are senses of words, and which sense a word has in a text.

A word that was found in several meanings has several rows: ``bank``, ``bank#2``, ``bank#3``, the
most frequent sense first. Every word has thus a row of its own name, and whatever takes a table of
word vectors takes this one. The *gate* tells the senses apart: with ``W`` the output vectors of the
n other words of a text, and ``U`` and ``c`` the gates of a word's rows,

    p(s | word, text) = softmax_s( U_s . (1/n) sum_j W_j + c_s )
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from .arrays import Floats1d, Floats2d, Ids
from .errors import InputError
from .lexicon import Lexicon
from .metrics import adjusted_rand
from .table import EmbeddingTable
from .vocab import Vocabulary

__all__ = ["Gates", "Induction", "Reading", "SenseTable", "induction", "row_name"]


def row_name(word: str, sense: int) -> str:
    """Return the name of the row of a sense, which are numbered from 0: ``bank``, ``bank#2``."""
    return word if sense == 0 else f"{word}#{sense + 1}"


class Reading(NamedTuple):
    """A word of a text, the row that is its sense there, and how probable that sense is."""

    word: str
    sense: str
    probability: float


@dataclass(frozen=True, eq=False)
class Gates:
    """What chooses among the rows of a word, by the words around it.

    Word ``v`` of V owns the rows ``first[v]`` to ``first[v + 1]`` of R, its most frequent sense
    first. ``U`` (R, D) and ``c`` (R,) are the gate of each row and ``prior`` (R,) how often it is
    the sense of its word, summing to 1 over a word. ``W`` (V, D) are the vectors of the words as
    neighbours; a sense of vector x has the neighbour o with probability softmax_o(W x + ``b``).
    """

    first: Ids
    U: Floats2d
    c: Floats1d
    prior: Floats1d
    W: Floats2d
    b: Floats1d

    def __post_init__(self) -> None:
        rows, words = len(self.U), len(self.W)
        shapes = [(len(self.first), words + 1), (len(self.c), rows), (len(self.prior), rows)]
        fits = all(found == wanted for found, wanted in [*shapes, (len(self.b), words)])
        if not fits or self.U.shape[1:] != self.W.shape[1:] or self.first[-1:] != [rows]:
            raise InputError(
                f"gates of {rows} rows and {words} words do not agree in their shapes",
                hint="save the table again",
            )

    @classmethod
    def of(cls, tensors: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Read them out of the tensors of a saved table."""
        first = np.asarray(tensors["senses.first"], np.int64)
        names = [item.name for item in fields(cls)][1:]
        return cls(first, *(np.asarray(tensors[f"senses.{name}"], np.float32) for name in names))

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Return what :meth:`of` reads."""
        return {f"senses.{item.name}": getattr(self, item.name) for item in fields(self)}

    def probabilities(self, word: int, h: Floats2d) -> Floats2d:
        """Return p(sense) of a word for mean vectors ``h`` (N, D) of its contexts, (N, M)."""
        own = slice(self.first[word], self.first[word + 1])
        logits = h @ self.U[own].T + self.c[own]
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(p / p.sum(axis=1, keepdims=True), np.float32)


@dataclass(frozen=True, eq=False)
class SenseTable(EmbeddingTable):
    """Vectors of senses: a row for every sense of every word, and the gates between them.

    An :class:`EmbeddingTable` otherwise; ``notes`` say how texts are split into words. Another
    vocabulary makes it an ordinary table, and so does a file of word vectors.
    """

    gates: Gates = field(kw_only=True)

    def __post_init__(self, finite: bool) -> None:
        super().__post_init__(finite)
        if len(self.gates.U) != len(self.vocab):
            raise InputError(
                f"table: {len(self.vocab)} tokens and gates of {len(self.gates.U)} rows",
                hint="give one gate for every row",
            )

    @cached_property
    def words(self) -> Vocabulary:
        """The words, without their further senses, by their numbers in the gates."""
        return Vocabulary.words([self.vocab.tokens[row] for row in self.gates.first[:-1]])

    def id(self, token: str) -> int:
        """Return the row of a token; ``bank#1`` is ``bank``."""
        return super().id(token if token in self.vocab.ids else token.removesuffix("#1"))

    def senses(self, word: str) -> list[tuple[str, float]]:
        """Return the rows of a word and how often each is its sense, most frequent first."""
        v = self.words.id(word)
        rows = range(self.gates.first[v], self.gates.first[v + 1])
        return [(self.vocab.tokens[row], float(self.gates.prior[row])) for row in rows]

    def disambiguate(self, text: str, *, window: int | None = None) -> list[Reading]:
        """Return every known word of a text in its order, with its most probable sense.

        Parameters
        ----------
        text
            One text; all of it is the context of each of its words.
        window
            Words to each side that are the context instead: for texts of several subjects.
            Words that the table does not know do not count.
        """
        if not isinstance(text, str):
            raise InputError(
                f"disambiguate takes one text, not {type(text).__name__}",
                hint="call it for every text",
            )
        if window is not None and window < 1:
            raise InputError(f"window={window} is below 1", hint="leave it out for all of the text")
        ids = self.encode([text])[0]
        sums = np.zeros((len(ids) + 1, self.gates.W.shape[1]))
        np.cumsum(self.gates.W[ids], axis=0, out=sums[1:])
        reach = len(ids) if window is None else window
        found = []
        for place, v in enumerate(ids):
            low, high = max(0, place - reach), min(len(ids), place + reach + 1)
            h = (sums[high] - sums[low] - self.gates.W[v]) / max(high - low - 1, 1)
            p = self._gate(int(v), h[None].astype(np.float32), np.array([high - low > 1]))[0]
            best = int(p.argmax())
            row = int(self.gates.first[v]) + best
            found.append(Reading(self.words.tokens[v], self.vocab.tokens[row], float(p[best])))
        return found

    def gate(self, word: str, contexts: Sequence[str]) -> Floats2d:
        """Return the probability of each sense of ``word`` in texts it was cut out of, (N, M).

        Where a text has no known word the probabilities are those of the senses at large.
        """
        rows = self.encode(contexts)
        h = np.zeros((len(rows), self.gates.W.shape[1]), np.float32)
        for mean, ids in zip(h, rows, strict=True):
            if len(ids):
                mean[:] = self.gates.W[ids].mean(axis=0)
        return self._gate(self.words.id(word), h, np.array([len(ids) > 0 for ids in rows], bool))

    def _gate(self, word: int, h: Floats2d, known: npt.NDArray[np.bool_]) -> Floats2d:
        p = self.gates.probabilities(word, h)
        p[~known] = self.gates.prior[self.gates.first[word] : self.gates.first[word + 1]]
        return p

    def encode(self, texts: Sequence[str]) -> list[npt.NDArray[np.int32]]:
        """Return the known words of every text, as numbers of ``words``, found as in the corpus."""
        lexicon = Lexicon(self.notes.get("split", "words"), self.notes.get("language", ""))
        file = io.BytesIO()
        ends = lexicon.read([texts], file)
        numbers = np.frombuffer(file.getvalue(), np.int32)
        known = self.words.ids
        words = [known.get(lexicon.word(number), -1) for number in range(lexicon.words)]
        ids = np.array(words, np.int32)[numbers]
        return [part[part >= 0] for part in np.split(ids, ends[:-1])] if texts else []

    def replace(self, *, vectors: Floats2d, vocab: Vocabulary | None = None) -> EmbeddingTable:
        """Return the table with other vectors; with another vocabulary, an ordinary table."""
        if vocab is None:
            return replace(self, vectors=vectors)
        return EmbeddingTable(vocab, vectors, notes=self.notes)


class Induction(NamedTuple):
    """How well senses were found: the adjusted Rand index of every word, and what was left out.

    ``unknown`` lists the words that the table lacks; ``empty`` counts contexts without a known
    word.
    """

    ari: dict[str, float]
    unknown: list[str]
    empty: int

    @property
    def mean(self) -> float:
        """The mean of all words, each weighing the same; NaN without one."""
        return float(np.mean(list(self.ari.values()))) if self.ari else float("nan")


def induction(table: SenseTable, occurrences: Sequence[tuple[str, str, str]]) -> Induction:
    """Compare the senses that a table finds with given ones, word by word.

    An occurrence is a word, the text around it without it, and its sense.
    """
    by_word: dict[str, list[tuple[str, str]]] = {}
    for word, text, sense in occurrences:
        by_word.setdefault(word, []).append((text, sense))
    ari, unknown, empty = {}, [], 0
    for word, items in by_word.items():
        if word not in table.words.ids:
            unknown.append(word)
            continue
        texts = [text for text, _ in items]
        some = [len(ids) > 0 for ids in table.encode(texts)]
        empty += some.count(False)
        found = table.gate(word, texts).argmax(axis=1)[some]
        gold = [sense for (_, sense), there in zip(items, some, strict=True) if there]
        if gold:
            ari[word] = adjusted_rand(gold, found.tolist())
    return Induction(ari, unknown, empty)
