"""Model directories: opened by their headers, and written again with another vocabulary.

::

    checkpoint = Checkpoint.open("path, package or hub id")
    target = Target.of(checkpoint, "directory of a tokenizer")
    rows = method(checkpoint.table("input"), target.vocab).vectors
    write(checkpoint, "out", target, input=rows)

Needs neither torch nor transformers: a checkpoint larger than memory passes through in blocks.
"""

from .ids import Ids
from .model import Checkpoint
from .target import CHAT_TEMPLATES, DIGITS, Target
from .tensors import VocabTensor
from .writer import Written, write

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
