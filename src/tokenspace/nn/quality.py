"""What a change did to a model's token vectors: both models measured on the same texts.

A language model is judged by its bits per byte, an encoder by how far its vectors of the texts
have moved from the source's.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from tokenspace import data
from tokenspace.checkpoint import Checkpoint
from tokenspace.metrics import cosine, spearman
from tokenspace.nn.encoder import load_encoder
from tokenspace.nn.quiet import quiet
from tokenspace.nn.score import bits_per_byte, blocks, tokens_per_byte
from tokenspace.nn.validate import validate
from tokenspace.stdlib_text import sample

__all__ = ["compared", "language_model", "quality"]

log = logging.getLogger(__name__)

_MOST = 200_000  # bytes that are measured: minutes on two cores, and an interval of under 1 %
_SAMPLE = 40_000  # bytes of the default text
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
        short = _some(texts, _SHORT)
        old, new = (load_encoder(str(c.root)).encode(short) for c in checkpoints)
        figures["cosine"] = float(np.mean(cosine(old, new)))
    return figures


def compared(
    source: Path, result: Path, texts: Sequence[str] | None = None, sts: str | None = None
) -> dict[str, float]:
    """Load the result, run it once, and measure both models.

    ``texts`` are by default the first pages of Python's documentation. ``sts`` names a set of
    rated pairs of sentences (:func:`tokenspace.data.sts`) for encoders: Spearman's correlation of
    cosines with the ratings is ``sts_before`` and ``sts_after``.

    Raises :class:`~tokenspace.errors.FormatError` where the result does not work.
    """
    findings = validate(result)
    findings.check()
    if not findings.ran:
        log.warning("the result is too large to be run here: checked by its headers only")
        return {}
    figures = quality(source, result, list(texts) if texts is not None else sample(_SAMPLE))
    if sts is not None:
        pairs = data.sts(sts)
        for when, folder in (("before", source), ("after", result)):
            figures[f"sts_{when}"] = _spearman(folder, pairs)
    return figures


def _spearman(folder: Path, pairs: Sequence[tuple[str, str, float]]) -> float:
    encoder = load_encoder(str(folder))
    left = encoder.encode([first for first, _, _ in pairs])
    right = encoder.encode([second for _, second, _ in pairs])
    return spearman(cosine(left, right), [rating for _, _, rating in pairs])


def _some(texts: Sequence[str], size: int) -> list[str]:
    return list(islice(blocks(texts, size), max(1, _MOST // size)))
