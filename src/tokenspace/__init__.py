"""Tokenspace: learn, transplant, search, compress, probe and repair the vectors under tokens.

Everything here is imported at first use, so ``import tokenspace`` costs a few milliseconds.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .arrays import Ragged as Ragged
    from .compress import Lookup as Lookup
    from .corpus import Corpus as Corpus
    from .encode import TextEncoder as TextEncoder
    from .errors import TokenspaceError as TokenspaceError
    from .progress import show_progress as show_progress
    from .recipe import Recipe as Recipe
    from .recipe import make as make
    from .recipe import parse as parse
    from .report import Report as Report
    from .report import reproduce as reproduce
    from .retrieve import Index as Index
    from .space import Space as Space
    from .table import EmbeddingTable as EmbeddingTable
    from .vocab import Vocabulary as Vocabulary

__version__ = "0.1.0"

_HOME = {
    "Corpus": "corpus",
    "EmbeddingTable": "table",
    "Index": "retrieve",
    "Lookup": "compress",
    "Ragged": "arrays",
    "Recipe": "recipe",
    "Report": "report",
    "Space": "space",
    "TextEncoder": "encode",
    "TokenspaceError": "errors",
    "Vocabulary": "vocab",
    "make": "recipe",
    "parse": "recipe",
    "reproduce": "report",
    "show_progress": "progress",
}

__all__ = list(_HOME)


logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'tokenspace' has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
