"""A text encoder without a network: the mean of a text's token rows.

Whatever a method does to token vectors that is linear (weights, projections) is folded into the
rows beforehand, so that encoding is a look-up and a mean, and the saved form is one stock module
of sentence-transformers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats2d, Ids, Ragged
from tokenspace.errors import FormatError, InputError
from tokenspace.io import read_tensors, replacing, save_tensors
from tokenspace.jit import kernel
from tokenspace.lexicon import word_tokenizer
from tokenspace.vocab import Vocabulary

__all__ = ["StaticEncoder", "flat_ids", "mean_rows", "pieces", "text_vocabulary"]

_MODULE = "sentence_transformers.models.StaticEmbedding"


@dataclass(frozen=True, eq=False)
class StaticEncoder:
    """Mean of token rows. Immutable.

    ``vocab`` (V tokens) carries a tokenizer; ``vectors`` is (V, D) float32, the rows as they
    enter the mean.
    """

    vocab: Vocabulary
    vectors: Floats2d

    def __post_init__(self) -> None:
        if self.vocab.tokenizer is None:
            raise InputError(
                "a static encoder needs a vocabulary with a tokenizer",
                hint="make one of a word list with text_vocabulary",
            )
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.vocab):
            raise InputError(
                f"static encoder: {len(self.vocab)} tokens and vectors of shape"
                f" {self.vectors.shape} do not agree",
                hint="give one row for every token",
            )

    @property
    def dim(self) -> int:
        """Width D of the vectors."""
        return int(self.vectors.shape[1])

    def encode(self, texts: Sequence[str], *, batch_size: int = 1024) -> Floats2d:
        """Return the mean of the rows of every text's tokens, (N, D) float32.

        A text without tokens has the zero vector; an unknown word counts as a zero row.
        ``batch_size`` bounds the memory for token ids and changes nothing else.
        """
        vectors = np.zeros((len(texts), self.dim), np.float32)
        for start, ids, offsets in self._ids(texts, batch_size):
            vectors[start : start + len(offsets) - 1] = self.means(ids, offsets)
        return vectors

    def means(self, ids: npt.NDArray[np.int64], offsets: Ids) -> Floats2d:
        """Return the mean of the rows of each run ``ids[offsets[i]:offsets[i + 1]]``, (N, D)."""
        means = np.zeros((len(offsets) - 1, self.dim), np.float32)
        mean_rows(self.vectors, ids, offsets, means)
        return means

    def encode_tokens(self, texts: Sequence[str], *, batch_size: int = 1024) -> Ragged:
        """Return the unit rows of every text's tokens, N matrices (T_i, D) float32.

        Row t belongs to the t-th id of ``vocab.encode(text)``. The length of a row, where a
        method put the token's weight, is divided out: late interaction compares directions. The
        row of an unknown word is zero.
        """
        matrices, lengths = [np.zeros((0, self.dim), np.float32)], [np.zeros(1, np.int64)]
        for _, ids, offsets in self._ids(texts, batch_size):
            matrices.append(self.unit[ids])
            lengths.append(np.diff(offsets))
        return Ragged(np.concatenate(matrices), np.cumsum(np.concatenate(lengths)))

    def encode_both(self, texts: Sequence[str]) -> tuple[Floats2d, Ragged]:
        """Return what ``encode`` and ``encode_tokens`` return."""
        return self.encode(texts), self.encode_tokens(texts)

    def tokens(self, texts: Sequence[str]) -> list[list[tuple[str, int, int]]]:
        """Return (surface, start, end) for every row of ``encode_tokens``.

        ``start`` and ``end`` count characters of the text, and ``surface`` is ``text[start:end]``;
        white space before a word is left out.
        """
        return pieces(self.vocab, texts)

    @cached_property
    def unit(self) -> Floats2d:
        """The rows divided by their lengths, (V, D) float32; a zero row stays zero."""
        lengths = np.linalg.norm(self.vectors, axis=1, keepdims=True)
        return np.asarray(self.vectors / np.where(lengths > 0, lengths, 1.0), np.float32)

    def _ids(
        self, texts: Sequence[str], batch_size: int
    ) -> Iterator[tuple[int, npt.NDArray[np.int64], Ids]]:
        """Yield (position of the first text, ids, offsets) of every batch."""
        if isinstance(texts, str):
            raise InputError("encode takes a list of texts, not one string", hint="write [text]")
        if batch_size < 1:
            raise InputError(f"batch_size={batch_size} is below 1")
        for start in range(0, len(texts), batch_size):
            yield (start, *flat_ids(self.vocab, texts[start : start + batch_size]))

    def save(self, path: str | Path) -> None:
        """Write a directory that ``SentenceTransformer(path)`` loads with its own modules."""
        tokenizer = self.vocab.tokenizer
        assert tokenizer is not None
        with replacing(path) as partial:
            partial.mkdir()
            save_tensors(partial / "model.safetensors", {"embedding.weight": self.vectors})
            (partial / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
            modules = [{"idx": 0, "name": "0", "path": "", "type": _MODULE}]
            (partial / "modules.json").write_text(json.dumps(modules, indent=2) + "\n")
            settings: dict[str, object] = {
                "similarity_fn_name": "cosine",
                "prompts": {},
                "default_prompt_name": None,
            }
            (partial / "config_sentence_transformers.json").write_text(
                json.dumps(settings, indent=2) + "\n"
            )

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Open such a directory; the rows are mapped into memory, not read.

        Raises :class:`FormatError` where it holds anything beside one static module.
        """
        from tokenizers import Tokenizer

        path = Path(path)
        try:
            modules = json.loads((path / "modules.json").read_text("utf-8"))
            kinds = [str(module["type"]).rpartition(".")[2] for module in modules]
            place = path / str(modules[0]["path"]) if kinds else path
        except (OSError, ValueError, KeyError, TypeError) as fault:
            raise FormatError(
                f"{path}: not the directory of a text encoder ({fault})",
                hint="expected modules.json, model.safetensors and tokenizer.json",
            ) from fault
        if kinds != ["StaticEmbedding"]:
            raise FormatError(
                f"{path}: modules {kinds} are not one StaticEmbedding",
                hint="only static encoders are read here",
            )
        if not (place / "model.safetensors").is_file():
            raise FormatError(
                f"{place}: model.safetensors is missing",
                hint="give a directory that save or model2vec wrote",
            )
        tensors = read_tensors(place / "model.safetensors")
        weights = tensors.get("embedding.weight", tensors.get("embeddings"))
        if weights is None or weights.ndim != 2:
            raise FormatError(
                f"{place / 'model.safetensors'}: no matrix 'embedding.weight'",
                hint="give a directory that save or model2vec wrote",
            )
        try:
            tokenizer = Tokenizer.from_file(str(place / "tokenizer.json"))
        except Exception as fault:  # the library raises plain Exception
            raise FormatError(
                f"{place / 'tokenizer.json'}: not a tokenizer ({fault})",
                hint="write it again with the save of tokenizers",
            ) from fault
        vocab = text_vocabulary(Vocabulary.of(tokenizer, rows=len(weights)))
        return cls(vocab, np.asarray(weights, np.float32))


def pieces(vocab: Vocabulary, texts: Sequence[str]) -> list[list[tuple[str, int, int]]]:
    """Return (surface, start, end) for every token of every text, white space left out."""
    tokenizer = vocab.tokenizer
    assert tokenizer is not None
    return [
        [_trimmed(text, start, end) for start, end in encoding.offsets]
        for text, encoding in zip(
            texts, tokenizer.encode_batch(list(texts), add_special_tokens=False), strict=True
        )
    ]


def _trimmed(text: str, start: int, end: int) -> tuple[str, int, int]:
    surface = text[start:end]
    start = end - len(surface.lstrip() or surface)
    return text[start:end], start, end


def flat_ids(vocab: Vocabulary, texts: Sequence[str]) -> tuple[npt.NDArray[np.int64], Ids]:
    """Return the ids of all texts in one array, and (N + 1,) offsets of the texts in it."""
    rows = vocab.encode_batch(texts)
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    ids = np.empty(int(offsets[-1]), np.int64)
    for row, start in zip(rows, offsets.tolist(), strict=False):
        ids[start : start + len(row)] = row
    return ids, offsets


@kernel(fastmath={"contract"})
def mean_rows(rows: Floats2d, ids: npt.NDArray[np.int64], offsets: Ids, means: Floats2d) -> None:
    """Write the mean of ``rows[ids]`` of every text to ``means``, which holds zeros."""
    for text in range(len(offsets) - 1):
        first, last = offsets[text], offsets[text + 1]
        total = means[text]
        for place in range(first, last):
            row = rows[ids[place]]
            for d in range(len(total)):
                total[d] += row[d]
        if last > first:
            share = np.float32(1.0) / np.float32(last - first)
            for d in range(len(total)):
                total[d] *= share


def text_vocabulary(vocab: Vocabulary, *, split: str = "words", language: str = "") -> Vocabulary:
    """Return ``vocab`` with a tokenizer that neither pads nor cuts texts.

    A word list gets the tokenizer of :func:`word_tokenizer`, and with it one token more.
    """
    from tokenizers import Tokenizer

    if vocab.tokenizer is None:
        return Vocabulary.of(word_tokenizer(vocab.tokens, split=split, language=language))
    tokenizer = Tokenizer.from_str(vocab.tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return Vocabulary.of(tokenizer, rows=len(vocab))
