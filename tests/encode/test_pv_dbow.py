"""PV-DBOW by hand, what it finds in planted topics, and what skip-gram adds."""

from __future__ import annotations

import numpy as np
from literal_paragraph import FULL

from tokenspace.corpus import Corpus
from tokenspace.data import zipf_text
from tokenspace.encode._paragraph import Sampling, Weights, shape, train_documents
from tokenspace.encode.pv_dbow import PVDBOW


def test_one_word_by_hand() -> None:
    # One document, the word 0, d = (1, 0, ...); noise is always word 1; outputs are zero, so
    # both scores are 0 and g = 0.1 (1 - 1/2, -1/2): d stays, w_0 = 0.05 d, w_1 = -0.05 d.
    # The second document is the words 0 and 1, d = (0, 2, ...), orthogonal to both outputs:
    # w_0 gets 0.05 d, w_1 as the noise of word 0 gets -0.05 d and as itself 0.05 d (its noise
    # word, itself again, is left out); d gets 0.05 (w_0 - w_1 + w_1'), where w_1' has seen the
    # former step: 0.05 (0.05 + 0.05 - 0.05, -0.05 * 2 + ...) as the sum below says.
    network = shape(layer="real", join="alone", dim=8, units=8, window=0, negatives=1)
    D, W = np.zeros((2, 8), np.float32), np.zeros((2, 8), np.float32)
    D[0, 0], D[1, 1] = 1, 2
    nothing = np.zeros(0, np.float32)
    sampling = Sampling(np.full(2, FULL, np.uint32), np.array([1], np.int32))
    train_documents(
        network, Weights(D.reshape(-1), nothing, W.reshape(-1), nothing, nothing), sampling,
        np.array([0, 0, 1], np.int32), np.array([0, 1, 3]), 0, 2, np.float32(0.1), 7,
    )  # fmt: skip
    np.testing.assert_allclose(D[0, :2], [1, 0], atol=1e-6)
    np.testing.assert_allclose(W[0, :2], [0.05, 0.1], atol=1e-6)
    np.testing.assert_allclose(W[1, :2], [-0.05, 0], atol=1e-6)
    first, then = np.array([-0.05, 0]), np.array([-0.05, 0.1])  # w_1: as itself, then as noise
    expected = 0.05 * (np.array([0.05, 0]) + first - then)
    np.testing.assert_allclose(D[1, :2], np.array([0, 2]) + expected, atol=1e-6)


def planted(topics: int = 4) -> tuple[list[str], np.ndarray]:
    """Return texts that name their topic in every third word, and the topics."""
    texts, labels = [], []
    for topic in range(topics):
        for text in zipf_text(60, 60, 1, seed=topic):
            words = [word + "abcd"[topic] * (i % 3 == 0) for i, word in enumerate(text.split())]
            texts.append(" ".join(words))
            labels.append(topic)
    return texts, np.array(labels)


def purity(vectors: np.ndarray, labels: np.ndarray, others: np.ndarray, known: np.ndarray) -> float:
    """Return how often the nearest of ``others`` by cosine has the same label."""
    scores = unit_rows(vectors) @ unit_rows(others).T
    if vectors is others:
        np.fill_diagonal(scores, -2)
    return float((known[scores.argmax(axis=1)] == labels).mean())


def unit_rows(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def test_texts_of_one_topic_come_together_and_new_ones_join_them() -> None:
    texts, labels = planted()
    known = np.arange(len(texts)) % 2 == 0
    train = [text for text, k in zip(texts, known, strict=True) if k]
    encoder = PVDBOW(dim=16, epochs=60, lr=0.1, min_count=1, threads=1)(Corpus(train))
    documents = encoder.documents
    assert documents.shape == (len(train), 16)
    assert purity(documents, labels[known], documents, labels[known]) > 0.7
    new = encoder.encode([text for text, k in zip(texts, known, strict=True) if not k])
    assert purity(new, labels[~known], documents, labels[known]) > 0.7


def test_a_trained_text_is_fitted_to_the_place_that_training_gave_it() -> None:
    texts, _ = planted()
    encoder = PVDBOW(dim=16, epochs=60, lr=0.1, min_count=1, threads=1)(Corpus(texts))
    again, documents = encoder.encode(texts), encoder.documents
    own = np.einsum("nd,nd->n", again, documents)
    own /= np.linalg.norm(again, axis=1) * np.linalg.norm(documents, axis=1)
    assert own.mean() > 0.6


def test_threads_give_vectors_as_good() -> None:
    texts, labels = planted()
    found = PVDBOW(dim=16, epochs=60, lr=0.1, min_count=1, threads=2)(Corpus(texts)).documents
    assert purity(found, labels, found, labels) > 0.7


def test_skip_gram_gives_words_that_are_compared_with_documents() -> None:
    texts, labels = planted()
    encoder = PVDBOW(dim=16, epochs=60, lr=0.1, min_count=1, threads=1, words=3)(Corpus(texts))
    ids = encoder.vocab.ids
    marked = [w for w in encoder.vocab.tokens[: len(encoder.counts)] if w[-1] in "bcd"]
    marked = [w for w in marked if encoder.counts[ids[w]] >= 10]
    assert marked
    vectors = encoder.words[[ids[word] for word in marked]]
    wanted = np.array(["abcd".index(word[-1]) for word in marked])
    assert purity(vectors, wanted, encoder.documents, labels) > 0.6
