"""Model directories: opened by their headers, and written again with another vocabulary.

::

    checkpoint = Checkpoint.open("path, package or hub id")
    target = Target.of(checkpoint, "directory of a tokenizer")
    rows = method(checkpoint.table("input"), target.vocab).vectors
    write(checkpoint, "out", target, input=rows)

Needs neither torch nor transformers: a checkpoint larger than memory passes through in blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .ids import Ids as Ids
    from .model import Checkpoint as Checkpoint
    from .target import CHAT_TEMPLATES as CHAT_TEMPLATES
    from .target import DIGITS as DIGITS
    from .target import Target as Target
    from .tensors import VocabTensor as VocabTensor
    from .writer import Written as Written
    from .writer import write as write

__all__ = [
    "CHAT_TEMPLATES",
    "DIGITS",
    "Checkpoint",
    "Ids",
    "Target",
    "VocabTensor",
    "Written",
    "write",
]

_HOME = {
    "CHAT_TEMPLATES": "target",
    "DIGITS": "target",
    "Checkpoint": "model",
    "Ids": "ids",
    "Target": "target",
    "VocabTensor": "tensors",
    "Written": "writer",
    "write": "writer",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'tokenspace.checkpoint' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOME[name]}", __name__), name)
