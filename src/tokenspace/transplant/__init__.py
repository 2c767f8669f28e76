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

EVIDENCE = {
    "source": "EmbeddingTable",
    "target": "Vocabulary",
    "donor": "EmbeddingTable",
    "corpus": "Corpus",
    "vectors": "EmbeddingTable",
    "source_vectors": "EmbeddingTable",
    "target_vectors": "EmbeddingTable",
    "dictionary": "Pairs",
    "parallel": "Pairs",
    "encoder": "TextEncoder",
    "hypernet": "Hypernet",
    "model": "Checkpoint",
}
"""Every input that a method of this family may ask for, with its type.

``donor``: another model's table over the target's tokens. ``corpus``: text in the target's
language. ``vectors``: word or token vectors in which the tokens of both sides have a place;
``source_vectors`` and ``target_vectors``: word vectors of either language. ``dictionary``: word
pairs, ``parallel``: sentence pairs, (source, target) each. ``encoder``: any text encoder.
``model``: the model directory that ``source`` is the input matrix of; ``hypernet``: a network
trained for that model.
"""


class Transplant(Protocol):
    """The verb: (source table, target vocabulary) -> table over the target vocabulary."""

    def __call__(
        self, source: EmbeddingTable, target: Vocabulary, /, *args: Any, **evidence: Any
    ) -> EmbeddingTable:
        """Return one row for every token of ``target``."""


def __getattr__(name: str) -> Any:
    return catalog.lazy("transplant", name)
