"""Learn Chinese words and their characters in one space, each from the other's company.

The idea
--------
A Chinese sentence can be read as words or as characters. Skip-gram learns from either reading; here
it learns from both at once, and across: a word's neighbours are predicted by the word and by each
of its characters, and a character is predicted by the characters around it and by the words around
its word. So characters know about words, which a tagger that looks for the ends of words can use,
and both kinds can be compared with each other.

Equations
---------
With the words w_1 .. w_T of a sentence, and the characters c_1 .. c_M that they are written with,
of which w_i has those of C_i::

    L  = sum_i  sum_{j near i}  l(w_j, w_i)                      a word and its neighbour
       + sum_m  sum_{n near m}  l(c_n, c_m)                      a character and its neighbour
       + sum_i  sum_{j near i}  ( sum_{c in C_j} l(c, w_i)       a character and the words near it
                                + sum_{c in C_i} l(w_j, c) )     a word and the characters near it

    l(a, b) = -ln s(x_a . u_b) - sum_k ln s(-x_a . u_{n_k}),     s(z) = 1 / (1 + e^-z)

x are the input vectors, which are the result, and u the output vectors, (V + characters, dim). The
noise n_1 .. n_K is drawn by count^0.75, of words where b is a word and of characters where it is
one, and shared by all a that predict one b. *Near* is up to ``window`` words to each side, and as
many characters, drawn anew for every i and m. Thinning and the falling rate are those of ``sgns``.
A word of one character is that character: both have one vector. A word rarer than ``min_count``
has none and keeps its place, for its characters are read all the same. A character is an ideograph;
everything else in a word is read over.

Departures from the paper
-------------------------
- The thesis says what is wanted, characters and words trained jointly in one space; its program is
  not public. The sum above, with equal weights, is our reading of it.
- Characters have no marks for the ends of words: the same vector serves text whose words are not
  known, which is what a segmenter needs.

Text must be segmented into words. A corpus whose words of characters are longer than four on the
mean is refused.

Cost
----
Time: with 1.7 characters a word some ten times that of ``sgns``. Memory: 8 dim bytes for every word
and every character.

When not to use it
------------------
For word vectors alone ``cwe`` is quicker, and gives a rare word what its characters know. For a
segmenter that learns from thousands of marked sentences: there the characters of ``sgns`` alone do
as well, which the claim says they do not. Of a fifth of that text they do not. For other scripts:
without characters it is ``sgns``, and slower.

Reference
---------
S. Lai: Word and Document Embeddings based on Neural Network Approaches. Thesis, 2016,
https://arxiv.org/abs/1611.05962 (in Chinese).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from tokenspace import sgd
from tokenspace.arrays import Floats1d, Ids
from tokenspace.corpus import Corpus
from tokenspace.errors import InputError
from tokenspace.jit import kernel
from tokenspace.recipe import Range, Recipe
from tokenspace.sgd import below, draw_noise, longest, noise_table, thin, window_rows
from tokenspace.simd import LANES, add, load, mul, sigmoid, store, sub
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary
from tokenspace.words._characters import ideographs, refuse_unsegmented
from tokenspace.words._rows import dots, mixed, spread

__all__ = ["CharWord"]


@dataclass(frozen=True, kw_only=True)
class CharWord(Recipe):
    """Learn Chinese words and their characters in one space, each from the other's company."""

    dim: Annotated[int, Range(1, 4096), "width of the vectors"] = 100
    window: Annotated[int, Range(1, 100), "most words, or characters, to each side"] = 5
    negatives: Annotated[int, Range(1, 100), "noise words drawn for each position"] = 5
    epochs: Annotated[int, Range(1, 10_000), "passes over the corpus"] = 5
    min_count: Annotated[
        int, Range(1), "of rarer words only the characters are learned (not with a vocabulary)"
    ] = 5
    sample: Annotated[float, Range(0, 1), "relative frequency above which words are thinned"] = 1e-3
    lr: Annotated[float, Range(1e-6, 10), "first learning rate; it falls linearly to 0"] = 0.025
    threads: Annotated[int, Range(0, 1024), "0 = all cores; only 1 gives the same bytes again"] = 0
    seed: Annotated[int, Range(0, 2**63 - 1), "of the first vectors and of every draw"] = 0

    tiny: ClassVar[Mapping[str, Any]] = {"dim": 8, "epochs": 1, "min_count": 1, "threads": 1}

    def __call__(self, corpus: Corpus, /, *, vocab: Vocabulary | None = None) -> EmbeddingTable:
        """Learn from a segmented corpus one vector for every word and every character.

        Parameters
        ----------
        corpus
            The texts, words between spaces; windows never reach from one text into another.
        vocab
            Tokens to learn vectors for, e.g. those of a tokenizer, which then splits the texts.
            By default the words of the corpus that occur ``min_count`` times.

        Returns
        -------
        EmbeddingTable
            (V, dim) float32, the counts, and as notes the knobs, the final loss and how many
            ``characters`` there are. The rows are the words and then the characters that are none,
            with a character's count that of all its occurrences; with ``vocab`` its tokens alone.

        Raises
        ------
        InputError
            Where fewer than two different words are left, or the text is not segmented.
        NotConverged
            Where the vectors stop being finite.
        """
        if vocab is None or vocab.tokenizer is None:
            refuse_unsegmented(corpus, self.name)
        stream = sgd.encode(corpus, vocab, 1)
        size = len(stream.vocab)
        if vocab is None:  # words come by their counts
            size = int(np.count_nonzero(stream.counts >= self.min_count))
            if size < 2:
                raise InputError(
                    f"charword: {size} words occur {self.min_count} times, and 2 are needed",
                    hint="give more text, or lower min_count",
                )
        words = [surface.decode("utf-8", "replace") for surface in stream.vocab.surfaces]
        spelling = spelled(words, size)
        counts = np.zeros(size + len(spelling.others), np.int64)
        times = np.repeat(stream.counts, np.diff(spelling.starts))
        np.add.at(counts, spelling.rows, times)
        own = stream.counts[:size]
        noise = noise_table(counts) if counts.any() else np.zeros(1, np.int32)
        trained = sgd.train(
            step,
            stream._replace(counts=np.append(own, np.zeros(len(words) - size, np.int64))),
            label="charword",
            dim=self.dim,
            epochs=self.epochs,
            sample=self.sample,
            lr=self.lr,
            threads=self.threads,
            seed=self.seed,
            options=(self.window, self.negatives, size, spelling.rows, spelling.starts, noise),
            rows=len(counts),
            targets=len(counts),
        )
        notes = {
            **self.to_dict(),
            "loss": trained.loss,
            "characters": len(np.unique(spelling.rows)),
        }
        if vocab is not None:
            return EmbeddingTable(stream.vocab, trained.inputs[:size].copy(), own, notes)
        counts[:size] = np.maximum(counts[:size], own)
        union = Vocabulary.words([*words[:size], *spelling.others])
        return EmbeddingTable(union, trained.inputs, counts, notes)


class Spelling(NamedTuple):
    """The characters of word i are ``rows[starts[i]:starts[i + 1]]``.

    A row is that of the word which is this character, or else one after the last word that has
    one; ``others`` are the characters of those.
    """

    rows: npt.NDArray[np.int32]
    starts: Ids
    others: list[str]


def spelled(words: Sequence[str], size: int) -> Spelling:
    """Give rows to the characters of the words, the first ``size`` of which have rows."""
    numbers: dict[str, int] = {}
    for number, word in enumerate(words[:size]):
        if len(word) == 1:
            numbers.setdefault(word, number)
    rows, starts, others = [], [0], list[str]()
    for word in words:
        for c in ideographs(word):
            if c not in numbers:
                numbers[c] = size + len(others)
                others.append(c)
            rows.append(numbers[c])
        starts.append(len(rows))
    return Spelling(np.array(rows, np.int32), np.array(starts, np.int64), others)


@kernel()
def spell(
    rows: Ids,
    length: int,
    width: int,
    letters: npt.NDArray[np.int32],
    starts: Ids,
    R: Ids,
    ends: Ids,
) -> int:
    """Write the characters of position j to ``R[ends[j]:ends[j + 1]]``; return how many in all."""
    count = 0
    for j in range(length):
        w = rows[j] // width
        for p in range(starts[w], starts[w + 1]):
            R[count] = np.int64(letters[p]) * width
            count += 1
        ends[j + 1] = count
    return count


@kernel()
def aim(centre: int, N: Ids, place: int, negatives: int, lr: float, T: Ids, rate: Floats1d) -> None:
    """Lay out what is predicted at a place, the centre and its noise, and the rate of each.

    It is 0 for noise that is the centre.
    """
    T[0] = centre
    rate[0] = np.float32(lr)
    for k in range(negatives):
        T[1 + k] = N[place * negatives + k]
        rate[1 + k] = np.float32(0) if T[1 + k] == centre else np.float32(lr)


@kernel()
def predict(
    Win: Floats1d,
    Wout: Floats1d,
    width: int,
    P: Ids,
    n: int,
    T: Ids,
    outputs: int,
    rate: Floats1d,
    label: Floats1d,
    G: Floats1d,
    D: Floats1d,
) -> None:
    """Let ``n`` inputs predict the output ``T[0]``, others being noise.

    All gradients are those of the vectors as they are at first; ``G`` keeps those of the products.
    """
    room = len(T)
    for a in range(n):
        g = G[a * room : (a + 1) * room]
        dots(Wout, T, outputs, Win[P[a] : P[a] + width], width, g)
        for k in range(0, room, LANES):
            store(g, k, mul(load(rate, k), sub(load(label, k), sigmoid(load(g, k)))))
        mixed(Wout, T, outputs, g, width, D[a * width : (a + 1) * width])
    for a in range(n):
        spread(Wout, T, outputs, G[a * room :], Win[P[a] : P[a] + width], width)
    for a in range(n):
        for q in range(0, width, LANES):
            store(Win, P[a] + q, add(load(Win, P[a] + q), load(D, a * width + q)))


@kernel()
def loss_of(G: Floats1d, n: int, rate: Floats1d) -> float:
    """Return the loss of ``n`` predictions from their gradients: -log(1 - |error|), summed."""
    loss = 0.0
    for a in range(n):
        for k in range(len(rate)):
            if rate[k] > 0:
                error = abs(G[a * len(rate) + k]) / rate[k]
                loss -= np.log(max(1.0 - error, 1e-7))
    return loss


@kernel(error_model="numpy")
def step(
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
    size: int,
    letters: npt.NDArray[np.int32],
    starts: Ids,
    letter_noise: npt.NDArray[np.int32],
) -> tuple[float, int]:
    """Train on the sentences [first, last); return the sampled loss and its number of pairs.

    ``Win`` and ``Wout`` are flat, of rows of ``width``, a multiple of 8, and updated in place;
    ``letters`` and ``starts`` are those of :class:`Spelling`. Words from ``size`` on have no rows.
    """
    state = np.array([seed], np.uint64)
    most = longest(offsets, first, last)
    widest = 0
    for w in range(len(starts) - 1):
        widest = max(widest, starts[w + 1] - starts[w])
    rows, N = np.zeros(most + 1, np.int64), np.zeros((most + 1) * negatives, np.int64)
    R, ends = np.zeros(most * widest, np.int64), np.zeros(most + 1, np.int64)
    M = np.zeros(most * widest * negatives, np.int64)
    room = -(-(1 + negatives) // LANES) * LANES
    inputs = 2 * window * (1 + max(1, widest))
    P, T = np.zeros(inputs, np.int64), np.zeros(room, np.int64)
    rate, label = np.zeros(room, np.float32), np.zeros(room, np.float32)
    label[0] = 1
    G, D = np.zeros(inputs * room, np.float32), np.zeros(inputs * width, np.float32)
    loss = 0.0
    pairs = 0
    seen = 0
    for sentence in range(first, last):
        length = thin(ids, offsets[sentence], offsets[sentence + 1], keep, width, state, rows)
        draw_noise(noise, length * negatives, width, state, N)
        count = spell(rows, length, width, letters, starts, R, ends)
        draw_noise(letter_noise, count * negatives, width, state, M)
        for i in range(length):
            b = 1 + below(window, state)
            words = 0
            for j in range(max(0, i - b), min(length, i + b + 1)):
                if j != i and rows[j] < size * width:
                    P[words] = rows[j]
                    words += 1
            n = words
            for c in range(ends[max(0, i - b)], ends[min(length, i + b + 1)]):
                if c < ends[i] or c >= ends[i + 1]:
                    P[n] = R[c]
                    n += 1
            if rows[i] >= size * width:
                n = 0
            aim(rows[i], N, i, negatives, lr, T, rate)
            predict(Win, Wout, width, P, n, T, 1 + negatives, rate, label, G, D)
            if seen % 16 == 0:
                loss += loss_of(G, n, rate)
                pairs += n
            for c in range(ends[i], ends[i + 1]):
                b = 1 + below(window, state)
                m = words + window_rows(R, count, c, b, P[words:])
                aim(R[c], M, c, negatives, lr, T, rate)
                predict(Win, Wout, width, P, m, T, 1 + negatives, rate, label, G, D)
                if seen % 16 == 0:
                    loss += loss_of(G, m, rate)
                    pairs += m
            seen += 1
    return loss, pairs
