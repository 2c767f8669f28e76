"""The adapter for mteb, with batches that stand in for its loader; the real one is a peer test."""

from __future__ import annotations

import subprocess
import sys
from enum import StrEnum
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tokenspace.encode.mteb import MTEBEncoder
from tokenspace.metrics import cosine
from tokenspace.toy_encoder import ToyEncoder

STS = SimpleNamespace(name="STS12", type="STS")
SEARCH = SimpleNamespace(name="Nano", type="Retrieval")
BATCHES = [{"text": ["one two", "three"]}, {"text": ["four five six"]}, {"text": []}]


class Side(StrEnum):
    query = "query"
    document = "document"


class Prompted:
    """An encoder with prompts, which shows in its vectors which one it was given."""

    dim = 2
    prompts = {"query": "q: ", "Retrieval-document": "d: ", "STS12": "s: ", "STS": "t: "}  # noqa: RUF012

    def __init__(self, prompt: str = "") -> None:
        self.prompt = prompt

    def prompted(self, name: str) -> Prompted:
        return Prompted(name)

    def encode(self, texts: list[str], *, batch_size: int = 32) -> np.ndarray:
        row = [list(self.prompts).index(self.prompt) if self.prompt else -1, batch_size]
        return np.array([row] * len(texts), np.float32)


def asked(task: SimpleNamespace, side: Side | None, **more: object) -> list[float]:
    found = MTEBEncoder(Prompted()).encode(
        BATCHES, task_metadata=task, hf_split="test", hf_subset="default", prompt_type=side, **more
    )
    return found[0].tolist()


def test_batches_become_rows_in_their_order() -> None:
    encoder = ToyEncoder()
    found = MTEBEncoder(encoder).encode(
        BATCHES, task_metadata=STS, hf_split="test", hf_subset="default", show_progress_bar=False
    )
    np.testing.assert_array_equal(found, encoder.encode(["one two", "three", "four five six"]))


def test_the_prompt_is_the_most_particular_one() -> None:
    assert asked(STS, None)[0] == 2  # the task's, before its type's
    assert asked(SimpleNamespace(name="x", type="STS"), None)[0] == 3
    assert asked(SEARCH, Side.query)[0] == 0
    assert asked(SEARCH, Side.document)[0] == 1
    assert asked(SEARCH, None)[0] == -1
    assert asked(SEARCH, None, batch_size=7)[1] == 7


def test_similarities_are_cosines() -> None:
    draw = np.random.default_rng(0)
    first, second = draw.standard_normal((2, 4, 5)).astype(np.float32)
    adapter = MTEBEncoder(ToyEncoder())
    pairwise = adapter.similarity_pairwise(first, torch.from_numpy(second))
    np.testing.assert_allclose(pairwise, cosine(first, second), atol=1e-6)
    every = adapter.similarity(first, second)
    assert tuple(every.shape) == (4, 4)
    np.testing.assert_allclose(every.diagonal(), pairwise, atol=1e-6)
    assert float(adapter.similarity(first[0], second[0])) == pytest.approx(float(pairwise[0]))


def test_mteb_is_not_imported() -> None:
    code = "import sys, tokenspace.encode.mteb; assert not {'mteb', 'torch'} & sys.modules.keys()"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
