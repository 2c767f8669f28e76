"""The paragraph vectors written out literally: Python integers, float64, one step at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tokenspace.encode import _paragraph
from tokenspace.encode._paragraph import Sampling, Weights

Matrices = dict[str, np.ndarray]
Step = tuple[str, int, list[tuple[int, int]], list[tuple[int, float]]]
"""(kind, input row, (slot, word) of its neighbours, (output word, label) of what it predicts)."""

FULL = 0xFFFFFFFF


@dataclass
class Setting:
    """A tiny training problem: the network, its matrices, and texts in ids.

    The vocabulary is so small that words stand twice in a step, and that noise hits its own word.
    """

    layer: str = "real"
    join: str = "alone"
    dim: int = 12
    units: int = 12
    window: int = 0
    negatives: int = 5
    skip: int = 0
    lr: float = 0.01
    lengths: tuple[int, ...] = (9, 1, 0, 21, 2)
    size: int = 40
    keep: float = 0.8
    seed: int = 12345
    matrices: Matrices = field(init=False)

    def __post_init__(self) -> None:
        self.shape = _paragraph.shape(
            layer=self.layer, join=self.join, dim=self.dim, units=self.units, window=self.window,
            negatives=self.negatives, skip=self.skip,
        )  # fmt: skip
        self.draw = np.random.default_rng(self.dim + self.window)
        self.offsets = np.cumsum([0, *self.lengths]).astype(np.int64)
        self.ids = self.draw.integers(0, self.size, self.offsets[-1]).astype(np.int32)
        self.sampling = Sampling(
            np.full(self.size, int(self.keep * FULL), np.uint32),
            self.draw.integers(0, self.size, 256).astype(np.int32),
        )
        used = self.units + (self.layer != "real")
        slots = self.shape.width // self.shape.slot
        self.matrices = {
            "documents": self._random(len(self.lengths), 1, self.dim, self.shape.row),
            "inputs": self._random(self.size, 1, self.units, self.shape.slot),
            "outputs": self._random(self.size, slots, used, self.shape.slot),
            "map": self._random(self.units, 1, self.dim, self.shape.row),
            "offset": self._random(self.units, 1, 1, 1),
        }

    def _random(self, height: int, slots: int, used: int, width: int) -> np.ndarray:
        rows = np.zeros((height, slots, width), np.float32)
        rows[:, :, :used] = self.draw.normal(0, 0.4, (height, slots, used))
        return rows.reshape(height, -1)

    def run(self) -> tuple[Matrices, float, int]:
        """Train once with the kernel, on copies of the matrices."""
        copies = {name: matrix.copy() for name, matrix in self.matrices.items()}
        weights = Weights(**{name: matrix.reshape(-1) for name, matrix in copies.items()})
        loss, terms = _paragraph.train_documents(
            self.shape, weights, self.sampling, self.ids, self.offsets, 0, len(self.lengths),
            np.float32(self.lr), self.seed,
        )  # fmt: skip
        return copies, loss, terms

    def infer(self, passes: int, **more: Any) -> np.ndarray:
        """Fit rows with the kernel; the documents of the matrices play no part."""
        weights = Weights(**{name: matrix.reshape(-1) for name, matrix in self.matrices.items()})
        given = {"lr": self.lr, "threads": 1, "seed": self.seed, **more}
        return _paragraph.infer(
            self.shape, weights, self.sampling, self.ids, self.offsets, passes=passes, **given
        )

    def steps(
        self, document: int, draw: Callable[[], int], *, words: bool = True
    ) -> Iterator[Step]:
        """Yield the steps of one walk over a document, with the draws that the kernel makes."""
        begin, end = self.offsets[document], self.offsets[document + 1]
        text = [int(i) for i in self.ids[begin:end] if draw() <= self.sampling.keep[i]]
        K = self.negatives
        noise = self._noise(len(text) * K, draw)

        def targets(words: list[int], drawn: list[int]) -> list[tuple[int, float]]:
            found = [(word, 1.0) for word in words]
            for i, word in enumerate(words):
                found += [(n, 0.0) for n in drawn[i * K : (i + 1) * K] if n != word]
            return found

        if self.join == "alone":
            for i in range(0, len(text), 8):
                yield "document", document, [], targets(text[i : i + 8], noise[i * K : (i + 8) * K])
            for i, word in enumerate(text if self.skip and words else []):
                b = 1 + (draw() * self.skip >> 32)
                near = text[max(0, i - b) : i] + text[i + 1 : i + 1 + b]
                drawn = self._noise(len(near) * K, draw)
                for j in range(0, len(near), 8):
                    yield "word", word, [], targets(near[j : j + 8], drawn[j * K : (j + 8) * K])
            return
        for i, word in enumerate(text):
            b = self.window if self.join == "concat" else 1 + (draw() * self.window >> 32)
            around = [i + k for k in range(-b, b + 1) if k]
            near = [(slot, text[p]) for slot, p in enumerate(around) if 0 <= p < len(text)]
            yield "document", document, near, targets([word], noise[i * K : (i + 1) * K])

    def _noise(self, count: int, draw: Callable[[], int]) -> list[int]:
        noise = self.sampling.noise
        return [int(noise[draw() * len(noise) >> 32]) for _ in range(count)]

    def every_step(self) -> Iterator[Step]:
        """Yield the steps of a walk over all documents."""
        draw = lcg(self.seed)
        for document in range(len(self.lengths)):
            yield from self.steps(document, draw)

    def hidden(self, m: Matrices, step: Step, base: Matrices | None = None) -> np.ndarray:
        """Return the input of a step; with ``base``, bits are rounded there and sloped here."""
        kind, row, near, _ = step
        if kind == "word":
            return m["inputs"][row]
        h = self.layer_of(m, row)
        if base is not None and self.layer != "real":
            h = rounded(self.layer_of(base, row)) + h - self.layer_of(base, row)
        elif self.layer != "real":
            h = rounded(h)
        if self.layer != "real":
            h = np.concatenate([h, [1.0], np.zeros(self.shape.slot - self.units - 1)])
        words = [m["inputs"][word] for _, word in near]
        if self.join == "mean":
            return (h + sum(words)) / (1 + len(words))
        if self.join == "sum":
            return h + sum(words) / max(1, len(words))
        if self.join == "concat":
            parts = [np.zeros(self.shape.slot) for _ in range(2 * self.window)]
            for slot, word in near:
                parts[slot] = m["inputs"][word]
            return np.concatenate([h, *parts])
        return h

    def layer_of(self, m: Matrices, row: int) -> np.ndarray:
        """Return the row, or the sigmoids (units,) that stand for it before rounding."""
        d = m["documents"][row]
        if self.layer == "real":
            return d
        if self.layer == "mapped":
            d = m["map"] @ d + m["offset"][:, 0]
        return sigmoid(d[: self.units])

    def loss(self, m: Matrices, step: Step, base: Matrices | None = None) -> float:
        h = self.hidden(m, step, base)
        signed = [(m["outputs"][word] @ h) * (2 * label - 1) for word, label in step[3]]
        return -float(np.log(sigmoid(np.array(signed))).sum())

    def literal(self) -> Matrices:
        """Apply the equations of the pages, step by step."""
        m = {name: matrix.astype(np.float64) for name, matrix in self.matrices.items()}
        for step in self.every_step():
            self.take(m, step, self.lr)
        return m

    def take(self, m: Matrices, step: Step, lr: float, *, words: bool = True) -> None:
        """Take one step; without ``words`` the document's row alone moves."""
        kind, row, near, targets = step
        T = [word for word, _ in targets]
        labels = np.array([label for _, label in targets])
        h = self.hidden(m, step)
        g = lr * (labels - sigmoid(m["outputs"][T] @ h))
        e = np.zeros(len(h))
        for word, part in zip(T, g, strict=True):  # a word that stands here twice sees its update
            e += part * m["outputs"][word]
            if words:
                m["outputs"][word] += part * h
        if kind == "word":
            m["inputs"][row] += e
            return
        slot = self.shape.slot
        share = 1 / (1 + len(near)) if self.join == "mean" else 1.0
        for place, word in near if words else []:
            part = e[(1 + place) * slot :][:slot] if self.join == "concat" else e.copy()
            part[self.units :] = 0
            part *= self.gain / {"mean": 1 + len(near), "sum": len(near)}.get(self.join, 1)
            m["inputs"][word] += part
        if self.layer == "real":
            m["documents"][row] += share * e[:slot]
            return
        a = self.layer_of(m, row)
        e = self.gain * e[: self.units] * a * (1 - a)
        if self.layer == "bits":
            m["documents"][row, : self.units] += e
            return
        d = m["documents"][row].copy()
        m["documents"][row] += e @ m["map"]
        if words:
            m["map"] += np.outer(e, d)
            m["offset"][:, 0] += e

    def literal_infer(self, document: int, passes: int) -> np.ndarray:
        """Fit one document's row: the hash, the first row, and the passes."""
        words = self.ids[self.offsets[document] : self.offsets[document + 1]]
        draw = lcg(fingerprint([int(i) for i in words], self.origin))
        m = {name: matrix.astype(np.float64) for name, matrix in self.matrices.items()}
        m["documents"][document] = 0
        for q in range(self.dim):
            m["documents"][document, q] = (draw() / 2**32 - 0.5) / self.dim
        for p in range(passes):
            for step in self.steps(document, draw, words=False):
                self.take(m, step, max(self.lr * (1 - p / passes), self.lr * 1e-4), words=False)
        return m["documents"][document]

    @property
    def gain(self) -> float:
        """How many times faster than outputs the input side moves: a code of b bits, b times."""
        return 1.0 if self.layer == "real" else float(self.units)

    @property
    def origin(self) -> int:
        """What the seed means to the draws of new documents."""
        from tokenspace import rng

        return rng.derive(self.seed, "documents")


def lcg(state: int) -> Callable[[], int]:
    """Return the generator of the kernels: Knuth's MMIX constants, the high 32 bits."""

    def draw() -> int:
        nonlocal state
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        return state >> 32

    return draw


def fingerprint(ids: list[int], seed: int) -> int:
    """Return FNV-1a of the ids, mixed by the end of splitmix64."""
    h = 14695981039346656037 ^ seed
    for i in ids:
        h = (h ^ i) * 1099511628211 % 2**64
    h = (h ^ h >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    h = (h ^ h >> 27) * 0x94D049BB133111EB % 2**64
    return h ^ h >> 31


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def rounded(a: np.ndarray) -> np.ndarray:
    return (a > 0.5).astype(np.float64)


def slope(setting: Setting, step: Step, name: str, row: int) -> np.ndarray:
    """Return finite differences of a step's loss by one row of a matrix, as if unrounded."""
    m = {key: matrix.astype(np.float64) for key, matrix in setting.matrices.items()}
    base = {key: matrix.copy() for key, matrix in m.items()}
    found = np.zeros(m[name].shape[1])
    for q in range(len(found)):
        value = m[name][row, q]
        m[name][row, q] = value + 1e-5
        high = setting.loss(m, step, base)
        m[name][row, q] = value - 1e-5
        found[q] = (high - setting.loss(m, step, base)) / 2e-5
        m[name][row, q] = value
    return found
