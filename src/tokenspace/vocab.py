"""Vocabularies: the identity of tokens across tokenizers, by the bytes that they stand for."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Self

from .errors import InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Vocabulary"]


class Vocabulary:
    """An immutable list of tokens in the order of their ids, and how text becomes those ids."""

    def __init__(self, tokens: Sequence[str], tokenizer: Tokenizer | None = None) -> None:
        self.tokens = tuple(tokens)
        self.tokenizer = tokenizer

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def words(cls, words: Sequence[str]) -> Self:
        """Make a vocabulary of whole words; ``encode`` splits at white space."""
        return cls(words)

    @cached_property
    def ids(self) -> dict[str, int]:
        """Ids by token string."""
        return {token: index for index, token in enumerate(self.tokens)}

    def id(self, token: str) -> int:
        """Return the id of a token; an unknown one is refused with a near miss."""
        if token in self.ids:
            return self.ids[token]
        near = difflib.get_close_matches(token, self.tokens, n=1)
        raise InputError(
            f"the vocabulary has no token {token!r}",
            hint=f"did you mean {near[0]!r}?" if near else "choose a token of the vocabulary",
        )
