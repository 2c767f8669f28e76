"""What another vocabulary did to a model: both measured on the same texts.

A language model is judged by its bits per byte, an encoder by how far its vectors of the texts
have moved from the source's.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from tokenspace.checkpoint import Checkpoint
from tokenspace.nn.quiet import quiet
from tokenspace.nn.score import bits_per_byte, blocks, tokens_per_byte

__all__ = ["language_model", "quality"]

_MOST = 200_000  # bytes that are measured: minutes on two cores, and an interval of under 1 %
_SHORT = 400  # bytes of a text for an encoder, which cuts what is longer than its context


def language_model(folder: Path) -> Any:
    """Load the language model in a directory; None where it has no head, or encodes sentences.

    Code of the directory's own is never run.
    """
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    checkpoint = Checkpoint.open(folder)
    loader: Any = AutoModelForMaskedLM if checkpoint.masked else AutoModelForCausalLM
    heads = [name for name in checkpoint.architectures if name.endswith(("LM", "LMHeadModel"))]
    sentences = (checkpoint.root / "modules.json").is_file()  # its head, if named, is not stored
    if not heads or sentences or checkpoint.kind == "encoder-decoder":
        return None
    with quiet():
        return loader.from_pretrained(str(checkpoint.folder), dtype="float32").eval()


def quality(source: Path, result: Path, texts: Sequence[str]) -> dict[str, float]:
    """Measure both models on ``texts``, of long ones on the first 200,000 bytes.

    Returns ``tokens_per_byte_before`` and ``_after``, and, for language models,
    ``bits_per_byte_before`` and ``_after`` with ``gain`` (before - after) and its 95 % interval
    ``gain_low``, ``gain_high`` by a paired bootstrap over blocks of 2,000 bytes; for encoders
    ``cosine``, the mean cosine of the two vectors of a text.
    """
    checkpoints = [Checkpoint.open(folder) for folder in (source, result)]
    parts = _some(texts, 2000)
    figures = {
        f"tokens_per_byte_{when}": tokens_per_byte(checkpoint.vocab, parts)
        for when, checkpoint in zip(("before", "after"), checkpoints, strict=True)
    }
    scores = []
    for checkpoint in checkpoints:
        model = language_model(checkpoint.root)
        if model is not None:
            scores.append(bits_per_byte(model, checkpoint.vocab, parts))
    if len(scores) == 2:
        before, after = scores
        loss, low, high = after.minus(before)
        return {
            **figures,
            "bits_per_byte_before": before.bits_per_byte,
            "bits_per_byte_after": after.bits_per_byte,
            "gain": -loss,
            "gain_low": -high,
            "gain_high": -low,
        }
    if checkpoints[0].kind == "encoder":
        from tokenspace.metrics import cosine
        from tokenspace.nn.encoder import load_encoder

        short = _some(texts, _SHORT)
        old, new = (load_encoder(str(c.root)).encode(short) for c in checkpoints)
        figures["cosine"] = float(np.mean(cosine(old, new)))
    return figures


def _some(texts: Sequence[str], size: int) -> list[str]:
    return list(islice(blocks(texts, size), max(1, _MOST // size)))
