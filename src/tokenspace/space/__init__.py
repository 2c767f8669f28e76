"""The main job: from a folder of text to a space that answers questions and says why.

``Space.build`` runs eight steps (passages, vocabulary, vectors, cloze, encode, index, compress,
measure); ``Space.open`` gives an object that searches, names neighbours, and can be added to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .search import Hit as Hit
    from .search import Match as Match
    from .space import Space as Space

__all__ = ["Hit", "Match", "Space"]

_HOME = {"Hit": "search", "Match": "search", "Space": "space"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'tokenspace.space' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOME[name]}", __name__), name)
