"""The trainers of fixed windows written out literally: float64, one window and word at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from tokenspace import rng
from tokenspace.corpus import Corpus, IdStream
from tokenspace.sgd import keep_thresholds, noise_table
from tokenspace.table import EmbeddingTable

Window = tuple[list[int], int, list[int]]
"""The words around a position (the padding is None, here the number V), the centre, the noise."""
Score = Callable[..., float]


def windows(
    stream: IdStream,
    window: int,
    negatives: int,
    sample: float,
    seed: int,
    epoch: int,
    power: float,
) -> list[Window]:
    """Return the windows of a corpus of one chunk, with the draws that the trainer makes."""
    state = rng.derive(seed, "draws", epoch, 0)

    def draw() -> int:
        nonlocal state
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        return state >> 32

    keep, noise = keep_thresholds(stream.counts, sample), noise_table(stream.counts, power)
    pad = len(stream.vocab)
    found: list[tuple[list[int], int]] = []
    for first, last in zip(stream.offsets[:-1], stream.offsets[1:], strict=True):
        text = [int(i) for i in stream.ids[first:last] if draw() <= keep[i]]
        if len(text) == 1:
            continue
        padded = [pad] * window + text + [pad] * window
        for i, centre in enumerate(text):
            around = padded[i : i + window] + padded[i + window + 1 : i + 2 * window + 1]
            found.append((around, centre))
    groups = [[draw() for _ in range(negatives)] for _ in range(-(-len(found) // 8))]
    return [
        (around, centre, [int(noise[number * len(noise) >> 32]) for number in groups[place // 8]])
        for place, (around, centre) in enumerate(found)
    ]


def batches(found: list[Window]) -> Iterator[list[Window]]:
    """Cut windows into batches of 256."""
    for start in range(0, len(found), 256):
        yield found[start : start + 256]


def counted(window: Window) -> list[int]:
    """Return the noise words of a window that are not its centre."""
    return [word for word in window[2] if word != window[1]]


class Learned:
    """A matrix under AdaGrad: gradients are added up, then one step is taken."""

    def __init__(self, values: np.ndarray, lr: float) -> None:
        self.values = values.astype(np.float64)
        self.squares = np.full(values.shape, 1e-8)
        self.gradient = np.zeros(values.shape)
        self.lr = lr

    def step(self) -> None:
        self.squares += self.gradient**2
        self.values -= self.lr * self.gradient / np.sqrt(self.squares)
        self.gradient[:] = 0


def start(seed: int, name: str, shape: tuple[int, int], scale: int, lr: float) -> Learned:
    """Return uniform numbers between -1/2 and 1/2, over ``scale``."""
    return Learned((rng.stream(seed, name).random(shape, np.float32) - 0.5) / scale, lr)


def sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


def made_up(seed: int, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    """Return float64 arrays to take gradients by."""
    draw = np.random.default_rng(seed)
    return [draw.normal(0, 0.7, shape) for shape in shapes]


def some_weights(seed: int, height: int, negatives: int) -> np.ndarray:
    """Return weights: a fifth of the noise words, and the last two windows, do not count."""
    weights = (np.random.default_rng(seed).random((height, 1 + negatives)) < 0.8).astype(float)
    weights[:, 0] = 1
    weights[-2:] = 0
    return weights


def placed() -> Corpus:
    """Return texts in which x stands between l and r, and y between r and l.

    A bag of neighbours cannot tell x and y apart. There are four words of each kind.
    """
    draw = np.random.default_rng(0)
    texts = [f"l{i} x{j} r{k}" for i, j, k in draw.integers(4, size=(1500, 3))]
    texts += [f"r{i} y{j} l{k}" for i, j, k in draw.integers(4, size=(1500, 3))]
    return Corpus(texts, split="whitespace")


def told_apart(table: EmbeddingTable) -> float:
    """Return by how much two x are nearer each other than x and y are, on the average."""
    x, y = (table.unit[[table.vocab.ids[f"{name}{i}"] for i in range(4)]] for name in "xy")
    return float((x @ x.T)[~np.eye(4, dtype=bool)].mean() - (x @ y.T).mean())
