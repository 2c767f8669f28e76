"""What turns texts into vectors, whatever it is made of: the types that families share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from .errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from .arrays import Floats2d, Ids, Ids2d, Ragged

__all__ = [
    "ContextEncoder",
    "PretrainedEncoder",
    "Tally",
    "TextEncoder",
    "TokenStates",
    "check_texts",
]


class TextEncoder(Protocol):
    """What the methods of ``encode`` give, and what search builds on."""

    @property
    def dim(self) -> int:
        """Width D of the vectors."""

    def encode(self, texts: Sequence[str], *, batch_size: int = 32) -> Floats2d:
        """Return one vector a text, (N, D) float32."""

    def encode_tokens(self, texts: Sequence[str], *, batch_size: int = 32) -> Ragged:
        """Return one matrix of token vectors a text, each (T_i, D) float32."""

    def save(self, path: str | Path) -> None:
        """Write a directory; of a network and of static rows, one for ``SentenceTransformer``."""


class TokenStates(NamedTuple):
    """What a network makes of one text, token by token, however long the text is.

    ``states`` (T, H) float32 are the hidden states of the text's own tokens, ``spans`` (T, 2) the
    characters that each stands for, ascending and never empty. A text that is longer than the
    network takes is read in W windows that overlap; ``windows`` (T,) names that of each token,
    and ``heads`` (W, H) are the states at the first place of every window, which is ``[CLS]``
    where the network has it.
    """

    states: Floats2d
    spans: Ids2d
    windows: Ids
    heads: Floats2d


class ContextEncoder(TextEncoder, Protocol):
    """An encoder that gives every token a vector which depends on the text around it."""

    def tokens(self, texts: Sequence[str]) -> list[list[tuple[str, int, int]]]:
        """Return (surface, start, end) for every token of every text."""

    def token_states(
        self, texts: Sequence[str], *, layer: int = -1, layers: int = 1, batch_size: int = 32
    ) -> Iterator[tuple[int, TokenStates]]:
        """Yield the index of every text, each once and in any order, and its states.

        They are the mean of ``layers`` layers, the last of which is ``layer``: 0 is what enters
        the network, and -1 its last one.
        """

    def mean_states(
        self, texts: Sequence[str], *, layer: int = -1, layers: int = 1, batch_size: int = 32
    ) -> Floats2d:
        """Return the mean state of all tokens of every text, special ones included, (N, H)."""


class PretrainedEncoder(ContextEncoder, Protocol):
    """A network with its tokenizer and prompts, as ``load_encoder`` gives: what can be trained."""

    @property
    def prompts(self) -> Mapping[str, str]:
        """The model's named prefixes, such as ``query: ``."""

    @property
    def prompt(self) -> str | None:
        """The name of the one that is put before every text, or None."""


@dataclass
class Tally:
    """What a network counts while it encodes.

    ``tokens`` it computed, special ones and those of prompts included and padding not; ``cut`` is
    how many texts were longer than it takes, ``beyond`` how many than it is advised for.
    """

    tokens: int = 0
    cut: int = 0
    beyond: int = 0

    def told(self, texts: int) -> list[str]:
        """Return what has to be said of so many ``texts``, a sentence each."""
        ends = {
            "were cut at the model's limit": self.cut,
            "are so long that this model's vectors get worse": self.beyond,
        }
        return [f"{count} of {texts} texts {end}" for end, count in ends.items() if count]


def check_texts(texts: Sequence[str], *, first: int = 0) -> None:
    """Raise :class:`InputError` for anything but a list of strings of valid Unicode.

    The message counts from ``first``, which is the place of ``texts[0]`` among all texts.
    """
    if isinstance(texts, str):
        raise InputError("texts are a list of strings, not one string", hint="write [text]")
    for index, text in enumerate(texts, first):
        if not isinstance(text, str):
            raise InputError(
                f"text {index} is {type(text).__name__}, not str", hint="give a list of strings"
            )
        if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
            raise InputError(
                f"text {index} holds a lone surrogate, which is not valid Unicode",
                hint="decode the bytes with errors='replace'",
            )
