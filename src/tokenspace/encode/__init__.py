"""Turn texts into vectors: train, adapt or assemble a text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from tokenspace import catalog

if TYPE_CHECKING:
    from pathlib import Path

    from tokenspace.arrays import Floats2d, Ragged
    from tokenspace.corpus import Corpus

EVIDENCE = {"corpus": "Corpus", "table": "EmbeddingTable"}
"""Every input that a method of this family may ask for, with its type."""


class TextEncoder(Protocol):
    """What the methods of this family give, and what search builds on."""

    @property
    def dim(self) -> int:
        """Width D of the vectors."""

    def encode(self, texts: Sequence[str], *, batch_size: int = 32) -> Floats2d:
        """Return one vector a text, (N, D) float32."""

    def encode_tokens(self, texts: Sequence[str], *, batch_size: int = 32) -> Ragged:
        """Return one matrix of token vectors a text, each (T_i, D) float32."""

    def save(self, path: str | Path) -> None:
        """Write a directory that ``SentenceTransformer`` loads."""


class Encode(Protocol):
    """The verb: corpus -> text encoder."""

    def __call__(self, corpus: Corpus, /, *args: Any, **evidence: Any) -> TextEncoder:
        """Return an encoder fitted on ``corpus``."""


def __getattr__(name: str) -> Any:
    return catalog.lazy("encode", name)
