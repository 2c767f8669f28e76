"""What the methods of this family share: exact Chamfer scores, alignments and the best k."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from tokenspace.arrays import Floats1d, Floats2d, Ids, Ids2d, Ragged
from tokenspace.errors import InputError
from tokenspace.jit import spread
from tokenspace.rng import stream

from .store import DocumentTokens, ScoredTokens

__all__ = [
    "OnEmpty",
    "align",
    "batches",
    "best",
    "chamfer",
    "chamfer_of",
    "check_candidates",
    "check_docs",
    "check_k",
    "check_queries",
    "check_query",
    "cut",
    "sample_rows",
]

OnEmpty = Literal["raise", "zero"]
_LANES = 512  # query tokens that are scored together


def check_docs(docs: Ragged, on_empty: OnEmpty) -> None:
    """Raise :class:`InputError` unless every document can be indexed.

    A document without tokens is refused, naming the first, unless ``on_empty`` is ``zero``.
    """
    docs.check("docs")
    if len(docs) == 0:
        raise InputError("docs: there are no documents", hint="give at least one document")
    empty = np.flatnonzero(docs.heights == 0)
    if len(empty) and on_empty == "raise":
        raise InputError(
            f"docs: document {int(empty[0])} has no tokens ({len(empty)} such documents)",
            hint="remove it, or let it score zero with on_empty='zero'",
        )
    if docs.width == 0:
        raise InputError("docs: token vectors have width 0", hint="give vectors of width >= 1")


def check_queries(queries: Ragged, width: int) -> None:
    """Raise :class:`InputError` unless every query is finite, of this width and not empty."""
    queries.check("queries", width)
    empty = np.flatnonzero(queries.heights == 0)
    if len(empty):
        raise InputError(
            f"queries: query {int(empty[0])} has no tokens",
            hint="drop queries whose text gives no token",
        )


def check_query(query: Floats2d, width: int, document: int, documents: int) -> None:
    """Raise :class:`InputError` unless ``query`` is (T >= 1, width) and ``document`` exists."""
    shape = np.shape(query)
    if len(shape) != 2 or shape[1] != width or shape[0] == 0:
        raise InputError(
            f"query: shape {shape}, expected (tokens, {width})",
            hint="encode queries as the documents were, one token at least",
        )
    if not 0 <= document < documents:
        raise InputError(f"document {document} is outside [0, {documents - 1}]")


def check_candidates(candidates: Ids2d, queries: int, documents: int) -> None:
    """Raise :class:`InputError` unless ``candidates`` is (Q, C) of numbers from -1 to N - 1."""
    if candidates.ndim != 2 or len(candidates) != queries:
        raise InputError(
            f"candidates: shape {candidates.shape}, expected ({queries}, C)",
            hint="give one row of document numbers a query, short ones filled up with -1",
        )
    if candidates.size and not -1 <= candidates.min() <= candidates.max() < documents:
        raise InputError(f"candidates: document numbers must lie in [-1, {documents - 1}]")


def check_k(k: int) -> None:
    """Raise :class:`InputError` unless ``k`` is a positive number."""
    if k < 1:
        raise InputError(f"k={k} is outside [1, inf]", hint="ask for at least one document")


def chamfer(store: ScoredTokens, queries: Ragged, threads: int = 0) -> Floats2d:
    """Score every document: ``out[i, j] = Σ_q max_p <q, p>`` over q in query i, p in document j.

    (Q, N) float32; a document without tokens scores 0. Each score depends on its own query and
    document alone, to the last bit: not on their order, their neighbours or ``threads``.
    """
    out = np.empty((len(queries), len(store)), np.float32)
    for batch in batches(queries.heights):
        _score_all(store, cut(queries, batch), out[batch.start : batch.stop], threads)
    return out


def _score_all(store: ScoredTokens, queries: Ragged, out: Floats2d, threads: int) -> None:
    """Write the scores of a batch of queries, (Q, N)."""
    score, documents = store.scorer(queries), np.arange(len(store), dtype=np.int64)

    def part(first: int, last: int) -> None:
        out[:, first:last] = score(documents[first:last]).T

    spread(part, len(documents), workers=threads)


def chamfer_of(
    store: ScoredTokens, queries: Ragged, candidates: Ids2d, threads: int = 0
) -> Floats2d:
    """Score the documents ``candidates`` (Q, C) of each query; -1 stands for none: -inf.

    Each score equals that of :func:`chamfer` to the last bit.
    """
    out = np.full(candidates.shape, -np.inf, np.float32)

    def part(first: int, last: int) -> None:
        for i in range(first, last):
            real = candidates[i] >= 0
            score = store.scorer(cut(queries, range(i, i + 1)))
            out[i, real] = score(candidates[i, real].astype(np.int64))[:, 0]

    if len(queries):
        spread(part, len(queries), workers=threads)
    return out


def align(store: DocumentTokens, query: Floats2d, document: int) -> tuple[Ids, Floats1d]:
    """Return each query token's best token of one document, and their inner product.

    (T_q,) int64, the first of equals, and (T_q,) float32; the sum of the second is the score.
    Raises :class:`InputError` where the document has no tokens.
    """
    rows = store[document]
    if len(rows) == 0:
        raise InputError(
            f"document {document} has no tokens to align with",
            hint="choose a document whose text gives a token",
        )
    similarity = np.asarray(query, np.float32) @ rows.T
    found = similarity.argmax(axis=1)
    return found.astype(np.int64), np.take_along_axis(similarity, found[:, None], axis=1)[:, 0]


def best(scores: Floats2d, k: int) -> tuple[Ids2d, Floats2d]:
    """Return the columns of the ``k`` highest scores of each row and the scores, best first.

    Equal scores come in the order of their columns. k is cut to the number of columns.
    """
    k = min(k, scores.shape[1])
    numbers = np.empty((len(scores), k), np.int64)
    for i, row in enumerate(scores):
        least = np.partition(row, len(row) - k)[len(row) - k]
        reach = np.flatnonzero(row >= least)
        numbers[i] = reach[np.argsort(-row[reach], kind="stable")[:k]]
    return numbers, np.take_along_axis(scores, numbers, axis=1)


def batches(heights: Ids) -> Iterator[range]:
    """Cut queries into runs of at most 512 tokens (a longer query is a run of its own)."""
    first, lanes = 0, 0
    for i, height in enumerate(heights.tolist()):
        if i > first and lanes + height > _LANES:
            yield range(first, i)
            first, lanes = i, 0
        lanes += height
    if first < len(heights):
        yield range(first, len(heights))


def cut(queries: Ragged, batch: range) -> Ragged:
    """Return a run of queries, as views."""
    offsets = queries.offsets[batch.start : batch.stop + 1]
    return Ragged(queries.flat[offsets[0] : offsets[-1]], offsets - offsets[0])


def sample_rows(tokens: DocumentTokens, count: int, seed: int) -> Floats2d:
    """Return at most ``count`` token vectors, chosen and ordered by a hash of their content.

    What is learned from them does not depend on the order of the documents.
    """
    total, block = int(tokens.offsets[-1]), 65536
    weights = stream(seed, "row hash").integers(2**63, size=tokens.width).astype(np.uint64)
    marks = [
        (tokens.rows(start, min(start + block, total)).view(np.uint32) * (2 * weights + 1)).sum(
            axis=1
        )
        for start in range(0, total, block)
    ]
    order = np.argsort(np.concatenate(marks), kind="stable")[:count]
    rows = np.empty((len(order), tokens.width), np.float32)
    for start in range(0, total, block):
        here = (order >= start) & (order < start + block)
        rows[here] = tokens.rows(start, min(start + block, total))[order[here] - start]
    return rows
