"""Learn vectors by predicting a word from each neighbour, against sampled noise.

The idea
--------
Words that stand in the same company mean similar things. Skip-gram with negative sampling slides
a window over the text. For each position the word in the middle (the *centre*) should be told
from a few *noise* words by the vector of every word around it (its *neighbours*): a neighbour's
input vector is pushed towards the centre's output vector and away from those of the noise words.
Words with the same centres around them are pushed the same way, and end up close together.

Rare words teach more than frequent ones, so occurrences of frequent words are dropped at random
before windows are formed. Noise words are drawn by their counts to the power 0.75.

``negatives=0`` does without noise words (hierarchical softmax). The words are then the leaves of a
Huffman tree, frequent ones near its root, and each inner node has an output vector that tells
which of its two branches leads to the centre. That gives every word a probability, and they sum
to 1.

Equations
---------
With ``x`` the rows of ``Win`` (input vectors, the result) and ``w`` those of ``Wout`` (output
vectors, both (V, dim) float32), the loss of a position with centre ``c``, neighbours ``C`` and
noise words ``n_1 .. n_K`` is::

    sum over a in C of   -log s(x_a . w_c) - sum_k log s(-x_a . w_{n_k}),    s(z) = 1 / (1 + e^-z)

Let ``T = [c, n_1 .. n_K]`` and ``label = [1, 0 .. 0]``. One position is three small matrix
products, each (neighbours, 1 + K) against ``dim``::

    G = lr (label - s(Win[C] Wout[T]^T))
    Win[C] += G Wout[T]        with Wout as it was
    Wout[T] += G^T Win[C]      with Win as it was

On a tree, ``T`` is the way of inner nodes from the root to the centre, ``code`` the branch taken
at each (0 or 1), ``label = 1 - code``, and the rest is the same: the loss of a pair becomes
``-log p(c | a) = -sum_j log s((1 - 2 code_j) x_a . w_{T_j})``. ``Wout`` then has V - 1 rows in use.

The window reaches 1 to ``window`` words to each side, drawn anew for each position. A word of
relative frequency ``f`` is kept with probability ``min(1, (sqrt(f / sample) + 1) sample / f)``.
``lr`` falls linearly to 0 (at least to lr / 10,000) over all words of all epochs. ``Win`` starts
uniform in (-1/2, 1/2) / dim, ``Wout`` at zero.

Departures from the paper
-------------------------
- The noise words of a position are shared by all its neighbours (Ji et al. 2016), where the paper
  draws them for each pair: the expected gradient is the same, and six output rows stay in the
  processor's registers while the neighbours pass by. This is where the speed comes from.
- The input is the neighbour and the output the centre, as in the word2vec program, so that sharing
  is possible; the set of pairs is the paper's. The rule for dropping frequent words is the
  program's, too; the paper prints another one.
- The sigmoid is computed (to 1e-5), not looked up, and there is no cut-off at 6.
- A noise word that happens to be the centre is left out of that position, not drawn again. With
  more than 5 noise words, one drawn twice for a position may see its own first update.
- A sentence of more than 10,000 tokens is split there; nothing is dropped.
- The way to the centre is one for the whole window, so the tree is trained by the same three
  products.

With one thread the same seed gives the same bytes. More threads update the shared matrices without
locks (HOGWILD): the vectors are as good, but two runs are never equal bit for bit.

``notes["loss"]`` is the mean loss of a pair of centre and neighbour, noise included, over every
16th position of the last epoch; on a tree, the mean of ``-log p(c | a)``.
``SGNS().factors(corpus)`` returns the input and the output vectors, and ``relation_report`` of
``tokenspace.words.relation`` says how near their products come to mutual information.

Cost
----
Time: about 6 dim (1 + negatives) multiplications a pair, (window + 1) pairs a word; 2 million words
a second and core at the defaults (dim 100, window 5, 5 noise words) on a server of 2021; on a tree
about half of that, since the way to a word has some log2 V nodes. The first call compiles the
kernel, which takes a few seconds and is kept. Memory: 8 V dim bytes for both matrices, a noise
table of 4 to 64 MiB; the text itself lies in a temporary file as 4 bytes a token.

When not to use it
------------------
With less than a few hundred thousand words: the vectors stay close to their random start (more
epochs help a little; a singular value decomposition of the counts does better). For words that are
not in the text, use a vocabulary of subwords (``vocab=``). For the meaning of a word in its
sentence, use a contextual encoder. Where training time is all that matters, CBOW is faster.

Reference
---------
Mikolov, Sutskever, Chen, Corrado, Dean: Distributed Representations of Words and Phrases and their
Compositionality, NIPS 2013, https://arxiv.org/abs/1310.4546. Shared noise: Ji, Satish, Li, Dubey:
Parallelizing Word2Vec in Shared and Distributed Memory, https://arxiv.org/abs/1604.04661. HOGWILD:
Niu, Recht, Re, Wright, https://arxiv.org/abs/1106.5730.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt

from tokenspace import sgd
from tokenspace.arrays import Floats1d, Ids
from tokenspace.corpus import Corpus, IdStream
from tokenspace.errors import ConfigError
from tokenspace.jit import kernel
from tokenspace.recipe import Range, Recipe
from tokenspace.sgd import (
    BLOCK,
    below,
    draw_noise,
    longest,
    look_ahead,
    output_rows,
    sampled_loss,
    thin,
    window_rows,
)
from tokenspace.simd import LANES, add, fma, load, mul, sigmoid, splat, store, sub, sums
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary
from tokenspace.words._tree import NO_TREE, huffman, path_rows
from tokenspace.words.relation import Factors

__all__ = ["SGNS"]


@dataclass(frozen=True, kw_only=True)
class SGNS(Recipe):
    """Learn vectors by predicting a word from each neighbour, against sampled noise."""

    dim: Annotated[int, Range(1, 4096), "width of the vectors"] = 100
    window: Annotated[int, Range(1, 100), "most words to each side that count as neighbours"] = 5
    negatives: Annotated[
        int, Range(0, 100), "noise words drawn for each position; 0 = hierarchical softmax instead"
    ] = 5
    epochs: Annotated[int, Range(1, 10_000), "passes over the corpus"] = 5
    min_count: Annotated[int, Range(1), "rarer words are left out (not with a vocabulary)"] = 5
    sample: Annotated[float, Range(0, 1), "relative frequency above which words are thinned"] = 1e-3
    lr: Annotated[float, Range(1e-6, 10), "first learning rate; it falls linearly to 0"] = 0.025
    threads: Annotated[int, Range(0, 1024), "0 = all cores; only 1 gives the same bytes again"] = 0
    seed: Annotated[int, Range(0, 2**63 - 1), "of the first vectors and of every draw"] = 0

    tiny: ClassVar[dict[str, Any]] = {"dim": 8, "epochs": 1, "min_count": 1, "threads": 1}

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
        NotConverged
            Where the vectors stop being finite.
        """
        stream, trained = self._train(corpus, vocab)
        return sgd.table(stream, trained, self.to_dict())

    def factors(self, corpus: Corpus, /, *, vocab: Vocabulary | None = None) -> Factors:
        """Learn as a call does; return the input and the output vectors.

        Raises
        ------
        ConfigError
            With ``negatives=0``: the output vectors of a tree belong to no words.
        """
        if not self.negatives:
            raise ConfigError(
                "sgns: with negatives=0 the output vectors are those of a tree, not of words",
                hint="give negatives=1 or more",
            )
        text, trained = self._train(corpus, vocab)
        weights = np.arange(self.window, 0, -1) / self.window
        notes = {**self.to_dict(), "loss": trained.loss}
        both = (trained.inputs, trained.outputs)
        return Factors(text.vocab, text.counts, weights, *both, None, None, notes)

    def _train(self, corpus: Corpus, vocab: Vocabulary | None) -> tuple[IdStream, sgd.Trained]:
        stream = sgd.encode(corpus, vocab, self.min_count)
        tree = NO_TREE if self.negatives else huffman(stream.counts)
        return stream, sgd.train(
            skip_gram,
            stream,
            label="sgns",
            dim=self.dim,
            epochs=self.epochs,
            sample=self.sample,
            lr=self.lr,
            threads=self.threads,
            seed=self.seed,
            options=(self.window, self.negatives, *tree),
        )


@kernel(error_model="numpy")
def skip_gram(
    Win: Floats1d,
    Wout: Floats1d,
    width: int,
    ids: npt.NDArray[np.int32],
    offsets: Ids,
    first: int,
    last: int,
    keep: npt.NDArray[np.uint32],
    noise: npt.NDArray[np.int32],
    lr: float,
    seed: int,
    window: int,
    negatives: int,
    steps: npt.NDArray[np.int32],
    starts: Ids,
    deepest: int,
) -> tuple[float, int]:
    """Train on the sentences [first, last); return the sampled loss and its number of pairs.

    ``Win`` and ``Wout`` are the (V, width) matrices, flat and updated in place; ``width`` is a
    multiple of 8. ``keep`` and ``noise`` as made by the functions of their names. Without
    ``negatives``, (``steps``, ``starts``, ``deepest``) is the tree whose inner nodes the rows of
    ``Wout`` belong to.
    """
    state = np.array([seed], np.uint64)
    outputs = 1 + negatives if negatives else deepest
    blocks = (outputs + BLOCK - 1) // BLOCK
    most = longest(offsets, first, last)
    rows = np.zeros(most + 1, np.int64)  # one more: the last position looks ahead as well
    N = np.zeros((most + 1) * negatives, np.int64)
    T = np.zeros(blocks * BLOCK, np.int64)
    C = np.zeros(2 * window + 1, np.int64)
    X = np.zeros((2 * window + 1) * width, np.float32)
    stride = (2 * window + 1) * LANES
    G = np.zeros(blocks * stride, np.float32)
    rate = np.zeros(blocks * LANES, np.float32)
    label = np.zeros(blocks * LANES, np.float32)
    label[0] = 1
    zero = splat(np.float32(0))
    loss = 0.0
    pairs = 0
    seen = 0
    for sentence in range(first, last):
        length = thin(ids, offsets[sentence], offsets[sentence + 1], keep, width, state, rows)
        draw_noise(noise, length * negatives, width, state, N)
        for i in range(length):
            n = window_rows(rows, length, i, 1 + below(window, state), C)
            if n == 0:
                continue
            C[n] = C[n - 1]  # contexts go in pairs
            look_ahead(Win, Wout, width, rows, length, i + 1, window, N, negatives)
            if negatives:
                output_rows(rows[i], N, i * negatives, negatives, lr, T, rate)
            else:
                blocks = path_rows(rows[i] // width, steps, starts, width, lr, T, rate, label)

            for block in range(blocks):  # G = rate (label - sigmoid(Win[C] Wout[T]^T))
                o = block * BLOCK
                o0, o1, o2, o3, o4, o5 = T[o], T[o + 1], T[o + 2], T[o + 3], T[o + 4], T[o + 5]
                r, y = load(rate, block * LANES), load(label, block * LANES)
                for a in range(0, n, 2):
                    t0, t1, t2, t3, t4, t5 = zero, zero, zero, zero, zero, zero
                    u0, u1, u2, u3, u4, u5 = zero, zero, zero, zero, zero, zero
                    for q in range(0, width, LANES):
                        xt, xu = load(Win, C[a] + q), load(Win, C[a + 1] + q)
                        store(X, a * width + q, xt)
                        store(X, (a + 1) * width + q, xu)
                        w = load(Wout, o0 + q)
                        t0, u0 = fma(xt, w, t0), fma(xu, w, u0)
                        w = load(Wout, o1 + q)
                        t1, u1 = fma(xt, w, t1), fma(xu, w, u1)
                        w = load(Wout, o2 + q)
                        t2, u2 = fma(xt, w, t2), fma(xu, w, u2)
                        w = load(Wout, o3 + q)
                        t3, u3 = fma(xt, w, t3), fma(xu, w, u3)
                        w = load(Wout, o4 + q)
                        t4, u4 = fma(xt, w, t4), fma(xu, w, u4)
                        w = load(Wout, o5 + q)
                        t5, u5 = fma(xt, w, t5), fma(xu, w, u5)
                    m = sums(t0, t1, t2, t3, t4, t5, zero, zero)
                    store(G, block * stride + a * LANES, mul(r, sub(y, sigmoid(m))))
                    m = sums(u0, u1, u2, u3, u4, u5, zero, zero)
                    store(G, block * stride + (a + 1) * LANES, mul(r, sub(y, sigmoid(m))))

            for block in range(blocks):  # Win[C] += G Wout[T];  Wout[T] += G^T X
                o = block * BLOCK
                o0, o1, o2, o3, o4, o5 = T[o], T[o + 1], T[o + 2], T[o + 3], T[o + 4], T[o + 5]
                for q in range(0, width, LANES):
                    w0, w1, w2 = load(Wout, o0 + q), load(Wout, o1 + q), load(Wout, o2 + q)
                    w3, w4, w5 = load(Wout, o3 + q), load(Wout, o4 + q), load(Wout, o5 + q)
                    d0, d1, d2, d3, d4, d5 = zero, zero, zero, zero, zero, zero
                    for a in range(n):
                        g = block * stride + a * LANES
                        x = load(X, a * width + q)
                        new = load(Win, C[a] + q)
                        h = splat(G[g])
                        d0, new = fma(h, x, d0), fma(h, w0, new)
                        h = splat(G[g + 1])
                        d1, new = fma(h, x, d1), fma(h, w1, new)
                        h = splat(G[g + 2])
                        d2, new = fma(h, x, d2), fma(h, w2, new)
                        h = splat(G[g + 3])
                        d3, new = fma(h, x, d3), fma(h, w3, new)
                        h = splat(G[g + 4])
                        d4, new = fma(h, x, d4), fma(h, w4, new)
                        h = splat(G[g + 5])
                        d5, new = fma(h, x, d5), fma(h, w5, new)
                        store(Win, C[a] + q, new)
                    store(Wout, o0 + q, add(load(Wout, o0 + q), d0))  # read again: a row may
                    store(Wout, o1 + q, add(load(Wout, o1 + q), d1))  # stand in T twice
                    store(Wout, o2 + q, add(load(Wout, o2 + q), d2))
                    store(Wout, o3 + q, add(load(Wout, o3 + q), d3))
                    store(Wout, o4 + q, add(load(Wout, o4 + q), d4))
                    store(Wout, o5 + q, add(load(Wout, o5 + q), d5))

            if seen % 16 == 0:
                loss += sampled_loss(G, n, rate)
                pairs += n
            seen += 1
    return loss, pairs
