"""Learn a vector for each sense of a word, and a gate that tells which is meant.

The idea
--------
A *bank* lends money or holds a river, and one vector for both lies between the two. Here every word
has S vectors, and a small gate that looks at the words around an occurrence and says which of the S
is meant there; the chosen vector then predicts each of those words. No list of senses is needed:
vectors and gates learn together, each sense from the company that it is best at predicting.

A gate that mixes the vectors would never commit itself. So its answer is disturbed by Gumbel noise
and sharpened by a temperature, which comes near to drawing one sense and still has a gradient. The
gates start from a single one for all words, which divides the text by what it is about; then each
word has its own. A sense that is hardly ever chosen is dropped.

Equations
---------
For an occurrence of w with the neighbours C, n of them, ``E`` (V, S, D) the vectors of the senses,
``W`` (V, D) and ``b`` (V,) the output vectors and biases, ``U`` (V, S, D) and ``c`` (V, S) the
gates::

    h   = 1/n sum over o in C of W_o                       held fixed: no gradient
    l_s = U_ws . h + c_ws,      p = softmax(l)
    y   = softmax((l + g) / T),   g_s = -ln(-ln u_s),  u_s uniform in (0, 1)
    v   = sum_s y_s E_ws
    z_o = W_o . v + b_o - ln Q_o
    loss = - sum over o in C of ln( e^z_o / (e^z_o + sum_k e^z_{n_k}) )  +  gamma n H(p)

The 20 noise words n_k of an occurrence come from Q, counts to the power 0.75; one that is the
neighbour o itself is left out of o's term. H is the entropy. Two stages of plain gradient descent:

1. one pass with one U, c for all words, T = 1, g = 0, gamma = -0.1 (all senses in use);
2. ``epochs`` passes with U, c of every word, copies of the one at first, gamma = 0; T falls from 3
   to 1/2 during the first of them; U, c are moved ten times as fast as the rest.

The step falls linearly from ``lr`` to 0 over both. A last pass takes the mean of p over the
occurrences of each word, its *priors*. Senses below 0.05 (or 1/(2S)) are dropped, the others sum
to 1 again.
In a text, p(s) is softmax(U_w h + c_w) with h the mean over all other words of the text.

Departures from the paper
-------------------------
- Step sizes and passes are those of millions of words, not thousands of millions: a step for every
  occurrence, by the sum over its neighbours, without momentum. Per pair of words the paper's
  program moves 128 times less, at which nothing is learned here. Two of its settings that the
  paper does not mention are kept: the first stage, and that h has no gradient.
- T begins at 3, not at 1. The one gate may already give all occurrences of a word to one sense; at
  T = 1 the others are then never tried, and a third of the senses planted in invented text were
  lost, at 3 none.
- Noise words are drawn for an occurrence and shared by its neighbours, not by 128 pairs.
- Windows do not shrink, and are cut at the ends of a text instead of filled with a mark.
- A word that occurs fewer than 20 S times has one sense: there is too little to learn a gate from.
- In a text, the word's own W is not part of h, as it is not in training; in the paper's program it
  is.
- Numbers stay as they are, and are not made one word.

With one thread the same seed gives the same bytes; more threads write without locks.

``notes["loss"]`` is the mean loss of a neighbour over every 16th occurrence of the last pass,
``notes["single"]`` how many words were too rare for several senses, ``notes["dropped"]`` how many
senses were.

Cost
----
Time: some 12 D (20 + 2 window) multiplications an occurrence, 600,000 occurrences a second and core
at the defaults, stop words and thinned words not counted: six passes over 4.4 million words of
novels take 20 seconds of one core. Memory: 8 V S D + 4 V D bytes.

When not to use it
------------------
Where one vector a word is enough: ``sgns`` needs half the time, and the vectors of senses, each
learned from part of the text, are not better for the similarity of words. With less than some
hundred thousand words, and for words of a few dozen occurrences. For senses that differ in grammar
or degree but not in subject (*hard* work, a *hard* chair): the words around say little about them.
To divide the occurrences of a given word only, k-means of the means of its contexts does as well or
better (the claim's rows show both); the gate is for all words at once. With a contextual encoder at
hand, take its vectors.

Reference
---------
K. Grzegorczyk, M. Kurdziel: Disambiguated skip-gram model. EMNLP 2018, D18-1174. K. Grzegorczyk:
Vector representations of text data in deep learning. Thesis, 2019, arXiv:1901.01695. Gumbel
noise: E. Jang, S. Gu, B. Poole, arXiv:1611.01144.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from tokenspace import jit, rng, sgd
from tokenspace.arrays import Floats1d, Floats2d, Ids
from tokenspace.corpus import Corpus, IdStream
from tokenspace.errors import InputError, NotConverged
from tokenspace.jit import kernel
from tokenspace.progress import Meter
from tokenspace.recipe import Range, Recipe
from tokenspace.senses import Gates, SenseTable, row_name
from tokenspace.sgd import draw, draw_noise, longest, thin, window_rows
from tokenspace.simd import LANES
from tokenspace.vocab import Vocabulary
from tokenspace.words._rows import dots, mixed, spread

__all__ = ["DSG"]

NEGATIVES = 20  # noise words of an occurrence
FEWEST = 20  # occurrences for every sense that a word needs to have several
BALANCE = -0.1  # gamma of the first stage
HOT, COLD = 3.0, 0.5  # temperature at the begin and the end of the first pass of the second stage
EAGER = 10.0  # how much faster the gates of the second stage move
LEAST = 0.05  # prior below which a sense is dropped
FUNCTION_WORDS = """
a about above after again against all also am an and any are as at be because been before being
below between both but by can cannot could did do does doing don't down during each few for from
further had has have having he her here hers herself him himself his how however i if in into is
it it's its itself just may me might more most must my myself no nor not now of off on once one
only or other ought our ours ourselves out over own same shall she should so some such than that
the their theirs them themselves then there these they this those through thus to too under
until up upon us very was we were what when where which while who whom whose why will with would
yet you your yours yourself yourselves
"""
STOP = frozenset(FUNCTION_WORDS.split())
"""English function words: they stand beside every word and say nothing about its sense."""


class _Model(NamedTuple):
    """What is learned, padded to whole registers: ``width`` columns, rows of V words or V S senses.

    In the first stage ``U`` and ``c`` have S rows only.
    """

    E: Floats2d
    U: Floats2d
    c: Floats1d
    W: Floats2d
    b: Floats1d


@dataclass(frozen=True, kw_only=True)
class DSG(Recipe):
    """Learn a vector for each sense of a word, and a gate that tells which is meant.

    The table's rows are named ``bank``, ``bank#2``, …, the most frequent sense first.
    """

    senses: Annotated[int, Range(2, 32), "most senses a word has, S"] = 3
    dim: Annotated[int, Range(1, 4096), "width of the vectors D"] = 100
    window: Annotated[int, Range(1, 100), "words to each side that are predicted"] = 5
    epochs: Annotated[int, Range(0, 10_000), "passes with a gate for every word, after one"] = 5
    min_count: Annotated[int, Range(1), "rarer words are left out"] = 10
    sample: Annotated[float, Range(0, 1), "relative frequency above which words are thinned"] = 1e-4
    lr: Annotated[float, Range(1e-6, 10), "first learning rate; it falls linearly to 0"] = 0.05
    stop: Annotated[
        int | Literal["english"],
        Range(0),
        "left out: english function words and single letters, or so many of the most frequent",
    ] = "english"
    threads: Annotated[int, Range(0, 1024), "0 = all cores; only 1 gives the same bytes again"] = 0
    seed: Annotated[int, Range(0, 2**63 - 1), "of the first vectors and of every draw"] = 0

    tiny: ClassVar[Mapping[str, Any]] = {
        "dim": 8, "senses": 2, "epochs": 1, "min_count": 1, "sample": 0, "threads": 1,
    }  # fmt: skip

    def __call__(self, corpus: Corpus, /) -> SenseTable:
        """Learn from a corpus the vectors and the gates of its words.

        Parameters
        ----------
        corpus
            The texts; windows never reach from one text into another.

        Returns
        -------
        SenseTable
            A row for every sense that is left, float32, with the expected number of its
            occurrences as its count; ``disambiguate`` names the sense of every word of a text.

        Raises
        ------
        InputError
            Where fewer than two different words are left, or no word occurs 20 times for each
            sense.
        NotConverged
            Where the vectors stop being finite.
        """
        text = self._encode(corpus)
        several = text.counts >= FEWEST * self.senses
        if not several.any():
            raise InputError(
                f"no word occurs {FEWEST * self.senses} times, which {self.senses} senses need",
                hint="give more text, or fewer senses",
            )
        numbers = np.where(several, self.senses, 1)
        model, loss = self._train(text, numbers)
        prior = self._priors(text, numbers, model)
        notes = {
            **self.to_dict(),
            "split": corpus.split,
            "language": corpus.language,
            "loss": loss,
            "single": int(np.count_nonzero(~several)),
            "dropped": int(numbers.sum() - np.count_nonzero(prior)),
        }
        return _table(text, model, prior, self.dim, notes)

    def _encode(self, corpus: Corpus) -> IdStream:
        """Encode the corpus without its stop words."""
        words = list(corpus.count(min_count=self.min_count))
        if self.stop == "english":
            kept = [word for word in words if len(word) > 1 and word.lower() not in STOP]
        else:
            kept = words[self.stop :]
        if len(kept) < 2:
            raise InputError(
                "the corpus has fewer than 2 different words beside stop words",
                hint="give more text, or lower min_count or stop",
            )
        return sgd.encode(corpus, Vocabulary.words(kept), 1)

    def _train(self, text: IdStream, numbers: Ids) -> tuple[_Model, float]:
        """Run both stages; return the model and the mean loss of the last pass."""
        size, S = len(text.vocab), self.senses
        model = _start(size, S, self.dim, self.seed)
        width = model.W.shape[1]
        keep = sgd.keep_thresholds(text.counts, self.sample)
        noise = sgd.noise_table(text.counts)
        share = np.bincount(noise, minlength=size) / len(noise)
        log_q = np.log(np.maximum(share, 1 / len(noise))).astype(np.float32)
        ranges = sgd.chunks(text.offsets, sgd.CHUNK)
        passes = 1 + self.epochs
        losses = np.zeros((len(ranges), 2))

        def work(epoch: int, index: int) -> int:
            first, last = ranges[index]
            begin, end = text.offsets[first], text.offsets[last]
            part = float(begin / len(text.ids))
            rate = self.lr * max(1 - (epoch + part) / passes, sgd.FLOOR)
            shared = epoch == 0
            T = HOT + part * (COLD - HOT) if epoch == 1 else 1.0 if shared else COLD
            losses[index] = step(
                model.E.reshape(-1), model.U.reshape(-1), model.c, model.W.reshape(-1), model.b,
                log_q, numbers, S, width,
                text.ids, text.offsets, first, last, keep, noise, rate,
                rate * (1.0 if shared else EAGER), T, BALANCE if shared else 0.0,
                shared, rng.derive(self.seed, "draws", epoch, index), self.window, NEGATIVES,
            )  # fmt: skip
            return int(end - begin)

        with Meter("dsg", passes * len(text.ids)) as meter:
            for epoch in range(passes):
                if epoch == 1:
                    model = _apart(model, size)
                sgd.share(work, epoch, len(ranges), jit.threads(self.threads), meter)
                if not all(np.isfinite(array.sum(dtype=np.float64)) for array in model):
                    raise NotConverged(
                        f"dsg: vectors are not finite after pass {epoch + 1} of {passes}",
                        hint=f"lower the learning rate (lr={self.lr:g})",
                    )
        total, terms = losses.sum(axis=0)
        return model if self.epochs else _apart(model, size), float(total / max(terms, 1))

    def _priors(self, text: IdStream, numbers: Ids, model: _Model) -> npt.NDArray[np.float64]:
        """Return the mean of p over the occurrences of every word, (V, S), small ones made 0."""
        size, S = len(text.vocab), self.senses
        total = np.zeros((size, S))
        occupancy(
            model.U.reshape(-1), model.c, model.W.reshape(-1), numbers, S, model.W.shape[1],
            text.ids, text.offsets, sgd.keep_thresholds(text.counts, self.sample),
            rng.derive(self.seed, "priors"), self.window, total,
        )  # fmt: skip
        never = total.sum(axis=1) == 0  # it always stands alone: nothing tells its senses apart
        total[never, 0] = 1
        prior = total / total.sum(axis=1, keepdims=True)
        prior[prior < min(LEAST, 0.5 / S)] = 0
        return np.asarray(prior / prior.sum(axis=1, keepdims=True))


def _start(size: int, senses: int, dim: int, seed: int) -> _Model:
    """Return the model that the first stage starts from."""
    width = -(-dim // LANES) * LANES
    E = np.zeros((size * senses, width), np.float32)
    uniform = rng.stream(seed, "vectors").random((len(E), dim), np.float32)
    E[:, :dim] = (uniform - 0.5) / (dim * senses)
    U, W = np.zeros((senses, width), np.float32), np.zeros((size, width), np.float32)
    return _Model(E, U, np.zeros(senses, np.float32), W, np.zeros(size, np.float32))


def _apart(model: _Model, size: int) -> _Model:
    """Give every word its own copy of the one gate."""
    return model._replace(U=np.tile(model.U, (size, 1)), c=np.tile(model.c, size))


def _table(
    text: IdStream,
    model: _Model,
    prior: npt.NDArray[np.float64],
    dim: int,
    notes: dict[str, Any],
) -> SenseTable:
    """Return the senses that are left, those of a word together, the most frequent first."""
    size, S = prior.shape
    order = np.argsort(-prior, axis=1, kind="stable")
    ordered = np.take_along_axis(prior, order, axis=1)
    words, ranks = np.nonzero(ordered)
    rows = words * S + order[words, ranks]
    names = [row_name(text.vocab.tokens[v], s) for v, s in zip(words, ranks.tolist(), strict=True)]
    taken = {name for name, s in zip(names, ranks, strict=True) if s} & text.vocab.ids.keys()
    if taken:
        raise InputError(
            f"the word {min(taken)!r} is spelled like a further sense of another one",
            hint="split the text into words of letters and digits (split='words')",
        )
    gates = Gates(
        first=np.searchsorted(words, np.arange(size + 1)).astype(np.int64),
        U=np.ascontiguousarray(model.U[rows, :dim]),
        c=model.c[rows],
        prior=ordered[words, ranks].astype(np.float32),
        W=np.ascontiguousarray(model.W[:, :dim]),
        b=model.b,
    )
    counts = np.rint(ordered[words, ranks] * text.counts[words]).astype(np.int64)
    vectors = np.ascontiguousarray(model.E[rows, :dim])
    return SenseTable(Vocabulary.words(names), vectors, counts, notes, gates=gates)


@kernel()
def softmax(x: Floats1d, n: int, out: Floats1d) -> None:
    """Set ``out`` to the softmax of the first ``n`` numbers."""
    high = x[0]
    for s in range(1, n):
        high = max(high, x[s])
    total = np.float32(0)
    for s in range(n):
        out[s] = np.exp(x[s] - high)
        total += out[s]
    for s in range(n):
        out[s] /= total


@kernel()
def sense_rows(first: int, m: int, width: int, R: Ids) -> None:
    """Note where ``m`` rows of a matrix begin, from row ``first``."""
    for s in range(m):
        R[s] = np.int64(first + s) * width


@kernel()
def judge(
    W: Floats1d,
    C: Ids,
    n: int,
    U: Floats1d,
    c: Floats1d,
    first: int,
    m: int,
    width: int,
    A: Floats1d,
    h: Floats1d,
    R: Ids,
    logits: Floats1d,
    p: Floats1d,
) -> None:
    """Set ``h`` to the mean of the n rows ``C`` of W, and ``p`` to what the gate makes of it.

    The gate is m rows of U and c from row ``first``, whose places are noted in ``R``. ``A`` is
    room for n numbers.
    """
    A[:n] = np.float32(1 / n)
    mixed(W, C, n, A, width, h)
    sense_rows(first, m, width, R)
    dots(U, R, m, h, width, logits)
    for s in range(m):
        logits[s] += c[first + s]
    softmax(logits, m, p)


@kernel()
def disturb(logits: Floats1d, m: int, T: float, state: npt.NDArray[np.uint64]) -> None:
    """Add Gumbel noise to ``m`` logits, and divide them by the temperature."""
    for s in range(m):
        u = min(max(np.float64(draw(state)) / 4294967296.0, 1e-9), 1 - 1e-7)
        logits[s] = np.float32((logits[s] - np.log(-np.log(u))) / T)


@kernel()
def slopes(
    y: Floats1d, p: Floats1d, dy: Floats1d, m: int, T: float, weight: float, dl: Floats1d
) -> None:
    """Set ``dl`` to minus the gradient by ``m`` logits, ``weight`` times the entropy included.

    ``dy`` is minus the gradient by ``y``.
    """
    mean = 0.0
    H = 0.0
    for s in range(m):
        mean += y[s] * dy[s]
        H -= p[s] * np.log(p[s] + np.float32(1e-30))
    for s in range(m):
        inner = p[s] * (np.log(p[s] + np.float32(1e-30)) + H)
        dl[s] = np.float32(y[s] * (dy[s] - mean) / T + weight * inner)


@kernel()
def errors(z: Floats1d, R: Ids, K: int, n: int, e: npt.NDArray[np.float64], A: Floats1d) -> float:
    """Set ``A`` to minus the gradient by ``z`` of K noise words and n neighbours after them.

    Returns the loss. ``e`` is room for as many numbers.
    """
    high = z[0]
    for r in range(1, K + n):
        high = max(high, z[r])
    noise = 0.0
    for r in range(K + n):
        e[r] = np.exp(np.float64(z[r]) - np.float64(high))
        if r < K:
            noise += e[r]
            A[r] = 0
    loss = 0.0
    shares = 0.0
    for r in range(K, K + n):
        own = 0.0  # noise words that are this neighbour
        for k in range(K):
            if R[k] == R[r]:
                own += e[k]
        whole = max(e[r] + noise - own, 1e-300)
        share = 1 / whole
        shares += share
        if own > 0:
            for k in range(K):
                if R[k] == R[r]:
                    A[k] += np.float32(e[k] * share)
        A[r] = np.float32(1 - e[r] * share)
        loss -= np.log(max(e[r] * share, 1e-300))
    for k in range(K):
        A[k] -= np.float32(e[k] * shares)
    return loss


@kernel(error_model="numpy")
def step(
    E: Floats1d,
    U: Floats1d,
    c: Floats1d,
    W: Floats1d,
    b: Floats1d,
    log_q: Floats1d,
    numbers: Ids,
    senses: int,
    width: int,
    ids: npt.NDArray[np.int32],
    offsets: Ids,
    first: int,
    last: int,
    keep: npt.NDArray[np.uint32],
    noise: npt.NDArray[np.int32],
    lr: float,
    gate_lr: float,
    T: float,
    gamma: float,
    shared: bool,
    seed: int,
    window: int,
    negatives: int,
) -> tuple[float, int]:
    """Train on the sentences [first, last); return the sampled loss and its number of terms.

    The matrices are flat and updated in place; ``width`` is a multiple of 8, ``numbers`` how many
    of its ``senses`` each word uses. ``shared``: one gate for all words, and no Gumbel noise.
    """
    state = np.array([seed], np.uint64)
    most = longest(offsets, first, last)
    rows, N = np.zeros(most + 1, np.int64), np.zeros((most + 1) * negatives, np.int64)
    places = -(-(negatives + 2 * window + 1) // LANES) * LANES
    C, R = np.zeros(2 * window + 1, np.int64), np.zeros(places, np.int64)
    z, A, e = np.zeros(places, np.float32), np.zeros(places, np.float32), np.zeros(places)
    h, v, dv = np.zeros(width, np.float32), np.zeros(width, np.float32), np.zeros(width, np.float32)
    room = -(-senses // LANES) * LANES
    RE, RU = np.zeros(room, np.int64), np.zeros(room, np.int64)
    logits, p = np.zeros(room, np.float32), np.zeros(room, np.float32)
    y, dy, dl = np.zeros(room, np.float32), np.zeros(room, np.float32), np.zeros(room, np.float32)
    loss = 0.0
    terms = 0
    seen = 0
    for sentence in range(first, last):
        length = thin(ids, offsets[sentence], offsets[sentence + 1], keep, width, state, rows)
        draw_noise(noise, length * negatives, width, state, N)
        for i in range(length):
            n = window_rows(rows, length, i, window, C)
            if n == 0:
                continue
            w = rows[i] // width
            m = numbers[w]
            sense_rows(w * senses, m, width, RE)
            gate = 0 if shared else w * senses
            if m > 1:
                judge(W, C, n, U, c, gate, m, width, A, h, RU, logits, p)
                if not shared:
                    disturb(logits, m, T, state)
                softmax(logits, m, y)
            else:
                y[0] = 1
            mixed(E, RE, m, y, width, v)

            for k in range(negatives):
                R[k] = N[i * negatives + k]
            for a in range(n):
                R[negatives + a] = C[a]
            count = negatives + n
            dots(W, R, count, v, width, z)
            for r in range(count):
                z[r] += b[R[r] // width] - log_q[R[r] // width]
            value = errors(z, R, negatives, n, e, A)
            mixed(W, R, count, A, width, dv)
            for r in range(count):
                A[r] *= lr
                b[R[r] // width] += A[r]
            spread(W, R, count, A, v, width)

            dots(E, RE, m, dv, width, dy)
            if m > 1:
                slopes(y, p, dy, m, T, gamma * n, dl)
                for s in range(m):
                    dl[s] *= gate_lr
                    c[gate + s] += dl[s]
                spread(U, RU, m, dl, h, width)
            for s in range(m):
                y[s] *= lr
            spread(E, RE, m, y, dv, width)

            if seen % 16 == 0:
                loss += value
                terms += n
            seen += 1
    return loss, terms


@kernel(error_model="numpy")
def occupancy(
    U: Floats1d,
    c: Floats1d,
    W: Floats1d,
    numbers: Ids,
    senses: int,
    width: int,
    ids: npt.NDArray[np.int32],
    offsets: Ids,
    keep: npt.NDArray[np.uint32],
    seed: int,
    window: int,
    total: npt.NDArray[np.float64],
) -> None:
    """Add p(s) of every occurrence to its word's row of ``total`` (V, senses), thinned alike."""
    state = np.array([seed], np.uint64)
    sentences = len(offsets) - 1
    rows = np.zeros(longest(offsets, 0, sentences) + 1, np.int64)
    C, A = np.zeros(2 * window + 1, np.int64), np.zeros(2 * window + 1, np.float32)
    room = -(-senses // LANES) * LANES
    h, R = np.zeros(width, np.float32), np.zeros(room, np.int64)
    logits, p = np.zeros(room, np.float32), np.zeros(room, np.float32)
    for sentence in range(sentences):
        length = thin(ids, offsets[sentence], offsets[sentence + 1], keep, width, state, rows)
        for i in range(length):
            n = window_rows(rows, length, i, window, C)
            if n == 0:
                continue
            w = rows[i] // width
            m = numbers[w]
            judge(W, C, n, U, c, w * senses, m, width, A, h, R, logits, p)
            for s in range(m):
                total[w, s] += p[s]
