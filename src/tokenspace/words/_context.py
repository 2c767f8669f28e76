"""What the trainers share that read a window of fixed size as one long vector.

Windows with padding, noise words, batches, the loss against noise, and AdaGrad; each trainer keeps
what it makes of the window.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tokenspace import rng
from tokenspace.arrays import Floats2d, Ids, Ids2d
from tokenspace.corpus import IdStream
from tokenspace.jit import kernel
from tokenspace.progress import Meter
from tokenspace.sgd import (
    CHUNK,
    chunks,
    draw_noise,
    keep_thresholds,
    longest,
    noise_table,
    thin,
)

if TYPE_CHECKING:
    from tokenspace.words.lbl import LBL
    from tokenspace.words.nnlm import NNLM

__all__ = [
    "GROUP",
    "AdaGrad",
    "Array",
    "Batch",
    "against_noise",
    "grouped",
    "predict",
    "train",
    "uniform",
]

BATCH = 256  # windows that are trained together: enough for matrix products to be worth it
GROUP = 8  # neighbouring windows that share their noise words
START = 1e-8  # of the sums of squares

Array = npt.NDArray[Any]


class Batch(NamedTuple):
    """B windows, B a multiple of :data:`GROUP`.

    ``contexts`` (B, 2 window) are the words around each position from left to right, with the
    number of words in the vocabulary where the text ends; ``centres`` (B,) the words that stand
    there; ``noise`` (B / GROUP, K) the noise words of each group of windows. ``weights``
    (B, 1 + K) float32 are 1 where a centre or a noise word counts: not where a noise word is the
    centre, and nowhere in the windows that fill up the last group.
    """

    contexts: Ids2d
    centres: Ids
    noise: Ids2d
    weights: Floats2d


class AdaGrad:
    """A matrix that is learned, and for each of its numbers the sum of squares of its gradients.

    A step subtracts ``lr g / sqrt(s)`` with ``s += g^2``, ``g`` the gradient of a whole batch.
    """

    def __init__(self, values: Floats2d) -> None:
        self.values = values
        self.squares = np.full(values.shape, START, np.float32)
        self._place = np.full(len(values), -1, np.int64)

    def step(self, gradient: Array, lr: float) -> None:
        """Move the whole matrix."""
        self.squares += gradient * gradient
        self.values -= np.float32(lr) * gradient / np.sqrt(self.squares)

    def step_rows(self, rows: Ids, gradients: Floats2d, lr: float) -> None:
        """Move some rows, by the sum of the ``gradients`` of each where it comes several times."""
        _step_rows(self.values, self.squares, self._place, rows, gradients, lr)


@kernel(error_model="numpy")
def _step_rows(
    values: Floats2d, squares: Floats2d, place: Ids, rows: Ids, gradients: Floats2d, lr: float
) -> None:
    """Sum the gradients by row, and step; ``place`` is all -1 before and after."""
    width, rate = values.shape[1], np.float32(lr)
    sums = np.empty((len(rows), width), np.float32)
    order = np.empty(len(rows), np.int64)
    count = 0
    for p in range(len(rows)):
        k = place[rows[p]]
        if k < 0:
            order[count] = rows[p]
            place[rows[p]] = count
            for q in range(width):
                sums[count, q] = gradients[p, q]
            count += 1
        else:
            for q in range(width):
                sums[k, q] += gradients[p, q]
    for k in range(count):
        row = order[k]
        place[row] = -1
        for q in range(width):
            g = sums[k, q]
            square = squares[row, q] + g * g
            squares[row, q] = square
            values[row, q] -= rate * g / np.sqrt(square)


def uniform(seed: int, name: str, rows: int, width: int, scale: int) -> AdaGrad:
    """Return a matrix of (``rows``, ``width``) numbers between -1/2 and 1/2, over ``scale``."""
    draw = rng.stream(seed, name).random((rows, width), np.float32)
    return AdaGrad((draw - np.float32(0.5)) / np.float32(scale))


def grouped(rows: Array) -> Array:
    """Return (B, ...) as (B / GROUP, GROUP, ...)."""
    return rows.reshape(-1, GROUP, *rows.shape[1:])


def against_noise(
    Z: Array, U: Array, N: Array, weights: Array
) -> tuple[float, Array, Array, Array]:
    """Return the loss of predicting each centre against noise, and its gradients.

    With the rows z of ``Z`` (B, D), u of ``U`` (B, D) and n_k of ``N`` (B / GROUP, K, D) of the
    window's group, the loss is the sum over windows of -log s(z . u) - sum_k log s(-z . n_k), each
    term with its weight. The gradients are those by ``Z``, ``U`` and ``N``.
    """
    from scipy.special import expit

    scores = np.empty_like(weights, dtype=Z.dtype)
    np.einsum("bd,bd->b", Z, U, out=scores[:, 0])
    scores[:, 1:] = (grouped(Z) @ N.swapaxes(1, 2)).reshape(len(Z), -1)
    G = expit(scores)
    G[:, 0] -= 1
    G *= weights
    own, other = G[:, :1], grouped(G[:, 1:])
    dZ = own * U
    dZ += (other @ N).reshape(Z.shape)
    scores[:, 0] *= -1  # the loss of a score is log(1 + e^score), that of the centre's with minus
    loss = float((np.logaddexp(0, scores) * weights).sum(dtype=np.float64))
    return loss, dZ, own * Z, other.swapaxes(1, 2) @ grouped(Z)


def train(
    step: Callable[[Batch], float],
    stream: IdStream,
    *,
    label: str,
    window: int,
    negatives: int,
    epochs: int,
    sample: float,
    seed: int,
    power: float = 0.75,
) -> float:
    """Call ``step`` on all batches of all epochs, and return the mean loss of the last epoch.

    ``step`` returns the loss of its batch; the mean is over windows. Noise words are drawn by
    their counts to the ``power``. A window without any neighbour is left out.
    """
    from threadpoolctl import threadpool_limits

    keep = keep_thresholds(stream.counts, sample)
    noise = noise_table(stream.counts, power)
    ranges = chunks(stream.offsets, CHUNK)
    loss, count = 0.0, 0
    with Meter(label, epochs * len(stream.ids)) as meter, threadpool_limits(1, "blas"):
        for epoch in range(epochs):
            loss, count = 0.0, 0
            for index, (first, last) in enumerate(ranges):
                words = int(stream.offsets[last] - stream.offsets[first])
                height = -(-words // GROUP) * GROUP
                contexts = np.full((height, 2 * window), len(stream.vocab), np.int64)
                centres = np.zeros(height, np.int64)
                drawn = np.zeros((height // GROUP, negatives), np.int64)
                found = _windows(
                    stream.ids, stream.offsets, first, last, keep, noise,
                    rng.derive(seed, "draws", epoch, index), window, contexts, centres,
                    drawn.reshape(-1), negatives,
                )  # fmt: skip
                for start in range(0, found, BATCH):
                    part = slice(start, min(start + BATCH, -(-found // GROUP) * GROUP))
                    groups = slice(part.start // GROUP, part.stop // GROUP)
                    loss += step(
                        _batch(contexts[part], centres[part], drawn[groups], found - start)
                    )
                count += found
                meter.add(words)
    return loss / max(count, 1)


def predict(
    recipe: LBL | NNLM,
    stream: IdStream,
    gradients: Callable[
        [Array, Array, Array, Array, Array], tuple[float, Array, Array, Array, Array]
    ],
) -> tuple[Floats2d, float]:
    """Learn ``Win``, ``H`` and ``Wout``; return the words' rows of ``Win``, and the last loss.

    ``gradients(X, H, U, N, weights)`` returns the loss of a batch and its gradients by the first
    four: the windows (B, 2 window dim), H (hidden, 2 window dim), and the output rows of the
    centres (B, hidden) and of the noise words (B / GROUP, K, hidden).
    """
    size, dim, lr = len(stream.vocab), recipe.dim, recipe.lr
    Win = uniform(recipe.seed, "vectors", size + 1, dim, dim)  # the last one is the padding
    H = uniform(recipe.seed, "hidden", recipe.hidden, 2 * recipe.window * dim, recipe.hidden)
    Wout = AdaGrad(np.zeros((size, recipe.hidden), np.float32))

    def step(batch: Batch) -> float:
        X = Win.values[batch.contexts].reshape(len(batch.centres), -1)
        U, N = Wout.values[batch.centres], Wout.values[batch.noise]
        loss, dX, dH, dU, dN = gradients(X, H.values, U, N, batch.weights)
        Win.step_rows(batch.contexts.reshape(-1), dX.reshape(-1, dim), lr)
        H.step(dH, lr)
        rows = np.concatenate([batch.centres, batch.noise.reshape(-1)])
        Wout.step_rows(rows, np.concatenate([dU, dN.reshape(-1, recipe.hidden)]), lr)
        return loss

    loss = train(
        step,
        stream,
        label=recipe.name,
        window=recipe.window,
        negatives=recipe.negatives,
        epochs=recipe.epochs,
        sample=recipe.sample,
        seed=recipe.seed,
    )
    return Win.values[:size], loss


def _batch(contexts: Ids2d, centres: Ids, noise: Ids2d, found: int) -> Batch:
    """Weigh the words of the first ``found`` windows; those after them only fill the group."""
    weights = np.ones((len(centres), 1 + noise.shape[1]), np.float32)
    weights[:, 1:] = np.repeat(noise, GROUP, axis=0) != centres[:, None]
    weights[found:] = 0
    return Batch(contexts, centres, noise, weights)


@kernel()
def _windows(
    ids: npt.NDArray[np.int32],
    offsets: Ids,
    first: int,
    last: int,
    keep: npt.NDArray[np.uint32],
    noise: npt.NDArray[np.int32],
    seed: int,
    window: int,
    contexts: Ids2d,
    centres: Ids,
    drawn: Ids,
    negatives: int,
) -> int:
    """Write the windows of the sentences [first, last) and their noise; return how many."""
    state = np.array([seed], np.uint64)
    rows = np.zeros(longest(offsets, first, last), np.int64)
    count = 0
    for sentence in range(first, last):
        length = thin(ids, offsets[sentence], offsets[sentence + 1], keep, 1, state, rows)
        if length < 2:
            continue
        for i in range(length):
            for p in range(max(0, i - window), min(length, i + window + 1)):
                if p != i:
                    contexts[count, p - i + window - (p > i)] = rows[p]
            centres[count] = rows[i]
            count += 1
    draw_noise(noise, (count + GROUP - 1) // GROUP * negatives, 1, state, drawn)
    return count
