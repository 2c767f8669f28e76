"""Tiny models with random weights, written as real directories of sentence-transformers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiny_bert import write_modules


@pytest.fixture
def sentence_bert(bert: Path) -> Path:
    """A sentence-transformers directory: [CLS], unit length, 12 tokens, a prompt for queries."""
    prompts = {"query": "query : "}
    write_modules(bert, {"pooling_mode_cls_token": True}, "Normalize", prompts=prompts)
    return bert
