"""Writing the tokens of one tokenizer in those of another, for every kind of tokenizer."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from tokenspace.transplant._shared import Pieces, combine, pieces
from tokenspace.vocab import Vocabulary


def byte_level(tokens: list[str], merges: list[tuple[str, str]]) -> Vocabulary:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [*alphabet, *tokens]
    model = models.BPE(vocab={t: i for i, t in enumerate(names)}, merges=merges)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return Vocabulary.of(tokenizer)


def wordpiece(tokens: list[str]) -> Vocabulary:
    names = ["[UNK]", *tokens]
    model = models.WordPiece({t: i for i, t in enumerate(names)}, unk_token="[UNK]")
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return Vocabulary.of(tokenizer)


def metaspace(pieces: list[str], *, byte_fallback: bool = False) -> Vocabulary:
    scores = [("<unk>", 0.0), *((piece, -float(len(pieces) - i)) for i, piece in enumerate(pieces))]
    scores += [(f"<0x{byte:02X}>", -99.0) for byte in range(256)] if byte_fallback else []
    tokenizer = Tokenizer(models.Unigram(scores, unk_id=0, byte_fallback=byte_fallback))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return Vocabulary.of(tokenizer)


def suffixed(tokens: list[str], merges: list[tuple[str, str]]) -> Vocabulary:
    model = models.BPE(
        vocab={t: i for i, t in enumerate(tokens)},
        merges=merges,
        end_of_word_suffix="</w>",
        unk_token="<unk>",
    )
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s+"), "removed")
    tokenizer.decoder = decoders.BPEDecoder()
    return Vocabulary.of(tokenizer)


BYTES = byte_level(["Ġc", "at", "Ġcat"], [("Ġ", "c"), ("a", "t"), ("Ġc", "at")])
BERT = wordpiece(["cat", "c", "##at", "##s", "sat", "new", "."])
LLAMA = metaspace(["▁", "▁cat", "s", "c", "a", "t", "▁new"], byte_fallback=True)
CLIP = suffixed(["c", "a", "t</w>", "s</w>", "ca", "<unk>"], [("c", "a")])


def spell(target: Vocabulary, token: str, source: Vocabulary) -> list[str]:
    found = pieces(target, np.array([target.ids[token]]), source)
    return [source.tokens[i] for i in found[0]]


def test_a_leading_space_begins_a_word() -> None:
    assert spell(BYTES, "Ġcat", BERT) == ["cat"]
    assert spell(BYTES, "at", BERT) == ["##at"]  # no space: it goes on with a word
    assert spell(BYTES, "Ġcat", LLAMA) == ["▁cat"]
    assert spell(BERT, "cat", LLAMA) == ["▁cat"]
    assert spell(BERT, "##s", LLAMA) == ["s"]
    assert spell(BERT, "cat", BYTES) == ["Ġcat"]
    assert spell(BERT, "##at", BYTES) == ["at"]


def test_the_end_of_a_word() -> None:
    assert spell(BERT, "cat", CLIP) == ["ca", "t</w>"]
    assert spell(CLIP, "s</w>", BERT) == []  # "s" begins a word there, and BERT has only ##s
    assert spell(BERT, "##s", CLIP) == ["s</w>"]


def test_the_normalizer_is_the_second_try() -> None:
    capital = metaspace(["▁CAT", "▁Cats"])
    assert spell(capital, "▁CAT", BERT) == ["cat"]
    assert spell(capital, "▁Cats", BERT) == ["cat", "##s"]


def test_several_words_and_punctuation() -> None:
    long = metaspace(["▁new▁cat", "cat."])
    assert spell(long, "▁new▁cat", BERT) == ["new", "cat"]
    assert spell(long, "▁new▁cat", LLAMA) == ["▁new", "▁cat"]
    assert spell(long, "cat.", BERT) == ["cat", "."]


def test_bytes_that_are_no_text() -> None:
    half = byte_level(["Ã©"], [("Ã", "©")])  # é, and its two bytes alone
    assert spell(half, "Ã", LLAMA) == ["<0xC3>"]
    assert spell(half, "Ã", BERT) == []
    assert spell(half, "Ã©", BYTES) == ["Ã", "©"]


def test_unknown_pieces_special_tokens_and_word_lists_give_nothing() -> None:
    words = Vocabulary.words(["cat", "zebra"])
    assert spell(words, "cat", BERT) == ["cat"]  # a word of a list begins a word
    assert spell(words, "zebra", BERT) == []
    assert spell(BERT, "[UNK]", BYTES) == []
    assert len(pieces(BERT, np.array([1, 2]), words).flat) == 0


def test_padding() -> None:
    found = Pieces(np.array([5, 7, 9]), np.array([0, 2, 2, 3]))
    supports, shares = found.padded()
    assert supports.tolist() == [[5, 7], [-1, -1], [9, -1]]
    assert shares.tolist() == [[0.5, 0.5], [0, 0], [1, 0]]
    _, weighted = found.padded(np.array([0.2, 0.8, 3], np.float32))
    np.testing.assert_allclose(weighted, [[0.2, 0.8], [0, 0], [3, 0]])
    rows = np.eye(10, dtype=np.float32)
    np.testing.assert_allclose(combine(supports, shares, rows).sum(axis=1), [1, 0, 1])


@pytest.mark.parametrize("source", [BYTES, LLAMA], ids=["bytes", "metaspace"])
def test_pieces_spell_the_token(source: Vocabulary) -> None:
    target = metaspace(["▁cat", "cat", "s", "▁a▁cat", "tac"])
    ids = np.arange(1, len(target))
    for index, found in zip(ids, (pieces(target, ids, source)[i] for i in range(5)), strict=True):
        assert b"".join(source.surfaces[j] for j in found) == target.surfaces[index]
