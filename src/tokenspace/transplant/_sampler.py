"""Tokenizers drawn at random: Unigram vocabularies straight from the text that is at hand.

What ZeTT is trained on (arXiv:2405.07883, section 3.2). A queue holds the scores of the substrings
of the last texts; a vocabulary is its best substrings after noise whose size is drawn anew each
time, so that some vocabularies are nearly the best ones and others nearly random.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from tokenspace.surface import CHARACTERS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["LEAST", "Sampler", "tokenizer"]

Piece = tuple[str, float]

LONGEST, STRIDE = 15, 4  # byte-characters of a substring, and from one start to the next
SIGMA = 1e-5  # the median of the noise's deviation
NEVER = -1e5
PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?[\p{L}\p{M}]+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CONTINUED = frozenset(CHARACTERS[0x80:0xC0])  # bytes inside a character
_SPACE = tuple(CHARACTERS[ord(c)] for c in " \n\t")
_BLANKS = tuple(second + first * i for first in _SPACE for second in _SPACE for i in range(1, 16))
LEAST = 256 + len(_BLANKS) + 1


class Sampler:
    """Draws vocabularies of ``size`` pieces, in the GPT-2 alphabet, with their log scores.

    ``spread`` is the deviation of the logarithm of the noise's size, ``pool`` the number of
    batches of texts that count.
    """

    def __init__(self, size: int, *, spread: float, pool: int) -> None:
        self.size, self.spread, self.pool = size, spread, pool
        self._scores: dict[str, int] = {}
        self._queue: deque[dict[str, int]] = deque()

    def add(self, texts: Sequence[str]) -> None:
        """Put a batch of texts into the queue; the oldest one leaves a full queue."""
        cut: Any = _pre_tokenizer().pre_tokenize_str
        words = Counter(word for text in texts for word, _ in cut(" " + text))
        scores: dict[str, int] = {}
        for word, count in words.items():
            for piece in _substrings(word):
                scores[piece] = scores.get(piece, 0) + count * len(piece)
        self._queue.append(scores)
        total = self._scores
        for piece, score in scores.items():
            total[piece] = total.get(piece, 0) + score
        if len(self._queue) > self.pool:
            for piece, score in self._queue.popleft().items():
                left = total[piece] - score
                if left:
                    total[piece] = left
                else:
                    del total[piece]

    def draw(self, generator: np.random.Generator) -> list[Piece]:
        """Return a vocabulary: the bytes, runs of blanks, and the best substrings after noise."""
        values = np.fromiter(self._scores.values(), np.float64, len(self._scores))
        odds = values / max(values.sum(), 1.0)
        sigma = math.exp(generator.normal(math.log(SIGMA), self.spread))
        odds += generator.normal(0.0, sigma, len(odds))
        best = np.argsort(-odds, kind="stable")[: self.size - 256 - len(_BLANKS)]
        names, positive = list(self._scores), np.maximum(odds[best], 1e-300)
        scores = np.where(odds[best] > 0, np.log(positive), NEVER)
        least = float(scores.min(initial=0.0))
        return [
            *((character, least) for character in CHARACTERS),
            *((blank, 0.0) for blank in _BLANKS),
            *((names[i], float(s)) for i, s in zip(best.tolist(), scores, strict=True)),
        ]


def tokenizer(pieces: Sequence[Piece]) -> Tokenizer:
    """Return the tokenizer that cuts a text into these pieces, the most probable way (Viterbi)."""
    from tokenizers import Tokenizer, models

    made = Tokenizer(models.Unigram(list(pieces)))
    made.pre_tokenizer = _pre_tokenizer()
    return made


@cache
def _pre_tokenizer() -> Any:
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split

    words = Split(Regex(PATTERN), "isolated")
    return Sequence([words, ByteLevel(add_prefix_space=False, use_regex=False)])


@lru_cache(1 << 16)
def _substrings(word: str) -> tuple[str, ...]:
    """Return the pieces that a word may give: of two characters or more, and not of blanks."""
    if len(word) < 2 or word[1] in _SPACE:
        return ()
    return tuple(
        word[start:end]
        for start in range(0, len(word), STRIDE)
        if word[start] not in _CONTINUED
        for end in range(start + 2, min(start + LONGEST, len(word)) + 1)
    )
