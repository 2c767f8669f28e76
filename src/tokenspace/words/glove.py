"""Fit the logarithm of how often words stand near each other by products of their vectors.

The idea
--------
Count once how often each word stands near each other one, then forget the text: everything that
vectors of words can know lies in that matrix. GloVe fits the logarithm of each count by the
product of two vectors and a bias for either word. Rare pairs, whose counts are mostly accident,
weigh little; pairs that never meet are left out, so that the work grows with the pairs that occur
and no longer with the text.

The vectors that come out are the sums W + W~: the two matrices play the same part, and their errors
cancel in part.

Equations
---------
A pair of words at distance d = 1 .. ``window`` in one text, on either side, adds 1 / d to X_ij, and
X is symmetric. With W and W~ (V, D) and biases b and b~ (V,), the cost is::

    J = sum over X_ij > 0 of  1/2 f(X_ij) (w_i . w~_j + b_i + b~_j - ln X_ij)^2
    f(x) = min(1, (x / x_max)^alpha)

Each entry takes one step of AdaGrad, every number with a square of its own that starts at 1. With
delta = f(X_ij) (w_i . w~_j + b_i + b~_j - ln X_ij)::

    t = lr delta w~_j      w_i -= t / sqrt(g_i)      g_i += t^2       (w~_j with w_i likewise)
    b_i -= delta / sqrt(h_i)                         h_i += delta^2   (b~_j likewise)

so that the learning rate is part of the squares of vectors and no part of the biases: the printed
algorithm leaves this open, and it is what the authors' program does. W, W~ and the biases start
uniform in (-1/2, 1/2) / D.

Departures from the paper
-------------------------
- Entries are not shuffled one by one. The pairs of a word with those at least as frequent are cut
  into pieces of 64, and pieces come in random order, new in each epoch; X_ij and X_ji are
  one visit. What is near in time is near in memory, and the cost after 25 epochs is within 0.5 %
  of that of the authors' program.
- No step is cut off at 100 and no entry is skipped because it is not a number: where the cost
  stops being finite, training stops.
- 1 / sqrt is computed to 5e-6 of its value.

With one thread the same seed gives the same bytes. More threads update the shared matrices without
locks (HOGWILD); the counts are the same with any number.

``notes["loss"]`` is the mean cost of an entry in the last epoch, ``notes["pairs"]`` the number of
entries of X. ``GloVe().factors(corpus)`` returns W, W~, b and b~ one by one, and
``relation_report`` of ``tokenspace.words.relation`` says how near they come to mutual information.

Cost
----
Counting reads every word's places in the text one word after the other: 5 million words a second
and core. Training takes about 0.7 D nanoseconds an entry, epoch and core on a server of 2023.
Memory: 6 bytes a token while counting; 16 bytes a pair (half an entry); 28 V D bytes. Nothing is
written to disk but the ids of the text.

When not to use it
------------------
On little text (some million words) skip-gram and factorised counts (``ppmi_svd``) are better at the
similarity of words; ``x_max`` should then be about 10. Where texts are short and each is of one
topic: words that never meet teach GloVe nothing, so that nothing keeps them apart. Where the text
grows day by day: counting has to be complete before training starts.

Reference
---------
Pennington, Socher, Manning: GloVe: Global Vectors for Word Representation, EMNLP 2014,
https://aclanthology.org/D14-1162. AdaGrad: Duchi, Hazan, Singer, JMLR 12, 2011. HOGWILD: Niu,
Recht, Re, Wright, https://arxiv.org/abs/1106.5730.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from tokenspace import jit, rng, sgd
from tokenspace.arrays import Floats1d, Floats2d, Ids
from tokenspace.corpus import Corpus
from tokenspace.errors import InputError, NotConverged
from tokenspace.jit import kernel
from tokenspace.progress import Meter
from tokenspace.recipe import Range, Recipe
from tokenspace.simd import LANES, fma, load, mul, rsqrt, splat, store, total
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary
from tokenspace.words._pairs import PairCounts, count_pairs
from tokenspace.words.relation import Factors

__all__ = ["GloVe"]

PIECE = 64  # pairs of one word that are visited one after the other
CHUNK = 1 << 14  # pairs that a thread takes at a time


@dataclass(frozen=True, kw_only=True)
class GloVe(Recipe):
    """Fit the logarithm of how often words stand near each other by products of their vectors."""

    dim: Annotated[int, Range(1, 4096), "width of the vectors D"] = 100
    window: Annotated[int, Range(1, 100), "most words to each side that count"] = 15
    epochs: Annotated[int, Range(1, 10_000), "passes over the pairs"] = 25
    min_count: Annotated[int, Range(1), "rarer words are left out (not with a vocabulary)"] = 5
    x_max: Annotated[float, Range(1e-3, 1e9), "count from which on a pair weighs 1"] = 100.0
    alpha: Annotated[float, Range(0, 1), "power of the weight of a rarer pair"] = 0.75
    lr: Annotated[float, Range(1e-6, 10), "learning rate of AdaGrad"] = 0.05
    threads: Annotated[int, Range(0, 1024), "0 = all cores; only 1 gives the same bytes again"] = 0
    seed: Annotated[int, Range(0, 2**63 - 1), "of the first vectors and of the order"] = 0

    tiny: ClassVar[dict[str, Any]] = {"dim": 8, "epochs": 2, "min_count": 1, "threads": 1}

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
            W + W~, (V, dim) float32, the counts, and as notes the knobs, ``loss`` and ``pairs``. A
            token that never occurs keeps the random vectors that it started with.

        Raises
        ------
        InputError
            Where fewer than two different words are left, or no two of them in one text.
        NotConverged
            Where the cost stops being finite.
        """
        found = self.factors(corpus, vocab=vocab)
        return EmbeddingTable(
            found.vocab, found.words + found.contexts, found.counts, dict(found.notes)
        )

    def factors(self, corpus: Corpus, /, *, vocab: Vocabulary | None = None) -> Factors:
        """Learn as a call does; return both matrices and their biases."""
        text = sgd.encode(corpus, vocab, self.min_count)
        weights = 1 / np.arange(1, self.window + 1)
        X = count_pairs(text, weights, self.threads)
        if not len(X.columns):
            raise InputError(
                "no two words stand in the same text", hint="give longer texts, or lower min_count"
            )
        W, contexts, b, context_b, cost, entries = fit(X, self)
        notes = {**self.to_dict(), "loss": cost, "pairs": entries}
        return Factors(text.vocab, text.counts, weights, W, contexts, b, context_b, notes)


class Fitted(NamedTuple):
    """W and W~ (V, D), b and b~ (V,) float32; the mean cost of an entry, and their number."""

    W: Floats2d
    contexts: Floats2d
    b: Floats1d
    context_b: Floats1d
    cost: float
    entries: int


def fit(X: PairCounts, recipe: GloVe) -> Fitted:
    """Fit the logarithms of X."""
    size, dim = len(X.starts) - 1, recipe.dim
    width = -(-dim // LANES) * LANES
    draw = rng.stream(recipe.seed, "vectors")
    P = np.zeros((size, 4, width), np.float32)
    P[:, :2, :dim] = (draw.random((size, 2, dim), np.float32) - 0.5) / dim
    P[:, 2:] = 1
    B = np.ones((size, 4), np.float32)
    B[:, :2] = (draw.random((size, 2), np.float32) - 0.5) / dim
    flat_P, flat_B = P.reshape(-1), B.reshape(-1)
    logs = np.log(X.values)
    f = X.values / np.float32(recipe.x_max)
    np.power(np.minimum(f, 1, out=f), np.float32(recipe.alpha), out=f)
    owners, cuts = pieces(X.starts)
    ranges = sgd.chunks(cuts, CHUNK)
    costs = np.zeros((len(ranges), 2))
    order = np.zeros(len(owners), np.int64)

    def work(_: int, index: int) -> int:
        first, last = ranges[index]
        costs[index] = descend(
            flat_P, flat_B, width, owners, cuts, order, first, last, X.columns, logs, f,
            np.float32(recipe.lr),
        )  # fmt: skip
        return int(cuts[last] - cuts[first])

    with Meter("glove", recipe.epochs * len(X.columns)) as meter:
        for epoch in range(recipe.epochs):
            order[:] = rng.stream(recipe.seed, "order", epoch).permutation(len(owners))
            sgd.share(work, epoch, len(ranges), jit.threads(recipe.threads), meter)
            cost, entries = costs.sum(axis=0)
            if not np.isfinite(cost):
                raise NotConverged(
                    f"glove: the cost is {cost} in epoch {epoch + 1} of {recipe.epochs}",
                    hint=f"lower the learning rate (lr={recipe.lr:g})",
                )
    W, contexts = (np.ascontiguousarray(P[:, side, :dim]) for side in (0, 1))
    return Fitted(W, contexts, B[:, 0].copy(), B[:, 1].copy(), float(cost / entries), int(entries))


def pieces(starts: Ids) -> tuple[Ids, Ids]:
    """Cut every row into pieces; piece k is of row ``owners[k]`` and ends at ``cuts[k + 1]``."""
    counts = -(-np.diff(starts) // PIECE)
    owners = np.repeat(np.arange(len(counts)), counts)
    within = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
    return owners, np.append(starts[owners] + PIECE * within, starts[-1])


@kernel(error_model="numpy")
def descend(
    P: Floats1d,
    B: Floats1d,
    width: int,
    owners: Ids,
    cuts: Ids,
    order: Ids,
    first: int,
    last: int,
    columns: npt.NDArray[np.int32],
    logs: Floats1d,
    f: Floats1d,
    lr: np.float32,
) -> tuple[float, int]:
    """Train on the pieces ``order[first:last]``; return the cost before each step, and the steps.

    ``P`` (V, 4, width) holds the rows of W, of W~ and of the squares of both; ``B`` (V, 4) the
    biases in the same way; both are flat and updated in place.
    """
    cost, entries = 0.0, 0
    for place in range(first, last):
        piece = order[place]
        i = int(owners[piece])
        for at in range(cuts[piece], cuts[piece + 1]):
            j = int(columns[at])
            cost += entry(P, B, width, i, j, logs[at], f[at], lr)
            if j != i:
                cost += entry(P, B, width, j, i, logs[at], f[at], lr)
            entries += 1 if j == i else 2
    return cost, entries


@kernel(error_model="numpy")
def entry(
    P: Floats1d, B: Floats1d, width: int, i: int, j: int, log: float, f: float, lr: np.float32
) -> float:
    """Take the step of X_ij, on w_i and w~_j and their biases; return its cost before."""
    w, c = 4 * width * i, 4 * width * j + width
    dots = splat(np.float32(0))
    for q in range(0, width, LANES):
        dots = fma(load(P, w + q), load(P, c + q), dots)
    b, d = 4 * i, 4 * j + 1
    diff = total(dots) + B[b] + B[d] - log
    slope = f * diff
    step = splat(-lr * slope)
    for q in range(0, width, LANES):
        x, y = load(P, w + q), load(P, c + q)
        gx, gy = load(P, w + 2 * width + q), load(P, c + 2 * width + q)
        tx, ty = mul(step, y), mul(step, x)
        store(P, w + q, fma(tx, rsqrt(gx), x))
        store(P, c + q, fma(ty, rsqrt(gy), y))
        store(P, w + 2 * width + q, fma(tx, tx, gx))
        store(P, c + 2 * width + q, fma(ty, ty, gy))
    B[b] -= slope / np.sqrt(B[b + 2])
    B[d] -= slope / np.sqrt(B[d + 2])
    B[b + 2] += slope * slope
    B[d + 2] += slope * slope
    return float(0.5 * slope * diff)
