"""Store a table of vectors in fewer bytes, behind one protocol: rows by id.

Called with a finished table, a method returns the stored form. Most have a second use: asked for
its ``embedding(size, width)``, a method returns a module that takes the place of
``torch.nn.Embedding`` in a model that is yet to be trained, whose ``export()`` is such a form too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from tokenspace import catalog

if TYPE_CHECKING:
    from pathlib import Path

    from tokenspace.arrays import Floats2d, Ids
    from tokenspace.nn.embedding import CompressedEmbedding

EVIDENCE = {"source": "Floats2d", "counts": "Ids", "fields": "Ids"}
"""Every input that a method of this family may ask for, with its type.

``source`` is the table, (V, D). ``counts`` (V,) says how often each row is asked for. ``fields``
(V,) numbers the feature that each row is a value of (users, films, ...), from 0 on.
"""


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

    def __call__(self, source: Floats2d, /, *args: Any, **evidence: Any) -> Lookup:
        """Return the compressed form of ``source``."""


class Trainable(Compress, Protocol):
    """A method that can also be trained from nothing; the others have no ``embedding``."""

    def embedding(
        self,
        size: int,
        width: int,
        *,
        counts: Ids | None = None,
        fields: Ids | None = None,
        init_std: float = 0.05,
        seed: int = 0,
    ) -> CompressedEmbedding:
        """Return the same form as a layer of (size, width) that is yet to be trained.

        ``init_std`` is the standard deviation of the numbers of a row that is looked up, the same
        for every method, and ``seed`` is that of the initial numbers.
        """


def __getattr__(name: str) -> Any:
    return catalog.lazy("compress", name)
