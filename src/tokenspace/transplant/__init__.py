"""Give a model another vocabulary: rows for the tokens of ``target`` out of ``source``.

Shared tokens (equal bytes, :meth:`tokenspace.Vocabulary.shared`) keep their rows bit for bit;
the methods differ in what they do for the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from tokenspace import catalog

if TYPE_CHECKING:
    from tokenspace.table import EmbeddingTable
    from tokenspace.vocab import Vocabulary

EVIDENCE = {"source": "EmbeddingTable", "target": "Vocabulary", "donor": "EmbeddingTable"}
"""Every input that a method of this family may ask for, with its type."""


class Transplant(Protocol):
    """The verb: (source table, target vocabulary) -> table over the target vocabulary."""

    def __call__(
        self, source: EmbeddingTable, target: Vocabulary, /, *args: Any, **evidence: Any
    ) -> EmbeddingTable:
        """Return one row for every token of ``target``."""


def __getattr__(name: str) -> Any:
    return catalog.lazy("transplant", name)
