"""Turn texts into vectors: train, adapt or assemble a text encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from tokenspace import catalog
from tokenspace.text_encoder import TextEncoder as TextEncoder

if TYPE_CHECKING:
    from tokenspace.corpus import Corpus
    from tokenspace.text_encoder import PretrainedEncoder

EVIDENCE = {
    "corpus": "Corpus",
    "model": "PretrainedEncoder",
    "decoder": "PretrainedEncoder",
    "definitions": "Definitions",
    "examples": "Examples",
    "tasks": "Examples",
    "general": "Examples",
    "table": "EmbeddingTable",
    "encoder": "TextEncoder",
    "labels": "Labels",
    "vocab": "Vocabulary",
}
"""Every input that a method of this family may ask for, with its type.

``model`` is a pretrained network that the method changes or goes on to train, ``decoder`` one that
was made to go on with a text, ``encoder`` anything that turns texts into vectors, whatever it is
made of. ``tasks`` are examples of another kind, which come in once those of the first are learned;
``general`` are examples of no field, which a model knows and is to know afterwards.
"""


class Encode(Protocol):
    """The verb: a corpus, or a pretrained network, -> text encoder."""

    def __call__(self, given: Corpus | PretrainedEncoder, /, **evidence: Any) -> TextEncoder:
        """Return an encoder fitted on a corpus, or made from a network."""


def __getattr__(name: str) -> Any:
    return catalog.lazy("encode", name)
