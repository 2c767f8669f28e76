"""The static encoder's splitting of words, and files that are not encoders."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tokenspace.corpus import Corpus
from tokenspace.encode.static import StaticEncoder, text_vocabulary
from tokenspace.errors import FormatError, InputError
from tokenspace.io import save_tensors
from tokenspace.lexicon import word_tokenizer
from tokenspace.vocab import Vocabulary

TEXTS = ["Don’t THE cat-sat, on12 'the' élan", "  ", "naïve e\u0301tude... it's 3.14", "x"]


@pytest.mark.parametrize("split", ["words", "whitespace"])
def test_words_are_split_as_the_corpus_splits_them(split: str) -> None:
    stream = Corpus(TEXTS, split=split).encode()
    vocab = text_vocabulary(Vocabulary.words(stream.vocab.tokens), split=split)
    ours = [i for ids in vocab.encode_batch(TEXTS) for i in ids]
    assert ours == stream.ids.tolist()


def test_the_unknown_word_has_a_name_of_its_own() -> None:
    tokenizer = word_tokenizer(["[UNK]", "a"])
    assert tokenizer.encode("a zebra").tokens == ["a", "[[UNK]]"]


@pytest.fixture
def saved(tmp_path):
    vocab = text_vocabulary(Vocabulary.words(["a", "b"]))
    StaticEncoder(vocab, np.ones((3, 4), np.float32)).save(tmp_path / "encoder")
    return tmp_path / "encoder"


def test_a_static_encoder_of_others_is_read(saved) -> None:
    module = json.loads((saved / "modules.json").read_text())[0]
    inner = saved / "0_StaticEmbedding"
    inner.mkdir()
    for name in ("model.safetensors", "tokenizer.json"):
        (saved / name).rename(inner / name)
    module.update(
        path=inner.name, type="sentence_transformers.models.StaticEmbedding.StaticEmbedding"
    )
    (saved / "modules.json").write_text(json.dumps([module]))
    np.testing.assert_array_equal(StaticEncoder.load(saved).encode(["a"]), np.ones((1, 4)))


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("modules.json", "[]", "not one StaticEmbedding"),
        ("modules.json", '[{"type": "x.Transformer", "path": ""}]', "Transformer"),
        ("modules.json", '{"type": 1}', "not the directory"),
        ("modules.json", None, "not the directory"),
        ("tokenizer.json", "{}", "not a tokenizer"),
        ("model.safetensors", "short", "not a whole safetensors"),
        ("model.safetensors", None, "is missing"),
    ],
)
def test_other_files_are_refused(saved, name: str, content: str | None, match: str) -> None:
    (saved / name).unlink()
    if content is not None:
        (saved / name).write_text(content)
    with pytest.raises(FormatError, match=match):
        StaticEncoder.load(saved)


def test_another_tensor_is_refused(saved) -> None:
    save_tensors(saved / "model.safetensors", {"other": np.ones((3, 4), np.float32)})
    with pytest.raises(FormatError, match=r"no matrix 'embedding\.weight'"):
        StaticEncoder.load(saved)


def test_vectors_must_fit_the_vocabulary() -> None:
    vocab = text_vocabulary(Vocabulary.words(["a", "b"]))
    with pytest.raises(InputError, match="3 tokens and vectors of shape"):
        StaticEncoder(vocab, np.ones((2, 4), np.float32))
    with pytest.raises(InputError, match="needs a vocabulary with a tokenizer"):
        StaticEncoder(Vocabulary.words(["a"]), np.ones((1, 4), np.float32))


def test_a_padded_batch_in_any_size_is_the_same() -> None:
    vocab = text_vocabulary(Vocabulary.words(["a", "b"]))
    rows = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    encoder = StaticEncoder(vocab, rows)
    texts = ["a b a", "", "b", "c a"] * 3
    whole = encoder.encode(texts)
    for size in (1, 2, 5):
        np.testing.assert_array_equal(encoder.encode(texts, batch_size=size), whole)
        np.testing.assert_array_equal(
            encoder.encode_tokens(texts, batch_size=size).flat, encoder.encode_tokens(texts).flat
        )
