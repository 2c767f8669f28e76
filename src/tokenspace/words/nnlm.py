"""Learn vectors by predicting a word with a small neural network over the window around it.

The idea
--------
Bengio's neural language model, the first whose word vectors became known, as Lai et al. compare
it: the vectors of the neighbours are laid side by side, one hidden layer makes a short summary of
them, and the summary is compared with a vector of the word that stands in the middle (the
*centre*), and with those of noise words. The hidden layer can tell combinations of neighbours
apart that a sum of them cannot, if there is text enough to learn it from.

Equations
---------
A window of ``window`` words to each side is ``x = [e(w_-c); ..; e(w_-1); e(w_1); ..; e(w_c)]``,
with ``e`` the rows of ``Win`` (input vectors, the result). Where the text ends stands a padding
row of its own. With the matrix ``H`` (hidden, 2 window dim), ``u_w`` the rows of ``Wout`` (V,
hidden), centre w and noise words n_k, the loss of a window is::

    z = tanh(H x)
    -log s(z . u_w) - sum_k log s(-z . u_{n_k}),        s(z) = 1 / (1 + e^-z)

256 windows are a batch, in matrix products. For every number p of the three matrices, with g the
gradient of the batch's loss by it, AdaGrad takes the step::

    q += g^2;   p -= lr g / sqrt(q)        with q = 10^-8 at first

The dropping of frequent words and the draw of noise words are those of skip-gram (``sgns``).
``Win`` starts uniform in (-1/2, 1/2) / dim, ``H`` in (-1/2, 1/2) / hidden, ``Wout`` at zero.

Departures from the paper
-------------------------
- Bengio et al. predict the next word from those before it, with a softmax, biases and direct
  connections from input to output; Lai et al. predict the middle word against noise without the
  latter two, as is done here.
- The authors' program takes a step for every window; here one for every batch of 256.
- Eight neighbouring windows share their noise words, as the neighbours of a position do in
  ``sgns``.
- The program trains on 95 % of the text and keeps the rest to tell the loss; here all is trained
  on.
- Padding is a row of its own, where the program uses that of the end of a line. A window without
  any neighbour is left out. A noise word that happens to be the centre is left out of that
  window.
- A sentence of more than 10,000 tokens is split there; nothing is dropped.

``notes["loss"]`` is the mean loss of a window, noise included, over the last epoch.

Cost
----
Time: about 6 window dim hidden multiplications a word; 290,000 words a second at the defaults
(dim 100, window 5, hidden 50) on one core of a server of 2023, a tenth of what ``sgns`` does. It
runs in one thread, and the same seed gives the same bytes. Memory: 8 V (dim + hidden) bytes.

When not to use it
------------------
With little text, say below ten million words: the paper finds the simplest model best there, and
so do we (``sgns``, ``ppmi_svd``). Even with much text the paper finds it rarely worth what it
costs.

Reference
---------
Lai, Liu, Xu, Zhao: How to Generate a Good Word Embedding?, IEEE Intelligent Systems 2016,
https://arxiv.org/abs/1507.05523. Bengio, Ducharme, Vincent, Jauvin: A Neural Probabilistic
Language Model, JMLR 3, 2003. AdaGrad: Duchi, Hazan, Singer, JMLR 12, 2011.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from tokenspace import sgd
from tokenspace.corpus import Corpus
from tokenspace.recipe import Range, Recipe
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary
from tokenspace.words._context import Array, against_noise, predict

__all__ = ["NNLM"]


@dataclass(frozen=True, kw_only=True)
class NNLM(Recipe):
    """Learn vectors by predicting a word with a small neural network over the window around it."""

    dim: Annotated[int, Range(1, 4096), "width of the vectors"] = 100
    window: Annotated[int, Range(1, 100), "words to each side that are read"] = 5
    hidden: Annotated[int, Range(1, 4096), "neurons of the hidden layer"] = 50
    negatives: Annotated[int, Range(1, 100), "noise words drawn for each group of windows"] = 5
    epochs: Annotated[int, Range(1, 10_000), "passes over the corpus"] = 5
    min_count: Annotated[int, Range(1), "rarer words are left out (not with a vocabulary)"] = 5
    sample: Annotated[float, Range(0, 1), "relative frequency above which words are thinned"] = 1e-3
    lr: Annotated[float, Range(1e-6, 10), "learning rate of AdaGrad, the same throughout"] = 0.05
    seed: Annotated[int, Range(0, 2**63 - 1), "of the first numbers and of every draw"] = 0

    tiny: ClassVar[dict[str, Any]] = {
        "dim": 8,
        "hidden": 6,
        "window": 2,
        "epochs": 1,
        "min_count": 1,
    }

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
            (V, dim) float32, the counts, and the knobs and the final loss as notes. A token that
            never occurs keeps the random vector that it started with.

        Raises
        ------
        InputError
            Where fewer than two different words are left.
        """
        stream = sgd.encode(corpus, vocab, self.min_count)
        vectors, loss = predict(self, stream, gradients)
        notes = {**self.to_dict(), "loss": loss}
        return EmbeddingTable(stream.vocab, vectors, stream.counts, notes)


def gradients(
    X: Array, H: Array, U: Array, N: Array, weights: Array
) -> tuple[float, Array, Array, Array, Array]:
    """Return the loss of B windows and its gradients by ``X``, ``H``, ``U`` and ``N``.

    ``X`` (B, 2 window dim), ``H`` (hidden, 2 window dim), ``U`` (B, hidden), ``N`` (B / GROUP, K,
    hidden), ``weights`` (B, 1 + K).
    """
    Z = np.tanh(X @ H.T)
    loss, dZ, dU, dN = against_noise(Z, U, N, weights)
    dA = dZ * (1 - Z * Z)
    return loss, dA @ H, dA.T @ X, dU, dN
