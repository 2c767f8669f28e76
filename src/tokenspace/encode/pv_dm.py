"""Fit a vector to each text that, with the words around, predicts the word in the middle.

The idea
--------
As in CBOW, a word is predicted from the words around it; here the text itself is one more of them.
What the neighbours cannot tell about the next word, because it depends on what the text is about,
its vector is left to remember: hence *distributed memory*. A new text is encoded by training again,
with the words' vectors held still: a row starts near zero and is fitted to its words in ``passes``
passes (an attribute of the encoder, 50).

Equations
---------
``d`` is the row of a document (dim,), ``x`` are the input rows of words (V, dim), ``w`` the output
rows, and ``C`` the neighbours of a position with the word ``c``. The input is one of::

    h = d + (1 / |C|) sum over a in C of x_a        join="sum"
    h = (d + sum over a in C of x_a) / (1 + |C|)    join="mean"
    h = [d, x at -window, ..., x at +window]        join="concat":  w is (V, (1 + 2 window) dim)

and the loss of the position, with noise words ``n_1 .. n_K``::

    -log s(h . w_c) - sum_k log s(-h . w_{n_k}),    s(z) = 1 / (1 + e^-z)

Let ``T = [c, n_1 .. n_K]``; one position is one step, in which every part of ``h`` gets its exact
gradient, that is ``e`` times its share of ``h``::

    g = lr (label - s(W[T] h)),    e = g' W[T],    W[T] += g h'       with h and W as they were

The window reaches 1 to ``window`` words to each side, drawn anew for each position; with ``concat``
it always is ``window``, and a place before the first or after the last word is zero.
Thinning, noise, first weights and ``lr`` are those of `pv_dbow`.

Departures from the paper
-------------------------
- Noise replaces the paper's hierarchical softmax, as in later work (Mikolov et al. 2013).
- The paper averages the text and its neighbours, or sets them side by side. In the average of
  ``mean`` a text has one share in 1 + |C|, and learns at the square of it; give it a rate of 0.1.
  By default the text counts as much as all neighbours together, which gives far better vectors on
  corpora of some hundred thousand words.
- The window reaches to both sides, as in CBOW; the paper predicts the next word from those before.
- The first row and the draws for a new text come from a hash of its known words and the seed: a
  text has one vector, whatever it is encoded with, on any number of threads.
- A noise word that is the centre is left out of that position, not drawn again. One that is drawn
  twice for a position may see its own first update.

A text without a known word has the zero vector, and a warning counts them. Training on one thread
gives the same bytes again; more threads update the words' rows without locks.

Cost
----
Time: 3 dim (1 + K) + 2 dim |C| multiplications for each word that takes part in a pass, 2 to 4
million words a second and core at the defaults; 2 dim (1 + K) + dim |C| for a new text, about 5
million. ``concat`` costs 1 + 2 window times the dim.
Memory: 4 dim bytes a document and 8 dim bytes a word, with ``concat`` 4 dim (2 + 2 window).

When not to use it
------------------
First try `pv_dbow`, which is several times faster and whose vectors later studies found better (Lau
and Baldwin 2016), where the paper found this model better. ``concat`` needs many passes or much
text, because each place of the window has weights of its own.

Reference
---------
Le, Mikolov: Distributed Representations of Sentences and Documents, ICML 2014,
https://arxiv.org/abs/1405.4053. Lau, Baldwin: An Empirical Evaluation of doc2vec, 2016,
https://arxiv.org/abs/1607.05368.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from tokenspace.corpus import Corpus
from tokenspace.encode._paragraph import shape
from tokenspace.encode.paragraph import ParagraphEncoder, fit
from tokenspace.recipe import Range, Recipe

__all__ = ["PVDM"]


@dataclass(frozen=True, kw_only=True)
class PVDM(Recipe):
    """Fit a vector to each text that, with the words around, predicts the word in the middle."""

    dim: Annotated[int, Range(1, 4096), "width of the vectors"] = 100
    window: Annotated[int, Range(1, 100), "most words to each side that count as neighbours"] = 5
    join: Annotated[
        Literal["sum", "mean", "concat"], "how the text and its neighbours make one input"
    ] = "sum"
    negatives: Annotated[int, Range(1, 100), "noise words drawn for each position"] = 5
    epochs: Annotated[int, Range(1, 10_000), "passes over the corpus"] = 50
    min_count: Annotated[int, Range(1), "rarer words are left out"] = 2
    sample: Annotated[float, Range(0, 1), "relative frequency above which words are thinned"] = 1e-3
    lr: Annotated[float, Range(1e-6, 10), "first learning rate; it falls linearly to 0"] = 0.025
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
            join=self.join,
            dim=self.dim,
            units=self.dim,
            window=self.window,
            negatives=self.negatives,
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
