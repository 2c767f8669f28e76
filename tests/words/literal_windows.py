"""The window trainers written out literally: Python integers, float64, one position at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from tokenspace.words._tree import huffman

Position = tuple[int, list[int], list[int]]


@dataclass
class Setting:
    """A tiny training problem: two matrices, a text in ids, and the kernel's other arguments."""

    size: int = 40
    dim: int = 16
    window: int = 3
    negatives: int = 5
    lr: float = 0.05
    lengths: tuple[int, ...] = (9, 1, 14, 2)
    seed: int = 12345
    keep: float = 0.8
    Win: np.ndarray = field(init=False)
    Wout: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        draw = np.random.default_rng(self.size + self.dim)
        self.Win = draw.normal(0, 0.5, (self.size, self.dim)).astype(np.float32)
        self.Wout = draw.normal(0, 0.5, (self.size, self.dim)).astype(np.float32)
        self.offsets = np.cumsum([0, *self.lengths]).astype(np.int64)
        self.ids = draw.integers(0, self.size, self.offsets[-1]).astype(np.int32)
        self.thresholds = np.full(self.size, int(self.keep * 0xFFFFFFFF), np.uint32)
        self.noise = draw.integers(0, self.size, 256).astype(np.int32)

    def run(self, kernel, *options: object) -> tuple[np.ndarray, np.ndarray, float, int]:
        """Run the kernel on copies of the matrices."""
        Win, Wout = self.Win.copy(), self.Wout.copy()
        loss, terms = kernel(
            Win.reshape(-1), Wout.reshape(-1), self.dim, self.ids, self.offsets, 0,
            len(self.lengths), self.thresholds, self.noise, np.float32(self.lr), self.seed,
            self.window, self.negatives, *options,
        )  # fmt: skip
        return Win, Wout, loss, terms

    def positions(self) -> Iterator[Position]:
        """Yield (centre, neighbours, noise words) with the draws that the kernel makes."""
        state = self.seed

        def draw() -> int:
            nonlocal state
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            return state >> 32

        for first, last in zip(self.offsets[:-1], self.offsets[1:], strict=True):
            text = [int(i) for i in self.ids[first:last] if draw() <= self.thresholds[i]]
            noise = [int(self.noise[draw() * len(self.noise) >> 32]) for _ in text * self.negatives]
            for i, centre in enumerate(text):
                b = 1 + (draw() * self.window >> 32)
                near = text[max(0, i - b) : i] + text[i + 1 : i + 1 + b]
                if near:
                    yield centre, near, noise[i * self.negatives : (i + 1) * self.negatives]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def targets(centre: int, noise: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ids, labels and whether each counts: a noise word that is the centre does not."""
    ids = np.array([centre, *noise])
    labels = np.array([1.0] + [0.0] * len(noise))
    return ids, labels, (ids != centre) | (labels == 1)


class Ways:
    """A tree over the words of a setting, and the targets of a centre that lie on it."""

    def __init__(self, setting: Setting) -> None:
        self.tree = huffman(np.bincount(setting.ids, minlength=setting.size))

    def targets(self, centre: int, noise: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return inner nodes, labels 1 - code, and that all count."""
        assert not noise
        way = self.tree.steps[self.tree.starts[centre] : self.tree.starts[centre + 1]].astype(int)
        return way // 2, 1.0 - way % 2, np.ones(len(way))


def gradient(loss, *matrices: np.ndarray) -> list[np.ndarray]:
    """Return central finite differences of ``loss(*matrices)`` by every entry."""
    found = []
    for matrix in matrices:
        slope = np.zeros_like(matrix)
        for place in np.ndindex(matrix.shape):
            value = matrix[place]
            matrix[place] = value + 1e-5
            high = loss(*matrices)
            matrix[place] = value - 1e-5
            slope[place] = (high - loss(*matrices)) / 2e-5
            matrix[place] = value
        found.append(slope)
    return found
