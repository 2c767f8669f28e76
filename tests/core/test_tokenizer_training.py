"""Tokenizers learned from text: what they spell, and what opens a text."""

from __future__ import annotations

import pytest

from tokenspace import data
from tokenspace.errors import ConfigError
from tokenspace.tokenizer_training import byte_bpe, unigram, wordpiece

TEXTS = [text for _, text in data.manual()][:20]


def spelled(vocab, text: str) -> bytes:
    return b"".join(vocab.surface(i) for i in vocab.encode(text))


def test_a_byte_level_bpe_spells_everything():
    vocab = byte_bpe(TEXTS, 400)
    for text in (TEXTS[0], "", "naïve — 中文 🙂", "\ttabs\n\n and  spaces "):
        assert spelled(vocab, text) == text.encode()
    assert len(vocab) == 400
    assert not vocab.roles


def test_without_text_there_are_bytes_only():
    vocab = byte_bpe([], 257, start="<s>")
    assert len(vocab) == 257
    assert len(vocab.encode("abc")) == 3


def test_the_first_merge_is_the_most_frequent_pair():
    vocab = byte_bpe(["ababab cd"], 257)
    assert vocab.surface(256) == b"ab"


def test_a_start_token_opens_texts_and_has_its_roles():
    vocab = byte_bpe(TEXTS, 300, start="<|endoftext|>")
    assert vocab.roles["bos"] == vocab.roles["eos"] == 0
    assert vocab.tokenizer is not None
    assert vocab.tokenizer.encode("the").ids == [0, *vocab.encode("the")]


def test_lower_case_and_a_space_before_every_text():
    vocab = byte_bpe(TEXTS, 300, lower=True)
    assert vocab.encode("The") == vocab.encode("the") == vocab.encode(" the")


def test_unigram_spells_what_it_has_seen():
    vocab = unigram(TEXTS, 300)
    assert spelled(vocab, "the statement is") == b" the statement is"
    assert vocab.kind == "unigram"
    assert len(vocab) <= 300
    assert {"bos", "eos", "unk"} <= vocab.roles.keys()
    assert vocab.roles["unk"] in vocab.encode("ż")


def test_wordpiece_has_berts_special_tokens():
    vocab = wordpiece(TEXTS, 300)
    assert vocab.kind == "wordpiece"
    assert vocab.roles == {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
    assert spelled(vocab, "the statement") == b" the statement"
    assert vocab.tokenizer is not None
    assert vocab.tokenizer.encode("the").ids == [2, *vocab.encode("the"), 3]


@pytest.mark.parametrize("learn", [byte_bpe, wordpiece])
def test_the_same_text_gives_the_same_vocabulary(learn):
    first, *others = (learn(TEXTS, 500).fingerprint for _ in range(4))
    assert others == [first] * 3


def test_wordpieces_are_special_tokens_letters_and_then_the_most_frequent_pairs():
    vocab = wordpiece(["abab abc abc", "cab"], 13)
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "##a", "##b", "##c", "a", "b", "c"]
    # a ##b occurs 3 times, ##a ##b and ##b ##c 2 times; then ab ##c 2 times, and ##a ##b
    assert vocab.tokens[:12] == (*tokens, "ab")
    assert vocab.tokens[12] == "##ab"  # the letters that come first


@pytest.mark.parametrize(("learn", "size"), [(byte_bpe, 255), (unigram, 3), (wordpiece, 5)])
def test_a_size_that_cannot_be_is_refused(learn, size: int):
    with pytest.raises(ConfigError, match="vocab_size"):
        learn(TEXTS, size)
