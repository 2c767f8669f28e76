"""Turn texts into vectors: train, adapt or assemble a text encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from tokenspace import catalog
from tokenspace.text_encoder import TextEncoder as TextEncoder

if TYPE_CHECKING:
    from tokenspace.corpus import Corpus

EVIDENCE = {
    "corpus": "Corpus",
    "table": "EmbeddingTable",
    "encoder": "TextEncoder",
    "labels": "Labels",
    "vocab": "Vocabulary",
}
"""Every input that a method of this family may ask for, with its type."""


class Encode(Protocol):
    """The verb: corpus -> text encoder."""

    def __call__(self, corpus: Corpus, /, *args: Any, **evidence: Any) -> TextEncoder:
        """Return an encoder fitted on ``corpus``."""


def __getattr__(name: str) -> Any:
    return catalog.lazy("encode", name)
