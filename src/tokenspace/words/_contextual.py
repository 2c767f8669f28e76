"""What the methods share that make word vectors out of a network which reads whole sentences."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import numpy as np

from tokenspace.arrays import Floats2d
from tokenspace.corpus import Corpus, IdStream
from tokenspace.errors import ConfigError, InputError
from tokenspace.lexicon import word_tokenizer
from tokenspace.text_encoder import ContextEncoder, TextEncoder
from tokenspace.vocab import Vocabulary

__all__ = [
    "Finder",
    "all_seen",
    "batches",
    "contextual",
    "encode",
    "finder",
    "spelled",
    "told_apart",
]

HELD = 1024  # texts that are held at once

Finder = Callable[[Sequence[str]], list[list[tuple[int, int, int]]]]
"""Gives for every text the words in it: id, first character, and the one after the last."""


def contextual(encoder: TextEncoder, method: str) -> ContextEncoder:
    """Return the encoder; one whose tokens do not know their neighbours is refused."""
    if not hasattr(encoder, "token_states"):
        raise InputError(
            f"{method}: a {type(encoder).__name__} gives a token the same vector in every text",
            hint="give an encoder that is a network; the rows of a static one are vectors already",
        )
    return cast("ContextEncoder", encoder)


def encode(
    corpus: Corpus, vocab: Vocabulary | None, min_count: int, max_vocab: int
) -> tuple[Vocabulary, IdStream]:
    """Return the words that get vectors, and the corpus in them, one sentence a text.

    They are those of ``vocab``, or of the corpus: the most frequent of those that occur
    ``min_count`` times, at most ``max_vocab`` (0 = all).
    """
    stream = corpus.encode(vocab, min_count=min_count, whole=True)
    if vocab is None and 0 < max_vocab < len(stream.vocab):
        stream = corpus.encode(Vocabulary.words(stream.vocab.tokens[:max_vocab]), whole=True)
    if np.count_nonzero(stream.counts) < 2:
        raise InputError(
            "the corpus has fewer than 2 different words", hint="give more text, or lower min_count"
        )
    return stream.vocab, stream


def batches(corpus: Corpus) -> Iterator[tuple[int, list[str]]]:
    """Yield the texts of a corpus in order, some at a time, with the number of the first."""
    texts, first = iter(corpus), 0
    while batch := list(itertools.islice(texts, HELD)):
        yield first, batch
        first += len(batch)


def finder(corpus: Corpus, vocab: Vocabulary) -> Finder:
    """Return what finds the words of ``vocab`` in texts, where :meth:`Corpus.encode` finds them."""
    if vocab.tokenizer is None and corpus.split == "spacy":
        raise ConfigError(
            "split='spacy' does not say where in the text its words stand",
            hint="give split='words'; the words of most languages are the same",
        )
    tokenizer = vocab.tokenizer or word_tokenizer(
        vocab.tokens, split=corpus.split, language=corpus.language
    )
    size = len(vocab)

    def places(texts: Sequence[str]) -> list[list[tuple[int, int, int]]]:
        return [
            [(i, *span) for i, span in zip(found.ids, found.offsets, strict=True) if i < size]
            for found in tokenizer.encode_batch(list(texts), add_special_tokens=False)
        ]

    return places


def spelled(vocab: Vocabulary) -> list[str]:
    """Return what each token is when it stands alone; empty where it is not text."""
    if vocab.tokenizer is None:
        return list(vocab.tokens)
    texts = [surface.decode("utf-8", "ignore").strip() for surface in vocab.surfaces]
    return ["" if i in vocab.specials else text for i, text in enumerate(texts)]


def all_seen(network: ContextEncoder, words: Sequence[str], method: str) -> None:
    """Refuse words that the encoder's tokenizer makes nothing of."""
    found = network.tokens(words)
    unseen = [word for word, tokens in zip(words, found, strict=True) if word and not tokens]
    if unseen:
        raise InputError(
            f"{method}: the encoder has no token for {len(unseen)} of {len(words)} words, such as"
            f" {', '.join(map(repr, unseen[:5]))}",
            hint="give a vocabulary without them",
        )


def told_apart(vectors: Floats2d, method: str) -> None:
    """Refuse vectors that are equal but for rounding: the encoder was never trained."""
    some = vectors[vectors.any(axis=1)]
    spread = np.abs(some - some[:1]).max(initial=0)
    if len(some) and spread <= 1e-6 * np.abs(some).max():
        raise InputError(
            f"{method}: the encoder gives all {len(some)} words the same vector",
            hint="give an encoder that was trained, or another layer or pool",
        )
