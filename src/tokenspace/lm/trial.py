"""The family's common data and yardstick: text, a tokenizer for all, and text held back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tokenspace import data
from tokenspace.corpus import Corpus
from tokenspace.tokenizer_training import byte_bpe

if TYPE_CHECKING:
    from tokenspace.lm import LanguageModel

__all__ = ["bag", "judge"]


def bag(seed: int = 0, *, tiny: bool = False) -> dict[str, Any]:
    """Return ``corpus``, ``tokenizer`` and ``unseen``, texts that the corpus lacks.

    Python's language reference, every tenth topic unseen, and a byte-level BPE of 2,048 tokens;
    ``tiny`` takes sentences of invented words, and 300 tokens.
    """
    if tiny:
        texts = data.zipf_text(220, 60, 4, seed)
        known, unseen = texts[:200], texts[200:]
    else:
        texts = [text for _, text in data.manual()]
        known = [text for i, text in enumerate(texts) if i % 10]
        unseen = texts[::10]
    tokenizer = byte_bpe(known, 300 if tiny else 2048, start="<|endoftext|>")
    return {"corpus": Corpus(known), "tokenizer": tokenizer, "unseen": unseen}


def judge(result: LanguageModel, bag: Mapping[str, Any]) -> dict[str, float]:
    """Return what the unseen text costs, with its interval, and what training took."""
    score = result.score(bag["unseen"])
    low, high = score.interval()
    return {
        "bits_per_byte": score.bits_per_byte,
        "low": low,
        "high": high,
        "tokens_per_byte": score.tokens_per_byte,
        "tokens_seen": float(result.metrics["tokens"]),
    }
