"""Fixed windows: who stands where, what pads, who counts, and the steps of AdaGrad."""

from __future__ import annotations

import numpy as np
import pytest
from literal_contexts import made_up, some_weights, windows
from literal_windows import gradient

from tokenspace.corpus import Corpus
from tokenspace.data import zipf_text
from tokenspace.words._context import BATCH, GROUP, AdaGrad, Batch, against_noise, train

COUNTED = {"label": "test", "epochs": 1, "sample": 0.0, "seed": 0}


def seen(texts: list[str], window: int, **more: float) -> tuple[list[Batch], Corpus, float]:
    batches: list[Batch] = []

    def step(batch: Batch) -> float:
        batches.append(batch)
        return float(batch.weights[:, 0].sum())

    corpus = Corpus(texts, split="whitespace")
    options = {**COUNTED, "negatives": 3, **more}
    loss = train(step, corpus.encode(min_count=1), window=window, **options)
    return batches, corpus, loss


def test_a_sentence_by_hand() -> None:
    (batch,), corpus, loss = seen(["a b c", "alone"], window=2)
    names = [*corpus.encode(min_count=1).vocab.tokens, "-"]
    read = [[names[i] for i in row] for row in batch.contexts[:3]]
    assert read == [["-", "-", "b", "c"], ["-", "a", "c", "-"], ["a", "b", "-", "-"]]
    assert [names[i] for i in batch.centres[:3]] == ["a", "b", "c"]
    # the sentence of one word has no neighbours, and five windows only fill the group
    assert len(batch.centres) == GROUP
    assert batch.noise.shape == (1, 3)
    assert (batch.weights[3:] == 0).all()
    assert loss == 1.0  # the mean is over the three


def test_batches_are_those_written_out() -> None:
    texts = zipf_text(120, 40, 4)
    batches, corpus, _ = seen(texts, window=3, sample=0.01, seed=5)
    stream = corpus.encode(min_count=1)
    expected = windows(stream, 3, 3, 0.01, 5, 0, 0.75)
    assert len(batches) == -(-len(expected) // BATCH) > 1
    for place, (around, centre, noise) in enumerate(expected):
        batch, row = batches[place // BATCH], place % BATCH
        assert batch.contexts[row].tolist() == around
        assert batch.centres[row] == centre
        assert batch.noise[row // GROUP].tolist() == noise
        assert batch.weights[row].tolist() == [1.0, *(float(word != centre) for word in noise)]
    assert sum(batch.weights[:, 0].sum() for batch in batches) == len(expected)


def test_every_epoch_draws_anew() -> None:
    batches, _, _ = seen(["a b c d e f g h"], window=1, epochs=2, negatives=30)
    assert not np.array_equal(batches[0].noise, batches[1].noise)


def test_noise_of_power_zero_is_uniform() -> None:
    texts = ["a a a a a a a b"] * 3000
    batches, _, _ = seen(texts, window=1, power=0.0)
    share = np.mean([batch.noise.mean() for batch in batches])  # the ids are 0 and 1
    assert abs(share - 0.5) < 0.02


def test_the_loss_against_noise_has_these_gradients() -> None:
    Z, U, N = made_up(0, (16, 5), (16, 5), (2, 3, 5))
    weights = some_weights(1, 16, 3)
    loss, *found = against_noise(Z, U, N, weights)
    by_hand = 0.0
    for b in range(16):
        by_hand += weights[b, 0] * np.log(1 + np.exp(-Z[b] @ U[b]))
        for k in range(3):
            by_hand += weights[b, 1 + k] * np.log(1 + np.exp(Z[b] @ N[b // 8, k]))
    assert loss == pytest.approx(by_hand)
    slopes = gradient(lambda *given: against_noise(*given, weights)[0], Z, U, N)
    for ours, theirs in zip(found, slopes, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-7)


def test_adagrad_by_hand() -> None:
    # Row 2 comes twice: its gradient is the sum 3, so q = 9 and the step is lr 3 / 3.
    learned = AdaGrad(np.zeros((3, 1), np.float32))
    learned.step_rows(np.array([2, 0, 2]), np.array([[1.0], [-5], [2]], np.float32), 0.1)
    np.testing.assert_allclose(learned.values, [[0.1], [0], [-0.1]], rtol=1e-6)
    learned.step_rows(np.array([2]), np.array([[4.0]], np.float32), 0.1)  # q = 25
    np.testing.assert_allclose(learned.values, [[0.1], [0], [-0.18]], rtol=1e-6)
    np.testing.assert_allclose(learned.squares, [[25], [1e-8], [25]], rtol=1e-6)


def test_rows_and_the_whole_matrix_take_the_same_step() -> None:
    start, g = (np.random.default_rng(i).normal(size=(6, 4)).astype(np.float32) for i in (0, 1))
    rows, whole = AdaGrad(start.copy()), AdaGrad(start.copy())
    for _ in range(3):
        rows.step_rows(np.arange(6)[::-1], np.ascontiguousarray(g[::-1]), 0.05)
        whole.step(g, 0.05)
    np.testing.assert_allclose(rows.values, whole.values, rtol=1e-6)
