"""CBOW: equal to its equations in float64, its exact step is the gradient, the other is not."""

from __future__ import annotations

import numpy as np
import pytest
from literal_windows import Setting, Ways, gradient, sigmoid, targets

from tokenspace.corpus import Corpus
from tokenspace.data import zipf_text
from tokenspace.errors import NotConverged
from tokenspace.words._tree import NO_TREE
from tokenspace.words.cbow import CBOW, predict_centre
from tokenspace.words.trial import association, rank_correlation


def literal(setting: Setting, exact: bool, targets=targets) -> tuple[np.ndarray, np.ndarray]:
    """Apply the equations of the page, position by position, in float64."""
    Win, Wout = setting.Win.astype(np.float64), setting.Wout.astype(np.float64)
    for centre, C, noise in setting.positions():
        T, labels, counts = targets(centre, noise)
        h = Win[C].mean(axis=0)
        G = setting.lr * (labels - sigmoid(Wout[T] @ h)) * counts
        dh = np.zeros(setting.dim)
        for g, t in zip(G, T, strict=True):  # one by one: a noise word may come twice
            dh += g * Wout[t]
            Wout[t] += g * h
        np.add.at(Win, C, dh / len(C) if exact else dh)
    return Win, Wout


def loss(setting: Setting, Win: np.ndarray, Wout: np.ndarray, targets=targets) -> float:
    total = 0.0
    for centre, C, noise in setting.positions():
        T, labels, counts = targets(centre, noise)
        z = Wout[T] @ Win[C].mean(axis=0)
        total -= float((np.log(sigmoid(np.where(labels == 1, z, -z))) * counts).sum())
    return total


def test_one_position_by_hand() -> None:
    # Text "0 1", noise always word 1, windows of one: with one neighbour the mean is the
    # neighbour, and the steps are those of skip-gram, worked out in its test.
    Win, Wout = np.zeros((2, 8), np.float32), np.zeros((2, 8), np.float32)
    Win[1, 0], Win[0, 1] = 1, 2
    predict_centre(
        Win.reshape(-1), Wout.reshape(-1), 8, np.array([0, 1], np.int32), np.array([0, 2]), 0, 1,
        np.full(2, 0xFFFFFFFF, np.uint32), np.array([1], np.int32), np.float32(0.1), 7, 1, 1, True,
        *NO_TREE,
    )  # fmt: skip
    np.testing.assert_allclose(Win[1, :2], [1, 0], atol=1e-6)
    np.testing.assert_allclose(Wout[0, :2], [0.05, 0], atol=1e-6)
    np.testing.assert_allclose(Wout[1, :2], [-0.05, 0.1], atol=1e-6)
    np.testing.assert_allclose(Win[0, :2], [-0.0025, 2], atol=1e-6)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(("negatives", "window"), [(1, 1), (5, 3), (8, 5), (13, 2)])
def test_the_kernel_equals_its_equations(negatives: int, window: int, exact: bool) -> None:
    setting = Setting(negatives=negatives, window=window)
    Win, Wout, _, _ = setting.run(predict_centre, exact, *NO_TREE)
    assert np.abs(Win - setting.Win).max() > 0.005
    for ours, theirs in zip((Win, Wout), literal(setting, exact), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-6)


def test_the_exact_step_is_the_gradient_of_the_loss_and_the_other_is_too_long() -> None:
    setting = Setting(size=12, dim=8, lengths=(4, 5), window=2, lr=1e-3, keep=1.0)
    slopes = gradient(
        lambda a, b: loss(setting, a, b), setting.Win.astype(float), setting.Wout.astype(float)
    )
    Win, Wout, _, _ = setting.run(predict_centre, True, *NO_TREE)
    np.testing.assert_allclose((setting.Win - Win) / setting.lr, slopes[0], atol=0.01)
    np.testing.assert_allclose((setting.Wout - Wout) / setting.lr, slopes[1], atol=0.01)
    Win, _, _, _ = setting.run(predict_centre, False, *NO_TREE)
    longer = np.linalg.norm(setting.Win - Win) / setting.lr / np.linalg.norm(slopes[0])
    assert longer > 1.5


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("size", [2, 40, 3000])
def test_the_kernel_on_a_tree_equals_its_equations(size: int, exact: bool) -> None:
    setting = Setting(negatives=0, size=size)
    ways = Ways(setting)
    Win, Wout, _, _ = setting.run(predict_centre, exact, *ways.tree)
    assert np.abs(Win - setting.Win).max() > 0.005
    for ours, theirs in zip((Win, Wout), literal(setting, exact, ways.targets), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=4e-6)


def test_the_step_on_a_tree_is_the_gradient_of_its_loss() -> None:
    setting = Setting(size=12, dim=8, lengths=(4, 5), window=2, lr=1e-3, keep=1.0, negatives=0)
    ways = Ways(setting)
    Win, Wout, _, _ = setting.run(predict_centre, True, *ways.tree)
    slopes = gradient(
        lambda a, b: loss(setting, a, b, ways.targets),
        setting.Win.astype(float),
        setting.Wout.astype(float),
    )
    for after, before, slope in zip((Win, Wout), (setting.Win, setting.Wout), slopes, strict=True):
        np.testing.assert_allclose((before - after) / setting.lr, slope, atol=0.01)


def test_words_of_one_topic_come_together_on_a_tree() -> None:
    texts = zipf_text(2000, 120, 6)
    table = CBOW(dim=24, epochs=8, min_count=2, threads=1, negatives=0)(Corpus(texts))
    pairs = {"planted": association(zipf_text(1000, 120, 6, seed=1), words=120)}
    assert rank_correlation(table, pairs)["rho"] > 0.4


def test_words_of_one_topic_come_together() -> None:
    texts = zipf_text(2000, 120, 6)
    table = CBOW(dim=24, epochs=8, min_count=2, threads=1)(Corpus(texts))
    pairs = {"planted": association(zipf_text(1000, 120, 6, seed=1), words=120)}
    assert rank_correlation(table, pairs)["rho"] > 0.4


def test_divergence_is_reported_with_the_rate() -> None:
    recipe = CBOW(dim=8, lr=10.0, epochs=400, min_count=1, threads=1, window=10)
    with pytest.raises(NotConverged, match="not finite after epoch"):
        recipe(Corpus(zipf_text(300, 40, 2)))
