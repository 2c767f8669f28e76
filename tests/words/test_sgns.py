"""SGNS: equal to its equations in float64, its step is the gradient, and it finds what is there."""

from __future__ import annotations

import numpy as np
import pytest
from literal_windows import Setting, Ways, gradient, sigmoid, targets

from tokenspace.corpus import Corpus
from tokenspace.data import zipf_text
from tokenspace.words._tree import NO_TREE
from tokenspace.words.sgns import SGNS, skip_gram
from tokenspace.words.trial import association, rank_correlation


def literal(setting: Setting, targets=targets) -> tuple[np.ndarray, np.ndarray]:
    """Apply the equations of the page, position by position, in float64."""
    Win, Wout = setting.Win.astype(np.float64), setting.Wout.astype(np.float64)
    for centre, C, noise in setting.positions():
        T, labels, counts = targets(centre, noise)
        X, W = Win[C], Wout[T]
        G = setting.lr * (labels - sigmoid(X @ W.T)) * counts
        np.add.at(Win, C, G @ W)
        np.add.at(Wout, T, G.T @ X)
    return Win, Wout


def loss(setting: Setting, Win: np.ndarray, Wout: np.ndarray, targets=targets) -> float:
    total = 0.0
    for centre, C, noise in setting.positions():
        T, labels, counts = targets(centre, noise)
        z = Win[C] @ Wout[T].T
        total -= float((np.log(sigmoid(np.where(labels == 1, z, -z))) * counts).sum())
    return total


def test_one_pair_by_hand() -> None:
    # Text "0 1", no thinning; noise is always word 1. Position 0: centre 0, neighbour 1 with
    # x_1 = (1, 0 ...): x.w = 0, so G = 0.1 * (1/2, -1/2) for (w_0, noise w_1), W still zero:
    # x_1 stays, w_0 = 0.05 x_1, w_1 = -0.05 x_1. Position 1: centre 1, neighbour 0, noise word 1
    # is the centre and left out: x_0 = (0, 2 ...), x.w_1 = 0, G = 0.05: x_0 += 0.05 w_1 and
    # w_1 += 0.05 x_0.
    Win, Wout = np.zeros((2, 8), np.float32), np.zeros((2, 8), np.float32)
    Win[1, 0], Win[0, 1] = 1, 2
    skip_gram(
        Win.reshape(-1), Wout.reshape(-1), 8, np.array([0, 1], np.int32), np.array([0, 2]), 0, 1,
        np.full(2, 0xFFFFFFFF, np.uint32), np.array([1], np.int32), np.float32(0.1), 7, 1, 1,
        *NO_TREE,
    )  # fmt: skip
    np.testing.assert_allclose(Win[1, :2], [1, 0], atol=1e-6)
    np.testing.assert_allclose(Wout[0, :2], [0.05, 0], atol=1e-6)
    np.testing.assert_allclose(Wout[1, :2], [-0.05, 0.1], atol=1e-6)
    np.testing.assert_allclose(Win[0, :2], [-0.0025, 2], atol=1e-6)


@pytest.mark.parametrize("negatives", [1, 5])
@pytest.mark.parametrize("window", [1, 3, 5])
def test_the_kernel_equals_its_equations(negatives: int, window: int) -> None:
    setting = Setting(negatives=negatives, window=window)
    Win, Wout, _, _ = setting.run(skip_gram, *NO_TREE)
    assert np.abs(Win - setting.Win).max() > 0.01
    for ours, theirs in zip((Win, Wout), literal(setting), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-6)


@pytest.mark.parametrize("negatives", [6, 13])
def test_more_noise_words_than_one_block_holds(negatives: int) -> None:
    setting = Setting(negatives=negatives, size=50_000, dim=8, lengths=(12, 20))
    setting.noise = np.arange(50_000, dtype=np.int32)  # no word twice: see the page's departures
    Win, Wout, _, _ = setting.run(skip_gram, *NO_TREE)
    for ours, theirs in zip((Win, Wout), literal(setting), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-6)


def test_the_step_is_the_gradient_of_the_loss() -> None:
    setting = Setting(size=12, dim=8, lengths=(3, 4), window=2, lr=1e-3, keep=1.0)
    Win, Wout, _, _ = setting.run(skip_gram, *NO_TREE)
    slopes = gradient(
        lambda a, b: loss(setting, a, b), setting.Win.astype(float), setting.Wout.astype(float)
    )
    for after, before, slope in zip((Win, Wout), (setting.Win, setting.Wout), slopes, strict=True):
        np.testing.assert_allclose((before - after) / setting.lr, slope, atol=0.01)


def test_the_sampled_loss_is_the_loss_before_the_step() -> None:
    setting = Setting(lengths=(2,), window=1, keep=1.0)
    _, _, sampled, pairs = setting.run(skip_gram, *NO_TREE)
    first = next(iter(setting.positions()))
    setting.positions = lambda: iter([first])  # type: ignore[method-assign]
    assert pairs == 1
    assert sampled == pytest.approx(
        loss(setting, setting.Win.astype(float), setting.Wout.astype(float)), rel=1e-4
    )


@pytest.mark.parametrize("window", [1, 5])
@pytest.mark.parametrize("size", [2, 40, 3000])
def test_the_kernel_on_a_tree_equals_its_equations(size: int, window: int) -> None:
    setting = Setting(negatives=0, window=window, size=size)
    ways = Ways(setting)
    Win, Wout, _, _ = setting.run(skip_gram, *ways.tree)
    assert np.abs(Win - setting.Win).max() > 0.01
    for ours, theirs in zip((Win, Wout), literal(setting, ways.targets), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=4e-6)


def test_the_step_on_a_tree_is_the_gradient_of_its_loss() -> None:
    setting = Setting(size=12, dim=8, lengths=(3, 4), window=2, lr=1e-3, keep=1.0, negatives=0)
    ways = Ways(setting)
    Win, Wout, _, _ = setting.run(skip_gram, *ways.tree)
    slopes = gradient(
        lambda a, b: loss(setting, a, b, ways.targets),
        setting.Win.astype(float),
        setting.Wout.astype(float),
    )
    for after, before, slope in zip((Win, Wout), (setting.Win, setting.Wout), slopes, strict=True):
        np.testing.assert_allclose((before - after) / setting.lr, slope, atol=0.01)


def test_the_loss_on_a_tree_is_that_of_probabilities_that_sum_to_one() -> None:
    # Each word in turn is the centre of the only position; the sampled loss is -log p(word | x).
    setting = Setting(size=30, lengths=(2,), window=1, keep=1.0, lr=1e-6, negatives=0)
    ways = Ways(setting)
    total = 0.0
    for word in range(1, setting.size):
        setting.ids[:] = [word, 0]
        total += np.exp(-setting.run(skip_gram, *ways.tree)[2])
    own = [  # of word 0 after itself, which no text of two different words has
        sigmoid(np.where(y == 1, 1, -1) * (setting.Wout[T] @ setting.Win[0])).prod()
        for T, y, _ in [ways.targets(0, [])]
    ]
    assert total + own[0] == pytest.approx(1, abs=1e-4)


def test_words_of_one_topic_come_together_on_a_tree() -> None:
    texts = zipf_text(2000, 120, 6)
    table = SGNS(dim=24, epochs=8, min_count=2, threads=1, negatives=0)(Corpus(texts))
    pairs = {"planted": association(zipf_text(1000, 120, 6, seed=1), words=120)}
    assert rank_correlation(table, pairs)["rho"] > 0.4


def test_words_of_one_topic_come_together() -> None:
    texts = zipf_text(2000, 120, 6)
    table = SGNS(dim=24, epochs=8, min_count=2, threads=1)(Corpus(texts))
    pairs = {"planted": association(zipf_text(1000, 120, 6, seed=1), words=120)}
    assert rank_correlation(table, pairs)["rho"] > 0.4


def test_a_token_that_never_occurs_keeps_its_first_vector() -> None:
    from tokenspace.vocab import Vocabulary

    texts = ["a b c a b"] * 20
    table = SGNS(dim=8, threads=1)(Corpus(texts), vocab=Vocabulary.words(["a", "x", "b", "c"]))
    assert table.counts is not None
    assert table.counts.tolist() == [40, 0, 40, 20]
    assert 0 < np.abs(table.row("x")).max() <= 0.5 / 8


def test_threads_give_vectors_as_good() -> None:
    texts = zipf_text(2000, 120, 6)
    pairs = {"planted": association(zipf_text(1000, 120, 6, seed=1), words=120)}
    one, two = (
        rank_correlation(SGNS(dim=24, epochs=8, min_count=2, threads=n)(Corpus(texts)), pairs)
        for n in (1, 2)
    )
    assert abs(one["rho"] - two["rho"]) < 0.1
