"""Fit a vector to each text that predicts the text's words, whatever their order.

The idea
--------
A text gets a vector of its own, as a word does in skip-gram: the vector is trained to tell the
words of the text from words drawn at random. Texts with the same words are pushed the same way and
end up close together, even where they share none, as long as their words occur in the same texts.
A new text is encoded by training again, with the words' vectors held still: a row starts near
zero and is fitted to its words in ``passes`` passes (an attribute of the encoder, 50).

Equations
---------
With ``d`` the row of a document (dim,) and ``w`` the rows of the output matrix, (V, dim), the loss
of a word ``c`` of the document with noise words ``n_1 .. n_K`` is::

    -log s(d . w_c) - sum_k log s(-d . w_{n_k}),    s(z) = 1 / (1 + e^-z)

Eight words at a time, with ``T`` their output rows and those of the noise words of each, 8 (1 + K)
rows in all::

    g = lr (label - s(W[T] d))          d += g' W[T],  W[T] += g d'       with d and W as they were

A word of relative frequency ``f`` takes part with probability min(1, (sqrt(f / sample) + 1)
sample / f). Noise is drawn by counts to the power 0.75. ``lr`` falls linearly to 0 (at least to
lr / 10,000). Rows start uniform in (-1/2, 1/2) / dim, outputs at zero. With ``words`` above 0, each
text is also walked over by skip-gram with windows of up to ``words`` words to each side: every word
has a second, input row that predicts its neighbours from the same output matrix.

Departures from the paper
-------------------------
- Noise replaces the paper's hierarchical softmax, as in later work (Mikolov et al. 2013).
- Eight words share one step of the document's row. Each keeps its own noise words, so the expected
  step is the paper's. A noise word that is the word itself is left out. A word that stands twice
  among the rows of a step may see its own first update.
- The first row and the draws for a new text come from a hash of its known words and the seed: a
  text has one vector, whatever it is encoded with, on any number of threads.
- The paper puts the vectors of this model and of `pv_dm` side by side; so can you.

A text without a known word has the zero vector, and a warning counts them. Training on one thread
gives the same bytes again; more threads update the words' rows without locks.

Cost
----
Time: 3 dim (1 + K) multiplications for each word that takes part in a pass, 2 dim (1 + K) for a new
text: 5 to 10 million words a second and core at the defaults, by the size of the vocabulary.
Memory: 4 dim bytes a document and a word. The documents' vectors are saved with the encoder.

When not to use it
------------------
For texts of a few words, whose row has little to be fitted to: average word vectors (`sif`). Where
thousands of texts a second must be encoded, for the same reason: each is trained. Where a
pretrained encoder reads the language, it knows more than one corpus can teach.

Reference
---------
Le, Mikolov: Distributed Representations of Sentences and Documents, ICML 2014,
https://arxiv.org/abs/1405.4053. ``words``: Dai, Olah, Le: Document Embedding with Paragraph
Vectors, 2015, https://arxiv.org/abs/1507.07998.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from tokenspace.corpus import Corpus
from tokenspace.encode._paragraph import shape
from tokenspace.encode.paragraph import ParagraphEncoder, fit
from tokenspace.recipe import Range, Recipe

__all__ = ["PVDBOW"]


@dataclass(frozen=True, kw_only=True)
class PVDBOW(Recipe):
    """Fit a vector to each text that predicts the text's words, whatever their order."""

    dim: Annotated[int, Range(1, 4096), "width of the vectors"] = 100
    negatives: Annotated[int, Range(1, 100), "noise words drawn for each word"] = 5
    epochs: Annotated[int, Range(1, 10_000), "passes over the corpus"] = 50
    min_count: Annotated[int, Range(1), "rarer words are left out"] = 2
    sample: Annotated[float, Range(0, 1), "relative frequency above which words are thinned"] = 1e-3
    lr: Annotated[float, Range(1e-6, 10), "first learning rate; it falls linearly to 0"] = 0.025
    words: Annotated[int, Range(0, 100), "window of skip-gram trained along; 0: no input rows"] = 0
    threads: Annotated[int, Range(0, 1024), "0 = all cores; only 1 gives the same bytes again"] = 0
    seed: Annotated[int, Range(0, 2**63 - 1), "of the first vectors and of every draw"] = 0

    tiny: ClassVar[dict[str, Any]] = {"dim": 8, "epochs": 2, "min_count": 1, "threads": 1}

    def __call__(self, corpus: Corpus, /) -> ParagraphEncoder:
        """Train on the texts of ``corpus``, each a document.

        ``documents`` of the result are their vectors (N, dim), ``words`` those of the words.
        Raises :class:`~tokenspace.errors.InputError` where fewer than two different words are
        left, and :class:`~tokenspace.errors.NotConverged` where vectors stop being finite.
        """
        network = shape(
            layer="real",
            join="alone",
            dim=self.dim,
            units=self.dim,
            window=0,
            negatives=self.negatives,
            skip=self.words,
        )
        return fit(
            corpus,
            network,
            label=self.name,
            min_count=self.min_count,
            epochs=self.epochs,
            sample=self.sample,
            lr=self.lr,
            threads=self.threads,
            seed=self.seed,
        )
