"""Distil a network into one row a token: a text is then the mean of its tokens' rows.

The idea
--------
A network that encodes sentences also encodes a single token, and the vectors of all its tokens are
a table. The mean of a text's rows is no longer the network, but it is a thousand times faster, and
for many uses near enough. Rows are weighted by how rare their tokens are, and their leading
principal components kept. The network is also shown some ``texts``, and the rows are moved so that
their means come near to what it says of these: a regression that knows which tokens say little in
company and which say more than when they stand alone.

Equations
---------
``e_i`` is the network's vector for the text of token i alone, (H,), and p_i its relative frequency
in the corpus::

    r_i  =  a / (a + p_i) (e_i - mean of all e)                                  R, (V, H)

With Y (N, H) the network's vectors of N texts less their mean, A (N, V) the shares of the tokens in
each, α the factor that fits A R to Y best, and q the mean of 1 / length² over the tokens of the
texts, the rows become the solution of a ridge regression around where they are::

    R  <-  argmin over W of  |A W - Y|² + ridge q |W - α R|²

so that a token which occurred ``ridge`` times is moved about half of the way. It is found by
conjugate gradients, for all columns at once. Last, R <- R P with P (H, dims) the first principal
directions of the rows.

Departures from the paper
-------------------------
- Frequencies are those of the corpus; model2vec takes a token's place in the vocabulary for its
  rank and Zipf's law for its frequency, which is right only for a vocabulary in that order.
- A token that continues a word (``##ing``) is encoded as its letters; there its id is.
- tokenlearn, which improves such rows by text, takes steps of Adam; this is the minimum itself.
- Special tokens, parts of characters, and tokens kept free for later (``[unused7]``) have the zero
  row unless a text teaches them.

Cost
----
The network's, for V short texts and N of ordinary length: MiniLM's 30,522 tokens and 8,000
sentences take 80 seconds of one core, 15 of them for the regression. Memory: about 20 V H bytes.
Encoding needs no network.

On the sentence pairs of the STS benchmark's training part (Spearman), MiniLM reaches 82.2, the rows
alone (``texts=0``) 70.0, with 2,000 texts of Brown and Wikipedia 75.0, and with 8,000 77.0.

When not to use it
------------------
Where word order decides, or where the network's time is no concern. Without a network, ``sif``
makes the same kind of encoder of vectors that were learned from the text; of the matrix that enters
a network it makes one that is two points of STS behind, without running the network at all.

Reference
---------
S. Tulkens, T. van Dongen: Model2Vec: Fast State-of-the-Art Static Embeddings. 2024,
https://github.com/MinishLab/model2vec, and tokenlearn, https://github.com/MinishLab/tokenlearn.
Weights: Arora, Liang, Ma, ICLR 2017.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np

from tokenspace.arrays import Floats2d, Ids, check_finite
from tokenspace.corpus import Corpus
from tokenspace.encode.static import StaticEncoder, flat_ids, text_vocabulary
from tokenspace.errors import InputError
from tokenspace.progress import Meter
from tokenspace.recipe import Range, Recipe
from tokenspace.rng import stream
from tokenspace.text_encoder import TextEncoder
from tokenspace.vocab import Vocabulary
from tokenspace.weighting import directions, sif_weights

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["Distil", "taught"]

BATCH = 4096  # texts that are held at a time
ROUNDS, ENOUGH = 100, 1e-4  # most conjugate gradients, and the share of the first that ends them

_FREE = re.compile(r"\[unused\d+\]|<unused\d+>")  # what BERT and Gemma call their free tokens


@dataclass(frozen=True, kw_only=True)
class Distil(Recipe):
    """Distil a network into one row a token: a text is then the mean of its tokens' rows."""

    dims: Annotated[int, Range(1, 65_536), "principal components of the rows that are kept"] = 256
    a: Annotated[float, Range(1e-9, 1e9), "relative frequency at which the weight is a half"] = 1e-4
    texts: Annotated[int, Range(0), "texts of the corpus that the network teaches with"] = 8000
    ridge: Annotated[float, Range(1e-6, 1e9), "how often a token occurs to move half-way"] = 10.0
    seed: Annotated[int, Range(0, 2**63 - 1), "of the choice of these texts"] = 0

    tiny: ClassVar[Mapping[str, Any]] = {"dims": 12, "texts": 60}

    def __call__(
        self, corpus: Corpus, /, *, encoder: TextEncoder, vocab: Vocabulary | None = None
    ) -> StaticEncoder:
        """Return the static encoder; it is saved as sentence-transformers and model2vec load it.

        Parameters
        ----------
        corpus
            Texts like those to be encoded: they give the frequencies, and teach.
        encoder
            The network, such as ``load_encoder`` returns.
        vocab
            A tokenizer, or a list of words. By default the encoder's own tokenizer, or the words of
            the corpus where it has none.

        Raises
        ------
        InputError
            Where the corpus has no token of the vocabulary, and where the encoder gives vectors
            that are not finite, of another width than it says, or all equal.
        """
        own = vocab or getattr(encoder, "vocab", None) or corpus.encode().vocab
        tokens = text_vocabulary(own, split=corpus.split, language=corpus.language)
        counts = np.zeros(len(tokens), np.int64)
        seen = 0
        for batch in _batches(corpus):
            counts += np.bincount(flat_ids(tokens, batch)[0], minlength=len(tokens))
            seen += len(batch)
        if not counts[: len(own)].any():
            raise InputError(
                "the corpus has no token of the vocabulary",
                hint="give texts in the encoder's language, or another vocabulary",
            )
        R = _alone(encoder, own, len(tokens))
        R *= sif_weights(counts, self.a)[:, None]
        if self.texts:
            chosen = stream(self.seed, "distil").permutation(seen)[: self.texts]
            texts = _chosen(corpus, np.sort(chosen))
            R = taught(R, _shares(tokens, texts), _encoded(encoder, texts), self.ridge)
        present = R.any(axis=1)
        P = directions(np.cov(R[present].T.astype(np.float64)), min(self.dims, R.shape[1]))
        return StaticEncoder(tokens, np.ascontiguousarray(R @ P.T))


def _batches(corpus: Corpus) -> Iterator[list[str]]:
    texts = iter(corpus)
    while batch := list(itertools.islice(texts, BATCH)):
        yield batch


def _chosen(corpus: Corpus, numbers: Ids) -> list[str]:
    """Return the texts of these numbers, which ascend."""
    wanted = iter(numbers.tolist())
    found, number = [], next(wanted, -1)
    for index, text in enumerate(corpus):
        if index == number:
            found.append(text)
            number = next(wanted, -1)
    return found


def _encoded(encoder: TextEncoder, texts: list[str]) -> Floats2d:
    found = np.asarray(encoder.encode(texts), np.float32)
    if found.shape != (len(texts), encoder.dim):
        raise InputError(
            f"encoder: vectors of shape {found.shape} for {len(texts)} texts, not"
            f" ({len(texts)}, {encoder.dim})",
            hint="give an encoder that returns one vector a text",
        )
    check_finite(found, "encoder", texts)
    return found


def _alone(encoder: TextEncoder, vocab: Vocabulary, rows: int) -> Floats2d:
    """Return e less its mean, (rows, H); zero for what is not text."""
    surfaces = [surface.decode("utf-8", "ignore").strip() for surface in vocab.surfaces]
    ids = [
        i
        for i, text in enumerate(surfaces)
        if text and i not in vocab.specials and not _FREE.fullmatch(text)
    ]
    places: dict[str, int] = {}  # of each text once: ``s`` and ``##s`` are one
    rows_of = [places.setdefault(surfaces[i], len(places)) for i in ids]
    found = _encoded(encoder, list(places))[rows_of]
    found = found - found.mean(axis=0, dtype=np.float64).astype(np.float32)
    if np.abs(found).max(initial=0) <= 1e-6:
        raise InputError(
            f"distil: the encoder gives all {len(ids)} tokens the same vector",
            hint="give an encoder that was trained",
        )
    R = np.zeros((rows, encoder.dim), np.float32)
    R[ids] = found
    return R


def _shares(vocab: Vocabulary, texts: list[str]) -> csr_array:
    """Return A, (N, V) float32: which share of each text's tokens is which."""
    from scipy.sparse import csr_array

    ids, offsets = flat_ids(vocab, texts)
    lengths = np.diff(offsets)
    values = np.repeat(1 / np.maximum(lengths, 1), lengths).astype(np.float32)
    A = csr_array((values, ids, offsets), shape=(len(texts), len(vocab)))
    A.sum_duplicates()
    return A


def taught(R: Floats2d, A: csr_array, Y: Floats2d, ridge: float) -> Floats2d:
    """Return argmin over W of |A W - Y|² + ridge q |W - α R|², Y less its mean; (V, H) float32.

    Where α is not above 0, as with a single text, there is nothing to learn, and R is returned.
    """
    Y = Y - Y.mean(axis=0)
    start = A @ R
    scale = float((start * Y).sum() / max(float((start * start).sum()), 1e-12))
    if scale <= 0:
        return R
    lengths = np.diff(A.indptr)
    q = float((A.data.astype(np.float64) ** 2).sum() / max(1, int(lengths.sum())))
    penalty, At = np.float32(ridge * q), A.T.tocsr()
    residual = At @ (Y - scale * start)  # of the normal equations, at W = α R
    moved, ahead = np.zeros_like(R), residual.copy()
    now = first = (residual * residual).sum(axis=0, dtype=np.float64)
    with Meter("regression", ROUNDS) as meter:
        for _ in range(ROUNDS):
            if (now <= ENOUGH**2 * first).all():
                break
            applied = At @ (A @ ahead) + penalty * ahead
            curve = (ahead * applied).sum(axis=0, dtype=np.float64)
            step = np.where(curve > 0, now / np.maximum(curve, 1e-30), 0).astype(np.float32)
            moved += step * ahead
            residual -= step * applied
            before, now = now, (residual * residual).sum(axis=0, dtype=np.float64)
            ahead = residual + (now / np.maximum(before, 1e-30)).astype(np.float32) * ahead
            meter.add()
    return np.asarray(np.float32(scale) * R + moved, np.float32)
