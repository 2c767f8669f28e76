"""C&W: equal to its equations in float64 with either loss, and with the right gradients."""

from __future__ import annotations

import numpy as np
import pytest
from literal_contexts import (
    Learned,
    Window,
    batches,
    counted,
    made_up,
    placed,
    sigmoid,
    some_weights,
    start,
    told_apart,
    windows,
)
from literal_windows import gradient

from tokenspace.corpus import Corpus
from tokenspace.data import zipf_text
from tokenspace.words.cw import CW, HIDDEN, gradients, hinge


def literal(recipe: CW, corpus: Corpus) -> np.ndarray:
    """Apply the equations of the page, window by window, in float64."""
    stream = corpus.encode(min_count=recipe.min_count)
    size, dim, h, lr = len(stream.vocab), recipe.dim, HIDDEN, recipe.lr
    e = start(recipe.seed, "vectors", (size + 1, dim), dim, lr)
    H = start(recipe.seed, "hidden", (h, (2 * recipe.window + 1) * dim), h, lr)
    a = Learned(np.zeros((1, h)), lr)
    power = 0.0 if recipe.loss == "hinge" else 0.75
    for epoch in range(recipe.epochs):
        found = windows(
            stream, recipe.window, recipe.negatives, recipe.sample, recipe.seed, epoch, power
        )
        for batch in batches(found):
            for window in batch:
                add(window, e, H, a, recipe.loss)
            for matrix in (e, H, a):
                matrix.step()
    return e.values[:-1]


def add(window: Window, e: Learned, H: Learned, a: Learned, loss: str) -> None:
    """Add the gradients of one window's loss."""
    around, centre, _ = window

    def score(word: int) -> float:
        x = np.concatenate([e.values[i] for i in [*around, word]])
        return float(a.values[0] @ np.tanh(H.values @ x))

    def push(word: int, g: float) -> None:  # g: the loss by the score of the word
        x = np.concatenate([e.values[i] for i in [*around, word]])
        z = np.tanh(H.values @ x)
        a.gradient[0] += g * z
        down = g * a.values[0] * (1 - z**2)
        H.gradient += np.outer(down, x)
        for i, dx in zip(
            [*around, word], np.split(H.values.T @ down, len(around) + 1), strict=True
        ):
            e.gradient[i] += dx

    if loss == "ns":
        push(centre, sigmoid(score(centre)) - 1)
    for word in counted(window):
        if loss == "ns":
            push(word, sigmoid(score(word)))
        elif 1 - score(centre) + score(word) > 0:
            push(centre, -1)
            push(word, 1)


@pytest.mark.parametrize("loss", ["hinge", "ns"])
def test_it_equals_its_equations(loss: str) -> None:
    corpus = Corpus(zipf_text(120, 40, 4))
    recipe = CW(dim=6, window=2, negatives=3, epochs=2, min_count=2, sample=0.02, seed=3, loss=loss)
    learned = recipe(corpus)
    expected = literal(recipe, corpus)
    first = start(3, "vectors", (len(expected) + 1, 6), 6, 0.0).values[:-1]
    assert np.abs(expected - first).max() > 0.1
    np.testing.assert_allclose(learned.vectors, expected, atol=2e-4)


@pytest.mark.parametrize("loss", ["hinge", "ns"])
def test_the_gradients_are_those_of_the_loss(loss: str) -> None:
    given = made_up(2, (16, 12), (16, 3), (2, 3, 3), (4, 15), (4,))
    weights = some_weights(3, 16, 3)
    value, *found = gradients(*given, weights, loss)
    assert value > 0
    slopes = gradient(lambda *arrays: gradients(*arrays, weights, loss)[0], *given)
    for ours, theirs in zip(found, slopes, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-7)


def test_a_hinge_by_hand() -> None:
    # 1 - 2 + 1.5 = 0.5 is short of the margin; 1 - 2 + 0.5 = -0.5 is not; the last has no weight.
    scores, weights = np.array([[2, 1.5, 0.5, 9]]), np.array([[1, 1, 1, 0.0]])
    loss, G = hinge(scores, weights)
    assert loss == 0.5
    assert G.tolist() == [[-1, 1, 0, 0]]


@pytest.mark.parametrize("loss", ["hinge", "ns"])
def test_words_of_one_place_come_together_where_the_company_is_the_same(loss: str) -> None:
    recipe = CW(dim=16, window=2, epochs=12, min_count=1, sample=0.0, loss=loss)
    assert told_apart(recipe(placed())) > 0.2
