"""The family's common data and yardstick: two invented languages with one set of meanings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenspace import rng
from tokenspace.arrays import Floats2d, Ragged
from tokenspace.corpus import Corpus
from tokenspace.metrics import cosine
from tokenspace.pairs import Pairs
from tokenspace.table import EmbeddingTable
from tokenspace.transplant._shared import retrieval
from tokenspace.transplant.hypernet import Hypernet, Shape, identity, parameters
from tokenspace.vocab import Vocabulary

__all__ = ["COURSE", "SETTINGS", "bag", "judge"]

COURSE = (
    "bits per byte",
    {"bits_per_byte": "at once", "after_100": "after 100 steps", "after_300": "after 300 steps"},
)
SETTINGS = (
    "english",
    "german",
    "minilm-gpt2",
    "minilm-t5",
    "minilm-gpt2-healed",
    "minilm-t5-healed",
    "invented",
)
"""What ``compare`` can be run on; all but the last are models (:mod:`~.claims._settings`)."""

SYLLABLES = ("ba", "ke", "lo", "mi", "nu", "ra", "so", "ti", "va", "ze")


def bag(seed: int = 0, *, tiny: bool = False, on: str = "invented") -> dict[str, Any]:
    """Return the inputs of the family, and ``truth``: the target's rows as they should become.

    There is no ``model``, and a ``hypernet`` only with ``tiny``: one of random weights.

    ``on`` is one of :data:`SETTINGS`. The invented setting, the only one that needs neither data
    nor torch, is as follows.

    Two languages share half of their words, and the others translate one by one. Either has a
    byte-level BPE of its own. A token means what the word does that it spells, or what its
    letters do on the average; source, donor and word vectors are linear images of the meanings,
    with noise.
    """
    if on != "invented":
        from tokenspace.claims._settings import setting

        return setting(on, seed)
    words, tokens, wide, narrow = (100, 320, 16, 12) if tiny else (2000, 1500, 128, 96)
    draw = rng.stream(seed, "transplant trial")
    left = _invent(draw, words, 2)
    right = [word if i % 2 else word[::-1] for i, word in enumerate(left)]
    odds = 1 / np.arange(1, words + 1)
    chosen = [draw.choice(words, 8, p=odds / odds.sum()) for _ in range(4 * words)]
    text, other = ([" ".join(side[i] for i in line) for line in chosen] for side in (left, right))
    meaning = _Meaning(seed, dict(zip([*left, *right], [*range(words)] * 2, strict=True)))
    source, target = _byte_bpe(text, tokens), _byte_bpe(other, tokens)

    def view(name: str, vocab: Vocabulary, width: int) -> EmbeddingTable:
        lens = rng.stream(seed, name).standard_normal((meaning.width, width)) / meaning.width**0.5
        rows = np.stack([meaning(surface) for surface in vocab.surfaces]) @ lens
        noise = rng.stream(seed, name, "noise", len(vocab)).standard_normal(rows.shape)
        return EmbeddingTable(vocab, np.asarray(rows + 0.05 * noise, np.float32))

    table = view("model", source, wide)
    network = {"hypernet": _untrained(table, seed)} if tiny else {}
    return {
        **network,
        "source": table,
        "target": target,
        "donor": view("donor", target, narrow),
        "truth": view("model", target, wide),
        "corpus": Corpus(other),
        "vectors": view("static", Vocabulary.words(sorted({*left, *right})), narrow),
        "source_vectors": view("left", Vocabulary.words(left), narrow),
        "target_vectors": view("right", Vocabulary.words(right), narrow),
        "dictionary": Pairs(list(zip(left, right, strict=True))),
        "parallel": Pairs(list(zip(text, other, strict=True))),
        "encoder": _Speller(meaning),
    }


def judge(result: EmbeddingTable, bag: Mapping[str, Any]) -> dict[str, float]:
    """Return how near the new rows are to the withheld ones.

    ``cosine``: their mean cosine; ``mrr``: the mean reciprocal rank of the withheld row among all
    rows of the truth. A setting that is a model brings a judge of its own.
    """
    if "judge" in bag:
        figures: dict[str, float] = bag["judge"](result)
        return figures
    truth: EmbeddingTable = bag["truth"]
    old, _ = result.vocab.shared(bag["source"].vocab)
    new = np.setdiff1d(np.arange(len(result.vocab)), old)
    rows = result.rows(new)
    return {
        "cosine": float(cosine(rows, truth.rows(new)).mean()),
        "mrr": retrieval(rows, new, truth),
        "bytes": float(result.nbytes),
    }


def _invent(draw: np.random.Generator, count: int, least: int) -> list[str]:
    """Return different words of two to four syllables, none of which reads alike backwards."""
    words: dict[str, None] = {}
    while len(words) < count:
        word = "".join(draw.choice(SYLLABLES, draw.integers(least, least + 3)))
        if word != word[::-1] and word[::-1] not in words:
            words[word] = None
    return list(words)


def _byte_bpe(text: Sequence[str], size: int) -> Vocabulary:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(text, trainer)
    return Vocabulary.of(tokenizer)


def _untrained(source: EmbeddingTable, seed: int) -> Hypernet:
    """Return a network of random weights: it answers, but knows nothing."""
    shape = Shape(source.shape[1], sides=1, layers=1, heads=2, maxlen=6)
    weights = {
        name: np.float32(0.3) * rng.stream(seed, name).standard_normal(size, np.float32)
        for name, size in parameters(shape).items()
    }
    return Hypernet(shape, weights, source.vectors, identity(source.vocab))


@dataclass(frozen=True)
class _Meaning:
    """The meaning of bytes: that of the word they spell, else of their trigrams."""

    seed: int
    concepts: Mapping[str, int]
    width: int = 32

    def __call__(self, surface: bytes) -> npt.NDArray[np.float64]:
        text = surface.decode("latin-1").strip()
        letters = f"<{text}>"
        grams = [letters[i : i + 3] for i in range(len(letters) - 2)] or [letters]
        spelt = sum(self._vector(gram) for gram in grams) / np.float64(len(grams))
        if text in self.concepts:
            return np.asarray(self._vector(f"concept {self.concepts[text]}") + 0.3 * spelt)
        return np.asarray(spelt + 0.1 * self._vector(f"token {text}"))

    def _vector(self, name: str) -> npt.NDArray[np.float64]:
        return _gaussian(self.seed, name, self.width)


@lru_cache(1 << 16)
def _gaussian(seed: int, name: str, width: int) -> npt.NDArray[np.float64]:
    return rng.stream(seed, "meaning", name).standard_normal(width)


@dataclass(frozen=True)
class _Speller:
    """A text encoder that knows the meanings: the mean of the words'."""

    meaning: _Meaning

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return self.meaning.width

    def encode(self, texts: Sequence[str], *, batch_size: int = 32) -> Floats2d:
        """Return the mean meaning of every text's words, (N, D) float32."""
        rows = np.zeros((len(texts), self.dim), np.float32)
        for index, text in enumerate(texts):
            words = [self.meaning(word.encode("utf-8", "replace")) for word in text.split()]
            rows[index] = np.mean(words, axis=0) if words else 0
        return rows

    def encode_tokens(self, texts: Sequence[str], *, batch_size: int = 32) -> Ragged:
        """Return the meaning of every word of every text."""
        return Ragged.pack([self.encode(text.split()) for text in texts], self.dim)

    def save(self, path: str | Path) -> None:
        """Write nothing: the trial's encoder is made, not saved."""
