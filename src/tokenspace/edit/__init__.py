"""Find directions of a space and move them: what is learned is kept, and a part of it changed.

Called with a table, a method returns a table of the same tokens. A model directory can be given
in its place on the command line (:mod:`tokenspace.edit.directory`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from tokenspace import catalog

if TYPE_CHECKING:
    from tokenspace.table import EmbeddingTable

EVIDENCE = {
    "source": "EmbeddingTable",
    "definitional": "WordSets",
    "equalize": "WordSets",
    "specific": "WordSets",
    "classes": "WordSets",
    "directions": "Floats2d",
    "target": "EmbeddingTable",
    "dictionary": "Pairs",
}
"""Every input that a method of this family may ask for, with its type.

``source`` is the table, (V, D). The words of a set of ``definitional`` differ in what is sought,
such as she and he; the words of a set of ``equalize`` shall differ in nothing else; ``specific``
words may keep it. ``classes`` are sets of words of one kind each. ``directions`` (k, D) are given
as they are. ``target`` is a table whose space the source is brought into, and ``dictionary`` the
words of both that mean the same.
"""


class Edit(Protocol):
    """The verb: a table -> a table of the same tokens in which directions have moved."""

    def __call__(self, source: EmbeddingTable, /, *args: Any, **evidence: Any) -> EmbeddingTable:
        """Return the edited table; ``source`` is not changed."""


def __getattr__(name: str) -> Any:
    return catalog.lazy("edit", name)
