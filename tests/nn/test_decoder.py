"""Rows of tokens, windows, and the loss of the next token, by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from tokenspace.nn.decoder import (
    joint,
    next_token_loss,
    on_threads,
    quicker_in_bf16,
    token_row,
    windows,
)
from tokenspace.tokenizer_training import byte_bpe, unigram, wordpiece

TEXTS = ["one two", "three", "two one two"]


def test_texts_are_joined_by_what_the_tokenizer_can_spell():
    bytes_only = byte_bpe([], 257, start="<s>")
    assert joint(bytes_only) == "\n"
    assert joint(unigram(TEXTS, 30)) == " "
    assert joint(wordpiece(TEXTS, 40)) == " "
    row = token_row(TEXTS, bytes_only)
    assert row.dtype == np.int32
    assert b"".join(bytes_only.surface(i) for i in row) == b"one two\nthree\ntwo one two\n"


def test_no_text_is_an_empty_row():
    assert len(token_row([], byte_bpe([], 256))) == 0


def test_a_long_row_is_the_same_as_its_parts():
    vocab = byte_bpe(TEXTS, 270)
    texts = TEXTS * 400  # several groups
    np.testing.assert_array_equal(
        token_row(texts, vocab), np.concatenate([token_row([text], vocab) for text in texts])
    )


@pytest.mark.parametrize("start", [7, None])
def test_windows_are_stretches_of_the_row(start):
    row = np.arange(100, 160, dtype=np.int32)
    batches = windows(row, start, 5, 4, seed=3)
    seen = set()
    for _ in range(200):
        batch = next(batches)
        assert batch.shape == (4, 6)
        assert batch.dtype == torch.int64
        inner = batch if start is None else batch[:, 1:]
        assert (inner.diff(dim=1) == 1).all()
        assert start is None or (batch[:, 0] == start).all()
        seen |= set(inner[:, 0].tolist())
    assert seen == set(range(100, 160 - inner.shape[1] + 1))


def test_windows_are_those_of_their_seed():
    row = np.arange(50, dtype=np.int32)
    first, again, other = (next(windows(row, 0, 5, 8, seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_row_shorter_than_a_window_is_an_error():
    with pytest.raises(ValueError, match="do not fill"):
        next(windows(np.arange(5, dtype=np.int32), 0, 6, 1, seed=0))


class Constant(nn.Module):
    def __init__(self, scores):
        super().__init__()
        self.scores = nn.Parameter(torch.tensor(scores))

    def forward(self, tokens, use_cache):
        assert use_cache is False
        return SimpleNamespace(logits=self.scores.expand(*tokens.shape, -1))


def test_the_loss_by_hand():
    p = [0.5, 0.25, 0.25]
    module = Constant([math.log(value) for value in p])
    batch = torch.tensor([[2, 0, 1], [1, 0, 0]])
    want = -(3 * math.log(0.5) + math.log(0.25)) / 4
    assert float(next_token_loss()(module, batch).detach()) == pytest.approx(want, rel=1e-6)
    assert float(next_token_loss(bf16=True)(module, batch).detach()) == pytest.approx(
        want, rel=0.02
    )


def test_threads_are_set_and_put_back():
    before = torch.get_num_threads()
    with on_threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
    with on_threads(0):
        assert torch.get_num_threads() == before


def test_bf16_is_for_processors_with_instructions_for_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for avx512, amx in ((False, False), (True, False), (False, True)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has=avx512: has)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda has=amx: has)
        assert quicker_in_bf16() is (avx512 or amx)
