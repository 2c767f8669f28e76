"""What turns texts into vectors, whatever it is made of: the type that families share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from .arrays import Floats2d, Ragged

__all__ = ["TextEncoder"]


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
        """Write a directory that ``SentenceTransformer`` loads."""
