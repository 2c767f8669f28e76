"""Store a table of vectors in fewer bytes, behind one protocol: rows by id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from tokenspace import catalog

if TYPE_CHECKING:
    from pathlib import Path

    from tokenspace.arrays import Floats2d, Ids

EVIDENCE = {"vectors": "Floats2d"}
"""Every input that a method of this family may ask for, with its type."""


class Lookup(Protocol):
    """Rows by id: a table of vectors, or a compressed form of one."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and width, (V, D)."""

    @property
    def nbytes(self) -> int:
        """Bytes of the stored form, with everything that a row needs."""

    def rows(self, ids: Ids) -> Floats2d:
        """Return the rows of ``ids`` (n,), as (n, D) float32."""

    def save(self, path: str | Path) -> None:
        """Write the stored form to one file."""


class Compress(Protocol):
    """The verb: (V, D) float32 vectors -> a form that takes fewer bytes."""

    def __call__(self, vectors: Floats2d, /, *args: Any, **evidence: Any) -> Lookup:
        """Return the compressed form of ``vectors``."""


def __getattr__(name: str) -> Any:
    return catalog.lazy("compress", name)
