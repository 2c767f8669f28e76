"""Learn vectors by predicting a word from its neighbours, each in its own place.

The idea
--------
CBOW predicts the word in the middle of a window (the *centre*) from the mean of its neighbours,
and so forgets who stood where. Here the vectors of the neighbours are laid side by side instead,
and every word has a long output vector that says what it expects in each place. This is all that
distinguishes the model from CBOW; Lai et al. made it up in order to see what the order of words
is worth. What it learns leans towards syntax: words are near each other that stand in the same
positions, rather than words of one topic.

Equations
---------
A window of ``window`` words to each side is ``x = [e(w_-c); ..; e(w_-1); e(w_1); ..; e(w_c)]``,
with ``e`` the rows of ``Win`` (input vectors, the result). Where the text ends stands a padding
row of its own. With ``u_w`` the rows of ``Wout``, (V, 2 window dim), centre w and noise words
n_k, the loss of a window is::

    -log s(x . u_w) - sum_k log s(-x . u_{n_k}),        s(z) = 1 / (1 + e^-z)

256 windows are a batch. For every number p of either matrix, with g the gradient of the batch's
loss by it, AdaGrad takes the step::

    q += g^2;   p -= lr g / sqrt(q)        with q = 10^-8 at first

The dropping of frequent words and the draw of noise words are those of skip-gram (``sgns``).
``Win`` starts uniform in (-1/2, 1/2) / dim, ``Wout`` at zero.

Departures from the paper
-------------------------
- The authors' program takes a step for every window; here one for every batch of 256, so that the
  work is matrix products.
- Eight neighbouring windows share their noise words, as the neighbours of a position do in
  ``sgns``. Without this the time would go into fetching output vectors, which are as long as the
  window.
- The program trains on 95 % of the text and keeps the rest to tell the loss; here all is trained
  on.
- Padding is a row of its own, where the program uses that of the end of a line. A window without
  any neighbour is left out. A noise word that happens to be the centre is left out of that
  window.
- A sentence of more than 10,000 tokens is split there; nothing is dropped.

``notes["loss"]`` is the mean loss of a window, noise included, over the last epoch.

Cost
----
Time: about 6 window dim (1 + negatives) multiplications a word, and the traffic of output vectors
of 2 window dim numbers: 230,000 words a second at the defaults (dim 100, window 5, 5 noise words)
on one core of a server of 2023. It runs in one thread, and the same seed gives the same bytes.
Memory: 16 V window dim bytes for ``Wout`` and its squares, 176 MB for 22,000 words at the
defaults.

When not to use it
------------------
For topics, search and everything that asks what a text is about: skip-gram (``sgns``) and
``ppmi_svd`` are better and faster. For large vocabularies with wide windows, because of the
memory.

Reference
---------
Lai, Liu, Xu, Zhao: How to Generate a Good Word Embedding?, IEEE Intelligent Systems 2016,
https://arxiv.org/abs/1507.05523. Batches and shared noise: Ji, Satish, Li, Dubey, 2016,
https://arxiv.org/abs/1604.04661. AdaGrad: Duchi, Hazan, Singer, JMLR 12, 2011.
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
from tokenspace.words._context import AdaGrad, Batch, against_noise, train, uniform

__all__ = ["Order"]


@dataclass(frozen=True, kw_only=True)
class Order(Recipe):
    """Learn vectors by predicting a word from its neighbours, each in its own place."""

    dim: Annotated[int, Range(1, 4096), "width of the vectors"] = 100
    window: Annotated[int, Range(1, 100), "words to each side that are read"] = 5
    negatives: Annotated[int, Range(1, 100), "noise words drawn for each group of windows"] = 5
    epochs: Annotated[int, Range(1, 10_000), "passes over the corpus"] = 5
    min_count: Annotated[int, Range(1), "rarer words are left out (not with a vocabulary)"] = 5
    sample: Annotated[float, Range(0, 1), "relative frequency above which words are thinned"] = 1e-3
    lr: Annotated[float, Range(1e-6, 10), "learning rate of AdaGrad, the same throughout"] = 0.05
    seed: Annotated[int, Range(0, 2**63 - 1), "of the first numbers and of every draw"] = 0

    tiny: ClassVar[dict[str, Any]] = {"dim": 8, "window": 2, "epochs": 1, "min_count": 1}

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
        size, dim, lr = len(stream.vocab), self.dim, self.lr
        Win = uniform(self.seed, "vectors", size + 1, dim, dim)  # the last one is the padding
        Wout = AdaGrad(np.zeros((size, 2 * self.window * dim), np.float32))

        def step(batch: Batch) -> float:
            X = Win.values[batch.contexts].reshape(len(batch.centres), -1)
            U, N = Wout.values[batch.centres], Wout.values[batch.noise]
            loss, dX, dU, dN = against_noise(X, U, N, batch.weights)
            Win.step_rows(batch.contexts.reshape(-1), dX.reshape(-1, dim), lr)
            rows = np.concatenate([batch.centres, batch.noise.reshape(-1)])
            Wout.step_rows(rows, np.concatenate([dU, dN.reshape(-1, X.shape[1])]), lr)
            return loss

        loss = train(
            step,
            stream,
            label="order",
            window=self.window,
            negatives=self.negatives,
            epochs=self.epochs,
            sample=self.sample,
            seed=self.seed,
        )
        notes = {**self.to_dict(), "loss": loss}
        return EmbeddingTable(stream.vocab, Win.values[:size], stream.counts, notes)
