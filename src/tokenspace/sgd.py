"""What trainers over a stream of words share: thinning, noise, chunks, threads, learning rate."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tokenspace import jit, rng
from tokenspace.arrays import Floats1d, Floats2d, Ids
from tokenspace.corpus import Corpus, IdStream
from tokenspace.errors import InputError, NotConverged
from tokenspace.jit import kernel
from tokenspace.progress import Meter
from tokenspace.simd import LANES, prefetch
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary

__all__ = [
    "BLOCK", "CHUNK", "FLOOR", "LINE", "PIECE", "Step", "Trained", "below", "chunks", "draw",
    "draw_noise", "encode", "keep_thresholds", "longest", "look_ahead", "noise_table",
    "output_rows", "sampled_loss", "share", "table", "thin", "train", "window_rows",
]  # fmt: skip

CHUNK = 10_000  # words between two steps of the learning rate
PIECE = 1_000  # the same, where the text is read in a random order
FLOOR = 1e-4  # of the first learning rate: where the decay ends
LINE = 16  # float32 in a cache line
BLOCK = 6  # output rows that a kernel holds in registers at a time

Step = Callable[..., tuple[float, int]]
"""A kernel: one range of sentences trained, and the sampled loss with its number of terms."""


class Trained(NamedTuple):
    """Input and output vectors (V, D) float32, and the mean sampled loss of the last epoch."""

    inputs: Floats2d
    outputs: Floats2d
    loss: float


def encode(corpus: Corpus, vocab: Vocabulary | None, min_count: int) -> IdStream:
    """Encode the corpus and refuse one that cannot teach anything."""
    stream = corpus.encode(vocab, min_count=min_count)
    if np.count_nonzero(stream.counts) < 2:
        raise InputError(
            "the corpus has fewer than 2 different words", hint="give more text, or lower min_count"
        )
    return stream


def keep_thresholds(counts: Ids, sample: float) -> npt.NDArray[np.uint32]:
    """Return, for each word, the 32-bit number below which a draw keeps an occurrence, (V,).

    p = min(1, (sqrt(f / t) + 1) t / f) for relative frequency f and threshold t, as word2vec's C
    program computes it; the paper's own formula differs. ``sample=0`` keeps everything.
    """
    if sample == 0:
        return np.full(len(counts), 0xFFFFFFFF, np.uint32)
    f = np.maximum(counts, 1) / counts.sum()
    p = np.minimum(1.0, (np.sqrt(f / sample) + 1) * sample / f)
    thresholds: npt.NDArray[np.uint32] = (p * 0xFFFFFFFF).astype(np.uint32)
    return thresholds


def noise_table(counts: Ids, power: float = 0.75) -> npt.NDArray[np.int32]:
    """Return a table in which word w fills a share of the slots proportional to count(w)^0.75.

    The table has 2^20 to 2^24 slots, as many as give the rarest word one. A word that never
    occurs has none.
    """
    weight = np.where(counts > 0, counts.astype(np.float64) ** power, 0.0)
    share = weight / weight.sum()
    wanted = int(np.ceil(np.log2(1.0 / share[share > 0].min())))
    size = 1 << min(max(wanted, 20), 24)
    borders = np.round(np.cumsum(share) * size).astype(np.int64)
    return np.repeat(np.arange(len(counts), dtype=np.int32), np.diff(borders, prepend=0))


def chunks(offsets: Ids, words: int) -> list[tuple[int, int]]:
    """Cut the sentences into ranges [first, last) of about ``words`` words each."""
    marks = np.arange(0, offsets[-1], words)
    cuts = np.unique(np.append(np.searchsorted(offsets, marks, "left"), len(offsets) - 1))
    return list(zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True))


def train(
    step: Step,
    stream: IdStream,
    *,
    label: str,
    dim: int,
    epochs: int,
    sample: float,
    lr: float,
    threads: int,
    seed: int,
    options: tuple[Any, ...],
    rows: int | None = None,
    targets: int | None = None,
    power: float = 0.75,
    spread: float = 0.5,
    mixed: bool = False,
) -> Trained:
    """Run ``step`` over all chunks of all epochs, with the rate falling linearly.

    There are ``rows`` input and ``targets`` output vectors (by default one a word); noise words are
    drawn by their counts to the ``power``. The input vectors start uniform in (-``spread``,
    ``spread``) / dim, the output vectors at zero. ``mixed`` reads the text in pieces of 1,000
    words, in another random order every epoch.

    Threads take the next chunk as they become free and write to the shared matrices without
    locks (HOGWILD, Niu et al. 2011). The learning rate and the random draws belong to the chunk,
    so that one thread always gives the same bytes. An interrupt stops every thread after its
    chunk.
    """
    width = -(-dim // LANES) * LANES
    size = len(stream.vocab)
    height = size if rows is None else rows
    inputs = np.zeros((height, width), np.float32)
    first = rng.stream(seed, "vectors")
    for start in range(0, height, CHUNK):
        part = inputs[start : start + CHUNK, :dim]
        part[:] = (first.random(part.shape, np.float32) - 0.5) * (2 * spread) / dim
    outputs = np.zeros((size if targets is None else targets, width), np.float32)
    flat_in, flat_out = inputs.reshape(-1), outputs.reshape(-1)
    keep = keep_thresholds(stream.counts, sample)
    noise = noise_table(stream.counts, power)
    ranges = chunks(stream.offsets, PIECE if mixed else CHUNK)
    total = epochs * len(stream.ids)
    losses = np.zeros((len(ranges), 2))
    lengths = np.array([stream.offsets[last] - stream.offsets[first] for first, last in ranges])
    order = np.arange(len(ranges))
    before = np.cumsum(lengths) - lengths

    def work(epoch: int, place: int) -> int:
        index = int(order[place])
        first, last = ranges[index]
        done = (epoch * len(stream.ids) + before[place]) / total
        rate = max(lr * (1 - done), lr * FLOOR)
        draw = rng.derive(seed, "draws", epoch, index)
        losses[index] = step(
            flat_in, flat_out, width, stream.ids, stream.offsets, first, last, keep, noise,
            np.float32(rate), draw, *options,
        )  # fmt: skip
        return int(lengths[index])

    with Meter(label, total) as meter:
        for epoch in range(epochs):
            if mixed:
                order = rng.stream(seed, "reading", epoch).permutation(len(ranges))
                before = np.cumsum(lengths[order]) - lengths[order]
            share(work, epoch, len(ranges), jit.threads(threads), meter)
            if not np.isfinite(inputs.sum(dtype=np.float64)):
                raise NotConverged(
                    f"{label}: vectors are not finite after epoch {epoch + 1} of {epochs}",
                    hint=f"lower the learning rate (lr={lr:g})",
                )
    loss, terms = losses.sum(axis=0)
    return Trained(_narrow(inputs, dim), _narrow(outputs, dim), float(loss / max(terms, 1)))


def _narrow(matrix: Floats2d, dim: int) -> Floats2d:
    """Leave out the columns beyond ``dim``; in place, so that no matrix is held twice."""
    flat = matrix.reshape(-1)
    for start in range(0, len(matrix), CHUNK):
        part = matrix[start : start + CHUNK, :dim].copy()
        flat[start * dim : start * dim + part.size] = part.reshape(-1)
    return flat[: len(matrix) * dim].reshape(-1, dim)


def share(
    work: Callable[[int, int], int], epoch: int, count: int, threads: int, meter: Meter
) -> None:
    """Do the chunks 0 to ``count`` of an epoch in several threads, each the next one free."""
    if threads == 1:
        for index in range(count):
            meter.add(work(epoch, index))
        return
    todo = iter(range(count))  # taking the next number is atomic
    stop = threading.Event()

    def run(todo: Iterator[int]) -> None:
        for index in todo:
            if stop.is_set():
                return
            meter.add(work(epoch, index))

    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(run, todo) for _ in range(threads)]
        try:
            for future in futures:
                future.result()
        finally:
            stop.set()


@kernel()
def draw(state: npt.NDArray[np.uint64]) -> np.uint64:
    """Step a linear congruential generator (Knuth's MMIX constants); return its high 32 bits."""
    state[0] = state[0] * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
    return np.uint64(state[0] >> np.uint64(32))


@kernel()
def below(limit: int, state: npt.NDArray[np.uint64]) -> int:
    """Return a random whole number in [0, limit), for limit < 2^32."""
    return int((draw(state) * np.uint64(limit)) >> np.uint64(32))


@kernel()
def longest(offsets: Ids, first: int, last: int) -> int:
    """Return the length of the longest sentence in [first, last)."""
    most = 0
    for sentence in range(first, last):
        most = max(most, offsets[sentence + 1] - offsets[sentence])
    return most


@kernel()
def thin(
    ids: npt.NDArray[np.int32],
    begin: int,
    end: int,
    keep: npt.NDArray[np.uint32],
    width: int,
    state: npt.NDArray[np.uint64],
    rows: Ids,
) -> int:
    """Subsample a sentence into ``rows``, where the kept words' rows begin; return how many.

    Windows are formed afterwards, so that they reach over the dropped words.
    """
    length = 0
    for p in range(begin, end):
        if draw(state) <= keep[ids[p]]:
            rows[length] = np.int64(ids[p]) * width
            length += 1
    return length


@kernel()
def draw_noise(
    noise: npt.NDArray[np.int32],
    count: int,
    width: int,
    state: npt.NDArray[np.uint64],
    rows: Ids,
) -> None:
    """Draw ``count`` noise words into ``rows``, as where their rows begin."""
    for p in range(count):
        rows[p] = np.int64(noise[below(len(noise), state)]) * width


@kernel()
def window_rows(rows: Ids, length: int, i: int, b: int, C: Ids) -> int:
    """Gather the neighbours of position ``i``, up to ``b`` to each side; return how many."""
    n = 0
    for p in range(max(0, i - b), min(length, i + b + 1)):
        if p != i:
            C[n] = rows[p]
            n += 1
    return n


@kernel()
def output_rows(
    centre: int, N: Ids, begin: int, negatives: int, lr: float, T: Ids, rate: Floats1d
) -> None:
    """Lay out the output rows ``T`` of one position: the centre first, then its noise words.

    ``rate`` (eight lanes a block) is the learning rate of each; it is 0 for a noise word that is
    the centre itself, and for the places after the last noise word.
    """
    T[0] = centre
    rate[0] = lr
    for place in range(1, len(T)):
        k = place - 1
        row = N[begin + k] if k < negatives else centre
        T[place] = row
        lane = place // BLOCK * LANES + place % BLOCK
        rate[lane] = np.float32(0) if row == centre else np.float32(lr)


@kernel()
def look_ahead(
    Win: Floats1d,
    Wout: Floats1d,
    width: int,
    rows: Ids,
    length: int,
    i: int,
    window: int,
    N: Ids,
    negatives: int,
) -> None:
    """Ask for the rows that position ``i`` needs and the one before did not.

    They come while the processor still works on the position before; without this, half of the
    time goes into waiting for noise rows, which are anywhere in memory.
    """
    if i < length:
        for q in range(0, width, LINE):
            prefetch(Wout, rows[i] + q)
        for k in range(i * negatives, (i + 1) * negatives):
            for q in range(0, width, LINE):
                prefetch(Wout, N[k] + q)
    if i + window < length:
        for q in range(0, width, LINE):
            prefetch(Win, rows[i + window] + q)


@kernel()
def sampled_loss(G: Floats1d, n: int, rate: Floats1d) -> float:
    """Return the loss of ``n`` predictions from their gradients: -log(1 - |error|), summed."""
    loss = 0.0
    lanes = len(rate)
    stride = len(G) * LANES // lanes
    for block in range(lanes // LANES):
        for a in range(n):
            for k in range(BLOCK):
                if rate[block * LANES + k] > 0:
                    error = abs(G[block * stride + a * LANES + k]) / rate[block * LANES + k]
                    loss -= np.log(max(1.0 - error, 1e-7))
    return loss


def table(stream: IdStream, trained: Trained, notes: dict[str, Any]) -> EmbeddingTable:
    """Wrap the input vectors, with the loss among the notes."""
    return EmbeddingTable(
        stream.vocab, trained.inputs, stream.counts, {**notes, "loss": trained.loss}
    )
