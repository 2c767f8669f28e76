"""What a build is asked to do: every setting, checked before any work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tokenspace.errors import ConfigError

__all__ = ["Plan"]

_BOUNDS = {
    "passage_words": (10, 2000),
    "vocab_size": (300, 1_000_000),
    "dim": (8, 4096),
    "epochs": (1, 1000),
    "threads": (0, 1024),
    "seed": (0, 2**63 - 1),
}
_CHOICES = {"store": ("float32", "float16", "int8"), "errors": ("strict", "replace")}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Every setting of a build.

    ``text_field``, ``encoding`` and ``errors`` say how text is read; ``passage_words`` how long
    passages are; ``tokenizer`` or ``encoder`` name something ready in the place of what would be
    learned (``vocab_size``, ``dim``, ``epochs``); ``store`` is how vectors are kept.

    Raises :class:`ConfigError` for a value outside its bounds.
    """

    text_field: str | None = None
    encoding: str = "utf-8"
    errors: Literal["strict", "replace"] = "strict"
    passage_words: int = 120
    vocab_size: int = 8000
    tokenizer: str | None = None
    encoder: str | None = None
    trust_remote_code: bool = False
    dim: int = 128
    epochs: int = 10
    store: Literal["float32", "float16", "int8"] = "int8"
    seed: int = 0
    threads: int = 0

    def __post_init__(self) -> None:
        for name, (low, high) in _BOUNDS.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(
                    f"build: {name}={value} is outside [{low}, {high}]",
                    hint=f"choose {name} inside [{low}, {high}]",
                )
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ConfigError(
                    f"build: {name}={getattr(self, name)!r} is not one of {', '.join(choices)}",
                    hint=f"choose one of {', '.join(choices)}",
                )
        if self.encoder and self.tokenizer:
            raise ConfigError(
                "build: an encoder brings its own tokenizer",
                hint="give either encoder or tokenizer",
            )
