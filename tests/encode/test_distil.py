"""Distil: rows by hand, the regression by its normal equations, and what other libraries load."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array
from sentence_transformers import SentenceTransformer

from tokenspace.arrays import Ragged
from tokenspace.corpus import Corpus
from tokenspace.data import zipf_text
from tokenspace.encode.distil import Distil, taught
from tokenspace.encode.static import StaticEncoder
from tokenspace.errors import ConfigError, InputError
from tokenspace.toy_encoder import ToyEncoder
from tokenspace.vocab import Vocabulary

ROWS = {"a": [1.0, 0, 0], "b": [0, 2.0, 0], "c": [0, 0, 6.0]}


class Table:
    """An encoder of known rows: a text is the sum of its words', times their number."""

    dim = 3

    def encode(self, texts, *, batch_size=32):
        rows = [[ROWS.get(word, [0, 0, 0]) for word in text.split()] or [[0] * 3] for text in texts]
        return np.array([np.sum(row, axis=0) * len(row) for row in rows], np.float32)

    def encode_tokens(self, texts, *, batch_size=32):
        return Ragged.pack([self.encode(text.split()) for text in texts])

    def save(self, path):
        raise AssertionError


def test_rows_by_hand() -> None:
    # counts 2, 1, 1: p = 1/2, 1/4, 1/4; a = 1/4: weights 1/3, 1/2, 1/2; the mean is (1/3, 2/3, 2)
    encoder = Distil(a=0.25, dims=3, texts=0)(Corpus(["a b a c"]), encoder=Table())
    want = np.array([[2, -2, -6], [-1, 4, -6], [-1, -2, 12]]) / 3 * [[1 / 3], [1 / 2], [1 / 2]]
    rows = encoder.vectors[[encoder.vocab.ids[word] for word in "abc"]]
    np.testing.assert_allclose(rows @ rows.T, want @ want.T, atol=1e-5)  # equal but for a rotation
    np.testing.assert_allclose(encoder.encode(["a x"]), rows[:1] / 2, atol=1e-6)
    one = Distil(a=0.25, dims=3)(Corpus(["a b a c"]), encoder=Table())  # which teaches nothing
    np.testing.assert_array_equal(one.vectors, encoder.vectors)


def test_tokens_that_are_free_take_no_part() -> None:
    words = Vocabulary.words(["a", "[unused7]", "b", "<unused0>", "c"])
    corpus, recipe = Corpus(["a b a c"]), Distil(a=0.25, dims=3, texts=0)
    found = recipe(corpus, encoder=Table(), vocab=words)
    alone = recipe(corpus, encoder=Table(), vocab=Vocabulary.words(["a", "b", "c"]))
    rows = found.vectors[[found.vocab.ids[word] for word in words.tokens]]
    assert not rows[[1, 3]].any()
    np.testing.assert_array_equal(rows[[0, 2, 4]], alone.vectors[:3])


def test_fewer_dimensions_are_the_principal_ones() -> None:
    corpus = Corpus(zipf_text(100, 40, 4))
    whole, part = (Distil(dims=dims, texts=0)(corpus, encoder=ToyEncoder()) for dims in (32, 5))
    assert (whole.dim, part.dim) == (32, 5)
    assert Distil()(corpus, encoder=ToyEncoder()).dim == 32  # never more than there are
    present = whole.vectors[whole.vectors.any(axis=1)].astype(np.float64)
    centred = present - present.mean(axis=0)
    best = (np.linalg.svd(centred, compute_uv=False)[:5] ** 2).sum()
    kept = part.vectors[part.vectors.any(axis=1)].astype(np.float64)
    assert ((kept - kept.mean(axis=0)) ** 2).sum() == pytest.approx(best, rel=1e-4)


@pytest.mark.parametrize("ridge", [0.1, 10.0])
def test_the_regression_is_the_solution_of_its_normal_equations(ridge: float) -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 9, 60)
    dense = np.zeros((60, 30))
    for row, length in zip(dense, lengths, strict=True):
        row[rng.choice(20, length, replace=False)] = 1 / length  # tokens 20 to 29 never occur
    R = rng.standard_normal((30, 5))
    Y = 2 * dense @ R + rng.standard_normal((60, 5)) + 3
    centred = Y - Y.mean(axis=0)
    alpha = ((dense @ R) * centred).sum() / ((dense @ R) ** 2).sum()
    q = (1 / lengths).sum() / lengths.sum()  # the sum of 1 / length² over tokens, by their number
    left = dense.T @ dense + ridge * q * np.eye(30)
    want = np.linalg.solve(left, dense.T @ centred + ridge * q * alpha * R)
    found = taught(R.astype("f4"), csr_array(dense.astype("f4")), Y.astype("f4"), ridge)
    np.testing.assert_allclose(found, want, atol=2e-3 * np.abs(want).max())
    np.testing.assert_allclose(found[20:], alpha * R[20:], rtol=1e-4)
    contrary = taught(-R.astype("f4"), csr_array(dense.astype("f4")), Y.astype("f4"), ridge)
    np.testing.assert_array_equal(contrary, -R.astype("f4"))


class Company(ToyEncoder):
    """A network that lets the word "a" rule whatever text it stands in, but not when alone."""

    def encode(self, texts, *, batch_size=32):
        often = [f"{text}{' a' * 20}" if text.startswith("a ") else text for text in texts]
        return super().encode(often)


def test_texts_teach_what_single_tokens_do_not_say() -> None:
    texts = [f"a {text}" if i % 2 else text for i, text in enumerate(zipf_text(600, 60, 4))]
    seen, unseen = Corpus(texts[:500]), texts[500:]
    network = Company()
    target = network.encode(unseen)
    target = target - target.mean(axis=0)

    def agreement(encoder: StaticEncoder) -> float:
        found = encoder.encode(unseen).astype(np.float64)
        found -= found.mean(axis=0)
        return float(np.corrcoef((found @ found.T).ravel(), (target @ target.T).ravel())[0, 1])

    plain, few, many = (
        agreement(Distil(dims=32, texts=count)(seen, encoder=network)) for count in (0, 50, 500)
    )
    assert plain < few < many
    assert many > plain + 0.1


def test_the_vocabulary_is_the_networks_the_corpus_or_a_given_one(bert, tmp_path) -> None:
    from tokenspace.nn.encoder import load_encoder

    network, corpus = load_encoder(str(bert), device="cpu"), Corpus(["the sea is blue", "unknowns"])
    encoder = Distil(dims=8)(corpus, encoder=network)
    assert encoder.vocab.tokens == network.vocab.tokens
    assert encoder.vectors[encoder.vocab.ids["##known"]].any()
    assert not encoder.vectors[encoder.vocab.ids["[CLS]"]].any()
    given = Distil(dims=8)(corpus, encoder=network, vocab=Vocabulary.words(["sea", "ship"]))
    assert given.vocab.tokens[:2] == ("sea", "ship")
    assert given.encode(["SEA!"]).any()
    texts = ["The sea, unknowns?", "", "a red ship"]
    encoder.save(tmp_path / "out")
    peer = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    np.testing.assert_allclose(peer.encode(texts), encoder.encode(texts), atol=1e-6)
    again = StaticEncoder.load(tmp_path / "out")
    np.testing.assert_array_equal(again.encode(texts), encoder.encode(texts))


def test_unusable_input_is_refused() -> None:
    class Other(Table):
        def __init__(self, value: float, width: int = 3) -> None:
            self.value, self.width = value, width

        def encode(self, texts, *, batch_size=32):
            return np.full((len(texts), self.width), self.value, np.float32)

    corpus = Corpus(["a b", "c"])
    with pytest.raises(InputError, match="no token of the vocabulary"):
        Distil()(corpus, encoder=Table(), vocab=Vocabulary.words(["x", "y"]))
    with pytest.raises(InputError, match="all 3 tokens the same vector"):
        Distil()(corpus, encoder=Other(1.0))
    with pytest.raises(InputError, match=r"shape \(3, 4\)"):
        Distil()(corpus, encoder=Other(1.0, 4))
    with pytest.raises(InputError, match="NaN"):
        Distil()(corpus, encoder=Other(np.nan))
    with pytest.raises(ConfigError, match="dims=0"):
        Distil(dims=0)
