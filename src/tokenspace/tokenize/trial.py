"""The family's common data and yardstick: how few tokens spell a text that was not learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tokenspace.corpus import Corpus
from tokenspace.data import zipf_text
from tokenspace.vocab import Vocabulary

__all__ = ["bag", "judge", "tokens_per_byte"]


def bag(seed: int = 0, *, tiny: bool = False) -> dict[str, Any]:
    """Return a ``corpus`` of invented sentences and ``unseen`` ones of the same topics."""
    texts = zipf_text(*((120, 60, 4) if tiny else (20_000, 1_200, 40)), seed=seed)
    fold = len(texts) // 5
    return {"corpus": Corpus(texts[fold:]), "unseen": texts[:fold]}


def judge(result: Vocabulary, bag: Mapping[str, Any]) -> dict[str, float]:
    """Return tokens per byte of the unseen sentences, how many come back, and the tokens."""
    unseen: Sequence[str] = bag["unseen"]
    spelled = (b"".join(map(result.surface, ids)) for ids in result.encode_batch(unseen))
    same = [text.encode() == found for text, found in zip(unseen, spelled, strict=True)]
    return {
        "tokens_per_byte": tokens_per_byte(result, unseen),
        "restored": sum(same) / len(same),
        "tokens": float(len(result)),
    }


def tokens_per_byte(vocab: Vocabulary, texts: Sequence[str]) -> float:
    """Return the tokens that ``texts`` take, divided by their UTF-8 bytes."""
    tokens = sum(map(len, vocab.encode_batch(texts)))
    return tokens / max(1, sum(len(text.encode("utf-8", "surrogatepass")) for text in texts))
