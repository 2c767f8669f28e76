"""Word vectors of English and German, from the captions that the small decoders were trained on.

Without Multi30k on this machine the second language is the default text with its letters
exchanged, as in :func:`tokenspace.claims._decoders.german_pair`, and so is the dictionary.
"""

from __future__ import annotations

import re
from functools import lru_cache

from tokenspace import data, rng
from tokenspace.claims._decoders import EXCHANGE
from tokenspace.corpus import Corpus
from tokenspace.pairs import Pairs
from tokenspace.recipe import apply, make
from tokenspace.table import EmbeddingTable

__all__ = ["dictionary", "in_one_space", "of_each_language", "parallel"]

_WORD = re.compile(r"\w+|[^\w\s]")  # cased: German writes its nouns with a capital


def _real(smoke: bool) -> bool:
    return not smoke and data.available("multi30k")


@lru_cache(maxsize=2)
def _captions(smoke: bool) -> tuple[list[str], list[str]]:
    """Return every caption in English, and its German translation."""
    if _real(smoke):
        names = (f"multilingual/multi30k/train.{language}.gz" for language in ("en", "de"))
        english, german = (data.lines(name) for name in names)
    else:
        from tokenspace.stdlib_text import documents

        pages = data.manual()[:80] if smoke else [("", page.text) for page in documents()]
        english = [line for _, text in pages for line in text.split("\n\n")]
        german = [line.translate(EXCHANGE) for line in english]
    return english, german


def parallel(smoke: bool) -> Pairs:
    """Return the captions in English, each with its German translation."""
    both = zip(*_captions(smoke), strict=True)
    return Pairs([(x, y) for x, y in both if x.strip() and y.strip()])


def _sentences(smoke: bool) -> tuple[list[list[str]], list[list[str]]]:
    """Return the words of every caption in English, and of its German translation."""
    english, german = _captions(smoke)
    return [_WORD.findall(line) for line in english], [_WORD.findall(line) for line in german]


@lru_cache(maxsize=2)
def dictionary(smoke: bool) -> Pairs:
    """Return English and German words: Wiktionary's, or every word with its letters exchanged."""
    if _real(smoke) and data.available("multilingual/dicts/en_german.tsv.gz"):
        return data.dictionary("german")
    english, german = _sentences(smoke)
    pairs = {
        (x, y)
        for line, other in zip(english, german, strict=True)
        for x, y in zip(line, other, strict=False)
        if x.translate(EXCHANGE) == y
    }
    return Pairs(sorted(pairs))


@lru_cache(maxsize=1)
def of_each_language(seed: int, smoke: bool) -> tuple[EmbeddingTable, EmbeddingTable]:
    """Return vectors of the English and of the German words, learned apart from each other.

    100 dimensions, 10 noise words and 20 epochs, as WECHSEL trains vectors of its own.
    """
    english, german = (_learned(side, seed, smoke, 20) for side in _sentences(smoke))
    return english, german


@lru_cache(maxsize=1)
def in_one_space(seed: int, smoke: bool) -> EmbeddingTable:
    """Return vectors of the words of both languages, learned from merged pairs of captions.

    The words of a pair follow each other by their place in their sentence, so that translations
    are neighbours (Vulić, Moens 2016); the window is twice as wide, since it holds both languages.
    """
    merged = []
    for both in zip(*_sentences(smoke), strict=True):
        placed = [((i + 0.5) / len(s), n, w) for n, s in enumerate(both) for i, w in enumerate(s)]
        merged.append([word for _, _, word in sorted(placed)])
    return _learned(merged, seed, smoke, 10, window=10)


def _learned(
    sentences: list[list[str]], seed: int, smoke: bool, epochs: int, **knobs: int
) -> EmbeddingTable:
    train = make(
        "sgns",
        dim=16 if smoke else 100,
        negatives=10,
        epochs=2 if smoke else epochs,
        threads=1,
        seed=rng.derive(seed, sentences[0][0]),
        **knobs,
    )
    text = Corpus([" ".join(words) for words in sentences], split="whitespace")
    table: EmbeddingTable = apply(train, {"corpus": text})
    return table
