"""Bits per byte: by hand, against a slow transcription, and what it refuses."""

from __future__ import annotations

import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForMaskedLM, LlamaConfig, LlamaForCausalLM

from tokenspace import rng
from tokenspace.errors import ConfigError, InputError
from tokenspace.nn.score import Score, bits_per_byte, blocks, start_token, tokens_per_byte
from tokenspace.tokenizer_training import byte_bpe, unigram, wordpiece

TEXTS = ["the cat sat on the mat", "", "a dog", "the dogs sat where the cats sat, and the mat too"]
BPE = byte_bpe(TEXTS * 4, 280, start="<s>")
PLAIN = byte_bpe(TEXTS * 4, 280)  # no start token
PIECES = wordpiece(TEXTS * 4, 60)


class Bigrams(nn.Module):
    """A model whose next token depends on the last one alone: scores (V, V)."""

    def __init__(self, table):
        super().__init__()
        self.table = nn.Parameter(table)
        self.seen = []

    def forward(self, tokens):
        self.seen.append(tuple(tokens.shape))
        return SimpleNamespace(logits=self.table[tokens])


def llama(vocab, context=8):
    with rng.torch_scope(0, "test"):
        config = LlamaConfig(
            vocab_size=len(vocab), hidden_size=16, intermediate_size=24, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=context,
            initializer_range=0.5,
        )  # fmt: skip
        return LlamaForCausalLM(config).eval()


def bert(vocab):
    with rng.torch_scope(0, "test"):
        config = BertConfig(
            vocab_size=len(vocab), hidden_size=16, intermediate_size=24, num_hidden_layers=1,
            num_attention_heads=2, max_position_embeddings=32, initializer_range=0.5,
        )  # fmt: skip
        return BertForMaskedLM(config).eval()


def literal(model, vocab, text, context, stride):
    """Tell one token after the other, each from the first window that reaches it."""
    ids, start, bits = vocab.encode(text), start_token(vocab), 0.0
    for t, token in enumerate(ids):
        if t == 0 and start is None:
            bits += math.log2(len(vocab))
            continue
        reach = context if start is not None else context + 1
        window = 0
        while t >= window + reach:
            window += stride
        before = ([] if start is None else [start]) + ids[window:t]
        with torch.no_grad():
            logits = model(torch.tensor([before])).logits[0, -1].double()
        bits -= float(torch.log_softmax(logits, -1)[token]) / math.log(2)
    return bits


def test_uniform_scores_cost_log_v_a_token():
    score = bits_per_byte(Bigrams(torch.zeros(280, 280)), BPE, TEXTS, context=8)
    tokens = [len(BPE.encode(text)) for text in TEXTS]
    np.testing.assert_allclose(score.bits, np.array(tokens) * math.log2(280), rtol=1e-6)
    np.testing.assert_array_equal(score.tokens, tokens)
    np.testing.assert_array_equal(score.bytes, [len(text) for text in TEXTS])
    assert score.bits_per_byte == pytest.approx(score.tokens_per_byte * math.log2(280))
    assert score.tokens_per_byte == pytest.approx(tokens_per_byte(BPE, TEXTS))
    assert score.unknown == 0


def test_a_bigram_model_by_hand():
    draw = torch.Generator().manual_seed(0)
    table = torch.randn(280, 280, generator=draw)
    logp = torch.log_softmax(table.double(), 1).numpy()
    ids = [start_token(BPE), *BPE.encode(TEXTS[0])]
    want = -sum(logp[a, b] for a, b in pairwise(ids)) / math.log(2)
    for stride in (None, 1, 3):  # what is further back does not matter
        got = bits_per_byte(Bigrams(table), BPE, TEXTS[:1], context=5, stride=stride)
        assert got.bits[0] == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("vocab", [BPE, PLAIN], ids=["start", "no start"])
@pytest.mark.parametrize("stride", [1, 3, 4, 8])
def test_equals_a_slow_transcription(vocab, stride):
    model = llama(vocab)
    score = bits_per_byte(model, vocab, TEXTS, context=8, stride=stride)
    want = [literal(model, vocab, text, 8, stride) for text in TEXTS]
    np.testing.assert_allclose(score.bits, want, rtol=1e-4)


def test_a_text_within_one_window_costs_the_same_for_every_stride():
    model = llama(BPE, context=64)
    scores = [bits_per_byte(model, BPE, TEXTS, stride=stride).bits for stride in (1, 16, 64)]
    np.testing.assert_allclose(scores[1], scores[0], rtol=1e-5)
    np.testing.assert_allclose(scores[2], scores[0], rtol=1e-5)


def test_texts_do_not_touch_each_other():
    model = llama(BPE)
    alone = [bits_per_byte(model, BPE, [text]).bits[0] for text in TEXTS if text]
    together = bits_per_byte(model, BPE, TEXTS).bits
    np.testing.assert_allclose(together[[0, 2, 3]], alone, rtol=1e-4)
    assert together[1] == 0


def test_the_default_stride_is_half_a_window_and_the_mode_is_kept():
    model = llama(BPE).train()
    first = bits_per_byte(model, BPE, TEXTS).bits
    assert model.training
    np.testing.assert_array_equal(first, bits_per_byte(model, BPE, TEXTS, stride=4).bits)


def test_windows_cost_as_little_as_they_can():
    model = Bigrams(torch.zeros(280, 280))
    bits_per_byte(model, BPE, [TEXTS[0]], context=8, stride=8)
    tokens = len(BPE.encode(TEXTS[0]))
    assert sum(rows for rows, _ in model.seen) == -(-tokens // 8)
    assert max(width for _, width in model.seen) <= 8


def test_a_masked_model_masks_every_token_alone():
    model = bert(PIECES)
    score = bits_per_byte(model, PIECES, TEXTS[:1], share=1.0)
    ids, mask = PIECES.encode(TEXTS[0]), PIECES.roles["mask"]
    want = 0.0
    for t, token in enumerate(ids):
        row = [PIECES.roles["cls"], *ids[:t], mask, *ids[t + 1 :], PIECES.roles["sep"]]
        with torch.no_grad():
            logits = model(torch.tensor([row])).logits[0, t + 1].double()
        want -= float(torch.log_softmax(logits, -1)[token]) / math.log(2)
    assert score.kind == "pseudo"
    assert score.bits[0] == pytest.approx(want, rel=1e-4)


def test_sampled_masks_estimate_all_of_them():
    model = bert(PIECES)
    texts = [" ".join(TEXTS)] * 40
    whole = bits_per_byte(model, PIECES, texts[:1], share=1.0).bits_per_byte
    sampled = bits_per_byte(model, PIECES, texts, share=0.3)
    assert len(set(sampled.bits.tolist())) > 10  # every text has its own draw
    assert sampled.bits_per_byte == pytest.approx(whole, rel=0.05)
    again = bits_per_byte(model, PIECES, texts, share=0.3)
    np.testing.assert_array_equal(again.bits, sampled.bits)


def test_long_texts_of_a_masked_model_are_cut():
    score = bits_per_byte(bert(PIECES), PIECES, [TEXTS[3] * 5], share=1.0)
    assert np.isfinite(score.bits).all()


def test_unknown_tokens_are_counted():
    vocab = unigram(TEXTS * 4, 40)
    score = bits_per_byte(Bigrams(torch.zeros(40, 40)), vocab, ["the ż cat", "ż"])
    assert score.unknown == 2


def scored(bits, size):
    return Score(np.array(bits, float), np.array(size), np.array(size))


def test_a_paired_difference_is_tighter_than_its_parts():
    draw = np.random.default_rng(0)
    size, bits = draw.integers(50, 100, 200), draw.uniform(50, 500, 200)
    left, right = scored(bits + 0.1 * size, size), scored(bits, size)
    difference, low, high = left.minus(right)
    assert difference == pytest.approx(0.1)
    assert low == pytest.approx(0.1)
    assert high == pytest.approx(0.1)
    below, above = right.interval()
    assert below < right.bits_per_byte < above
    assert above - below > 0.1


def test_the_interval_is_that_of_the_mean():
    draw = np.random.default_rng(1)
    bits = draw.normal(300, 30, 400)
    low, high = scored(bits, [100] * 400).interval()
    half = 1.96 * bits.std() / 100 / 20
    assert (low, high) == pytest.approx(
        (bits.mean() / 100 - half, bits.mean() / 100 + half), rel=2e-3
    )


def test_scores_of_other_texts_are_refused():
    with pytest.raises(InputError, match="other texts"):
        scored([1, 2], [3, 4]).minus(scored([1, 2], [3, 5]))


@pytest.mark.parametrize("texts", [[], [""], ["", ""]])
def test_nothing_to_score_is_refused(texts):
    with pytest.raises(InputError, match="no text"):
        bits_per_byte(llama(BPE), BPE, texts)
    with pytest.raises(InputError, match="no text"):
        tokens_per_byte(BPE, texts)


def test_an_encoder_decoder_is_refused():
    model = llama(BPE)
    model.config.is_encoder_decoder = True
    with pytest.raises(InputError, match="encoder-decoder"):
        bits_per_byte(model, BPE, TEXTS)


def test_a_token_without_a_row_is_refused():
    with pytest.raises(InputError, match="no row"):
        bits_per_byte(llama(PIECES), BPE, TEXTS)


def test_a_masked_model_without_a_mask_token_is_refused():
    with pytest.raises(InputError, match="mask"):
        bits_per_byte(bert(BPE), BPE, TEXTS)


@pytest.mark.parametrize("given", [{"context": 1}, {"stride": 0}, {"stride": 9}])
def test_windows_that_make_no_sense_are_refused(given):
    if given == {"stride": 0}:
        given = {"stride": -1}
    with pytest.raises(ConfigError):
        bits_per_byte(llama(BPE), BPE, TEXTS, **given)


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_a_share_that_makes_no_sense_is_refused(share):
    with pytest.raises(ConfigError, match="share"):
        bits_per_byte(bert(PIECES), PIECES, TEXTS, share=share)


def test_blocks_join_to_the_text():
    lines = ["one", "", "two words", "x" * 30, "some more of it", "end"]
    found = list(blocks(lines, 12))
    assert "\n".join(found) == "\n".join(lines)
    assert all(len(block) >= 11 for block in found[:-1])
    assert list(blocks([], 12)) == []


def test_a_long_text_is_broken_at_spaces():
    text = " ".join(f"word{i}" for i in range(100))
    found = list(blocks([text], 50, " "))
    assert " ".join(found) == text
    assert all(50 <= len(block) <= 110 for block in found[:-1])
