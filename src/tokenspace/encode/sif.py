"""Average a text's token vectors, rare tokens more, and remove their common direction.

The idea
--------
The mean of word vectors is a fair summary of a text, but two things blur it. Frequent words say
little about what a text is about and yet make up half of it; and the means of all texts share a
direction, that of syntax and function words, so that every pair of texts looks alike. Smooth
inverse frequency (SIF) therefore weights each word by how rare it is, and then removes from
every text the direction that the texts of a corpus have most in common.

Equations
---------
``v_w`` is the vector of token w, (D,); ``c_w`` its count, p(w) = c_w / sum of all counts::

    v_w  <-  v_w / |v_w|                             unit rows             (unit)
    v_w  <-  v_w - mean, then minus its projection   all but the top       (top)
             on the first ``top`` principal directions of the table
    r_w   =  a / (a + p(w)) v_w                      weighted rows         (a)
    v_s   =  (1 / |s|) sum over w in s of r_w        mean of a text s
    U     =  the first right singular vectors of the matrix whose rows are v_s
    v_s  <-  v_s - U U' v_s                          common part removed   (components)

The matrix of texts, (N, D), is not centred. It is never built: the D by D sum of v_s v_s' is
accumulated batch by batch over the corpus, and its eigenvectors are U. Since the mean is linear,
the last step is applied to the rows instead, r_w <- r_w - U U' r_w: the result is a plain table
of rows, and a text is encoded by the mean of its tokens' rows.

Departures from the paper
-------------------------
U is learned from ``corpus`` once and used for every text, as it must be in search; the paper
computes it anew from each set of texts that it is tested on. The token vectors are made unit
and pass all-but-the-top (Mu and Viswanath, ICLR 2018) beforehand, which the paper does not;
``unit=False, top=0`` is the paper's own method. Counts come from the table where it has them,
else from the corpus. A token that the table counts as never seen has no learned vector and is
given a zero row. A word that the vocabulary lacks counts as a zero row, which changes the length
of v_s only. Texts without a known token have the zero vector.

Cost
----
One pass over the corpus to tokenise it, then O(D) a token and O(D^2) a text; memory for one more
copy of the table (V, D) and D^2 numbers. Encoding costs a look-up and D additions a token.

When not to use it
------------------
Where word order or negation decides, since the mean does not see them; for corpora of fewer
texts than a few hundred, whose first direction is their subject rather than what is common to
the language (give ``components=0``); where a trained sentence encoder is at hand and its time is
no concern.

Reference
---------
Arora, Liang, Ma: A Simple but Tough-to-Beat Baseline for Sentence Embeddings, ICLR 2017.
Mu, Viswanath: All-but-the-Top, ICLR 2018, arXiv:1702.01417 (``top``).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats2d
from tokenspace.corpus import Corpus
from tokenspace.encode.static import StaticEncoder, flat_ids, mean_rows, text_vocabulary
from tokenspace.errors import ConfigError, InputError
from tokenspace.recipe import Range, Recipe
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary
from tokenspace.weighting import all_but_the_top, directions, sif_weights

__all__ = ["SIF"]

_BATCH = 4096  # texts of the corpus that are held at a time


@dataclass(frozen=True, kw_only=True)
class SIF(Recipe):
    """Average a text's token vectors, rare tokens more, and remove their common direction."""

    a: Annotated[float, Range(1e-9, 1e9), "relative frequency at which the weight is a half"] = 1e-3
    components: Annotated[int, Range(0, 64), "common directions of texts that are removed"] = 1
    unit: Annotated[bool, "divide token vectors by their lengths first"] = True
    top: Annotated[int, Range(0, 64), "principal directions that are removed from the table"] = 1

    tiny: ClassVar[Mapping[str, Any]] = {}

    def __call__(self, corpus: Corpus, /, *, table: EmbeddingTable) -> StaticEncoder:
        """Return the encoder whose common directions are those of the texts of ``corpus``.

        ``table`` is (V, D). Raises :class:`InputError` where no text has a token of the table,
        and :class:`ConfigError` where more directions are to be removed than there are.
        """
        width = table.shape[1]
        if self.components >= width or self.top >= width:
            raise ConfigError(
                f"sif: components={self.components} and top={self.top} must be below the width"
                f" {width} of the table",
                hint="remove fewer directions",
            )
        vocab = text_vocabulary(table.vocab, split=corpus.split, language=corpus.language)
        seen = _token_counts(corpus, vocab)
        counts = seen
        if table.counts is not None:
            counts = np.zeros(len(vocab), np.int64)
            counts[: len(table.counts)] = table.counts
        rows = np.zeros((len(vocab), width), np.float32)
        rows[: len(table.vectors)] = table.vectors
        if table.counts is not None:
            rows[counts == 0] = 0
        if not rows[seen > 0].any():
            raise InputError(
                "no text of the corpus has a token with a vector in the table",
                hint="give texts in the table's language, and split as its words are",
            )
        if self.unit:
            lengths = np.linalg.norm(rows, axis=1, keepdims=True)
            rows /= np.where(lengths > 0, lengths, 1)
        rows = all_but_the_top(rows, self.top) if self.top else rows
        rows *= sif_weights(counts, self.a)[:, None]
        if self.components:
            U = _common_directions(corpus, vocab, rows, self.components)
            rows -= (rows @ U.T) @ U
        return StaticEncoder(vocab, rows)


def _batches(corpus: Corpus) -> Iterator[list[str]]:
    texts = iter(corpus)
    while batch := list(itertools.islice(texts, _BATCH)):
        yield batch


def _token_counts(corpus: Corpus, vocab: Vocabulary) -> npt.NDArray[np.int64]:
    counts = np.zeros(len(vocab), np.int64)
    for batch in _batches(corpus):
        counts += np.bincount(flat_ids(vocab, batch)[0], minlength=len(vocab))
    return counts


def _common_directions(
    corpus: Corpus, vocab: Vocabulary, rows: Floats2d, components: int
) -> Floats2d:
    """Return the first right singular vectors of the matrix of all texts, (components, D)."""
    width = rows.shape[1]
    scatter = np.zeros((width, width))
    for batch in _batches(corpus):
        ids, offsets = flat_ids(vocab, batch)
        means = np.zeros((len(batch), width), np.float32)
        mean_rows(rows, ids, offsets, means)
        scatter += means.T.astype(np.float64) @ means
    return directions(scatter, components)
