"""Learn a tokenizer from text: which strings become tokens, and how text is cut into them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from tokenspace import catalog

if TYPE_CHECKING:
    from tokenspace.corpus import Corpus
    from tokenspace.vocab import Vocabulary

EVIDENCE = {"corpus": "Corpus"}
"""Every input that a method of this family may ask for, with its type."""


class Tokenize(Protocol):
    """The verb: corpus -> vocabulary with a tokenizer."""

    def __call__(self, corpus: Corpus, /, *args: Any, **evidence: Any) -> Vocabulary:
        """Return a vocabulary whose tokenizer was learned from ``corpus``."""


def __getattr__(name: str) -> Any:
    return catalog.lazy("tokenize", name)
