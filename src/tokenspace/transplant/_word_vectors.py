"""Places for the tokens of a vocabulary in a space of word vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from tokenspace.arrays import Floats2d, Ids, check_finite
from tokenspace.jit import kernel
from tokenspace.progress import track
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary

__all__ = ["lexicon", "token_vectors"]

BLOCK = 50_000  # words that are tokenised at a time


def token_vectors(vocab: Vocabulary, table: EmbeddingTable) -> Floats2d:
    """Return one vector for every token, (V, D) float32, zero where nothing is known of it.

    With n-grams in the table (``subwords``), that of the token's text without the spaces around
    it, which is its row where it is a word, and the mean of its n-grams' rows otherwise. Without,
    the mean of the vectors of the words w whose tokens, of "w" or of " w", include it, by the
    words' counts (equal where the table has none). Special tokens and holes have none.
    """
    if table.subwords is not None:
        return _of_texts(vocab, table)
    return _of_words(vocab, table)


def lexicon(table: EmbeddingTable) -> dict[str, int]:
    """Return the row of every text that a token stands for, without the spaces around it.

    Of several tokens with one text the first counts; bytes that are not UTF-8 are no text.
    """
    found: dict[str, int] = {}
    for index, text in enumerate(_texts(table.vocab)):
        found.setdefault(text, index)
    found.pop("", None)
    return found


def _texts(vocab: Vocabulary) -> list[str]:
    """Return the text of every token without the spaces around it, empty where it has none."""
    out = []
    for index, surface in enumerate(vocab.surfaces):
        try:
            out.append("" if index in vocab.specials else surface.decode().strip())
        except UnicodeDecodeError:
            out.append("")
    return out


def _of_texts(vocab: Vocabulary, table: EmbeddingTable) -> Floats2d:
    assert table.subwords is not None
    words, texts = lexicon(table), _texts(vocab)
    place = np.array([words.get(text, -1) for text in texts], np.int64)
    known = place >= 0
    out = np.zeros((len(vocab), table.shape[1]), np.float32)
    out[known] = table.rows(place[known])
    others = [i for i, text in enumerate(texts) if text and not known[i]]
    out[others] = table.subwords.vectors([texts[i] for i in others])
    check_finite(out, "word vectors: tokens", vocab.tokens)
    return out


def _of_words(vocab: Vocabulary, table: EmbeddingTable) -> Floats2d:
    words = lexicon(table)
    out, total = np.zeros((len(vocab), table.shape[1]), np.float32), np.zeros(len(vocab))
    counts = np.ones(len(table.vocab), np.int64) if table.counts is None else table.counts
    texts, rows = list(words), np.fromiter(words.values(), np.int64, len(words))
    for start in track(range(0, len(texts), BLOCK), "word vectors"):
        block = texts[start : start + BLOCK]
        inside = vocab.encode_batch(block), vocab.encode_batch([f" {word}" for word in block])
        found = [sorted({*a, *b} - vocab.specials.keys()) for a, b in zip(*inside, strict=True)]
        offsets = np.zeros(len(found) + 1, np.int64)
        np.cumsum([len(ids) for ids in found], out=offsets[1:])
        flat = np.array([i for ids in found for i in ids], np.int64)
        chosen = rows[start : start + BLOCK]
        _average(table.rows(chosen), counts[chosen].astype(np.float64), flat, offsets, out, total)
    return out


@kernel()
def _average(vectors: Any, f: Any, flat: Ids, offsets: Ids, out: Any, total: Any) -> None:
    """Add every word to the mean of each of its tokens: u += (f / Σf) (v - u)."""
    for w in range(len(f)):
        for p in range(offsets[w], offsets[w + 1] if f[w] > 0 else offsets[w]):
            t = flat[p]
            total[t] += f[w]
            share = np.float32(f[w] / total[t])
            for d in range(vectors.shape[1]):
                out[t, d] += share * (vectors[w, d] - out[t, d])
