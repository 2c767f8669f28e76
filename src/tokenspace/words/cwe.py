"""Learn vectors for Chinese words together with those of their characters.

The idea
--------
A Chinese word says much by its characters: 智能, intelligence, is 智, wisdom, and 能, ability. Here
the vector of a word is half its own and half the mean of its characters' vectors, and both halves
learn together, by predicting a word from the mean of its neighbours. A rare word then shares what
its characters have learned in frequent ones.

Equations
---------
For a word w with the characters c_1 .. c_N, N > 0, of vectors ``w`` and ``c_k``::

    x_w = 1/2 ( w + 1/N sum_k c_k )                        x_w = w for a word without characters
    h   = mean of x_a over the neighbours a in C
    loss of a position with the word o and the noise words n_1 .. n_K
        = -ln s(h . u_o) - sum_k ln s(-h . u_{n_k}),       s(z) = 1 / (1 + e^-z)

The result is x_w, (V, dim). ``u`` is the output vector of a word. The window reaches 1 to
``window`` words to each side, drawn anew for each position; thinning, noise and the falling rate
are those of ``cbow``. A character is an ideograph (CJK unified, extensions and compatibility);
everything else in a word is ignored.

Many characters mean different things in different words: 道 is a way, a doctrine, to say. The
paper's variants give a character several vectors:

- ``P``: four, for the beginning of a word, the inside, the end, and for a word by itself.
- ``L``: three, out of which the sentence chooses. With v the sum of x_a over the positions of the
  window around the word, itself included, where each character has the vector that its word used
  most often so far, the character c of that occurrence has ::

      r = argmax_r cos(c^r, v)

- ``LP``: both, three for each place.
- ``N``: as ``L``, but a character begins with one vector. Where no cosine reaches 0.001, the newest
  vector is taken; once that was used 1,000 times, a new one begins instead, up to three.

In x_w, which is the result, a character has the vector that w used most often. All begin at random,
and one that fits a little better learns from all contexts, until it fits all of them: of a
character in two equal and clear subjects, ``L`` parts the two from about half of the seeds.

Departures from the paper
-------------------------
- The paper writes w + 1/N sum c_k; its program takes half of that, and so does this. A word without
  characters is w, not half of it.
- The gradient is exact: 1/2 of it to w and 1/(2N) to each c_k, and all of it divided by the number
  of neighbours. The paper's program adds it undivided to every one of them.
- No list of words whose characters say nothing about them (transliterations such as 沙发, sofa) is
  read.
- With ``L``, ``LP`` and ``N`` the vectors of a sentence's characters are chosen once, before it is
  trained on; the program chooses anew for every word that is predicted. Three vectors, 0.001 and
  1,000 are the program's.

Text must be segmented into words. A corpus whose words of characters are longer than four on the
mean is refused.

Cost
----
Time: that of ``cbow`` for windows (1 + N) times as full, twice as long for 1.7 characters a word;
with ``L``, ``LP`` and ``N`` half as long again. Memory: 8 V dim bytes, and 4 dim for every vector
of a character.

When not to use it
------------------
For other scripts: without characters it is ``cbow``, and slower. Where time does not matter:
``fasttext`` with ``ngrams="1-3"``, skip-gram over the same characters and their pairs, does better
on the claim's text (``auc_fasttext``). There ``L`` and ``N`` are no better than one vector a
character, and ``P`` and ``LP`` worse (``auc_L`` and so on). For names and loan words written by
sound, whose characters mislead.

Reference
---------
X. Chen, L. Xu, Z. Liu, M. Sun, H. Luan: Joint Learning of Character and Word Embeddings. IJCAI
2015.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from tokenspace import sgd
from tokenspace.arrays import Floats1d, Ids
from tokenspace.corpus import Corpus
from tokenspace.jit import kernel
from tokenspace.recipe import Range, Recipe
from tokenspace.sgd import below, draw_noise, longest, thin
from tokenspace.simd import LANES, fma, load, splat, store, sums
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary
from tokenspace.words._characters import ideographs, refuse_unsegmented
from tokenspace.words._rows import dots, mixed, spread

__all__ = ["CWE"]

SENSES = 3  # vectors of a character, where the sentence chooses
UNLIKE = np.float32(1e-3)  # cosine below which a context is like none of them
SETTLED = 1_000  # uses after which the newest of them may be followed by another


@dataclass(frozen=True, kw_only=True)
class CWE(Recipe):
    """Learn vectors for Chinese words together with those of their characters."""

    dim: Annotated[int, Range(1, 4096), "width of the vectors"] = 100
    window: Annotated[int, Range(1, 100), "most words to each side that count as neighbours"] = 5
    negatives: Annotated[int, Range(1, 100), "noise words drawn for each position"] = 5
    epochs: Annotated[int, Range(1, 10_000), "passes over the corpus"] = 5
    min_count: Annotated[int, Range(1), "rarer words are left out (not with a vocabulary)"] = 5
    sample: Annotated[float, Range(0, 1), "relative frequency above which words are thinned"] = 1e-3
    lr: Annotated[float, Range(1e-6, 10), "first learning rate; it falls linearly to 0"] = 0.1
    variant: Annotated[
        Literal["CWE", "P", "L", "LP", "N"],
        "vectors of a character: CWE one; P one a place; L three, by context; LP both; N up to 3",
    ] = "CWE"
    threads: Annotated[int, Range(0, 1024), "0 = all cores; only 1 gives the same bytes again"] = 0
    seed: Annotated[int, Range(0, 2**63 - 1), "of the first vectors and of every draw"] = 0

    tiny: ClassVar[Mapping[str, Any]] = {"dim": 8, "epochs": 1, "min_count": 1, "threads": 1}

    def __call__(self, corpus: Corpus, /, *, vocab: Vocabulary | None = None) -> EmbeddingTable:
        """Learn from a segmented corpus one vector for every word, or every token of ``vocab``.

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
            vectors the ``characters`` have.

        Raises
        ------
        InputError
            Where fewer than two different words are left, or the text is not segmented.
        NotConverged
            Where the vectors stop being finite.
        """
        if vocab is None or vocab.tokenizer is None:
            refuse_unsegmented(corpus, self.name)
        stream = sgd.encode(corpus, vocab, self.min_count)
        words = [surface.decode("utf-8", "replace") for surface in stream.vocab.surfaces]
        parts = composed(words, self.variant in ("P", "LP"))
        senses = beginning(parts, self.variant)
        trained = sgd.train(
            step,
            stream,
            label="cwe",
            dim=self.dim,
            epochs=self.epochs,
            sample=self.sample,
            lr=self.lr,
            threads=self.threads,
            seed=self.seed,
            options=(self.window, self.negatives, *parts[:3], *senses),
            rows=len(words) + (parts.rows - len(words)) * senses.most,
        )
        rows = sense_rows(parts, senses)
        x = np.add.reduceat(
            parts.weights[:, None] * trained.inputs[rows], parts.starts[:-1], axis=0
        )
        notes = {**self.to_dict(), "loss": trained.loss, "characters": int(senses.live.sum())}
        return EmbeddingTable(stream.vocab, x, stream.counts, notes)


class Parts(NamedTuple):
    """Word i is the sum of the rows ``places[starts[i]:starts[i + 1]]`` times their ``weights``."""

    places: npt.NDArray[np.int32]
    weights: Floats1d
    starts: Ids
    rows: int


def composed(words: Sequence[str], positions: bool) -> Parts:
    """Give rows to the characters of the words, after those of the words."""
    numbers: dict[tuple[str, int], int] = {}
    places, weights, starts = [], [], [0]
    for word, text in enumerate(words):
        characters = ideographs(text)
        places.append(word)
        weights.append(0.5 if characters else 1.0)
        for index, c in enumerate(characters):
            place = _place(index, len(characters)) if positions else 0
            places.append(numbers.setdefault((c, place), len(words) + len(numbers)))
            weights.append(0.5 / len(characters))
        starts.append(len(places))
    return Parts(
        np.array(places, np.int32),
        np.array(weights, np.float32),
        np.array(starts, np.int64),
        len(words) + len(numbers),
    )


class Senses(NamedTuple):
    """What is known of the vectors that characters have, ``most`` at the most; changed in place.

    A character (at a place) m has the rows V + m ``most`` and following, of which the first
    ``live[m]`` are in use, and the newest of them was ``used[m]`` times. Entry i of
    :class:`Parts`, a character of a word, took its vector s ``taken[i * most + s]`` times. Those
    that are ``grown`` begin with none.
    """

    most: int
    grown: bool
    taken: Ids
    live: Ids
    used: Ids


def beginning(parts: Parts, variant: str) -> Senses:
    """Return the senses of a variant before anything is read."""
    most, grown = (SENSES if variant in ("L", "LP", "N") else 1), variant == "N"
    characters = parts.rows - (len(parts.starts) - 1)
    return Senses(
        most,
        grown,
        np.zeros(len(parts.places) * most, np.int64),
        np.full(characters, 0 if grown else most, np.int64),
        np.zeros(characters, np.int64),
    )


def sense_rows(parts: Parts, senses: Senses) -> Ids:
    """Return the row of every entry of ``parts``, of a character that which was taken most."""
    words = len(parts.starts) - 1
    sense = senses.taken.reshape(-1, senses.most).argmax(axis=1)
    rows: Ids = np.where(
        parts.places < words, parts.places, words + (parts.places - words) * senses.most + sense
    )
    return rows


def _place(index: int, count: int) -> int:
    """Return 0 for the only character of a word, 1 for the first, 2 for the last, 3 between."""
    if count == 1:
        return 0
    return 1 if index == 0 else 2 if index == count - 1 else 3


@kernel()
def lay_out(
    rows: Ids,
    length: int,
    width: int,
    places: npt.NDArray[np.int32],
    starts: Ids,
    senses: int,
    taken: Ids,
    R: Ids,
    ends: Ids,
) -> None:
    """Write the rows whose sum a position is to ``R[ends[j]:ends[j + 1]]``; see `sense_rows`."""
    words = len(starts) - 1
    count = 0
    for j in range(length):
        w = rows[j] // width
        for p in range(starts[w], starts[w + 1]):
            row = np.int64(places[p])
            if row >= words:
                best = 0
                for s in range(1, senses):
                    if taken[p * senses + s] > taken[p * senses + best]:
                        best = s
                row = words + (row - words) * senses + best
            R[count] = row * width
            count += 1
        ends[j + 1] = count


@kernel()
def likenesses(Win: Floats1d, row: int, v: Floats1d, width: int, z: Floats1d) -> None:
    """Set z_0 .. z_2 to the cosines of v with three rows; 0 where one of the two is zero."""
    zero = splat(np.float32(0))
    t0, t1, t2, n0, n1, n2, n = zero, zero, zero, zero, zero, zero, zero
    for q in range(0, width, LANES):
        p = load(v, q)
        c0, c1, c2 = load(Win, row + q), load(Win, row + width + q), load(Win, row + 2 * width + q)
        t0, t1, t2 = fma(p, c0, t0), fma(p, c1, t1), fma(p, c2, t2)
        n0, n1, n2, n = fma(c0, c0, n0), fma(c1, c1, n1), fma(c2, c2, n2), fma(p, p, n)
    store(z, 0, sums(t0, t1, t2, n0, n1, n2, n, zero))
    for s in range(SENSES):
        lengths = np.sqrt(z[SENSES + s] * z[6])
        z[s] = z[s] / lengths if lengths > 0 else np.float32(0)


@kernel()
def choose(
    Win: Floats1d,
    rows: Ids,
    length: int,
    width: int,
    window: int,
    places: npt.NDArray[np.int32],
    weights: Floats1d,
    starts: Ids,
    grown: bool,
    taken: Ids,
    live: Ids,
    used: Ids,
    R: Ids,
    ends: Ids,
    X: Floats1d,
) -> None:
    """Put in ``R`` for every character of a sentence the sense that its context is most like."""
    words = len(starts) - 1
    v, z = np.zeros(width, np.float32), np.zeros(LANES, np.float32)
    for j in range(length):
        w = rows[j] // width
        mixed(
            Win, R[ends[j] : ends[j + 1]], ends[j + 1] - ends[j],
            weights[starts[w] : starts[w + 1]], width, X[j * width : (j + 1) * width],
        )  # fmt: skip
    for j in range(length):
        w = rows[j] // width
        if ends[j + 1] - ends[j] == 1:
            continue
        v[:] = 0
        for a in range(max(0, j - window), min(length, j + window + 1)):
            v += X[a * width : (a + 1) * width]
        for k in range(1, ends[j + 1] - ends[j]):
            p = starts[w] + k
            m = int(places[p]) - words
            row = (words + m * SENSES) * width
            likenesses(Win, row, v, width, z)
            best, likeness = np.int64(0), np.float32(-2)
            for s in range(live[m]):
                if z[s] > likeness:
                    best, likeness = np.int64(s), z[s]
            if grown and likeness < UNLIKE:
                if live[m] == 0 or (used[m] >= SETTLED and live[m] < SENSES):
                    best = live[m]
                    live[m] += 1
                    used[m] = 0
                elif used[m] < SETTLED:
                    best = live[m] - 1
            if best == live[m] - 1:
                used[m] += 1
            taken[p * SENSES + best] += 1
            R[ends[j] + k] = row + best * width


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
    places: npt.NDArray[np.int32],
    weights: Floats1d,
    starts: Ids,
    senses: int,
    grown: bool,
    taken: Ids,
    live: Ids,
    used: Ids,
) -> tuple[float, int]:
    """Train on the sentences [first, last); return the sampled loss and its number of positions.

    ``Win`` and ``Wout`` are flat, of rows of ``width``, a multiple of 8, and updated in place; the
    last arguments are those of :class:`Parts` and of :class:`Senses`.
    """
    state = np.array([seed], np.uint64)
    most = longest(offsets, first, last)
    rows, N = np.zeros(most + 1, np.int64), np.zeros((most + 1) * negatives, np.int64)
    widest = 0
    for w in range(len(starts) - 1):
        widest = max(widest, starts[w + 1] - starts[w])
    R, ends = np.zeros(most * widest, np.int64), np.zeros(most + 1, np.int64)
    X = np.zeros(most * width if senses > 1 else 0, np.float32)
    P, A = np.zeros(2 * window * widest, np.int64), np.zeros(2 * window * widest, np.float32)
    room = -(-(1 + negatives) // LANES) * LANES
    T, z, G = np.zeros(room, np.int64), np.zeros(room, np.float32), np.zeros(room, np.float32)
    h, dh = np.zeros(width, np.float32), np.zeros(width, np.float32)
    loss = 0.0
    terms = 0
    seen = 0
    for sentence in range(first, last):
        length = thin(ids, offsets[sentence], offsets[sentence + 1], keep, width, state, rows)
        draw_noise(noise, length * negatives, width, state, N)
        lay_out(rows, length, width, places, starts, senses, taken, R, ends)
        if senses > 1:
            choose(
                Win, rows, length, width, window, places, weights, starts, grown, taken, live,
                used, R, ends, X,
            )  # fmt: skip
        for i in range(length):
            b = 1 + below(window, state)
            low, high = max(0, i - b), min(length, i + b + 1)
            if high - low == 1:
                continue
            count = 0
            for j in range(low, high):
                if j != i:
                    first_part = starts[rows[j] // width]
                    for k in range(ends[j + 1] - ends[j]):
                        P[count] = R[ends[j] + k]
                        A[count] = weights[first_part + k] / np.float32(high - low - 1)
                        count += 1
            mixed(Win, P, count, A, width, h)
            T[0] = rows[i]
            for k in range(negatives):
                T[1 + k] = N[i * negatives + k]
            dots(Wout, T, 1 + negatives, h, width, z)
            value = 0.0
            for k in range(1 + negatives):
                label = np.float32(1 if k == 0 else 0)
                error = label - np.float32(1) / (np.float32(1) + np.exp(-z[k]))
                if k > 0 and T[k] == T[0]:
                    error = np.float32(0)
                G[k] = np.float32(lr) * error
                value -= np.log(max(1.0 - abs(error), 1e-7))
            mixed(Wout, T, 1 + negatives, G, width, dh)
            spread(Wout, T, 1 + negatives, G, h, width)
            spread(Win, P, count, A, dh, width)
            if seen % 16 == 0:
                loss += value
                terms += 1
            seen += 1
    return loss, terms
