"""Learn vectors by predicting a word from the mean of its neighbours.

The idea
--------
The mirror image of skip-gram: the mean of the vectors of all words around a position should tell
the word that stands there (the *centre*) from a few *noise* words. One prediction a position
instead of one for each neighbour makes it the faster of the two, and the averaging makes it weaker
on rare words.

The gradient of a mean is to be divided by the number of vectors that it is a mean of. The
word2vec program does not do so, and neither does gensim by default, so their input vectors take
steps up to ``2 window`` times too long beside their output vectors; that is why CBOW has the name
of being worse than it is (Irsoy, Benton, Stratos 2021). ``grad="exact"`` divides;
``grad="word2vec"`` does as those programs do.

Equations
---------
With ``x`` the rows of ``Win`` (input vectors, the result) and ``w`` those of ``Wout`` (output
vectors, both (V, dim) float32), neighbours ``C``, n in number, and ``T = [c, n_1 .. n_K]`` the
centre and its noise words, the loss of a position is::

    h = 1/n sum over a in C of x_a
    -log s(h . w_c) - sum_k log s(-h . w_{n_k}),        s(z) = 1 / (1 + e^-z)

and the step, with ``label = [1, 0 .. 0]``::

    G = lr (label - s(Wout[T] h))
    dh = G Wout[T]
    Wout[T] += G h
    Win[a] += dh / n   for a in C        (grad="word2vec": Win[a] += dh)

Windows, the dropping of frequent words, noise, initial vectors and the fall of ``lr`` are those of
skip-gram (``sgns``).

``negatives=0`` predicts with a hierarchical softmax, as the paper does: ``T`` is the way of inner
nodes from the root of a Huffman tree to the centre, ``code`` the branch taken at each (0 or 1), and
``label = 1 - code``. The loss is then ``-log p(c | h) = -sum_j log s((1 - 2 code_j) h . w_{T_j})``.

Departures from the paper
-------------------------
- The paper predicts with a hierarchical softmax (``negatives=0``); noise words came later
  (arXiv:1310.4546) and are what everybody uses.
- The gradient is exact. It is smaller than the undivided one, so the learning rate is larger: 0.1
  where the word2vec program has 0.05. On 4.4 million words of novels, by word pairs that no claim
  uses, 0.1 and 0.25 were equally good; 0.5 diverged.
- The sigmoid is computed (to 1e-5), not looked up, and there is no cut-off at 6.
- A noise word that happens to be the centre is left out of that position, not drawn again.
- A sentence of more than 10,000 tokens is split there; nothing is dropped.

With one thread the same seed gives the same bytes. More threads update the shared matrices without
locks (HOGWILD): the vectors are as good, but two runs are never equal bit for bit.

``notes["loss"]`` is the mean loss of a position, noise included, over every 16th position of the
last epoch.

Cost
----
Time: about 3 dim (1 + negatives) + 2 dim (window + 1) multiplications a word; 3 million words a
second and core at the defaults (dim 100, window 5, 5 noise words) on a server of 2021, on a tree a
tenth less. The first call compiles the kernel, which takes a few seconds and is kept. Memory: 8 V
dim bytes for both matrices, a noise table of 4 to 64 MiB; the text itself lies in a temporary file
as 4 bytes a token.

When not to use it
------------------
Where quality on rare words or on little text matters: skip-gram (``sgns``) learns more from each
occurrence. As with skip-gram, unseen words need a vocabulary of subwords, and less than a few
hundred thousand words is too little.

Reference
---------
Mikolov, Chen, Corrado, Dean: Efficient Estimation of Word Representations in Vector Space, 2013,
https://arxiv.org/abs/1301.3781. The gradient: Irsoy, Benton, Stratos: Corrected CBOW Performs as
well as Skip-gram, 2021, https://arxiv.org/abs/2012.15332.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from tokenspace import sgd
from tokenspace.arrays import Floats1d, Ids
from tokenspace.corpus import Corpus
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

__all__ = ["CBOW"]


@dataclass(frozen=True, kw_only=True)
class CBOW(Recipe):
    """Learn vectors by predicting a word from the mean of its neighbours."""

    dim: Annotated[int, Range(1, 4096), "width of the vectors"] = 100
    window: Annotated[int, Range(1, 100), "most words to each side that count as neighbours"] = 5
    negatives: Annotated[
        int, Range(0, 100), "noise words drawn for each position; 0 = hierarchical softmax instead"
    ] = 5
    epochs: Annotated[int, Range(1, 10_000), "passes over the corpus"] = 5
    min_count: Annotated[int, Range(1), "rarer words are left out (not with a vocabulary)"] = 5
    sample: Annotated[float, Range(0, 1), "relative frequency above which words are thinned"] = 1e-3
    lr: Annotated[float, Range(1e-6, 10), "first learning rate; it falls linearly to 0"] = 0.1
    grad: Annotated[
        Literal["exact", "word2vec"], "divide the gradient among the neighbours, or not"
    ] = "exact"
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
        stream = sgd.encode(corpus, vocab, self.min_count)
        tree = NO_TREE if self.negatives else huffman(stream.counts)
        trained = sgd.train(
            predict_centre,
            stream,
            label="cbow",
            dim=self.dim,
            epochs=self.epochs,
            sample=self.sample,
            lr=self.lr,
            threads=self.threads,
            seed=self.seed,
            options=(self.window, self.negatives, self.grad == "exact", *tree),
        )
        return sgd.table(stream, trained, self.to_dict())


@kernel()
def mean_row(Win: Floats1d, C: Ids, n: int, width: int, H: Floats1d) -> None:
    """Compute h, the mean of ``n`` rows."""
    share = splat(np.float32(1 / n))
    for q in range(0, width, LANES):
        h = load(Win, C[0] + q)
        for a in range(1, n):
            h = add(h, load(Win, C[a] + q))
        store(H, q, mul(h, share))


@kernel()
def add_to_rows(Win: Floats1d, C: Ids, n: int, width: int, dH: Floats1d, factor: float) -> None:
    """Add ``factor`` times dh to each of ``n`` rows."""
    f = splat(np.float32(factor))
    for a in range(n):
        for q in range(0, width, LANES):
            store(Win, C[a] + q, fma(f, load(dH, q), load(Win, C[a] + q)))


@kernel(error_model="numpy")
def predict_centre(
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
    exact: bool,
    steps: npt.NDArray[np.int32],
    starts: Ids,
    deepest: int,
) -> tuple[float, int]:
    """Train on the sentences [first, last); return the sampled loss and its number of centres.

    ``Win`` and ``Wout`` are the (V, width) matrices, flat and updated in place; ``width`` is a
    multiple of 8. ``keep`` and ``noise`` as made by the functions of their names. Without
    ``negatives``, (``steps``, ``starts``, ``deepest``) is the tree whose inner nodes the rows of
    ``Wout`` belong to.
    """
    state = np.array([seed], np.uint64)
    outputs = 1 + negatives if negatives else deepest
    blocks = (outputs + BLOCK - 1) // BLOCK
    most = longest(offsets, first, last)
    rows = np.zeros(most + 1, np.int64)
    N = np.zeros((most + 1) * negatives, np.int64)
    T = np.zeros(blocks * BLOCK, np.int64)
    C = np.zeros(2 * window, np.int64)
    H = np.zeros(width, np.float32)
    dH = np.zeros(width, np.float32)
    G = np.zeros(blocks * LANES, np.float32)
    rate = np.zeros(blocks * LANES, np.float32)
    label = np.zeros(blocks * LANES, np.float32)
    label[0] = 1
    zero = splat(np.float32(0))
    loss = 0.0
    centres = 0
    seen = 0
    for sentence in range(first, last):
        length = thin(ids, offsets[sentence], offsets[sentence + 1], keep, width, state, rows)
        draw_noise(noise, length * negatives, width, state, N)
        for i in range(length):
            n = window_rows(rows, length, i, 1 + below(window, state), C)
            if n == 0:
                continue
            look_ahead(Win, Wout, width, rows, length, i + 1, window, N, negatives)
            if negatives:
                output_rows(rows[i], N, i * negatives, negatives, lr, T, rate)
            else:
                blocks = path_rows(rows[i] // width, steps, starts, width, lr, T, rate, label)

            mean_row(Win, C, n, width, H)
            dH[:] = 0

            for block in range(blocks):  # G = rate (label - sigmoid(Wout[T] h))
                o = block * BLOCK
                o0, o1, o2, o3, o4, o5 = T[o], T[o + 1], T[o + 2], T[o + 3], T[o + 4], T[o + 5]
                t0, t1, t2, t3, t4, t5 = zero, zero, zero, zero, zero, zero
                for q in range(0, width, LANES):
                    h = load(H, q)
                    t0 = fma(h, load(Wout, o0 + q), t0)
                    t1 = fma(h, load(Wout, o1 + q), t1)
                    t2 = fma(h, load(Wout, o2 + q), t2)
                    t3 = fma(h, load(Wout, o3 + q), t3)
                    t4 = fma(h, load(Wout, o4 + q), t4)
                    t5 = fma(h, load(Wout, o5 + q), t5)
                m = sigmoid(sums(t0, t1, t2, t3, t4, t5, zero, zero))
                at = block * LANES
                store(G, at, mul(load(rate, at), sub(load(label, at), m)))

            for block in range(blocks):  # dh = G Wout[T];  Wout[T] += G h
                o, g = block * BLOCK, block * LANES
                o0, o1, o2, o3, o4, o5 = T[o], T[o + 1], T[o + 2], T[o + 3], T[o + 4], T[o + 5]
                g0, g1, g2 = splat(G[g]), splat(G[g + 1]), splat(G[g + 2])
                g3, g4, g5 = splat(G[g + 3]), splat(G[g + 4]), splat(G[g + 5])
                for q in range(0, width, LANES):
                    h, d = load(H, q), load(dH, q)
                    w = load(Wout, o0 + q)
                    d = fma(g0, w, d)
                    store(Wout, o0 + q, fma(g0, h, w))
                    w = load(Wout, o1 + q)
                    d = fma(g1, w, d)
                    store(Wout, o1 + q, fma(g1, h, w))
                    w = load(Wout, o2 + q)
                    d = fma(g2, w, d)
                    store(Wout, o2 + q, fma(g2, h, w))
                    w = load(Wout, o3 + q)
                    d = fma(g3, w, d)
                    store(Wout, o3 + q, fma(g3, h, w))
                    w = load(Wout, o4 + q)
                    d = fma(g4, w, d)
                    store(Wout, o4 + q, fma(g4, h, w))
                    w = load(Wout, o5 + q)
                    d = fma(g5, w, d)
                    store(Wout, o5 + q, fma(g5, h, w))
                    store(dH, q, d)

            add_to_rows(Win, C, n, width, dH, 1 / n if exact else 1.0)

            if seen % 16 == 0:
                loss += sampled_loss(G, 1, rate)
                centres += 1
            seen += 1
    return loss, centres
