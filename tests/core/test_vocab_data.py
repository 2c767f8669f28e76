"""Real public tokenizers where the data folder is there, built ones of the same kinds elsewhere."""

from __future__ import annotations

import base64
import functools
import gzip
import json
import os
import random
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from tokenspace.surface import CHARACTERS
from tokenspace.vocab import Vocabulary

FOLDER = Path(os.environ.get("TOKENSPACE_DATA", "")) / "tokenizers"
REAL = "TOKENSPACE_DATA" in os.environ and FOLDER.is_dir()
TEXT = "the cat sat on the mat, and the Hat's 1234 höher Räume! ein neuer Satz für Mäuse\n" * 3


def trained(model: str) -> Tokenizer:
    """Train a small tokenizer of one kind."""
    if model == "byte":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=300, initial_alphabet=alphabet, show_progress=False, special_tokens=["<s>"]
        )
    elif model == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(
            vocab_size=120, special_tokens=["[UNK]"], show_progress=False
        )
    elif model == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=80, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
        )
    else:
        pieces = [f"<0x{byte:02X}>" for byte in range(256)]
        vocab = {token: i for i, token in enumerate(["<unk>", *pieces, *"▁Aabcdefghinst"])}
        tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], byte_fallback=True))
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        )
        return tokenizer
    tokenizer.train_from_iterator(TEXT.splitlines(), trainer)
    return tokenizer


FILES = {
    "gpt2": "byte",
    "qwen2": "byte",
    "cl100k_base.tiktoken.gz": "byte",
    "ar-bpe-50k.tokenizer.json.gz": "byte",
    "de-bpe-50k.tokenizer.json.gz": "byte",
    "bert-base-uncased": "wordpiece",
    "t5-small.tokenizer.json.gz": "unigram",
    "ar-unigram-50k.tokenizer.json.gz": "unigram",
    "de-unigram-30k.tokenizer.json.gz": "unigram",
    "phi-3-mini.tokenizer.json.gz": "metaspace",
}
NAMES = sorted(FILES) if REAL else sorted(set(FILES.values()))


@functools.cache
def load(name: str) -> Vocabulary:
    return Vocabulary.load(FOLDER / name) if REAL else Vocabulary.of(trained(name))


@pytest.mark.parametrize("name", NAMES)
def test_the_bytes_of_the_ids_spell_the_text(name: str) -> None:
    vocab = load(name)
    text = "the cat sat on the mat"
    spelled = b"".join(vocab.surface(index) for index in vocab.encode(text))
    assert spelled.removeprefix(b" ") == text.encode()
    if vocab.kind == "bpe-byte":
        rough = "Ünïcödé 日本語 🙂\n\n\tend  "
        ids = vocab.encode(rough)
        assert b"".join(vocab.surface(index) for index in ids).removeprefix(b" ") == rough.encode()


@pytest.mark.parametrize("name", NAMES)
def test_a_vocabulary_shares_every_text_token_with_itself(name: str) -> None:
    vocab = load(name)
    ours, theirs = vocab.shared(vocab)
    np.testing.assert_array_equal(ours, theirs)
    assert len(ours) == len(vocab) - len(vocab.specials) - len(vocab.holes)


@pytest.mark.parametrize("name", NAMES)
def test_special_tokens_have_one_role_each_and_stay_out(name: str) -> None:
    vocab = load(name)
    assert set(vocab.roles.values()) <= set(vocab.specials)
    for other in NAMES:
        ours, theirs = vocab.shared(load(other))
        assert not set(ours.tolist()) & set(vocab.specials)
        assert not set(theirs.tolist()) & set(load(other).specials)


def pair(language: str) -> tuple[Vocabulary, Vocabulary, int | None]:
    if not REAL:
        return load("byte"), load("unigram"), None
    names = {"ar": ("ar-bpe-50k", "ar-unigram-50k"), "de": ("de-bpe-50k", "de-unigram-30k")}
    ours, theirs = (load(f"{name}.tokenizer.json.gz") for name in names[language])
    return ours, theirs, {"ar": 23_487, "de": None}[language]


@pytest.mark.parametrize("language", ["ar", "de"])
def test_two_kinds_share_what_their_bytes_say(language: str) -> None:
    ours, theirs, expected = pair(language)
    match = ours.match(theirs, ("exact", "special"))
    texts = [
        {form for i, form in enumerate(vocab.surfaces) if i not in vocab.specials}
        for vocab in (ours, theirs)
    ]
    assert len(match.at("exact")) == len(texts[0] & texts[1])
    if expected is not None:  # the five special tokens have equal contents
        assert len(match.at("exact")) + len(match.at("special")) == expected


def test_a_letter_and_its_byte_piece_are_two_tokens() -> None:
    llama = load("phi-3-mini.tokenizer.json.gz" if REAL else "metaspace")
    gpt = load("gpt2" if REAL else "byte")
    letter, piece = llama.id("A"), llama.id("<0x41>")
    assert llama.surface(letter) == llama.surface(piece) == b"A"
    assert llama.find("A")[:2] == [letter, piece]
    match = llama.match(gpt)
    assert match.ids[letter] == match.ids[piece] == gpt.id("A")
    assert letter in match.at("exact")
    assert piece in match.at("byte")


@functools.cache
def rank_vocabulary() -> tuple[Vocabulary, dict[bytes, int]]:
    if REAL:
        path = FOLDER / "cl100k_base.tiktoken.gz"
        lines = gzip.decompress(path.read_bytes()).decode().split("\n")
        ranks = {base64.b64decode(t): int(r) for t, r in (line.split() for line in lines if line)}
        return load(path.name), ranks
    vocab = load("byte")
    merged = sorted(i for i, form in enumerate(vocab.surfaces) if len(form) > 1 and i > 0)
    ranks = {bytes([byte]): byte for byte in range(256)}
    ranks |= {vocab.surface(i): 256 + rank for rank, i in enumerate(merged)}
    made = {"".join(CHARACTERS[byte] for byte in form): rank for form, rank in ranks.items()}
    assert json.loads(json.dumps(made)) == made
    return vocab, ranks


def by_ranks(piece: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    """Join the neighbours whose joined bytes have the lowest rank, the leftmost first."""
    if piece in ranks:
        return [piece]
    parts = [piece[i : i + 1] for i in range(len(piece))]
    while True:
        joined = [ranks.get(a + b, len(ranks) * 2) for a, b in pairwise(parts)]
        if not joined or min(joined) == len(ranks) * 2:
            return parts
        at = joined.index(min(joined))
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


def test_merges_made_of_ranks_follow_the_rule_by_ranks() -> None:
    vocab, ranks = rank_vocabulary()
    generator = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyzäöüßéñαβγдежз"
    words = ["".join(generator.choices(letters, k=generator.randint(1, 14))) for _ in range(1500)]
    words += re.findall(r"[^\W\d_]+", TEXT)
    for word in words:
        spelled = [vocab.surface(index) for index in vocab.encode(word)]
        assert spelled == by_ranks(word.encode(), ranks), word
