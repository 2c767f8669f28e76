"""What the paragraph vectors share: the network's layers, a walk over a document, the two loops.

A document is a row of its own among the weights. ``walk`` trains that row, and the word side with
it, on the document's words once: :func:`learn` does so for all documents of a corpus, :func:`infer`
for new documents with the word side frozen.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tokenspace import jit, rng
from tokenspace.arrays import Floats1d, Floats2d, Ids
from tokenspace.corpus import IdStream
from tokenspace.errors import NotConverged
from tokenspace.jit import kernel
from tokenspace.progress import Meter
from tokenspace.sgd import (
    BLOCK,
    CHUNK,
    FLOOR,
    below,
    chunks,
    draw,
    draw_noise,
    keep_thresholds,
    longest,
    noise_table,
    output_rows,
    share,
    thin,
)
from tokenspace.simd import (
    LANES,
    add,
    fma,
    load,
    mul,
    sigmoid,
    splat,
    store,
    sub,
    sums,
)

LAYERS = ("real", "bits", "mapped")
"""What stands for a document: its row, the row's rounded sigmoids, or those of a map of the row."""

JOINS = ("alone", "mean", "concat", "sum")
"""How the words around a position join the document: not, or as the kernels below say."""

REAL, BITS, MAPPED = range(3)
ALONE, MEAN, CONCAT, SUM = range(4)


class Shape(NamedTuple):
    """The network: which layer, how words join it, and the sizes of its parts.

    ``dim`` numbers a document's row and ``row`` the floats it takes, a multiple of 8; ``units`` are
    what the layer gives (``dim``, or the bits) and ``slot`` the floats they take, with one for the
    constant 1 that follows the bits. An output row has ``width`` floats, an input row ``slot``.
    Steps of the input side are ``gain`` times those of its gradient at the rate of the outputs.
    """

    layer: int
    join: int
    dim: int
    row: int
    units: int
    slot: int
    width: int
    window: int
    negatives: int
    skip: int
    gain: float


def shape(
    *, layer: str, join: str, dim: int, units: int, window: int, negatives: int, skip: int = 0
) -> Shape:
    """Return the shape whose sizes are rounded up to whole registers."""
    row = _padded(dim)
    slot = row if layer == "real" else _padded(units + 1)
    width = slot * (1 + 2 * window) if join == "concat" else slot
    kinds = LAYERS.index(layer), JOINS.index(join)
    gain = 1.0 if layer == "real" else float(units)
    return Shape(*kinds, dim, row, units, slot, width, window, negatives, skip, gain)


def describe(shape: Shape) -> dict[str, str | int]:
    """Return the arguments that :func:`shape` was called with."""
    sizes = {name: getattr(shape, name) for name in ("dim", "units", "window", "negatives", "skip")}
    return {"layer": LAYERS[shape.layer], "join": JOINS[shape.join], **sizes}


def _padded(size: int) -> int:
    return -(-size // LANES) * LANES


class Weights(NamedTuple):
    """Flat float32 matrices: documents (N, row), words in (V, slot), out (V, width).

    The map of a row to units is (units, row), with an offset for each unit. What a network lacks is
    empty.
    """

    documents: Floats1d
    inputs: Floats1d
    outputs: Floats1d
    map: Floats1d
    offset: Floats1d


class Desk(NamedTuple):
    """What a walk writes down on the way."""

    words: Ids
    noise: Ids
    near: Ids
    T: Ids
    rate: Floats1d
    label: Floats1d
    G: Floats1d
    X: Floats1d
    E: Floats1d
    A: Floats1d
    F: Floats1d


class Sampling(NamedTuple):
    """Who is kept and who is noise, as made by ``keep_thresholds`` and ``noise_table``."""

    keep: npt.NDArray[np.uint32]
    noise: npt.NDArray[np.int32]


def sampling_of(counts: Ids, sample: float) -> Sampling:
    """Return both for words of these counts."""
    return Sampling(keep_thresholds(counts, sample), noise_table(counts))


def first_weights(shape: Shape, documents: int, words: int, seed: int) -> Weights:
    """Draw the first weights: rows uniform in (-1/2, 1/2) / dim, outputs zero.

    The map's weights are uniform with variance 1 / dim.
    """
    rows = np.zeros((documents, shape.row), np.float32)
    rows[:, : shape.dim] = _uniform(seed, "documents", (documents, shape.dim)) / shape.dim
    inputs = np.zeros((0, shape.slot), np.float32)
    if shape.skip or shape.join != ALONE:
        inputs = np.zeros((words, shape.slot), np.float32)
        inputs[:, : shape.units] = _uniform(seed, "words", (words, shape.units)) / shape.units
    outputs = np.zeros((words, shape.width), np.float32)
    units = shape.units if shape.layer == MAPPED else 0
    mapping, offset = np.zeros((units, shape.row), np.float32), np.zeros(units, np.float32)
    spread = _uniform(seed, "map", (units, shape.dim)) * np.sqrt(12 / shape.dim)
    mapping[:, : shape.dim] = spread
    return Weights(*(part.reshape(-1) for part in (rows, inputs, outputs, mapping, offset)))


def _uniform(seed: int, purpose: str, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    return rng.stream(seed, purpose).random(size, np.float32) - np.float32(0.5)


def learn(
    shape: Shape,
    stream: IdStream,
    *,
    label: str,
    epochs: int,
    sample: float,
    lr: float,
    threads: int,
    seed: int,
) -> tuple[Weights, float]:
    """Train on the documents of ``stream``; return the weights and the last epoch's mean loss.

    The rate falls linearly over all words of all epochs. Threads take the next chunk of documents
    as they become free and write to the words' rows without locks; rates and draws belong to the
    chunk, so that one thread always gives the same bytes.
    """
    weights = first_weights(shape, len(stream.offsets) - 1, len(stream.vocab), seed)
    sampling = sampling_of(stream.counts, sample)
    ranges = chunks(stream.offsets, CHUNK)
    planned = epochs * len(stream.ids)
    losses = np.zeros((len(ranges), 2))

    def work(epoch: int, index: int) -> int:
        first, last = ranges[index]
        begin, end = stream.offsets[first], stream.offsets[last]
        done = (epoch * len(stream.ids) + begin) / planned
        rate = np.float32(max(lr * (1 - done), lr * FLOOR))
        drawn = rng.derive(seed, "draws", epoch, index)
        losses[index] = train_documents(
            shape, weights, sampling, stream.ids, stream.offsets, first, last, rate, drawn
        )
        return int(end - begin)

    with Meter(label, planned) as meter:
        for epoch in range(epochs):
            share(work, epoch, len(ranges), jit.threads(threads), meter)
            with np.errstate(invalid="ignore"):
                total = sum(float(part.sum(dtype=np.float64)) for part in weights)
            if not np.isfinite(total):
                raise NotConverged(
                    f"{label}: vectors are not finite after epoch {epoch + 1} of {epochs}",
                    hint=f"lower the learning rate (lr={lr:g})",
                )
    empty = np.diff(stream.offsets) == 0
    weights.documents.reshape(-1, shape.row)[empty] = 0
    loss, terms = losses.sum(axis=0)
    return weights, float(loss / max(terms, 1))


def infer(
    shape: Shape,
    weights: Weights,
    sampling: Sampling,
    ids: npt.NDArray[np.int32],
    offsets: Ids,
    *,
    passes: int,
    lr: float,
    threads: int,
    seed: int,
) -> Floats2d:
    """Return the rows (N, row) of new documents, the word side of ``weights`` left as it is.

    First row and draws come from a hash of the document's words and the seed, so that a document
    has one result, whichever others are asked for with it. Without words the row is zero.
    """
    count = len(offsets) - 1
    rows = np.zeros(count * shape.row, np.float32)
    found = weights._replace(documents=rows)
    origin = rng.derive(seed, "documents")

    def work(first: int, last: int) -> None:
        fit_documents(
            shape, found, sampling, ids, offsets, first, last, np.float32(lr), origin, passes
        )

    if count:
        jit.spread(work, count, workers=threads)
    return rows.reshape(count, shape.row)


@kernel(error_model="numpy")
def train_documents(
    shape: Shape,
    weights: Weights,
    sampling: Sampling,
    ids: npt.NDArray[np.int32],
    offsets: Ids,
    first: int,
    last: int,
    lr: np.float32,
    seed: int,
) -> tuple[float, int]:
    """Train on the documents [first, last) once; return the sampled loss and its terms."""
    state = np.array([seed], np.uint64)
    desk = lay_out(shape, longest(offsets, first, last))
    loss, terms = 0.0, 0
    for document in range(first, last):
        more = walk(
            shape, weights, sampling, desk, ids, offsets[document], offsets[document + 1],
            document * shape.row, lr, state, True,
        )  # fmt: skip
        loss += more[0]
        terms += more[1]
    return loss, terms


@kernel(error_model="numpy")
def fit_documents(
    shape: Shape,
    weights: Weights,
    sampling: Sampling,
    ids: npt.NDArray[np.int32],
    offsets: Ids,
    first: int,
    last: int,
    lr: np.float32,
    seed: int,
    passes: int,
) -> None:
    """Find the rows of the new documents [first, last), with the words' side frozen."""
    state = np.zeros(1, np.uint64)
    desk = lay_out(shape, longest(offsets, first, last))
    for document in range(first, last):
        begin, end = offsets[document], offsets[document + 1]
        if begin == end:
            continue
        state[0] = fingerprint(ids, begin, end, seed)
        d = document * shape.row
        for q in range(shape.dim):
            place = np.float32(draw(state)) / np.float32(4294967296.0) - np.float32(0.5)
            weights.documents[d + q] = place / np.float32(shape.dim)
        for p in range(passes):
            rate = np.float32(max(lr * (1 - p / passes), lr * FLOOR))
            walk(shape, weights, sampling, desk, ids, begin, end, d, rate, state, False)


@kernel(error_model="numpy")
def read_units(shape: Shape, weights: Weights, units: Floats2d) -> None:
    """Write the code of every document, of -1 and 1, to ``units``; that of a zero row is zero."""
    desk = lay_out(shape, 0)
    for document in range(len(units)):
        d = document * shape.row
        if np.any(weights.documents[d : d + shape.dim] != 0):
            enter(shape, weights, desk, d)
            for unit in range(shape.units):
                units[document, unit] = np.float32(2) * desk.X[unit] - np.float32(1)


@kernel()
def fingerprint(ids: npt.NDArray[np.int32], begin: int, end: int, seed: int) -> np.uint64:
    """Return 64 bits of the ids and the seed: FNV-1a, mixed by the end of splitmix64."""
    h = np.uint64(14695981039346656037) ^ np.uint64(seed)
    for p in range(begin, end):
        h = (h ^ np.uint64(ids[p])) * np.uint64(1099511628211)
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.uint64(h ^ (h >> np.uint64(31)))


@kernel()
def lay_out(shape: Shape, most: int) -> Desk:
    """Make room for documents of up to ``most`` words."""
    near = 2 * max(shape.window, shape.skip) + 1
    groups = max(1 + shape.negatives, -(-(1 + shape.negatives) // LANES))
    return Desk(
        np.zeros(most + LANES, np.int64),
        np.zeros((max(most, near) + LANES) * shape.negatives, np.int64),
        np.zeros(near, np.int64),
        np.zeros(groups * LANES, np.int64),
        np.zeros(groups * LANES, np.float32),
        np.zeros(groups * LANES, np.float32),
        np.zeros(groups * LANES, np.float32),
        np.zeros(shape.width, np.float32),
        np.zeros(shape.width, np.float32),
        np.zeros(shape.slot, np.float32),
        np.zeros(shape.row, np.float32),
    )


@kernel(error_model="numpy")
def walk(
    shape: Shape,
    weights: Weights,
    sampling: Sampling,
    desk: Desk,
    ids: npt.NDArray[np.int32],
    begin: int,
    end: int,
    d: int,
    lr: np.float32,
    state: npt.NDArray[np.uint64],
    words: bool,
) -> tuple[float, int]:
    """Go over a document once: its row at ``d``, and with ``words`` the word side as well.

    The sampled loss and its terms are those of training, and zero without ``words``.
    """
    if not words and shape.layer == REAL and shape.join in (MEAN, SUM):
        walk_frozen(shape, weights, sampling, desk, ids, begin, end, d, lr, state)
        return 0.0, 0
    length = thin(ids, begin, end, sampling.keep, 1, state, desk.words)
    draw_noise(sampling.noise, length * shape.negatives, 1, state, desk.noise)
    if shape.join != ALONE:
        return walk_places(shape, weights, desk, length, d, lr, state, words)
    loss, terms = walk_blocks(shape, weights, desk, length, d, lr, words)
    if words and shape.skip:
        walk_windows(shape, weights, sampling, desk, length, lr, state)
    return loss, terms


@kernel(error_model="numpy")
def walk_blocks(
    shape: Shape, weights: Weights, desk: Desk, length: int, d: int, lr: np.float32, words: bool
) -> tuple[float, int]:
    """Let the document alone predict its words, eight at a time."""
    loss, terms = 0.0, 0
    desk.label[:] = 0
    desk.label[:LANES] = 1
    for first in range(0, length, LANES):
        n = min(LANES, length - first)
        lay_block(shape, desk, desk.words, first, n, first * shape.negatives, lr)
        enter(shape, weights, desk, d)
        desk.E[:] = 0
        push(desk.X, 0, weights.outputs, desk, 1 + shape.negatives, shape.width, words)
        answer(shape, weights, desk, d, np.float32(shape.gain), words)
        if words and first % (16 * LANES) == 0:
            loss += loss_of(desk, 1 + shape.negatives)
            terms += n
    return loss, terms


@kernel(error_model="numpy")
def walk_windows(
    shape: Shape,
    weights: Weights,
    sampling: Sampling,
    desk: Desk,
    length: int,
    lr: np.float32,
    state: npt.NDArray[np.uint64],
) -> None:
    """Skip-gram: let each word's input row predict its neighbours, eight at a time."""
    desk.label[:] = 0
    desk.label[:LANES] = 1
    for i in range(length):
        n = neighbours(desk, length, i, 1 + below(shape.skip, state))
        draw_noise(sampling.noise, n * shape.negatives, 1, state, desk.noise)
        x = desk.words[i] * shape.slot
        for first in range(0, n, LANES):
            some = min(LANES, n - first)
            lay_block(shape, desk, desk.near, first, some, first * shape.negatives, lr)
            desk.E[:] = 0
            push(weights.inputs, x, weights.outputs, desk, 1 + shape.negatives, shape.width, True)
            for q in range(0, shape.slot, LANES):
                store(weights.inputs, x + q, add(load(weights.inputs, x + q), load(desk.E, q)))


@kernel(error_model="numpy")
def walk_places(
    shape: Shape,
    weights: Weights,
    desk: Desk,
    length: int,
    d: int,
    lr: np.float32,
    state: npt.NDArray[np.uint64],
    words: bool,
) -> tuple[float, int]:
    """Let the document and the words around a position predict the word at it."""
    groups = -(-(1 + shape.negatives) // LANES)
    gain = np.float32(shape.gain)
    loss, terms = 0.0, 0
    desk.label[:] = 0
    desk.label[0] = 1
    for i in range(length):
        lay_place(shape, desk, i, lr, groups)
        enter(shape, weights, desk, d)
        if shape.join == CONCAT:
            n = surroundings(desk, length, i, shape.window)
            own, each = np.float32(1), np.float32(1)
            set_beside(shape, weights, desk, n)
        else:
            n = neighbours(desk, length, i, 1 + below(shape.window, state))
            own, each = mix(shape, weights, desk, n)
        desk.E[:] = 0
        push(desk.X, 0, weights.outputs, desk, groups, shape.width, words)
        if shape.layer != REAL:
            desk.E[shape.units : shape.slot] = 0  # the constant 1 is nobody's
        if words:
            step = shape.slot if shape.join == CONCAT else 0
            answer_words(shape, weights, desk, n, step, each * gain)
        answer(shape, weights, desk, d, own * gain, words)
        if words and i % 16 == 0:
            loss += loss_of(desk, groups)
            terms += 1
    return loss, terms


@kernel(error_model="numpy")
def walk_frozen(
    shape: Shape,
    weights: Weights,
    sampling: Sampling,
    desk: Desk,
    ids: npt.NDArray[np.int32],
    begin: int,
    end: int,
    d: int,
    lr: np.float32,
    state: npt.NDArray[np.uint64],
) -> None:
    """Walk over the places of a new text, whose neighbours are added up and stay as they are.

    Half the time of ``walk_places``: output rows come in sixes, which is all of them at the default
    of five noise words, the step goes straight into the document's row, and as the next place's
    neighbours do not depend on it they are added up (in ``E``) while the sigmoids are on their way.
    """
    row, K, X, E, G = shape.row, shape.negatives, desk.X, desk.E, desk.G
    D, W = weights.documents, weights.outputs
    length = thin(ids, begin, end, sampling.keep, row, state, desk.words)
    draw_noise(sampling.noise, length * K, row, state, desk.noise)
    blocks = -(-(1 + K) // BLOCK)
    T = desk.T[: blocks * BLOCK]
    zero = splat(np.float32(0))
    desk.label[:] = 0
    desk.label[0] = 1
    n = 0
    if length:
        n = add_near(shape, weights, desk, length, 0, state)
    for i in range(length):
        own, each = shares(shape, n)
        output_rows(desk.words[i], desk.noise, i * K, K, float(lr), T, desk.rate)
        scale, part = splat(own), splat(each)
        for q in range(0, row, LANES):
            store(X, q, fma(part, load(E, q), mul(scale, load(D, d + q))))
        for block in range(blocks):
            o, g = block * BLOCK, block * LANES
            o0, o1, o2, o3, o4, o5 = T[o], T[o + 1], T[o + 2], T[o + 3], T[o + 4], T[o + 5]
            m0, m1, m2, m3, m4, m5 = zero, zero, zero, zero, zero, zero
            for q in range(0, row, LANES):
                v = load(X, q)
                m0 = fma(v, load(W, o0 + q), m0)
                m1 = fma(v, load(W, o1 + q), m1)
                m2 = fma(v, load(W, o2 + q), m2)
                m3 = fma(v, load(W, o3 + q), m3)
                m4 = fma(v, load(W, o4 + q), m4)
                m5 = fma(v, load(W, o5 + q), m5)
            s = sigmoid(sums(m0, m1, m2, m3, m4, m5, zero, zero))
            store(G, g, mul(scale, mul(load(desk.rate, g), sub(load(desk.label, g), s))))
            if block == 0 and i + 1 < length:
                n = add_near(shape, weights, desk, length, i + 1, state)
            h0, h1, h2 = splat(G[g]), splat(G[g + 1]), splat(G[g + 2])
            h3, h4, h5 = splat(G[g + 3]), splat(G[g + 4]), splat(G[g + 5])
            for q in range(0, row, LANES):
                e = fma(h0, load(W, o0 + q), load(D, d + q))
                f = mul(h1, load(W, o1 + q))
                e, f = fma(h2, load(W, o2 + q), e), fma(h3, load(W, o3 + q), f)
                e, f = fma(h4, load(W, o4 + q), e), fma(h5, load(W, o5 + q), f)
                store(D, d + q, add(e, f))


@kernel(inline="always")
def add_near(
    shape: Shape, weights: Weights, desk: Desk, length: int, i: int, state: npt.NDArray[np.uint64]
) -> int:
    """Add up the input rows around ``i`` in ``E``; ``words`` says where rows begin."""
    n = neighbours(desk, length, i, 1 + below(shape.window, state))
    for q in range(0, shape.row, LANES):
        total = splat(np.float32(0))
        for a in range(n):
            total = add(total, load(weights.inputs, desk.near[a] + q))
        store(desk.E, q, total)
    return n


@kernel(error_model="numpy", inline="always")
def shares(shape: Shape, n: int) -> tuple[np.float32, np.float32]:
    """Return the shares of the document and of each of ``n`` words in the input."""
    if shape.join == MEAN:
        return np.float32(1) / np.float32(n + 1), np.float32(1) / np.float32(n + 1)
    return np.float32(1), np.float32(1) / np.float32(max(n, 1))


@kernel()
def set_beside(shape: Shape, weights: Weights, desk: Desk, n: int) -> None:
    """Write the rows of ``near`` behind the document's in ``X``; those of -1 are zero."""
    desk.X[shape.slot :] = 0
    for k in range(n):
        if desk.near[k] >= 0:
            c, x = desk.near[k] * shape.slot, (1 + k) * shape.slot
            for q in range(0, shape.slot, LANES):
                store(desk.X, x + q, load(weights.inputs, c + q))


@kernel(error_model="numpy", inline="always")
def mix(shape: Shape, weights: Weights, desk: Desk, n: int) -> tuple[np.float32, np.float32]:
    """Add the rows of ``near`` to the document's in ``X``; return the shares of it and of each."""
    own, each = shares(shape, n)
    scale, part = splat(own), splat(each)
    for q in range(0, shape.slot, LANES):
        total = splat(np.float32(0))
        for a in range(n):
            total = add(total, load(weights.inputs, desk.near[a] * shape.slot + q))
        store(desk.X, q, fma(part, total, mul(scale, load(desk.X, q))))
    return own, each


@kernel(inline="always")
def answer_words(
    shape: Shape, weights: Weights, desk: Desk, n: int, step: int, scale: np.float32
) -> None:
    """Take the step ``scale E`` in the rows of ``near``: its part ``step`` floats on for each."""
    part = splat(scale)
    for a in range(n):
        if desk.near[a] >= 0:
            c, e = desk.near[a] * shape.slot, (1 + a) * step
            for q in range(0, shape.slot, LANES):
                new = fma(part, load(desk.E, e + q), load(weights.inputs, c + q))
                store(weights.inputs, c + q, new)


@kernel()
def surroundings(desk: Desk, length: int, i: int, window: int) -> int:
    """Write the ``window`` words to each side of ``i`` to ``near``, -1 beyond the text's ends."""
    for k in range(2 * window):
        p = i - window + k + (k >= window)
        desk.near[k] = desk.words[p] if 0 <= p < length else -1
    return 2 * window


@kernel(inline="always")
def neighbours(desk: Desk, length: int, i: int, reach: int) -> int:
    """Gather the words up to ``reach`` to each side of ``i`` in ``near``; return how many."""
    n = 0
    for p in range(max(0, i - reach), min(length, i + reach + 1)):
        if p != i:
            desk.near[n] = desk.words[p]
            n += 1
    return n


@kernel(inline="always")
def lay_block(
    shape: Shape, desk: Desk, words: Ids, first: int, n: int, noise: int, lr: np.float32
) -> None:
    """Lay out ``n`` words from ``first`` and the noise of each: a group of eight lanes a kind.

    A noise word that is the word itself, and the lanes after the last word, have rate 0.
    """
    for lane in range(LANES):
        word = words[first + min(lane, n - 1)]
        desk.T[lane] = word * shape.width
        desk.rate[lane] = lr if lane < n else np.float32(0)
        for k in range(shape.negatives):
            place = (1 + k) * LANES + lane
            other = desk.noise[noise + lane * shape.negatives + k] if lane < n else word
            desk.T[place] = other * shape.width
            desk.rate[place] = np.float32(0) if other == word else np.float32(lr)


@kernel(inline="always")
def lay_place(shape: Shape, desk: Desk, i: int, lr: np.float32, groups: int) -> None:
    """Lay out the word at ``i`` and its noise words, one after the other."""
    word = desk.words[i]
    for place in range(groups * LANES):
        other = word
        if 0 < place <= shape.negatives:
            other = desk.noise[i * shape.negatives + place - 1]
        desk.T[place] = other * shape.width
        desk.rate[place] = lr if place == 0 or other != word else np.float32(0)


@kernel(error_model="numpy", inline="always")
def enter(shape: Shape, weights: Weights, desk: Desk, d: int) -> None:
    """Write what the document's layer gives to ``X``, and its sigmoids to ``A``."""
    D, X, A = weights.documents, desk.X, desk.A
    if shape.layer == REAL:
        for q in range(0, shape.row, LANES):
            store(X, q, load(D, d + q))
        return
    if shape.layer == MAPPED:
        M, stride = weights.map, shape.row
        for unit in range(shape.units):
            total = splat(np.float32(0))
            for q in range(0, shape.row, LANES):
                total = fma(load(M, unit * stride + q), load(D, d + q), total)
            store(desk.F, 0, total)
            z = weights.offset[unit]
            for lane in range(LANES):
                z += desk.F[lane]
            A[unit] = z
    else:
        for unit in range(shape.units):
            A[unit] = D[d + unit]
    for unit in range(shape.units):
        X[unit] = np.float32(1) if A[unit] > 0 else np.float32(0)
    for q in range(0, shape.slot, LANES):
        store(A, q, sigmoid(load(A, q)))
    X[shape.units] = 1


@kernel(error_model="numpy", inline="always")
def answer(
    shape: Shape, weights: Weights, desk: Desk, d: int, scale: np.float32, words: bool
) -> None:
    """Take the step ``scale E`` back through the document's layer, as if nothing were rounded."""
    D, E, A, F = weights.documents, desk.E, desk.A, desk.F
    if shape.layer == REAL:
        each = splat(scale)
        for q in range(0, shape.row, LANES):
            store(D, d + q, fma(each, load(E, q), load(D, d + q)))
        return
    for unit in range(shape.units):
        E[unit] *= scale * A[unit] * (np.float32(1) - A[unit])
    if shape.layer == BITS:
        for unit in range(shape.units):
            D[d + unit] += E[unit]
        return
    M, stride = weights.map, shape.row
    F[:] = 0
    for unit in range(shape.units):
        step, m = splat(E[unit]), unit * stride
        for q in range(0, shape.row, LANES):
            w = load(M, m + q)
            store(F, q, fma(step, w, load(F, q)))
            if words:
                store(M, m + q, fma(step, load(D, d + q), w))
        if words:
            weights.offset[unit] += E[unit]
    for q in range(0, shape.row, LANES):
        store(D, d + q, add(load(D, d + q), load(F, q)))


@kernel(error_model="numpy", inline="always")
def push(
    X: Floats1d, x: int, W: Floats1d, desk: Desk, groups: int, width: int, words: bool
) -> None:
    """Push one input towards its words and away from noise: add its own step to ``E``.

    G = rate (label - s(W[T] X));  E += W[T]' G;  and with ``words``, W[T] += G X'. Groups of eight
    output rows are held against eight numbers of the input at a time.
    """
    T, G, E = desk.T, desk.G, desk.E
    zero = splat(np.float32(0))
    for group in range(groups):
        o = group * LANES
        o0, o1, o2, o3 = T[o], T[o + 1], T[o + 2], T[o + 3]
        o4, o5, o6, o7 = T[o + 4], T[o + 5], T[o + 6], T[o + 7]
        m0, m1, m2, m3, m4, m5, m6, m7 = zero, zero, zero, zero, zero, zero, zero, zero
        for q in range(0, width, LANES):
            v = load(X, x + q)
            m0 = fma(v, load(W, o0 + q), m0)
            m1 = fma(v, load(W, o1 + q), m1)
            m2 = fma(v, load(W, o2 + q), m2)
            m3 = fma(v, load(W, o3 + q), m3)
            m4 = fma(v, load(W, o4 + q), m4)
            m5 = fma(v, load(W, o5 + q), m5)
            m6 = fma(v, load(W, o6 + q), m6)
            m7 = fma(v, load(W, o7 + q), m7)
        scores = sums(m0, m1, m2, m3, m4, m5, m6, m7)
        store(G, o, mul(load(desk.rate, o), sub(load(desk.label, o), sigmoid(scores))))
    for group in range(groups):
        o = group * LANES
        o0, o1, o2, o3 = T[o], T[o + 1], T[o + 2], T[o + 3]
        o4, o5, o6, o7 = T[o + 4], T[o + 5], T[o + 6], T[o + 7]
        h0, h1, h2, h3 = splat(G[o]), splat(G[o + 1]), splat(G[o + 2]), splat(G[o + 3])
        h4, h5, h6, h7 = splat(G[o + 4]), splat(G[o + 5]), splat(G[o + 6]), splat(G[o + 7])
        if words:
            for q in range(0, width, LANES):
                v, e = load(X, x + q), load(E, q)
                w = load(W, o0 + q)  # read after the store before: a row may stand in T twice
                e = fma(h0, w, e)
                store(W, o0 + q, fma(h0, v, w))
                w = load(W, o1 + q)
                e = fma(h1, w, e)
                store(W, o1 + q, fma(h1, v, w))
                w = load(W, o2 + q)
                e = fma(h2, w, e)
                store(W, o2 + q, fma(h2, v, w))
                w = load(W, o3 + q)
                e = fma(h3, w, e)
                store(W, o3 + q, fma(h3, v, w))
                w = load(W, o4 + q)
                e = fma(h4, w, e)
                store(W, o4 + q, fma(h4, v, w))
                w = load(W, o5 + q)
                e = fma(h5, w, e)
                store(W, o5 + q, fma(h5, v, w))
                w = load(W, o6 + q)
                e = fma(h6, w, e)
                store(W, o6 + q, fma(h6, v, w))
                w = load(W, o7 + q)
                e = fma(h7, w, e)
                store(W, o7 + q, fma(h7, v, w))
                store(E, q, e)
        else:
            for q in range(0, width, LANES):
                e = fma(h0, load(W, o0 + q), load(E, q))
                f = mul(h1, load(W, o1 + q))
                e, f = fma(h2, load(W, o2 + q), e), fma(h3, load(W, o3 + q), f)
                e, f = fma(h4, load(W, o4 + q), e), fma(h5, load(W, o5 + q), f)
                e, f = fma(h6, load(W, o6 + q), e), fma(h7, load(W, o7 + q), f)
                store(E, q, add(e, f))


@kernel()
def loss_of(desk: Desk, groups: int) -> float:
    """Return the loss of the last push from its gradients: -log(1 - |error|), summed."""
    loss = 0.0
    for place in range(groups * LANES):
        if desk.rate[place] > 0:
            loss -= np.log(max(1.0 - abs(desk.G[place]) / desk.rate[place], 1e-7))
    return loss
