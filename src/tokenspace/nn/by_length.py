"""The vectors of a training step's texts: short texts do not wait for the longest of their batch.

A trainer pads a batch to its longest text, and what is padded is computed as well. On a processor
the texts of a batch are passed in groups of like length instead, each padded to its own longest
(:func:`tokenspace.nn.layers.column_vectors`), which changes no vector beyond rounding. Where a
machine has instructions for bfloat16, products are taken in it; weights, vectors and everything
after them are in float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tokenspace.nn.decoder import quicker_in_bf16
from tokenspace.nn.layers import column_vectors

__all__ = ["text_vectors"]


def text_vectors(model: Any, columns: Sequence[Mapping[str, Any]]) -> list[Tensor]:
    """Return (B, D) for every column of a batch, float32 or wider, as gradients flow through.

    ``model`` is one of sentence-transformers, ``columns`` what its trainer gives to a loss. One
    that is spread over several processes gets every column whole, so that all take as many passes,
    and so does a bag of words, which has no padding.
    """
    spread = isinstance(model, nn.parallel.DistributedDataParallel)
    device = next(model.parameters()).device.type
    with torch.autocast(device, torch.bfloat16, enabled=quicker_in_bf16()):
        if spread or any("attention_mask" not in column for column in columns):
            return [vector for column in columns for vector in _vectors(model, column)]
        (found,) = column_vectors(model, columns, _vectors)
        return list(found)


def _vectors(model: Any, column: Mapping[str, Any]) -> list[Tensor]:
    vectors: Tensor = model(dict(column))["sentence_embedding"]
    return [vectors.to(torch.promote_types(vectors.dtype, torch.float32))]
