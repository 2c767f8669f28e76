"""A text encoder that fits a vector to each text: the result of the paragraph vectors.

Encoding is training: the words' side of the network is frozen, the text gets a row of its own, and
the row is fitted to the text's words in a fixed number of passes. Everything that is random about
it is drawn from a hash of the words and the seed, so that a text has one vector.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats1d, Floats2d, Ids, Ragged
from tokenspace.corpus import Corpus
from tokenspace.encode._paragraph import (
    REAL,
    Sampling,
    Shape,
    Weights,
    describe,
    infer,
    learn,
    read_units,
    sampling_of,
    shape,
)
from tokenspace.encode.static import flat_ids, pieces, text_vocabulary
from tokenspace.errors import FormatError, InputError
from tokenspace.io import read_tensors, replacing, save_tensors
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary

__all__ = ["ParagraphEncoder", "fit"]

log = logging.getLogger(__name__)

FILE = "paragraph.json"
"""The file by which a directory of such an encoder is known."""

_DEAD = 0.02  # a bit that is the same in all but this share of the documents says nothing


@dataclass(frozen=True, eq=False)
class ParagraphEncoder:
    """Vectors that are fitted to texts. Immutable.

    ``vocab`` carries a tokenizer; ``counts`` (V,) says how often each of its first V tokens was
    seen. ``shape`` and ``weights`` are the network, with the rows of the documents that it was
    trained on. ``passes`` over a text are made at a rate that falls linearly from ``lr``; all of
    ``passes``, ``lr``, ``seed`` and ``threads`` may be changed with :func:`dataclasses.replace`.
    ``metrics`` are figures of the training.
    """

    vocab: Vocabulary
    counts: Ids
    shape: Shape
    weights: Weights
    sample: float
    lr: float
    seed: int = 0
    passes: int = 50
    threads: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def dim(self) -> int:
        """Width D of the vectors."""
        return self.shape.units

    def encode(self, texts: Sequence[str], *, batch_size: int = 1024) -> Floats2d:
        """Return the vector of every text, (N, D) float32; of a binary network, -1 and 1.

        A text without a known word has the zero vector, and a warning is logged that counts them.
        ``batch_size`` bounds the memory for token ids and changes nothing else.
        """
        found = [self._units(rows) for rows in self._rows(texts, batch_size)]
        return np.concatenate([np.zeros((0, self.dim), np.float32), *found])

    def encode_real(self, texts: Sequence[str], *, batch_size: int = 1024) -> Floats2d:
        """Return the fitted row of every text before any rounding, (N, ``shape.dim``) float32."""
        found = [rows[:, : self.shape.dim] for rows in self._rows(texts, batch_size)]
        return np.concatenate([np.zeros((0, self.shape.dim), np.float32), *found])

    def encode_tokens(self, texts: Sequence[str], *, batch_size: int = 1024) -> Ragged:
        """Return the unit word vectors of every text's tokens, N matrices (T_i, D) float32.

        Row t belongs to the t-th id of ``vocab.encode(text)``; that of an unknown word is zero.
        """
        matrices, lengths = [np.zeros((0, self.dim), np.float32)], [np.zeros(1, np.int64)]
        for ids, offsets in self._ids(texts, batch_size):
            matrices.append(self._unit[ids])
            lengths.append(np.diff(offsets))
        return Ragged(np.concatenate(matrices), np.cumsum(np.concatenate(lengths)))

    def encode_both(self, texts: Sequence[str]) -> tuple[Floats2d, Ragged]:
        """Return what ``encode`` and ``encode_tokens`` return."""
        return self.encode(texts), self.encode_tokens(texts)

    def tokens(self, texts: Sequence[str]) -> list[list[tuple[str, int, int]]]:
        """Return (surface, start, end) for every row of ``encode_tokens``, by characters."""
        return pieces(self.vocab, texts)

    @cached_property
    def documents(self) -> Floats2d:
        """The vectors of the documents that it was trained on, in their order, (N, D) float32."""
        return self._units(self._matrix(self.weights.documents, self.shape.row))

    @property
    def documents_real(self) -> Floats2d:
        """Their rows before any rounding, (N, ``shape.dim``) float32."""
        rows = self._matrix(self.weights.documents, self.shape.row)
        return np.ascontiguousarray(rows[:, : self.shape.dim])

    @property
    def words(self) -> Floats2d:
        """The vectors of the words, (V, D): the input rows, or output rows where there are none."""
        if len(self.weights.inputs):
            rows = self._matrix(self.weights.inputs, self.shape.slot)
        else:
            rows = self._matrix(self.weights.outputs, self.shape.width)
        return np.ascontiguousarray(rows[:, : self.dim])

    @property
    def table(self) -> EmbeddingTable:
        """The vectors of the words as a table; those of tokens that were never seen are zero."""
        more = len(self.vocab) - len(self.counts)
        counts = np.concatenate([self.counts, np.zeros(more, np.int64)])
        rows = np.concatenate([self.words, np.zeros((more, self.dim), np.float32)])
        rows[counts == 0] = 0
        return EmbeddingTable(self.vocab, rows, counts)

    @cached_property
    def dead(self) -> tuple[int, ...]:
        """The bits that are the same in more than 98 % of the documents; none if it has no bits."""
        if self.shape.layer == REAL:
            return ()
        some = self.documents[self.documents.any(axis=1)]
        share = (some > 0).mean(axis=0)
        return tuple(np.flatnonzero((share < _DEAD) | (share > 1 - _DEAD)).tolist())

    @cached_property
    def _unit(self) -> Floats2d:
        """The rows of ``table`` divided by their lengths; a zero row stays zero."""
        rows = self.table.vectors
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.asarray(rows / np.where(lengths > 0, lengths, 1), np.float32)

    @cached_property
    def _sampling(self) -> Sampling:
        return sampling_of(self.counts, self.sample)

    @staticmethod
    def _matrix(flat: Floats1d, width: int) -> Floats2d:
        return flat.reshape(-1, width)

    def _units(self, rows: Floats2d) -> Floats2d:
        """Return what the layer makes of rows (N, row): themselves, or their codes of -1 and 1."""
        if self.shape.layer == REAL:
            return np.ascontiguousarray(rows[:, : self.dim])
        units = np.zeros((len(rows), self.dim), np.float32)
        read_units(self.shape, self.weights._replace(documents=rows.reshape(-1)), units)
        return units

    def _ids(
        self, texts: Sequence[str], batch_size: int
    ) -> Iterator[tuple[npt.NDArray[np.int64], Ids]]:
        """Yield (ids, offsets) of every batch."""
        if isinstance(texts, str):
            raise InputError("encode takes a list of texts, not one string", hint="write [text]")
        if batch_size < 1:
            raise InputError(f"batch_size={batch_size} is below 1")
        for start in range(0, len(texts), batch_size):
            yield flat_ids(self.vocab, texts[start : start + batch_size])

    def _rows(self, texts: Sequence[str], batch_size: int) -> Iterator[Floats2d]:
        """Yield the fitted rows (n, row) of every batch."""
        unknown = 0
        seen = np.zeros(len(self.vocab), np.bool_)
        seen[: len(self.counts)] = self.counts > 0
        for ids, offsets in self._ids(texts, batch_size):
            known = seen[ids]
            places = np.concatenate([np.zeros(1, np.int64), np.cumsum(known)])[offsets]
            unknown += int((np.diff(places) == 0).sum())
            yield infer(
                self.shape,
                self.weights,
                self._sampling,
                ids[known].astype(np.int32),
                places,
                passes=self.passes,
                lr=self.lr,
                threads=self.threads,
                seed=self.seed,
            )
        if unknown:
            log.warning(
                "%d of %d texts have no known word; their vectors are zero", unknown, len(texts)
            )

    def save(self, path: str | Path) -> None:
        """Write the directory ``path``: the weights, the tokenizer, and what belongs to them."""
        tokenizer = self.vocab.tokenizer
        assert tokenizer is not None
        described = {
            "network": describe(self.shape),
            "sample": self.sample,
            "lr": self.lr,
            "seed": self.seed,
            "passes": self.passes,
            "metrics": dict(self.metrics),
        }
        tensors = {
            name: _unpadded(part, *_sizes(self.shape)[name])
            for name, part in self.weights._asdict().items()
            if len(part) or name in ("documents", "outputs")
        }
        with replacing(path) as partial:
            partial.mkdir()
            save_tensors(partial / "paragraph.safetensors", {**tensors, "counts": self.counts})
            (partial / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
            (partial / FILE).write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")

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
            network = shape(**described["network"])
            held: dict[str, Any] = read_tensors(path / "paragraph.safetensors")
            counts = np.array(held["counts"], np.int64)
            V, units = len(counts), network.units
            heights = {"inputs": V, "outputs": V, "map": units, "offset": units}
            parts = {}
            for name, sizes in _sizes(network).items():
                part = held.get(name, np.zeros((0, sizes[0] * sizes[1]), np.float32))
                if part.ndim != 2 or part.shape[1] != sizes[0] * sizes[1]:
                    raise ValueError(f"tensor {name!r} has shape {part.shape}")
                if len(part) and len(part) != heights.get(name, len(part)):
                    raise ValueError(f"tensor {name!r} has {len(part)} rows")
                parts[name] = _padded(part, *sizes)
            tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
            vocab = text_vocabulary(Vocabulary.of(tokenizer))
            if len(counts) > len(vocab) or not len(parts["outputs"]):
                raise ValueError("the weights are of another vocabulary")
            return cls(
                vocab,
                counts,
                network,
                Weights(**parts),
                float(described["sample"]),
                float(described["lr"]),
                int(described["seed"]),
                int(described["passes"]),
                metrics={key: float(value) for key, value in described["metrics"].items()},
            )
        except InputError:
            raise
        except Exception as fault:  # the tokenizers library raises plain Exception
            raise FormatError(
                f"{path}: not the directory of a paragraph encoder ({fault})",
                hint="train it again, or copy the whole directory",
            ) from fault


def _sizes(network: Shape) -> dict[str, tuple[int, int, int]]:
    """Return, for each part of the weights: slots of a row, floats in use of a slot, and all."""
    used = network.units + (network.layer != REAL)
    return {
        "documents": (1, network.dim, network.row),
        "inputs": (1, network.units, network.slot),
        "outputs": (network.width // network.slot, used, network.slot),
        "map": (1, network.dim, network.row),
        "offset": (1, 1, 1),
    }


def _unpadded(flat: Floats1d, slots: int, used: int, width: int) -> Floats2d:
    rows = flat.reshape(-1, slots, width)[:, :, :used]
    return np.ascontiguousarray(rows).reshape(-1, slots * used)


def _padded(rows: npt.NDArray[Any], slots: int, used: int, width: int) -> Floats1d:
    wide = np.zeros((len(rows), slots, width), np.float32)
    wide[:, :, :used] = rows.reshape(-1, slots, used)
    return wide.reshape(-1)


def fit(
    corpus: Corpus,
    network: Shape,
    *,
    label: str,
    min_count: int,
    epochs: int,
    sample: float,
    lr: float,
    threads: int,
    seed: int,
) -> ParagraphEncoder:
    """Train ``network`` on the texts of ``corpus``, each a document.

    Raises :class:`InputError` where fewer than two different words are left, and
    :class:`~tokenspace.errors.NotConverged` where the vectors stop being finite.
    """
    stream = corpus.encode(min_count=min_count, whole=True)
    if np.count_nonzero(stream.counts) < 2:
        raise InputError(
            "the corpus has fewer than 2 different words", hint="give more text, or lower min_count"
        )
    vocab = text_vocabulary(stream.vocab, split=corpus.split, language=corpus.language)
    empty = int((np.diff(stream.offsets) == 0).sum())
    if empty:
        log.warning(
            "%d of %d documents have no word that occurs %d times; their vectors are zero",
            empty, len(stream.offsets) - 1, min_count,
        )  # fmt: skip
    weights, loss = learn(
        network,
        stream,
        label=label,
        epochs=epochs,
        sample=sample,
        lr=lr,
        threads=threads,
        seed=seed,
    )
    metrics = {"loss": loss, "documents": float(len(stream.offsets) - 1), "empty": float(empty)}
    encoder = ParagraphEncoder(
        vocab, stream.counts, network, weights, sample, lr, seed, threads=threads, metrics=metrics
    )
    if network.layer == REAL:
        return encoder
    if encoder.dead:
        log.warning(
            "%d of %d bits are dead (the same in over 98 %% of the documents)",
            len(encoder.dead),
            encoder.dim,
        )
    metrics["dead_bits"] = float(len(encoder.dead))
    return encoder
