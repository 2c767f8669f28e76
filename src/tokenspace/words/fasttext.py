"""Learn vectors from the n-grams of letters in words, so that unknown words have one too.

The idea
--------
Skip-gram (``sgns``) gives each word a vector of its own and so learns nothing about *unworthiness*
from *worth*, *unworthy* and *happiness*. Here the vector of a word is the mean of one row of its
own and of a row for every n-gram of its letters: ``<where>``, with marks for its ends, has the
trigrams ``<wh``, ``whe``, ``her``, ``ere``, ``re>``. Everything that a word teaches, it teaches its
n-grams. Rare words are learned better, and a word that the text lacks has the mean of its n-grams.

The n-grams of a language are many, and the program of the paper reserves two million rows for
them, whatever the text. Here only those get a row that occur; the vectors are the same.

Equations
---------
With ``G_w`` the rows of word ``w`` (its own and its n-grams'), ``z`` the rows of ``Win`` and ``v``
those of ``Wout``, the loss of a position with word ``w``, neighbours ``C`` and, for each of these,
K noise words ``n_1 .. n_K`` is::

    x = 1/|G_w| sum over g in G_w of z_g
    sum over c in C of   -log s(x . v_c) - sum_k log s(-x . v_{n_k}),    s(y) = 1 / (1 + e^-y)

and the step, over all neighbours and their noise words ``T`` at once::

    G = lr (label - s(Wout[T] x))
    dx = G Wout[T]
    Wout[T] += G x
    z_g += dx    for g in G_w, as often as g occurs in w

The rows of n-grams (``ngrams=``):

- ``3-6/2000000``: n-grams of 3 to 6 characters, in buckets by fastText's hash (32 bits of FNV-1a)
  modulo 2,000,000. What falls into one bucket shares its row.
- ``3-6``: every n-gram has a row of its own.
- ``4-5/50000x2``: as floret has it. Words have no rows of their own; ``<where>`` and each of its
  n-grams are 2 rows of 50,000 (by MurmurHash3), and x is the mean of them all. Both are found again
  in their sum although other words share each, and the table has a few megabytes for any text.

Windows and the dropping of frequent words are those of ``sgns``; noise words are drawn by the
square root of their counts. ``lr`` falls linearly to 0 (at least to lr / 10,000) over all words of
all epochs. ``Win`` starts uniform in (-1, 1) / dim, ``Wout`` at zero.

Departures from the paper
-------------------------
- The score is that of the *mean* of the rows, and each row takes the whole ``dx``, as in the
  fastText program. The paper's is that of their sum. The gradient of the mean would be dx / |G_w|,
  which moves x |G_w| times slower than skip-gram does.
- x is computed once a position and changed once, after all its neighbours; the program does both
  for every neighbour, and thereby spends most of its time on the rows of n-grams.
- A bucket in which no n-gram of the vocabulary lies is zero; in the program it keeps its random
  start, which then is part of the vectors of unknown words. An n-gram without a row counts as one
  of zeros.
- The ends of texts are no word ``</s>``; windows just do not cross them. Words rarer than
  ``min_count`` count nowhere; the program goes on until as many words as the text has with them,
  times the epochs, are trained on, and takes frequencies out of all of them.
- The text is read in pieces of 1,000 words, in another random order every epoch. The program reads
  it through from as many places at once as it has threads, and from 0.36 million words of novels
  learns better with two than with one: read in order, the last chapters have the last word.
- All of ``Win`` starts at random. In the program's version 0.9.2 it is a tenth for each thread, the
  words first; the rest starts at zero.
- The sigmoid is computed (to 1e-5), not looked up. A noise word that happens to be the neighbour is
  left out, not drawn again. Scores are computed eight at a time: a word twice among eight sees
  its own first update only in ``dx``. A sentence of more than 10,000 tokens is split there.

With one thread the same seed gives the same bytes. More threads update the shared matrices without
locks (HOGWILD): the vectors are as good, but two runs are never equal bit for bit.

``notes["loss"]`` is the mean loss of a pair of word and neighbour, noise included, over every 16th
position of the last epoch. With a tokenizer's vocabulary (``vocab=``) n-grams are those of a
token's text without the spaces around it; special tokens have none.

Cost
----
Time: about 6 dim (window + 1) (1 + negatives) + 4 dim (rows of a word) multiplications a word that
is kept; 0.8 million words a second and core at the defaults (dim 100, window 5, 5 noise words) on a
server of 2021. The first call compiles the kernel, which takes a few seconds and is kept. Memory:
4 dim bytes for each of 2 V + R rows, R the n-grams that occur (in 4.4 million words of English
novels, V is 22,000 and R 113,000), and 28 bytes for every n-gram of every word while they are
numbered.

When not to use it
------------------
Where all words that matter are frequent, ``sgns`` gives as good vectors several times faster, and
without the pull that makes words alike because they are spelled alike. That pull is all that a
word has which the text lacks: learned from 0.6 million words, the ranking of pairs of inflected
Turkish words of which many are alike in spelling alone (WordSimTr) is inverted, and with it the
claim fails, although rare words gain much. For scripts in
which one character is a word, n-grams of 3 characters say little: ``ngrams=1-2``.

Reference
---------
Bojanowski, Grave, Joulin, Mikolov: Enriching Word Vectors with Subword Information, TACL 5, 2017,
https://arxiv.org/abs/1607.04606. The compact table: explosion/floret,
https://explosion.ai/blog/floret-vectors.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from tokenspace import sgd
from tokenspace.arrays import Floats1d, Floats2d, Ids
from tokenspace.corpus import Corpus
from tokenspace.errors import ConfigError
from tokenspace.jit import kernel
from tokenspace.recipe import Range, Recipe
from tokenspace.sgd import LINE, below, longest, thin
from tokenspace.simd import (
    LANES,
    add,
    fma,
    load,
    mul,
    prefetch,
    sigmoid,
    splat,
    store,
    sub,
    sums,
)
from tokenspace.subwords import LONGEST, Subwords, gram_keys
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary

__all__ = ["FastText"]


@dataclass(frozen=True, kw_only=True)
class FastText(Recipe):
    """Learn vectors from the n-grams of letters in words, so that unknown words have one too."""

    dim: Annotated[int, Range(1, 4096), "width of the vectors"] = 100
    window: Annotated[int, Range(1, 100), "most words to each side that count as neighbours"] = 5
    negatives: Annotated[int, Range(1, 100), "noise words drawn for each neighbour"] = 5
    epochs: Annotated[int, Range(1, 10_000), "passes over the corpus"] = 5
    min_count: Annotated[int, Range(1), "rarer words are left out (not with a vocabulary)"] = 5
    sample: Annotated[float, Range(0, 1), "relative frequency above which words are thinned"] = 1e-4
    lr: Annotated[float, Range(1e-6, 10), "first learning rate; it falls linearly to 0"] = 0.05
    ngrams: Annotated[
        str, "LENGTHS, each with its own row, LENGTHS/BUCKETS, or LENGTHS/ROWSxHASHES as in floret"
    ] = "3-6/2000000"
    threads: Annotated[int, Range(0, 1024), "0 = all cores; only 1 gives the same bytes again"] = 0
    seed: Annotated[int, Range(0, 2**63 - 1), "of the first vectors and of every draw"] = 0

    tiny: ClassVar[dict[str, Any]] = {
        "dim": 8, "epochs": 1, "min_count": 1, "ngrams": "2-3/50", "threads": 1
    }  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        Scheme.read(self.ngrams)

    def __call__(self, corpus: Corpus, /, *, vocab: Vocabulary | None = None) -> EmbeddingTable:
        """Learn from a corpus one vector for every word and every n-gram in them.

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
            (V, dim) float32, the counts, the n-grams' rows as ``subwords``, and the knobs and the
            final loss as notes.

        Raises
        ------
        InputError
            Where fewer than two different words are left.
        NotConverged
            Where the vectors stop being finite.
        """
        stream = sgd.encode(corpus, vocab, self.min_count)
        scheme = Scheme.read(self.ngrams)
        size = len(stream.vocab)
        parts = number(spellings(stream.vocab), scheme)
        trained = sgd.train(
            skip_gram_of_parts,
            stream,
            label="fasttext",
            dim=self.dim,
            epochs=self.epochs,
            sample=self.sample,
            lr=self.lr,
            threads=self.threads,
            seed=self.seed,
            options=(self.window, self.negatives, parts.places, parts.starts),
            rows=parts.rows,
            power=0.5,
            spread=1.0,
            mixed=True,
        )
        vectors = np.zeros((size, self.dim), np.float32)
        _means(trained.inputs, parts.places, parts.starts, vectors)
        rows = trained.inputs if scheme.hashes else trained.inputs[size:]
        subwords = Subwords(
            rows, scheme.minn, scheme.maxn, scheme.buckets, parts.keys, scheme.hashes
        )
        notes = {**self.to_dict(), "loss": trained.loss}
        return EmbeddingTable(stream.vocab, vectors, stream.counts, notes, subwords=subwords)


class Scheme(NamedTuple):
    """Lengths of n-grams, buckets (0: a row for each), and floret's number of hashes or 0."""

    minn: int
    maxn: int
    buckets: int
    hashes: int

    @classmethod
    def read(cls, text: str) -> Scheme:
        """Read the knob ``ngrams``."""
        found = re.fullmatch(r"(\d{1,2})-(\d{1,2})(?:/(\d{1,10})(?:x([1-4]))?)?", text)
        minn, maxn, buckets, hashes = (int(x or 0) for x in found.groups()) if found else (0,) * 4
        few = found is not None and found[3] is not None and not 1 <= buckets < 1 << 31
        if few or not 1 <= minn <= maxn <= LONGEST:
            raise ConfigError(
                f"fasttext: ngrams={text!r} is not MIN-MAX, MIN-MAX/BUCKETS or MIN-MAX/ROWSxHASHES",
                hint=f"give 1 <= MIN <= MAX <= {LONGEST}, 1 <= BUCKETS < 2^31 and 1 to 4 HASHES, "
                "such as 3-6/2000000",
            )
        return cls(minn, maxn, buckets, hashes)


class Parts(NamedTuple):
    """Of every word the input rows that make it up.

    Word i is made of ``places[starts[i]:starts[i + 1]]``, of ``rows``; ``keys`` are the n-grams'
    keys in the order of their rows (see :class:`Subwords`), None where each bucket has a row.
    """

    places: npt.NDArray[np.int32]
    starts: Ids
    rows: int
    keys: Ids | None


def spellings(vocab: Vocabulary) -> list[bytes]:
    """Return what the n-grams of every token are taken from; special ones have ``</s>``: none."""
    forms = [surface.strip(b" ") for surface in vocab.surfaces]
    for index in (*vocab.specials, *vocab.holes):
        forms[index] = b"</s>"
    return forms


def number(words: list[bytes], scheme: Scheme) -> Parts:
    """Give rows to the n-grams that occur, after those of the words (floret: to every bucket)."""
    found, starts = gram_keys(words, *scheme)
    if scheme.hashes:
        return Parts(found.astype(np.int32), starts, scheme.buckets, None)
    keys, found = np.unique(found, return_inverse=True)
    size = len(words)
    places = np.zeros(len(found) + size, np.int32)
    own = starts[:-1] + np.arange(size)  # the word's own row comes first
    places[own] = np.arange(size)
    others = np.ones(len(places), np.bool_)
    others[own] = False
    places[others] = size + found
    return Parts(places, starts + np.arange(size + 1), size + len(keys), keys)


@kernel()
def _means(rows: Floats2d, places: npt.NDArray[np.int32], starts: Ids, out: Floats2d) -> None:
    for w in range(len(out)):
        for p in range(starts[w], starts[w + 1]):
            for d in range(out.shape[1]):
                out[w, d] += rows[places[p], d]
        for d in range(out.shape[1]):
            out[w, d] /= np.float32(max(1, starts[w + 1] - starts[w]))


@kernel()
def plan(
    rows: Ids,
    length: int,
    i: int,
    window: int,
    negatives: int,
    noise: npt.NDArray[np.int32],
    width: int,
    lr: float,
    state: npt.NDArray[np.uint64],
    T: Ids,
    rate: Floats1d,
    begin: int,
) -> int:
    """Lay out the output rows of position ``i``, from place ``begin`` of T; return the neighbours.

    First the neighbours, then the noise words of each, then a repeated last row up to a multiple
    of eight. ``rate`` is the learning rate of each; 0 for noise that is its own neighbour, and
    for the repeated rows.
    """
    b = 1 + below(window, state)
    n = 0
    for p in range(max(0, i - b), min(length, i + b + 1)):
        if p != i:
            T[begin + n] = rows[p]
            rate[begin + n] = lr
            n += 1
    place = begin + n
    for a in range(n):
        for _ in range(negatives):
            row = np.int64(noise[below(len(noise), state)]) * width
            T[place] = row
            rate[place] = np.float32(0) if row == T[begin + a] else np.float32(lr)
            place += 1
    while (place - begin) % LANES:
        T[place] = T[place - 1]
        rate[place] = 0
        place += 1
    return n


@kernel()
def fetch(
    Win: Floats1d,
    Wout: Floats1d,
    width: int,
    T: Ids,
    begin: int,
    end: int,
    places: npt.NDArray[np.int32],
    first: int,
    last: int,
) -> None:
    """Ask for the rows of one position, which come while the one before is worked on."""
    for t in range(begin, end):
        for q in range(0, width, LINE):
            prefetch(Wout, T[t] + q)
    for p in range(first, last):
        for q in range(0, width, LINE):
            prefetch(Win, np.int64(places[p]) * width + q)


@kernel()
def gather(
    Win: Floats1d, width: int, places: npt.NDArray[np.int32], first: int, last: int, X: Floats1d
) -> None:
    """Set ``X`` to the mean of the rows of one word."""
    part = splat(np.float32(1) / np.float32(last - first))
    for q in range(0, width, LANES):
        x = splat(np.float32(0))
        for p in range(first, last):
            x = add(x, load(Win, np.int64(places[p]) * width + q))
        store(X, q, mul(part, x))


@kernel()
def scatter(
    Win: Floats1d, width: int, places: npt.NDArray[np.int32], first: int, last: int, D: Floats1d
) -> None:
    """Add ``D`` to every row of one word."""
    for q in range(0, width, LANES):
        d = load(D, q)
        for p in range(first, last):
            row = np.int64(places[p]) * width + q
            store(Win, row, add(load(Win, row), d))


@kernel()
def predict(
    Wout: Floats1d,
    width: int,
    T: Ids,
    rate: Floats1d,
    begin: int,
    end: int,
    n: int,
    X: Floats1d,
    D: Floats1d,
    G: Floats1d,
) -> None:
    """Do G = rate (label - sigmoid(Wout[T] X));  D = G Wout[T];  Wout[T] += G X, for one position.

    Its output rows are T[begin:end], the first ``n`` of which are neighbours.
    """
    zero = splat(np.float32(0))
    for q in range(0, width, LANES):
        store(D, q, zero)
    for t in range(begin, end, LANES):
        o0, o1, o2, o3 = T[t], T[t + 1], T[t + 2], T[t + 3]
        o4, o5, o6, o7 = T[t + 4], T[t + 5], T[t + 6], T[t + 7]
        t0, t1, t2, t3, t4, t5, t6, t7 = zero, zero, zero, zero, zero, zero, zero, zero
        for q in range(0, width, LANES):
            x = load(X, q)
            t0, t1 = fma(x, load(Wout, o0 + q), t0), fma(x, load(Wout, o1 + q), t1)
            t2, t3 = fma(x, load(Wout, o2 + q), t2), fma(x, load(Wout, o3 + q), t3)
            t4, t5 = fma(x, load(Wout, o4 + q), t4), fma(x, load(Wout, o5 + q), t5)
            t6, t7 = fma(x, load(Wout, o6 + q), t6), fma(x, load(Wout, o7 + q), t7)
        g = t - begin
        for k in range(g, g + LANES):
            G[k] = np.float32(1) if k < n else np.float32(0)  # the label
        m = sigmoid(sums(t0, t1, t2, t3, t4, t5, t6, t7))
        store(G, g, mul(load(rate, t), sub(load(G, g), m)))
        g0, g1, g2, g3 = splat(G[g]), splat(G[g + 1]), splat(G[g + 2]), splat(G[g + 3])
        g4, g5, g6, g7 = splat(G[g + 4]), splat(G[g + 5]), splat(G[g + 6]), splat(G[g + 7])
        for q in range(0, width, LANES):
            x, d = load(X, q), load(D, q)
            v = load(Wout, o0 + q)  # each is read after the one before was written: a row may
            d = fma(g0, v, d)  # stand in T twice
            store(Wout, o0 + q, fma(g0, x, v))
            v = load(Wout, o1 + q)
            d = fma(g1, v, d)
            store(Wout, o1 + q, fma(g1, x, v))
            v = load(Wout, o2 + q)
            d = fma(g2, v, d)
            store(Wout, o2 + q, fma(g2, x, v))
            v = load(Wout, o3 + q)
            d = fma(g3, v, d)
            store(Wout, o3 + q, fma(g3, x, v))
            v = load(Wout, o4 + q)
            d = fma(g4, v, d)
            store(Wout, o4 + q, fma(g4, x, v))
            v = load(Wout, o5 + q)
            d = fma(g5, v, d)
            store(Wout, o5 + q, fma(g5, x, v))
            v = load(Wout, o6 + q)
            d = fma(g6, v, d)
            store(Wout, o6 + q, fma(g6, x, v))
            v = load(Wout, o7 + q)
            d = fma(g7, v, d)
            store(Wout, o7 + q, fma(g7, x, v))
            store(D, q, d)


@kernel(error_model="numpy")
def skip_gram_of_parts(
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
    places: npt.NDArray[np.int32],
    starts: Ids,
) -> tuple[float, int]:
    """Train on the sentences [first, last); return the sampled loss and its number of pairs.

    ``Win`` (rows, width) and ``Wout`` (V, width) are flat and updated in place; ``width`` is a
    multiple of 8. Word w is the mean of the rows ``places[starts[w]:starts[w + 1]]`` of ``Win``.
    ``keep`` and ``noise`` as made by the functions of their names.
    """
    state = np.array([seed], np.uint64)
    rows = np.zeros(longest(offsets, first, last), np.int64)
    most = (2 * window * (1 + negatives) + LANES - 1) // LANES * LANES
    T = np.zeros(2 * most, np.int64)  # of one position, and of the next
    rate = np.zeros(2 * most, np.float32)
    X = np.zeros(width, np.float32)
    D = np.zeros(width, np.float32)
    G = np.zeros(most, np.float32)
    loss = 0.0
    pairs = 0
    seen = 0
    for sentence in range(first, last):
        length = thin(ids, offsets[sentence], offsets[sentence + 1], keep, width, state, rows)
        here, there = 0, most
        following = 0
        for i in range(-1, length if length > 1 else -1):
            n = following
            if i + 1 < length:  # plan the next position and ask for its rows
                following = plan(
                    rows, length, i + 1, window, negatives, noise, width, lr, state, T, rate, there
                )
                w = rows[i + 1] // width
                stop = there + following * (1 + negatives)
                fetch(Win, Wout, width, T, there, stop, places, starts[w], starts[w + 1])
            if i >= 0:
                w = rows[i] // width
                if starts[w] < starts[w + 1]:
                    end = here + (n * (1 + negatives) + LANES - 1) // LANES * LANES
                    gather(Win, width, places, starts[w], starts[w + 1], X)
                    predict(Wout, width, T, rate, here, end, n, X, D, G)
                    scatter(Win, width, places, starts[w], starts[w + 1], D)
                    if seen % 16 == 0:
                        loss += sampled(G, rate, here, end)
                        pairs += n
                    seen += 1
            here, there = there, here
    return loss, pairs


@kernel()
def sampled(G: Floats1d, rate: Floats1d, begin: int, end: int) -> float:
    """Return the loss of one position from its gradients: -log(1 - |error|), summed."""
    loss = 0.0
    for k in range(end - begin):
        if rate[begin + k] > 0:
            loss -= np.log(max(1.0 - abs(G[k]) / rate[begin + k], 1e-7))
    return loss
