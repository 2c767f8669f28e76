"""Learn vectors by scoring a window of text above the same window with a wrong word in it.

The idea
--------
The model of Collobert and Weston does not predict a word. A small network reads a window of text,
the word in the middle (the *centre*) included, and gives it one score: text that was written
should score higher, by a margin of 1, than the same text with another word in the middle. All
words, centre or neighbour, are rows of one table. So the centre's vector meets its neighbours'
directly, and words that stand beside each other (*syntagmatic* relations) influence each other,
whereas in the models that predict the centre only words that replace each other (*paradigmatic*
relations) come together.

Equations
---------
A window of ``window`` words to each side is ``x = [e(w_-c); ..; e(w_-1); e(w_1); ..; e(w_c)]``,
and ``e`` the rows of ``Win`` (the result). Where the text ends stands a padding row of its own.
With the matrix ``H`` (50, (2 window + 1) dim), ``a`` (50,), centre w and other words n_k, the
score of a word v in the middle, and the loss of a window, are::

    s(v) = a . tanh(H [x; e(v)])
    sum_k max(0, 1 - s(w) + s(n_k))                        (loss="hinge"; n_k any word of the text)
    -log g(s(w)) - sum_k log g(-s(n_k)), g the sigmoid     (loss="ns"; n_k by its count^0.75)

256 windows are a batch, in matrix products. For every number p of ``Win``, ``H`` and ``a``, with
g the gradient of the batch's loss by it, AdaGrad takes the step::

    q += g^2;   p -= lr g / sqrt(q)        with q = 10^-8 at first

The dropping of frequent words is that of skip-gram (``sgns``). ``Win`` starts uniform in (-1/2,
1/2) / dim, ``H`` in (-1/2, 1/2) / 50, ``a`` at zero.

Departures from the paper
-------------------------
- Lai et al. write the hinge loss, and their program trains the logistic one; both are here.
- The hinge is summed over ``negatives`` wrong words a window where usually one is drawn.
- Collobert and Weston's network has biases; neither Lai et al.'s program nor this has any.
- The authors' program takes a step for every window; here one for every batch of 256.
- Eight neighbouring windows share their wrong words, as the neighbours of a position do in
  ``sgns``.
- The program trains on 95 % of the text and keeps the rest to tell the loss; here all is trained
  on.
- Padding is a row of its own, where the program uses that of the end of a line. A window without
  any neighbour is left out. A wrong word that happens to be the centre is left out of that
  window.
- A sentence of more than 10,000 tokens is split there; nothing is dropped.

``notes["loss"]`` is the mean loss of a window over the last epoch.

Cost
----
Time: about 300 window dim multiplications and 50 (1 + negatives) values of tanh a word; 200,000
words a second at the defaults (dim 100, window 5, 5 wrong words) on one core of a server of 2023.
It runs in one thread, and the same seed gives the same bytes. Memory: 8 V dim bytes.

When not to use it
------------------
For analogies and similarity: it is the worst there of the models over windows (``sgns``,
``cbow``, ``order``, ``lbl``, ``nnlm``), in the paper and here, and its claim is short of its
margin. It was made to start taggers from, and is here to compare with.

Reference
---------
Lai, Liu, Xu, Zhao: How to Generate a Good Word Embedding?, IEEE Intelligent Systems 2016,
https://arxiv.org/abs/1507.05523. Collobert, Weston, Bottou, Karlen, Kavukcuoglu, Kuksa: Natural
Language Processing (Almost) from Scratch, JMLR 12, 2011. AdaGrad: Duchi, Hazan, Singer, JMLR 12,
2011.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from tokenspace import sgd
from tokenspace.corpus import Corpus
from tokenspace.recipe import Range, Recipe
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary
from tokenspace.words._context import AdaGrad, Array, Batch, grouped, train, uniform

__all__ = ["CW"]

HIDDEN = 50  # neurons, as many as the authors have


@dataclass(frozen=True, kw_only=True)
class CW(Recipe):
    """Learn vectors by scoring a window of text above the same window with a wrong word in it."""

    dim: Annotated[int, Range(1, 4096), "width of the vectors"] = 100
    window: Annotated[int, Range(1, 100), "words to each side that are read"] = 5
    negatives: Annotated[int, Range(1, 100), "noise words drawn for each group of windows"] = 5
    epochs: Annotated[int, Range(1, 10_000), "passes over the corpus"] = 5
    min_count: Annotated[int, Range(1), "rarer words are left out (not with a vocabulary)"] = 5
    sample: Annotated[float, Range(0, 1), "relative frequency above which words are thinned"] = 1e-3
    lr: Annotated[float, Range(1e-6, 10), "learning rate of AdaGrad, the same throughout"] = 0.05
    loss: Annotated[
        Literal["hinge", "ns"], "by a margin of 1 against any word, or as against noise words"
    ] = "hinge"
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
        H = uniform(self.seed, "hidden", HIDDEN, (2 * self.window + 1) * dim, HIDDEN)
        a = AdaGrad(np.zeros((1, HIDDEN), np.float32))

        def step(batch: Batch) -> float:
            X = Win.values[batch.contexts].reshape(len(batch.centres), -1)
            E, N = Win.values[batch.centres], Win.values[batch.noise]
            found = gradients(X, E, N, H.values, a.values[0], batch.weights, self.loss)
            loss, dX, dE, dN, dH, da = found
            rows = [batch.contexts.reshape(-1), batch.centres, batch.noise.reshape(-1)]
            steps = [dX.reshape(-1, dim), dE, dN.reshape(-1, dim)]
            Win.step_rows(np.concatenate(rows), np.concatenate(steps), lr)
            H.step(dH, lr)
            a.step(da[None], lr)
            return loss

        loss = train(
            step,
            stream,
            label="cw",
            window=self.window,
            negatives=self.negatives,
            epochs=self.epochs,
            sample=self.sample,
            seed=self.seed,
            power=0.0 if self.loss == "hinge" else 0.75,
        )
        notes = {**self.to_dict(), "loss": loss}
        return EmbeddingTable(stream.vocab, Win.values[:size], stream.counts, notes)


def gradients(
    X: Array, E: Array, N: Array, H: Array, a: Array, weights: Array, loss: str
) -> tuple[float, Array, Array, Array, Array, Array]:
    """Return the loss of B windows and its gradients by ``X``, ``E``, ``N``, ``H`` and ``a``.

    ``X`` (B, 2 window dim), ``E`` (B, dim), ``N`` (B / GROUP, K, dim), ``H`` (hidden,
    2 window dim + dim), ``a`` (hidden,), ``weights`` (B, 1 + K).
    """
    Hx, He = H[:, : X.shape[1]], H[:, X.shape[1] :]
    context = X @ Hx.T
    own = np.tanh(context + E @ He.T)  # (B, hidden)
    noise = np.tanh(grouped(context)[:, :, None] + (N @ He.T)[:, None])  # (B/GROUP, GROUP, K, ..)
    noise = noise.reshape(len(X), -1, len(a))  # (B, K, hidden)
    scores = np.concatenate([(own @ a)[:, None], noise @ a], axis=1)
    value, G = _LOSSES[loss](scores, weights)
    da = G[:, 0] @ own + np.einsum("bk,bkh->h", G[:, 1:], noise)
    down = G[:, :1] * a * (1 - own * own)  # before tanh
    dnoise = G[:, 1:, None] * a * (1 - noise * noise)
    dcontext = down + dnoise.sum(axis=1)
    dgroup = grouped(dnoise).sum(axis=1)  # (B / GROUP, K, hidden)
    dH = np.empty_like(H)
    dH[:, : X.shape[1]] = dcontext.T @ X
    dH[:, X.shape[1] :] = down.T @ E + np.einsum("gkh,gkd->hd", dgroup, N, optimize=True)
    return value, dcontext @ Hx, down @ He, dgroup @ He, dH, da


def hinge(scores: Array, weights: Array) -> tuple[float, Array]:
    """Return sum_k max(0, 1 - own score + score k), weighted, and its gradient by the scores."""
    short = np.maximum(0, 1 - scores[:, :1] + scores[:, 1:]) * weights[:, 1:]
    G = np.empty_like(scores)
    G[:, 1:] = (short > 0) * weights[:, 1:]
    G[:, 0] = -G[:, 1:].sum(axis=1)
    return float(short.sum(dtype=np.float64)), G


def logistic(scores: Array, weights: Array) -> tuple[float, Array]:
    """Return -log s(own score) - sum_k log s(-score k), weighted, and its gradient."""
    from scipy.special import expit

    G = expit(scores)
    G[:, 0] -= 1
    signed = scores * np.where(np.arange(scores.shape[1]) == 0, -1, 1).astype(scores.dtype)
    return float((np.logaddexp(0, signed) * weights).sum(dtype=np.float64)), G * weights


_LOSSES = {"hinge": hinge, "ns": logistic}
