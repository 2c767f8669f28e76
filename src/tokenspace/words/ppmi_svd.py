"""Count which words stand near each other, and factorise how far that is beyond chance.

The idea
--------
What skip-gram learns step by step can be counted: how much more often two words stand near each
other than their frequencies make likely. That is one sparse matrix, and its leading singular
vectors are vectors for the words. There is one pass over the text, no learning rate, nothing to
wait for, and the same text gives the same vectors.

Equations
---------
A word of relative frequency f is kept with probability min(1, √(t / f)); among the words that are
kept, a pair of w and c at distance d = 1 .. L, on either side, weighs (L - d + 1) / L, and n_wc is
the weight of all of them::

    n_w      = Σ_c n_wc
    PMI(w,c) = ln( n_wc Z / (n_w n_c^α) ),                Z = Σ_c n_c^α
    X        = max(0, PMI - ln k)                         sparse, (V, V)
    X        ≈ U S Vᵀ,   rows W = U_D S^p                 (V, D) float32

α < 1 takes weight from rare contexts, which chance favours. Of every column of U the value of
largest magnitude is made positive. The decomposition is a randomised one: X times Gaussian
vectors, D + 10 of them, two power iterations with an orthonormal basis each, then the exact
decomposition inside the basis.

Departures from the paper
-------------------------
- The weights of distances are what a window of random size gives in expectation; none is drawn.

Cost
----
Memory: 12 bytes a pair of words that meet, twice while it is built, and 8 V (D + 10) bytes a basis.
Time: some tens of nanoseconds a token and distance for counting, then 6 products of X with D + 10
columns. 4.4 million words of novels take four seconds of one core with OPENBLAS_NUM_THREADS=1 (on a
busy machine the waiting of its threads costs several times that), ten epochs of skip-gram twenty.

When not to use it
------------------
With tens of millions of words or more, skip-gram reads on where the matrix no longer fits; its
vectors are also better for SimLex's strict similarity and for analogies. A word that never stands
beside another more often than chance has the zero vector (``notes["zero_rows"]`` counts these).

Reference
---------
O. Levy, Y. Goldberg: Neural Word Embedding as Implicit Matrix Factorization. NIPS 2014. O. Levy,
Y. Goldberg, I. Dagan: Improving Distributional Similarity with Lessons Learned from Word
Embeddings. TACL 3, 2015. Randomised decomposition: N. Halko, P.-G. Martinsson, J. Tropp, SIAM
Review 53, 2011, arXiv:0909.4061.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np

from tokenspace import sgd
from tokenspace.arrays import Floats1d, Floats2d
from tokenspace.corpus import Corpus, IdStream
from tokenspace.errors import ConfigError
from tokenspace.progress import track
from tokenspace.recipe import Range, Recipe
from tokenspace.rng import stream
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["PPMISVD"]

BLOCK = 1 << 20  # tokens that are counted at a time
MORE, ITERATIONS = 10, 2  # columns of the basis beyond D, and power iterations


@dataclass(frozen=True, kw_only=True)
class PPMISVD(Recipe):
    """Count which words stand near each other, and factorise how far that is beyond chance."""

    dim: Annotated[int, Range(1, 4096), "width of the vectors D"] = 100
    window: Annotated[int, Range(1, 100), "most words to each side that count L"] = 4
    smoothing: Annotated[float, Range(0, 1), "power of the counts of contexts α"] = 0.75
    shift: Annotated[float, Range(1e-3, 1e6), "k: its logarithm is taken from every PMI"] = 1.0
    power: Annotated[float, Range(0, 1), "power p of the singular values"] = 0.5
    min_count: Annotated[int, Range(1), "rarer words are left out (not with a vocabulary)"] = 5
    sample: Annotated[float, Range(0, 1), "relative frequency t above which words are thinned"] = (
        1e-3
    )
    seed: Annotated[int, Range(0, 2**63 - 1), "of the random vectors of the decomposition"] = 0

    tiny: ClassVar[Mapping[str, Any]] = {"dim": 8, "min_count": 1}

    def __call__(self, corpus: Corpus, /, *, vocab: Vocabulary | None = None) -> EmbeddingTable:
        """Learn from a corpus one vector for every word, or for every token of ``vocab``.

        Parameters
        ----------
        corpus
            The texts; windows never reach from one text into another.
        vocab
            Tokens to learn vectors for, e.g. those of a tokenizer, which then splits the texts.
            By default the words of the corpus that occur ``min_count`` times.

        Returns
        -------
        EmbeddingTable
            (V, dim) float32, the counts, and as notes the knobs, ``pairs`` (values of X) and
            ``zero_rows``.

        Raises
        ------
        InputError
            Where fewer than two different words are left.
        ConfigError
            Where there are no more words than ``dim``.
        """
        text = sgd.encode(corpus, vocab, self.min_count)
        if self.dim >= len(text.vocab):
            raise ConfigError(
                f"ppmi_svd: dim={self.dim} needs more than {len(text.vocab)} different words",
                hint="give more text, or lower dim or min_count",
            )
        n = neighbours(text, self.window, self.sample, self.seed)
        X = ppmi(n, self.smoothing, self.shift)
        U, S = decomposed(X, self.dim, self.seed)
        W = (U * S**self.power).astype(np.float32)
        zero = len(W) - int(np.count_nonzero(np.diff(X.indptr)))
        notes = {**self.to_dict(), "pairs": int(X.nnz), "zero_rows": zero}
        return EmbeddingTable(text.vocab, W, text.counts, notes)


def neighbours(text: IdStream, window: int, sample: float, seed: int) -> csr_array:
    """Return n_wc of a text, (V, V) float64."""
    from scipy.sparse import coo_array, csr_array

    size = len(text.vocab)
    f = np.maximum(text.counts, 1) / text.counts.sum()
    keep = np.minimum(1.0, np.sqrt(sample / f)) if sample else np.ones(size)
    draw = stream(seed, "ppmi_svd: thinning")
    total = csr_array((size, size), dtype=np.float64)
    ids, sentence = (
        np.zeros(0, np.int32),
        np.zeros(0, np.int64),
    )  # the last words of the block before
    for first in track(range(0, len(text.ids), BLOCK), "count"):
        block = np.asarray(text.ids[first : first + BLOCK])
        kept = np.flatnonzero(draw.random(len(block)) < keep[block])
        former = len(ids)
        ids = np.concatenate([ids, block[kept]])
        own = np.searchsorted(text.offsets, first + kept, side="right")
        sentence = np.concatenate([sentence, own])
        pairs, weights = [], []
        for d in range(1, min(window, len(ids) - 1) + 1):
            start = max(0, former - d)  # a pair belongs to the block of its second word
            near = start + np.flatnonzero(sentence[start:-d] == sentence[start + d :])
            pairs.append((ids[near], ids[near + d]))
            weights.append(np.full(len(near), (window - d + 1) / window))
        if pairs:
            rows, columns = (np.concatenate(side) for side in zip(*pairs, strict=True))
            part = coo_array((np.concatenate(weights), (rows, columns)), shape=(size, size))
            total = total + part.tocsr()
        ids, sentence = ids[-window:], sentence[-window:]
    return (total + total.T).tocsr()


def ppmi(counts: csr_array, smoothing: float, shift: float) -> csr_array:
    """Return X of n_wc, without the values that are 0."""
    from scipy.sparse import csr_array

    n = np.asarray(counts.sum(axis=1)).ravel()
    smoothed = np.where(n > 0, n, 0) ** smoothing * (n > 0)
    rows = np.repeat(np.arange(len(n)), np.diff(counts.indptr))
    chance = n[rows] * smoothed[counts.indices] / smoothed.sum()
    values = np.maximum(0, np.log(counts.data / chance) - np.log(shift))
    X = csr_array((values, counts.indices, counts.indptr), shape=counts.shape)
    X.eliminate_zeros()
    return X


def decomposed(X: csr_array, dim: int, seed: int) -> tuple[Floats2d, Floats1d]:
    """Return the leading left singular vectors (V, dim) and values (dim,), signs fixed."""
    columns = min(dim + MORE, X.shape[0])
    X = X.astype(np.float32)  # half the traffic, which is what the products cost
    Q = X @ stream(seed, "ppmi_svd").standard_normal((X.shape[1], columns), np.float32)
    for _ in range(ITERATIONS):
        Q = X @ np.linalg.qr(X.T @ np.linalg.qr(Q)[0])[0]
    Q = np.linalg.qr(Q)[0]
    inner, S, _ = np.linalg.svd((X.T @ Q).T, full_matrices=False)
    U = Q @ inner[:, :dim]
    largest = U[np.abs(U).argmax(axis=0), np.arange(U.shape[1])]
    return U * np.where(largest < 0, np.float32(-1), np.float32(1)), S[:dim]
