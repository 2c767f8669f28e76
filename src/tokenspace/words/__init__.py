"""Learn vectors for words, or for the tokens of any vocabulary, from text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from tokenspace import catalog

if TYPE_CHECKING:
    from tokenspace.corpus import Corpus
    from tokenspace.table import EmbeddingTable

EVIDENCE = {"corpus": "Corpus", "vocab": "Vocabulary", "encoder": "TextEncoder"}
"""Every input that a method of this family may ask for, with its type."""


class Words(Protocol):
    """The verb: corpus -> table of vectors with counts."""

    def __call__(self, corpus: Corpus, /, *args: Any, **evidence: Any) -> EmbeddingTable:
        """Return one row for every word of the corpus, or for every token of ``vocab``."""


def __getattr__(name: str) -> Any:
    return catalog.lazy("words", name)
