"""A text encoder that also tells the class of a text, and by which words: the result of `rcnn`."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats2d, Ragged
from tokenspace.encode.static import flat_ids, pieces, text_vocabulary
from tokenspace.errors import FormatError, InputError
from tokenspace.io import read_tensors, replacing, save_tensors
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary

if TYPE_CHECKING:
    from tokenspace.encode.rcnn_net import Net, Read

__all__ = ["DocumentClassifier", "Key"]

log = logging.getLogger(__name__)

FILE = "classifier.json"
"""The file by which a directory of such an encoder is known."""

_MEND = "train it again, or copy the whole directory"


class Key(NamedTuple):
    """A word with its neighbours, ``text[start:end]``, and how many units took it for the text."""

    text: str
    start: int
    end: int
    units: int


@dataclass(frozen=True, eq=False)
class DocumentClassifier:
    """Vectors of texts, and the classes that they stand for. Immutable.

    ``vocab`` carries a tokenizer; ``labels`` are the classes; ``weights`` are the network's: the
    rows ``E.weight`` (V, D); of the scans from the left and from the right ``W`` (2, C, C), ``Ws``
    (2, C, D) and the contexts ``edges`` (2, C) that they begin with; the map to a word's state,
    ``mix.weight`` (H, D + 2 C) and ``mix.bias``; and that to the classes, ``out.weight`` (L, H) and
    ``out.bias``. ``metrics`` are figures of the training.
    """

    vocab: Vocabulary
    labels: tuple[str, ...]
    weights: Mapping[str, npt.NDArray[np.float32]]
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def dim(self) -> int:
        """Width H of the vectors."""
        return int(self.weights["mix.weight"].shape[0])

    def classify(self, texts: Sequence[str], *, batch_size: int = 32) -> list[str]:
        """Return the most probable label of every text.

        A text without words is judged by the bias alone, and a warning is logged that counts them.
        """
        chances = self.probabilities(texts, batch_size=batch_size)
        return [self.labels[index] for index in chances.argmax(axis=1).tolist()]

    def probabilities(self, texts: Sequence[str], *, batch_size: int = 32) -> Floats2d:
        """Return how probable each of ``labels`` is, (N, L) float32; rows sum to 1."""
        return self._chances(self.encode(texts, batch_size=batch_size))

    def encode(self, texts: Sequence[str], *, batch_size: int = 32) -> Floats2d:
        """Return z, the largest value of every unit over a text's words, (N, H) float32.

        A text without words has the zero vector. ``batch_size`` bounds the memory and changes
        nothing but the rounding.
        """
        vectors = np.zeros((len(texts), self.dim), np.float32)
        empty = 0
        for found in self._read(texts, batch_size):
            vectors[found.numbers] = found.z
            empty += int((found.lengths == 0).sum())
        if empty:
            log.warning("%d of %d texts have no word; their vectors are zero", empty, len(texts))
        return vectors

    def encode_tokens(self, texts: Sequence[str], *, batch_size: int = 32) -> Ragged:
        """Return y, the states of every text's tokens in their contexts, N matrices (T_i, H).

        Row t belongs to the t-th id of ``vocab.encode(text)``. Their maximum is the text's vector.
        """
        return self.encode_both(texts, batch_size=batch_size)[1]

    def encode_both(self, texts: Sequence[str], *, batch_size: int = 32) -> tuple[Floats2d, Ragged]:
        """Return what ``encode`` and ``encode_tokens`` return."""
        vectors = np.zeros((len(texts), self.dim), np.float32)
        matrices: list[Floats2d] = [np.zeros((0, self.dim), np.float32)] * len(texts)
        for found in self._read(texts, batch_size):
            vectors[found.numbers] = found.z
            for row, number in enumerate(found.numbers.tolist()):
                matrices[number] = found.states[row, : found.lengths[row]].copy()
        offsets = np.zeros(len(texts) + 1, np.int64)
        np.cumsum([len(matrix) for matrix in matrices], out=offsets[1:])
        flat = np.concatenate([np.zeros((0, self.dim), np.float32), *matrices])
        return vectors, Ragged(flat, offsets)

    def keys(self, texts: Sequence[str], *, most: int = 5, batch_size: int = 32) -> list[list[Key]]:
        """Return the words that made each text's vector, each with one word to either side.

        Every unit takes its value from one word; first come the words that most units took, and of
        these the earlier one. At most ``most`` a text.
        """
        if most < 1:
            raise InputError(f"most={most} is below 1")
        counts: list[npt.NDArray[np.int64]] = [np.zeros(0, np.int64)] * len(texts)
        for found in self._read(texts, batch_size):
            for row, number in enumerate(found.numbers.tolist()):
                if length := int(found.lengths[row]):
                    counts[number] = np.bincount(found.places[row], minlength=length)
        every = self.tokens(texts)
        return [
            _keys(text, spans, units, most)
            for text, spans, units in zip(texts, every, counts, strict=True)
        ]

    def tokens(self, texts: Sequence[str]) -> list[list[tuple[str, int, int]]]:
        """Return (surface, start, end) for every row of ``encode_tokens``, by characters."""
        return pieces(self.vocab, texts)

    @property
    def table(self) -> EmbeddingTable:
        """The rows of the tokens."""
        return EmbeddingTable(self.vocab, self.weights["E.weight"])

    def _chances(self, z: Floats2d) -> Floats2d:
        logits = z.astype(np.float64) @ self.weights["out.weight"].T + self.weights["out.bias"]
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(raised / raised.sum(axis=1, keepdims=True), np.float32)

    @cached_property
    def _net(self) -> Net:
        from tokenspace.encode.rcnn_net import rebuilt

        return rebuilt(self.weights)

    def _read(self, texts: Sequence[str], batch_size: int) -> Iterator[Read]:
        from tokenspace.encode.rcnn_net import read

        if isinstance(texts, str):
            raise InputError("a list of texts is needed, not one string", hint="write [text]")
        if batch_size < 1:
            raise InputError(f"batch_size={batch_size} is below 1")
        yield from read(self._net, *flat_ids(self.vocab, texts), batch_size)

    def save(self, path: str | Path) -> None:
        """Write the directory ``path``: the weights, the tokenizer, and the labels."""
        tokenizer = self.vocab.tokenizer
        assert tokenizer is not None
        described = {"labels": list(self.labels), "metrics": dict(self.metrics)}
        with replacing(path) as partial:
            partial.mkdir()
            save_tensors(partial / "classifier.safetensors", self.weights)
            (partial / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
            (partial / FILE).write_text(
                json.dumps(described, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
            )

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Open what :meth:`save` wrote.

        Raises :class:`FormatError` where a file is missing or damaged, or they do not belong
        together.
        """
        from tokenizers import Tokenizer

        path = Path(path)
        try:
            described = json.loads((path / FILE).read_text(encoding="utf-8"))
            labels = tuple(str(label) for label in described["labels"])
            metrics = {key: float(value) for key, value in described["metrics"].items()}
            held = read_tensors(path / "classifier.safetensors")
            weights = {name: np.array(part, np.float32) for name, part in held.items()}
            tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
            vocab = text_vocabulary(Vocabulary.of(tokenizer))
            _check(weights, len(vocab), len(labels))
        except Exception as fault:  # the tokenizers library raises plain Exception
            raise FormatError(
                f"{path}: not the directory of a document classifier ({fault})", hint=_MEND
            ) from fault
        return cls(vocab, labels, weights, metrics)


def _check(weights: Mapping[str, npt.NDArray[np.float32]], V: int, L: int) -> None:
    """Raise :class:`ValueError` where the weights are not those of one network."""
    D, C, H = (
        weights[name].shape[axis]
        for name, axis in (("E.weight", 1), ("edges", 1), ("mix.weight", 0))
    )
    wanted = {
        "E.weight": (V, D),
        "W": (2, C, C),
        "Ws": (2, C, D),
        "edges": (2, C),
        "mix.weight": (H, D + 2 * C),
        "mix.bias": (H,),
        "out.weight": (L, H),
        "out.bias": (L,),
    }
    found = {name: part.shape for name, part in weights.items()}
    for name, shape in wanted.items():
        if found.get(name) != shape:
            raise ValueError(f"tensor {name!r} has shape {found.get(name)}, not {shape}")


def _keys(
    text: str,
    spans: list[tuple[str, int, int]],
    units: npt.NDArray[np.int64],
    most: int,
) -> list[Key]:
    found = []
    for place in np.argsort(-units, kind="stable")[:most].tolist():
        if units[place]:
            start, end = spans[max(place - 1, 0)][1], spans[min(place + 1, len(spans) - 1)][2]
            found.append(Key(text[start:end], start, end, int(units[place])))
    return found
