"""PV-DM by hand, and what it finds in planted topics."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from literal_paragraph import FULL
from test_pv_dbow import planted, purity

from tokenspace.corpus import Corpus
from tokenspace.encode._paragraph import Sampling, Weights, shape, train_documents
from tokenspace.encode.pv_dm import PVDM


def test_one_position_by_hand() -> None:
    # Words 0 and 1, noise always word 1, d = (2, 0, ...), x_1 = (0, 4, ...), outputs zero.
    # Position 0: h = (d + x_1) / 2 = (1, 2), g = 0.1 (1/2, -1/2), e = 0: w_0 = 0.05 h,
    # w_1 = -0.05 h. Position 1, centre 1 and its noise left out: h = (d + x_0) / 2 = (1, 0),
    # z = h . w_1 = -0.05, g = 0.1 (1 - s(-0.05)), e = g w_1, half of it to d and half to x_0.
    network = shape(layer="real", join="mean", dim=8, units=8, window=1, negatives=1)
    D, X, W = (np.zeros((n, 8), np.float32) for n in (1, 2, 2))
    D[0, 0], X[1, 1] = 2, 4
    nothing = np.zeros(0, np.float32)
    parts = [part.reshape(-1) for part in (D, X, W, nothing, nothing)]
    sampling = Sampling(np.full(2, FULL, np.uint32), np.array([1], np.int32))
    train_documents(
        network, Weights(*parts), sampling,
        np.array([0, 1], np.int32), np.array([0, 2]), 0, 1, np.float32(0.1), 7,
    )  # fmt: skip
    g = 0.1 * (1 - 1 / (1 + np.exp(0.05)))
    e = g * np.array([-0.05, -0.1])
    np.testing.assert_allclose(W[0, :2], [0.05, 0.1], atol=1e-6)
    np.testing.assert_allclose(W[1, :2], [-0.05 + g, -0.1], atol=1e-6)
    np.testing.assert_allclose(D[0, :2], np.array([2, 0]) + e / 2, atol=1e-6)
    np.testing.assert_allclose(X[0, :2], e / 2, atol=1e-6)
    np.testing.assert_allclose(X[1, :2], [0, 4], atol=1e-6)


@pytest.mark.parametrize(("join", "lr"), [("sum", 0.1), ("mean", 0.2), ("concat", 0.05)])
def test_texts_of_one_topic_come_together(
    join: Literal["sum", "mean", "concat"], lr: float
) -> None:
    texts, labels = planted()
    recipe = PVDM(dim=16, epochs=60, min_count=1, threads=1, window=2, join=join, lr=lr)
    encoder = recipe(Corpus(texts))
    documents = encoder.documents
    assert encoder.words.shape == (len(encoder.counts), 16)
    assert purity(documents, labels, documents, labels) > 0.6
    assert purity(encoder.encode(texts), labels, documents, labels) > 0.6
