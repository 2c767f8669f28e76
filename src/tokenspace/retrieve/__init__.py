"""Search documents by the vectors of their tokens (late interaction).

A document and a query are matrices of token vectors; the score is Chamfer similarity, also
called MaxSim: the sum, over query tokens, of the best inner product with a document token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from tokenspace import catalog

if TYPE_CHECKING:
    from pathlib import Path

    from tokenspace.arrays import Floats2d, Ids2d, Ragged

EVIDENCE = {
    "docs": "Ragged",
    "train_queries": "Ragged",
    "train_docs": "Ragged",
    "train_negatives": "Ragged",
}
"""Every input that a method of this family may ask for, with its type."""


class Index(Protocol):
    """Documents that answer queries."""

    @property
    def nbytes(self) -> int:
        """Bytes that the index holds."""

    def search(self, queries: Ragged, k: int = 10) -> tuple[Ids2d, Floats2d]:
        """Return document numbers and scores, (Q, k) each, best first, ties by number.

        Where there are fewer than ``k`` documents, k is their number.
        """

    def save(self, path: str | Path) -> None:
        """Write the index."""


class Retrieve(Protocol):
    """The verb: token vectors of the documents -> index."""

    def __call__(self, docs: Ragged, /, *args: Any, **evidence: Any) -> Index:
        """Return an index over ``docs``."""


def __getattr__(name: str) -> Any:
    return catalog.lazy("retrieve", name)
