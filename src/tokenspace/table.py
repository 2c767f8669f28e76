"""A table of vectors: one row for every token of a vocabulary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .arrays import Floats1d, Floats2d, Ids, Ids2d, check_finite
from .errors import InputError
from .subwords import Subwords
from .vocab import Vocabulary

__all__ = ["EmbeddingTable"]


@dataclass(frozen=True, eq=False)
class EmbeddingTable:
    """Token vectors with their vocabulary. Immutable.

    ``vectors`` is (V, D) float32 in C order and may be memory-mapped; ``counts`` is (V,) int64,
    how often each token occurred in the text that the vectors were learned from, or None;
    ``notes`` says where the table comes from. ``finite=True`` promises that no value is NaN or
    infinite, which spares reading a memory-mapped matrix to check it. ``subwords``, the n-grams
    of a fastText model, give vectors to words without a row.

    Raises :class:`InputError` when shapes disagree, or when a row is not finite.
    """

    vocab: Vocabulary
    vectors: Floats2d
    counts: Ids | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    finite: InitVar[bool] = False
    subwords: Subwords | None = None

    def __post_init__(self, finite: bool) -> None:
        shape = self.vectors.shape
        if self.vectors.ndim != 2 or shape[0] != len(self.vocab):
            raise InputError(
                f"table: {len(self.vocab)} tokens and vectors of shape {shape} do not agree",
                hint="give one row for every token",
            )
        if self.counts is not None and self.counts.shape != (len(self.vocab),):
            raise InputError(
                f"table: counts have shape {self.counts.shape}, not ({shape[0]},)",
                hint="give one count for every token",
            )
        if self.vectors.dtype != np.float32 or not self.vectors.flags.c_contiguous:
            object.__setattr__(self, "vectors", np.ascontiguousarray(self.vectors, np.float32))
        if not finite:
            check_finite(self.vectors, "table", self.vocab.tokens)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and width, (V, D)."""
        return (self.vectors.shape[0], self.vectors.shape[1])

    @property
    def nbytes(self) -> int:
        """Bytes of the vectors."""
        return self.vectors.nbytes

    def rows(self, ids: Ids) -> Floats2d:
        """Return the rows of ``ids``, (n, D) float32."""
        return np.ascontiguousarray(self.vectors[ids], dtype=np.float32)

    def row(self, token: str) -> Floats1d:
        """Return the vector of one token, (D,).

        An unknown one has that of its n-grams, where the table has ``subwords`` and one of them
        is known; otherwise it is refused with a near miss.
        """
        if self.subwords is not None and token not in self.vocab.ids:
            made = self.subwords.vectors([token])[0]
            if made.any():
                return np.asarray(made, np.float32)
        return self.rows(np.array([self.id(token)])).reshape(-1)

    def id(self, token: str) -> int:
        """Return the id of a token."""
        return self.vocab.id(token)

    @cached_property
    def unit(self) -> Floats2d:
        """The rows divided by their lengths, (V, D); a zero row stays zero."""
        lengths = np.linalg.norm(self.vectors, axis=1, keepdims=True)
        return np.asarray(self.vectors / np.maximum(lengths, 1e-12), np.float32)

    def nearest(
        self, query: Floats1d | str, k: int = 10, *, exclude: Sequence[int] = ()
    ) -> list[tuple[str, float]]:
        """Return the ``k`` tokens of greatest cosine with ``query``, best first, ties by id.

        A query given as a token is left out of its own answer.
        """
        if isinstance(query, str):
            known = self.vocab.ids.get(query)
            exclude = exclude if known is None else (*exclude, known)
            query = self.row(query)
        ids, scores = self.nearest_ids(query[None], k, exclude=exclude)
        return [
            (self.vocab.tokens[i], float(s))
            for i, s in zip(ids[0], scores[0], strict=True)
            if np.isfinite(s)
        ]

    def nearest_ids(
        self, queries: Floats2d, k: int = 10, *, exclude: Sequence[int] = ()
    ) -> tuple[Ids2d, Floats2d]:
        """Return ids and cosines of the nearest rows, (Q, k) each, best first, ties by id.

        Rows left out (``exclude``, and rows without a token) have a cosine of -inf.
        """
        queries = np.asarray(queries, np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.shape[1]:
            raise InputError(
                f"queries of shape {queries.shape} do not fit vectors of width {self.shape[1]}",
                hint="give one row a query, as wide as those of the table; for one vector, x[None]",
            )
        k = min(k, len(self.vocab))
        ids = np.empty((len(queries), k), np.int64)
        scores = np.empty((len(queries), k), np.float32)
        left_out = [*exclude, *self.vocab.holes]
        lengths = np.linalg.norm(queries, axis=1, keepdims=True)
        for start in range(0, len(queries) if k else 0, 64):  # blocks bound the memory
            block = slice(start, start + 64)
            cosines = (queries[block] / np.maximum(lengths[block], 1e-12)) @ self.unit.T
            cosines[:, left_out] = -np.inf
            least = np.partition(cosines, -k, axis=1)[:, -k]
            for row, line in enumerate(cosines):
                found = np.flatnonzero(line >= least[row])  # ascending, so that ties go by id
                best = found[np.argsort(-line[found], kind="stable")[:k]]
                ids[start + row], scores[start + row] = best, line[best]
        return ids, scores

    def analogy(self, a: str, b: str, c: str, k: int = 10) -> list[tuple[str, float]]:
        """Return the tokens x for which a : b as c : x, by 3CosAdd (Mikolov et al. 2013).

        The three inputs are left out of the answer.
        """
        i, j, m = (self.id(token) for token in (a, b, c))
        query = self.unit[j] - self.unit[i] + self.unit[m]
        return self.nearest(query, k, exclude=(i, j, m))

    def replace(self, *, vectors: Floats2d, vocab: Vocabulary | None = None) -> EmbeddingTable:
        """Return a table with other vectors, and another vocabulary if one is given."""
        if vocab is None:
            return replace(self, vectors=vectors, subwords=None)
        return replace(self, vectors=vectors, vocab=vocab, counts=None, subwords=None)

    @classmethod
    def load(cls, path: str | Path) -> EmbeddingTable:
        """Load a table from any format of :func:`tokenspace.io.load_table`, told by its content."""
        from .io import load_table

        return load_table(path)

    def save(self, path: str | Path) -> None:
        """Write the table; the suffix chooses the format (no suffix: our own directory)."""
        from .io import save_table

        save_table(self, Path(path))
