"""Score every document exactly: each query token takes its best document token.

The idea
--------
A document is kept as the matrix of its token vectors instead of one vector. A query, a matrix
too, is compared token by token: each of its tokens looks for the document token that it agrees
with most, and the document's score is the sum of these best agreements. Nothing is averaged
away, and the score explains itself: every part of it belongs to one pair of tokens.

Equations
---------
With query Q = (q_1 ... q_m) and document P = (p_1 ... p_n), both of width D::

    S(Q, P) = Σ_i max_j <q_i, p_j>                                  (Chamfer, MaxSim)

A weight w_i >= 0 for a query token (its idf, say) needs no option: w·max <q, p> = max <w·q, p>,
so multiply the query's rows by the weights. Weighting document tokens is not the same thing.

``codec`` says how token vectors are held. ``i8`` rounds row p to c = rint(127 p / max|p|) with
the scale s = max|p| / 127 and computes s·<q', c> in integers, q' being the query rounded to 16
bits: exact for the rounded rows up to one part in 2^15 of the query's largest value.

Departures from the paper
-------------------------
The paper trains the encoder and pads queries with mask tokens; here token vectors are given,
and padding is the encoder's affair. Documents are never padded to one length. Scores are bitwise
independent of the order of documents and of the number of threads; equal scores are ordered by
document number.

Cost
----
Σ_i m·n_i·D multiply-adds a query; one pass over the tokens serves a batch of queries. Memory:
the tokens, 4, 2 or 1 byte a number (``f32`` holds the given array itself), which may be mapped
from disk, and m floats for each of 256 documents a thread; scores of one batch of queries, N each.
On processors with matrix registers (AMX) ``i8`` takes less than half the time, to the same bits.

When not to use it
------------------
Every query reads every token. Beyond some ten thousand documents take `muvera`, which calls
this scoring for its candidates only. Where one vector a document ranks as well, it is far
smaller.

Reference
---------
O. Khattab, M. Zaharia: ColBERT: Efficient and Effective Passage Search via Contextualized Late
Interaction over BERT. SIGIR 2020, arXiv:2004.12832, section 3.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np

from tokenspace.arrays import Floats1d, Floats2d, Ids, Ids2d, Ragged
from tokenspace.recipe import Range, Recipe

from ._shared import (
    OnEmpty,
    align,
    batches,
    best,
    chamfer,
    chamfer_of,
    check_candidates,
    check_docs,
    check_k,
    check_queries,
    check_query,
    cut,
)
from .store import Codec, TokenStore

__all__ = ["MaxSim", "MaxSimIndex"]


@dataclass(frozen=True, kw_only=True)
class MaxSim(Recipe):
    """Score every document exactly: each query token takes its best document token.

    The default is ColBERT's scoring (arXiv:2004.12832, section 3.3) in float32.
    """

    codec: Annotated[Codec, "how token vectors are held: float32, float16 or int8"] = "f32"
    on_empty: Annotated[OnEmpty, "a document without tokens is refused, or scores zero"] = "raise"
    threads: Annotated[int, Range(0, 1024), "threads; 0: all cores"] = 0

    tiny: ClassVar[Mapping[str, Any]] = {"threads": 1}
    advice: ClassVar[Sequence[Mapping[str, Any]]] = (
        {"codec": "f32"},
        {"codec": "f16"},
        {"codec": "i8"},
    )

    def __call__(self, docs: Ragged, /) -> MaxSimIndex:
        """Index N documents of width D.

        Raises :class:`~tokenspace.errors.InputError` for no documents, values that are not
        finite, and, unless ``on_empty`` is ``zero``, a document without tokens.
        """
        check_docs(docs, self.on_empty)
        return MaxSimIndex(TokenStore.pack(docs, self.codec), threads=self.threads)


class MaxSimIndex:
    """Exact search in a :class:`~tokenspace.retrieve.store.TokenStore`, in memory or mapped."""

    def __init__(self, store: TokenStore, *, threads: int = 0) -> None:
        self.store = store
        self.threads = threads

    @property
    def nbytes(self) -> int:
        """Bytes of the token vectors with their offsets and scales."""
        return self.store.nbytes

    def search(self, queries: Ragged, k: int = 10) -> tuple[Ids2d, Floats2d]:
        """Return document numbers and scores, (Q, min(k, N)) each, best first, ties by number."""
        check_k(k)
        check_queries(queries, self.store.width)
        numbers, scores = [], []
        for batch in batches(queries.heights):
            found = best(chamfer(self.store, cut(queries, batch), self.threads), k)
            numbers.append(found[0])
            scores.append(found[1])
        k = min(k, len(self.store))
        none = np.zeros((0, k))
        return (
            np.concatenate([none.astype(np.int64), *numbers]),
            np.concatenate([none.astype(np.float32), *scores]),
        )

    def score(self, queries: Ragged, candidates: Ids2d | None = None) -> Floats2d:
        """Return the scores of every document (Q, N), or of each query's ``candidates`` (Q, C).

        ``candidates`` holds document numbers; -1 stands for none and scores -inf.
        """
        check_queries(queries, self.store.width)
        if candidates is None:
            return chamfer(self.store, queries, self.threads)
        check_candidates(candidates, len(queries), len(self.store))
        return chamfer_of(self.store, queries, candidates, self.threads)

    def align(self, query: Floats2d, document: int) -> tuple[Ids, Floats1d]:
        """Say which token of one document each token of ``query`` (T, D) takes.

        Returns the token's number in the document (T,), the first of equals, and the inner
        product (T,): the parts whose sum is the score.
        """
        check_query(query, self.store.width, document, len(self.store))
        return align(self.store, query, document)

    def save(self, path: str | Path) -> None:
        """Write the token store to the directory ``path``."""
        self.store.save(path)

    @classmethod
    def load(cls, path: str | Path, *, threads: int = 0) -> Self:
        """Map the index that :meth:`save` wrote, or any token store."""
        return cls(TokenStore.open(path), threads=threads)
