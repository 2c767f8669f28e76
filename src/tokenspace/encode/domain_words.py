"""The words of a field that a tokenizer cuts into pieces, and a tokenizer that keeps them whole.

A word is a run of letters, digits and underscores with a letter in it, spelled as the tokenizer
sees it: in small letters where it makes them so. What is appended stands for such a word alone,
never for a part of one, so every other word is cut as before; and no id changes.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from tokenizers import AddedToken, Tokenizer

from tokenspace.errors import InputError

__all__ = ["DomainWords", "append", "cut"]

_WORD = re.compile(r"\w*[^\W\d_]\w*")
_SURROGATE = re.compile("[\ud800-\udfff]")
_BEFORE = "a"  # what a word is tried behind, so that it is cut as inside a text


@dataclass(frozen=True)
class DomainWords:
    """How often each word of a corpus occurs, and the ids of the pieces that it is cut into.

    ``unknown`` is the id of a piece that the tokenizer cannot spell.
    """

    counts: Mapping[str, int]
    pieces: Mapping[str, tuple[int, ...]]
    unknown: int = -1

    @classmethod
    def of(cls, texts: Iterable[str], tokenizer: Tokenizer) -> Self:
        """Count the words of ``texts``. Raises :class:`InputError` where there is none."""
        plain = _plain(tokenizer)
        counts: Counter[str] = Counter()
        for text in texts:
            whole = _SURROGATE.sub(" ", text)
            if _lowers(plain):
                whole = plain.normalizer.normalize_str(whole)
            counts.update(_WORD.findall(whole))
        if not counts:
            raise InputError("corpus: no word in it", hint="give texts of the field")
        return cls(dict(counts), _cut(list(counts), plain), _unknown(plain))

    def again(self, tokenizer: Tokenizer) -> Self:
        """Return the same words, cut by another tokenizer."""
        return replace(self, pieces=_cut(list(self.counts), _plain(tokenizer)))

    def gains(self, *, least: int) -> list[tuple[str, int]]:
        """Return words that are not whole and occur ``least`` times, by the tokens they would save.

        That is the count times the pieces but one, and at least the count where a piece is unknown;
        ties by the letters.
        """
        found = [
            (word, count * max(1, len(self.pieces[word]) - 1))
            for word, count in self.counts.items()
            if count >= least and not self._whole(word)
        ]
        return sorted(found, key=lambda item: (-item[1], item[0]))

    def _whole(self, word: str) -> bool:
        return len(self.pieces[word]) == 1 and self.unknown not in self.pieces[word]

    @property
    def fertility(self) -> float:
        """Tokens a word, over all its occurrences."""
        tokens = sum(count * len(self.pieces[word]) for word, count in self.counts.items())
        return tokens / sum(self.counts.values())

    @property
    def whole(self) -> float:
        """The share of all occurrences that are one token, and a known one."""
        kept = sum(count for word, count in self.counts.items() if self._whole(word))
        return kept / sum(self.counts.values())


def append(tokenizer: Any, words: Sequence[str]) -> list[int]:
    """Let a fast tokenizer of transformers keep these words whole, in place; return their new ids.

    The ids follow those that it has. Where it marks spaces, a new token takes the one before it.
    """
    backend: Tokenizer = tokenizer.backend_tokenizer
    lowers, marks = _lowers(backend), _marks_spaces(backend)
    tokenizer.add_tokens(
        [
            AddedToken(word, single_word=True, lstrip=marks, normalized=lowers, special=False)
            for word in words
        ]
    )
    return [int(i) for i in tokenizer.convert_tokens_to_ids(list(words))]


def cut(words: Sequence[str], tokenizer: Tokenizer) -> dict[str, tuple[int, ...]]:
    """Return the ids of the pieces that a tokenizer cuts each word into, inside a text."""
    return _cut(words, _plain(tokenizer))


def _plain(tokenizer: Tokenizer) -> Tokenizer:
    """Return a copy that cuts off nothing and pads nothing."""
    made = Tokenizer.from_str(tokenizer.to_str())
    made.no_truncation()
    made.no_padding()
    return made


def _lowers(tokenizer: Tokenizer) -> bool:
    normalizer = tokenizer.normalizer
    return normalizer is not None and str(normalizer.normalize_str("Aa")).endswith("aa")


def _marks_spaces(tokenizer: Tokenizer) -> bool:
    """Tell whether a token says that a space stands before it, as in GPT-2 and SentencePiece."""
    text = "a b"
    if tokenizer.normalizer is not None:
        text = tokenizer.normalizer.normalize_str(text)
    if tokenizer.pre_tokenizer is not None:
        text = "".join(part for part, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text))
    return text != "ab"


def _unknown(tokenizer: Tokenizer) -> int:
    """Return the id that stands for what the tokenizer cannot spell, or -1."""
    model = json.loads(tokenizer.to_str())["model"]
    found = model.get("unk_id")
    if found is None and model.get("unk_token") is not None:
        found = tokenizer.token_to_id(model["unk_token"])
    return -1 if found is None else int(found)


def _cut(words: Sequence[str], plain: Tokenizer) -> dict[str, tuple[int, ...]]:
    first = len(plain.encode(_BEFORE, add_special_tokens=False).ids)
    found = plain.encode_batch([f"{_BEFORE} {word}" for word in words], add_special_tokens=False)
    return {word: tuple(encoding.ids[first:]) for word, encoding in zip(words, found, strict=True)}
