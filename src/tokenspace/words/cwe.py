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

With ``positions`` (the paper's CWE+P) a character has four vectors: at the beginning of a word,
inside, at the end, and alone.

Departures from the paper
-------------------------
- The paper writes w + 1/N sum c_k; its program takes half of that, and so does this. A word without
  characters is w, not half of it.
- The gradient is exact: 1/2 of it to w and 1/(2N) to each c_k, and all of it divided by the number
  of neighbours. The paper's program adds it undivided to every one of them.
- No list of words whose characters say nothing about them (transliterations such as 沙发, sofa) is
  read, and characters have no clusters of senses (CWE+L, +LP, +N).

Text must be segmented into words. A corpus whose words of characters are longer than four on the
mean is refused.

Cost
----
Time: that of ``cbow`` for windows (1 + N) times as full. Memory: 8 V dim bytes, and 4 dim for every
character, or every character and position.

When not to use it
------------------
For other scripts: without characters it is ``cbow``, and slower. Where time does not matter:
``fasttext`` with ``ngrams="1-3"``, skip-gram over the same characters and their pairs, does better
on the claim's text (``auc_fasttext``). For names and loan words written by sound, whose characters
mislead.

Reference
---------
X. Chen, L. Xu, Z. Liu, M. Sun, H. Luan: Joint Learning of Character and Word Embeddings. IJCAI
2015.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from tokenspace import sgd
from tokenspace.arrays import Floats1d, Ids
from tokenspace.corpus import Corpus
from tokenspace.errors import InputError
from tokenspace.jit import kernel
from tokenspace.lexicon import Lexicon
from tokenspace.recipe import Range, Recipe
from tokenspace.sgd import below, draw_noise, longest, thin, window_rows
from tokenspace.simd import LANES
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary
from tokenspace.words._rows import dots, mixed, spread

__all__ = ["CWE"]

IDEOGRAPHS = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF))
LOOKED_AT = 1_000  # texts by which it is told whether the corpus is segmented
LONGEST = 4.0  # mean length of segmented words of characters, at most


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
    positions: Annotated[bool, "characters have other vectors at each place in a word"] = False
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
            ``characters`` (with ``positions``: characters and places) have vectors.

        Raises
        ------
        InputError
            Where fewer than two different words are left, or the text is not segmented.
        NotConverged
            Where the vectors stop being finite.
        """
        if vocab is None or vocab.tokenizer is None:
            _refuse_unsegmented(corpus)
        stream = sgd.encode(corpus, vocab, self.min_count)
        words = [surface.decode("utf-8", "replace") for surface in stream.vocab.surfaces]
        parts = composed(words, self.positions)
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
            options=(self.window, self.negatives, parts.places, parts.weights, parts.starts),
            rows=parts.rows,
        )
        x = np.add.reduceat(
            parts.weights[:, None] * trained.inputs[parts.places], parts.starts[:-1], axis=0
        )
        notes = {**self.to_dict(), "loss": trained.loss, "characters": parts.rows - len(words)}
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
        characters = [c for c in text if any(low <= ord(c) <= high for low, high in IDEOGRAPHS)]
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


def _place(index: int, count: int) -> int:
    """Return 0 for the only character of a word, 1 for the first, 2 for the last, 3 between."""
    if count == 1:
        return 0
    return 1 if index == 0 else 2 if index == count - 1 else 3


def _refuse_unsegmented(corpus: Corpus) -> None:
    """Raise where words of characters are so long that they must be clauses."""
    lexicon = Lexicon(corpus.split, corpus.language)
    lexicon.read([list(islice(corpus, LOOKED_AT))], io.BytesIO())
    lengths, counts = [], []
    for number in range(lexicon.words):
        word = lexicon.word(number)
        if composed([word], False).rows > 1:
            lengths.append(len(word))
            counts.append(int(lexicon.counts[number]))
    if counts and (mean := float(np.average(lengths, weights=counts))) > LONGEST:
        raise InputError(
            f"cwe: the text is not segmented: its words have {mean:.1f} characters on the mean",
            hint="put spaces between words with a segmenter, or give a tokenizer as vocab",
        )


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
) -> tuple[float, int]:
    """Train on the sentences [first, last); return the sampled loss and its number of positions.

    ``Win`` and ``Wout`` are flat, of rows of ``width``, a multiple of 8, and updated in place; the
    last three arguments are those of :class:`Parts`.
    """
    state = np.array([seed], np.uint64)
    most = longest(offsets, first, last)
    rows, N = np.zeros(most + 1, np.int64), np.zeros((most + 1) * negatives, np.int64)
    C = np.zeros(2 * window + 1, np.int64)
    widest = 0
    for w in range(len(starts) - 1):
        widest = max(widest, starts[w + 1] - starts[w])
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
        for i in range(length):
            n = window_rows(rows, length, i, 1 + below(window, state), C)
            if n == 0:
                continue
            count = 0
            for a in range(n):
                w = C[a] // width
                for p in range(starts[w], starts[w + 1]):
                    P[count] = np.int64(places[p]) * width
                    A[count] = weights[p] / np.float32(n)
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
