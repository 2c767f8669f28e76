"""Rank the passages of a space for a query, and say which tokens matched.

Four rankers: ``bm25`` counts words, ``single`` compares one vector a text, ``maxsim`` compares
token with token exactly, and ``fde`` finds candidates by fixed dimensional encodings and scores
those exactly. ``hybrid`` fuses some of their rankings by reciprocal rank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from tokenspace.arrays import Floats1d, Floats2d, Ids, Ragged
from tokenspace.compress import Lookup
from tokenspace.encode import TextEncoder
from tokenspace.errors import ConfigError, InputError
from tokenspace.vocab import Vocabulary

from .analysis import analyse
from .fde import FDEIndex
from .lexical import Lexical
from .passage_file import PassageFile
from .passages import Passage

__all__ = ["Collection", "Hit", "Match", "Query", "fuse", "indexed_text", "top", "unit_rows"]

MODES = ("hybrid", "maxsim", "fde", "single", "bm25")
DEPTH = 200  # passages of each ranking that are fused
FUSION = {
    "learned": {"bm25": 1.0, "maxsim": 1.0, "single": 0.75},
    "pretrained": {"single": 1.0, "maxsim": 1.0},
}
"""What ``hybrid`` fuses, with weights, by where the vectors come from (benchmarks/search.py)."""


class Match(NamedTuple):
    """A query token and the passage token that it matched best.

    ``similarity`` is the cosine of their vectors and ``weight`` what the query token counts: the
    MaxSim score is the sum of their products. ``start`` and ``end`` are the place in the
    passage's text, (-1, -1) for a match in its title.
    """

    query: str
    passage: str
    similarity: float
    weight: float
    start: int
    end: int


@dataclass(frozen=True)
class Hit:
    """One passage that was found."""

    rank: int
    score: float
    source: str
    line: int
    title: str
    text: str
    alignment: Sequence[Match]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON; the alignment as a list of objects."""
        return {**vars(self), "alignment": [match._asdict() for match in self.alignment]}


@dataclass(frozen=True)
class Query:
    """A query as every ranker needs it.

    ``surfaces`` are the query's T known tokens, ``weights`` (T,) what they count, ``vectors``
    (T, D) float32 their vectors times their weights, ``single`` (D,) the unit vector of the whole
    text, ``words`` its words for BM25.
    """

    text: str
    surfaces: Sequence[str]
    weights: Floats1d
    vectors: Floats2d
    single: Floats1d
    words: Sequence[str]


class Encoder(TextEncoder, Protocol):
    """A text encoder that also says which piece of a text each token vector stands for."""

    def encode_both(self, texts: Sequence[str]) -> tuple[Floats2d, Ragged]:
        """Return what ``encode`` and ``encode_tokens`` return, at the cost of one of them."""

    def tokens(self, texts: Sequence[str]) -> list[list[tuple[str, int, int]]]:
        """Return (surface, start, end) for every row of ``encode_tokens``, by characters."""


class TokenVectors(Protocol):
    """The stored token vectors of all passages."""

    def __getitem__(self, document: int) -> Floats2d:
        """Return the matrix of one passage, (T, D)."""

    def maxsim(self, query: Floats2d, documents: Ids | None = None) -> Floats1d:
        """Return the exact score of each passage, or of ``documents`` (n,), (n,) float32."""


def indexed_text(passage: Passage) -> str:
    """Return what is encoded and indexed for a passage: its title, a line break, its text."""
    return f"{passage.title}\n{passage.text}" if passage.title else passage.text


def unit_rows(rows: Floats2d) -> Floats2d:
    """Return the rows divided by their lengths, (n, D) float32; a zero row stays zero."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1), np.float32)


def fuse(rankings: Sequence[tuple[Ids, float]], constant: float = 60.0) -> tuple[Ids, Floats1d]:
    """Fuse rankings by reciprocal rank (Cormack, Clarke and Büttcher, SIGIR 2009).

    Each ranking is passage numbers, best first, and a weight w; a passage's score is the sum of
    w / (constant + rank) over the rankings that hold it, ranks from 1. Returns the numbers, best
    first, ties by number, and their scores.
    """
    totals: dict[int, float] = {}
    for numbers, weight in rankings:
        for rank, number in enumerate(numbers.tolist(), 1):
            totals[number] = totals.get(number, 0.0) + weight / (constant + rank)
    order = sorted(totals, key=lambda number: (-totals[number], number))
    return np.array(order, np.int64), np.array([totals[n] for n in order], np.float32)


def top(scores: Floats1d, k: int) -> Ids:
    """Return the numbers of the ``k`` greatest scores, best first, ties by number."""
    k = min(k, len(scores))
    if k == 0:
        return np.zeros(0, np.int64)
    least = np.partition(scores, len(scores) - k)[len(scores) - k]
    reach = np.flatnonzero(scores >= least)
    order: Ids = reach[np.argsort(-scores[reach], kind="stable")[:k]].astype(np.int64)
    return order


@dataclass(frozen=True)
class Collection:
    """The parts of an opened generation that searching needs.

    ``weights`` (V,) float32 says how much each token of ``vocab`` counts in a query: 0 for a
    token that the text never held. ``fusion`` names the modes that ``hybrid`` fuses.
    """

    passages: PassageFile
    vocab: Vocabulary
    encoder: Encoder
    tokens: TokenVectors
    singles: Lookup
    fdes: FDEIndex
    lexical: Lexical
    weights: Floats1d
    first_stage: str
    fusion: Mapping[str, float]

    def query(self, text: str) -> Query:
        """Read a query. Raises :class:`InputError` where it holds no token that is known."""
        if not text.strip():
            raise InputError("the query is empty", hint="ask with at least one word")
        pieces = self.encoder.tokens([text])[0]
        singles, matrices = self.encoder.encode_both([text])
        weights = self.weights[self.vocab.encode(text)[: len(pieces)]]
        known = np.flatnonzero(weights > 0)
        if not len(known):
            raise InputError(
                f"no token of the query {text!r} occurs in this space",
                hint="use other words, or add text that holds these: tokenspace add",
            )
        return Query(
            text=text,
            surfaces=[pieces[int(i)][0] for i in known],
            weights=weights[known],
            vectors=np.ascontiguousarray(matrices[0][known] * weights[known, None], np.float32),
            single=unit_rows(singles)[0],
            words=analyse(text),
        )

    def single_scores(self, query: Query) -> Floats1d:
        """Return the inner product of each passage's vector with the query's, (N,)."""
        scores = np.empty(len(self.passages), np.float32)
        for start in range(0, len(scores), 65536):
            numbers = np.arange(start, min(start + 65536, len(scores)))
            # Not a product with a vector: BLAS starts threads for it, which takes longer
            scores[numbers] = np.einsum("nd,d->n", self.singles.rows(numbers), query.single)
        return scores

    def fde_ranking(self, query: Query, k: int) -> tuple[Ids, Floats1d]:
        """Return the best ``k`` of the candidates that the FDEs propose, scored exactly."""
        candidates, _ = self.fdes.search(query.vectors, max(10 * k, 100))
        scores = self.tokens.maxsim(query.vectors, candidates)
        order = np.lexsort((candidates, -scores))[:k]
        return candidates[order], scores[order]

    def token_ranking(self, query: Query, k: int) -> tuple[Ids, Floats1d]:
        """Return the best ``k`` passages by MaxSim, through the first stage that is faster here."""
        if self.first_stage == "fde":
            return self.fde_ranking(query, k)
        scores = self.tokens.maxsim(query.vectors)
        numbers = top(scores, k)
        return numbers, scores[numbers]

    def rank(self, query: Query, k: int, mode: str) -> tuple[Ids, Floats1d]:
        """Return passage numbers and scores, at most ``k``, best first, ties by number."""
        if mode == "hybrid":
            numbers, scores = fuse(
                [(self.rank(query, DEPTH, name)[0], weight) for name, weight in self.fusion.items()]
            )
            return numbers[:k], scores[:k]
        if mode == "maxsim":
            return self.token_ranking(query, k)
        if mode == "fde":
            return self.fde_ranking(query, k)
        scores = self.single_scores(query) if mode == "single" else self.lexical.scores(query.words)
        numbers = top(scores, k)
        if mode == "bm25":  # a passage that holds none of the words is no answer
            numbers = numbers[scores[numbers] > 0]
        return numbers, scores[numbers]

    def align(self, query: Query, passages: Mapping[int, Passage]) -> list[list[Match]]:
        """Return, for each passage, by number, what each query token matched best in it."""
        texts = [indexed_text(passage) for passage in passages.values()]
        width = query.vectors.shape[1]
        matrices = Ragged.pack([self.tokens[number] for number in passages], width=width)
        # Not a matrix product: equal tokens score equal wherever they stand, and the first is found
        similar = np.einsum("td,nd->tn", query.vectors, matrices.flat)
        weights = [round(weight, 4) for weight in query.weights.tolist()]
        aligned = []
        for i, (pieces, passage) in enumerate(
            zip(self.encoder.tokens(texts), passages.values(), strict=True)
        ):
            own = similar[:, matrices.offsets[i] : matrices.offsets[i + 1]]
            cosines = (own.max(axis=1) / query.weights).tolist()
            before = len(texts[i]) - len(passage.text)
            matches = []
            for surface, weight, cosine, best in zip(
                query.surfaces, weights, cosines, own.argmax(axis=1).tolist(), strict=True
            ):
                found, start, end = pieces[best]
                place = (start - before, end - before) if start >= before else (-1, -1)
                matches.append(Match(surface, found, round(cosine, 4), weight, *place))
            aligned.append(matches)
        return aligned

    def search(self, text: str, k: int, mode: str, *, explain: bool = True) -> list[Hit]:
        """Return the best ``k`` passages for a query in words, best first.

        Without ``explain`` the alignments are left empty.

        Passages with the same source and title are one section, and the best one stands for it:
        the others are only shown where there are fewer than ``k`` sections.
        """
        if mode not in MODES:
            raise ConfigError(
                f"search: mode={mode!r} is not one of {', '.join(MODES)}",
                hint="choose one of these modes",
            )
        if k < 1:
            raise ConfigError(f"search: k={k} is outside [1, inf]", hint="ask for at least one")
        query = self.query(text)
        numbers, scores = self.rank(query, DEPTH + k, mode)
        passages: list[Passage] = []
        sections: set[tuple[str, str | int]] = set()
        first: list[int] = []
        others: list[int] = []
        for place, number in enumerate(numbers.tolist()):
            passage = self.passages[number]
            passages.append(passage)
            section = (passage.source, passage.title or passage.line)
            (others if section in sections else first).append(place)
            sections.add(section)
            if len(first) == k:  # reading is what a passage costs here
                break
        shown = sorted([*first, *others][:k])
        found = {int(numbers[place]): passages[place] for place in shown}
        aligned = self.align(query, found) if explain else [[] for _ in found]
        return [
            Hit(rank=rank, score=float(scores[place]), alignment=own, **vars(passages[place]))
            for rank, (place, own) in enumerate(zip(shown, aligned, strict=True), 1)
        ]
