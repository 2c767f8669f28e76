"""Which characters words are written with, where a character is an ideograph."""

from __future__ import annotations

import io
from itertools import islice

import numpy as np

from tokenspace.corpus import Corpus
from tokenspace.errors import InputError
from tokenspace.lexicon import Lexicon

__all__ = ["ideographs", "refuse_unsegmented"]

IDEOGRAPHS = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF))
LOOKED_AT = 1_000  # texts by which it is told whether the corpus is segmented
LONGEST = 4.0  # mean length of segmented words of characters, at most


def ideographs(text: str) -> list[str]:
    """Return the ideographs of a text, in order."""
    return [c for c in text if any(low <= ord(c) <= high for low, high in IDEOGRAPHS)]


def refuse_unsegmented(corpus: Corpus, method: str) -> None:
    """Raise where words of characters are so long that they must be clauses."""
    lexicon = Lexicon(corpus.split, corpus.language)
    lexicon.read([list(islice(corpus, LOOKED_AT))], io.BytesIO())
    lengths, counts = [], []
    for number in range(lexicon.words):
        word = lexicon.word(number)
        if ideographs(word):
            lengths.append(len(word))
            counts.append(int(lexicon.counts[number]))
    if counts and (mean := float(np.average(lengths, weights=counts))) > LONGEST:
        raise InputError(
            f"{method}: the text is not segmented: its words have {mean:.1f} characters on the"
            " mean",
            hint="put spaces between words with a segmenter, or give a tokenizer as vocab",
        )
