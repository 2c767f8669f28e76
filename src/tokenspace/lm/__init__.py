"""Train a small language model from text, and judge it in bits per byte."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from tokenspace import catalog

if TYPE_CHECKING:
    from pathlib import Path

    from tokenspace.arrays import Floats2d, Ids2d
    from tokenspace.corpus import Corpus
    from tokenspace.nn.score import Score
    from tokenspace.vocab import Vocabulary

EVIDENCE = {"corpus": "Corpus", "tokenizer": "Vocabulary"}
"""Every input that a method of this family may ask for, with its type."""


class LanguageModel(Protocol):
    """What the methods of this family give."""

    vocab: Vocabulary
    metrics: Mapping[str, float]

    @property
    def context(self) -> int:
        """The most tokens that the model was trained to look at."""

    def logits(self, ids: Ids2d) -> Floats2d:
        """Return the scores of every next token, (B, T, V) float32, for ids (B, T)."""

    def score(self, texts: Sequence[str]) -> Score:
        """Return what each text costs in bits, with its bytes."""

    def save(self, path: str | Path) -> None:
        """Write a directory that ``AutoModelForCausalLM`` and ``AutoTokenizer`` load."""


class Learn(Protocol):
    """The verb: corpus -> language model."""

    def __call__(self, corpus: Corpus, /, *args: Any, **evidence: Any) -> LanguageModel:
        """Return a model trained on ``corpus``."""


def __getattr__(name: str) -> Any:
    return catalog.lazy("lm", name)
