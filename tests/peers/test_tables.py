"""Files of word vectors, read by gensim and by us."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gensim.models import KeyedVectors
from gensim.models.fasttext import FastText as Peer
from gensim.models.fasttext import load_facebook_vectors, save_facebook_model

from tokenspace.corpus import Corpus
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary
from tokenspace.words import FastText

pytestmark = pytest.mark.peer


def test_fasttext_agrees_with_gensim(tmp_path: Path) -> None:
    texts = [["größe", "katze", "hund", "日本"], ["hund", "und", "katze"]] * 5
    model = Peer(texts, vector_size=8, min_count=1, bucket=50, epochs=1, workers=1, seed=1)
    path = tmp_path / "m.bin"
    save_facebook_model(model, str(path))
    peer = load_facebook_vectors(str(path))
    made = EmbeddingTable.load(path)
    for word in peer.key_to_index:
        np.testing.assert_allclose(made.row(word), peer[word], rtol=1e-5, atol=1e-7)
    assert made.subwords is not None
    others = ["hündin", "hundekatze", "本日"]
    vectors = made.subwords.vectors(others)
    np.testing.assert_allclose(vectors, [peer[word] for word in others], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["t.vec", "t.bin"])
def test_gensim_reads_what_we_write_and_we_read_what_it_writes(name: str, tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((50, 7)).astype(np.float32)
    made = EmbeddingTable(Vocabulary.words([f"wört{i}" for i in range(50)]), vectors)
    made.save(tmp_path / name)
    binary = name.endswith(".bin")
    peer = KeyedVectors.load_word2vec_format(str(tmp_path / name), binary=binary)
    assert tuple(peer.index_to_key) == made.vocab.tokens
    np.testing.assert_array_equal(peer.vectors, vectors)
    peer.save_word2vec_format(str(tmp_path / f"again{name}"), binary=binary)
    again = EmbeddingTable.load(tmp_path / f"again{name}")
    assert again.vocab.tokens == made.vocab.tokens
    np.testing.assert_allclose(again.vectors, vectors, rtol=1e-6)


def test_gensim_reads_our_fasttext_models(tmp_path: Path) -> None:
    texts = ["größe katze hund 日本", "hund und katze"] * 9
    recipe = FastText(dim=8, epochs=1, min_count=1, ngrams="3-5/5000", threads=1)
    made = recipe(Corpus(texts))
    made.save(tmp_path / "m.bin")
    peer = load_facebook_vectors(str(tmp_path / "m.bin"))
    assert tuple(peer.index_to_key) == made.vocab.tokens
    np.testing.assert_allclose(peer.vectors, made.vectors, rtol=1e-4, atol=1e-6)
    assert made.subwords is not None
    others = ["hündin", "hundekatze", "本日"]
    vectors = made.subwords.vectors(others)
    np.testing.assert_allclose(vectors, [peer[word] for word in others], rtol=1e-5, atol=1e-7)
