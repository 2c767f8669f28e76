"""NNLM: equal to its equations in float64, with the right gradients; it sees order."""

from __future__ import annotations

import numpy as np
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
from tokenspace.words.nnlm import NNLM, gradients


def literal(recipe: NNLM, corpus: Corpus) -> np.ndarray:
    """Apply the equations of the page, window by window, in float64."""
    stream = corpus.encode(min_count=recipe.min_count)
    size, dim, h, lr = len(stream.vocab), recipe.dim, recipe.hidden, recipe.lr
    e = start(recipe.seed, "vectors", (size + 1, dim), dim, lr)
    H = start(recipe.seed, "hidden", (h, 2 * recipe.window * dim), h, lr)
    u = Learned(np.zeros((size, h)), lr)
    for epoch in range(recipe.epochs):
        found = windows(
            stream, recipe.window, recipe.negatives, recipe.sample, recipe.seed, epoch, 0.75
        )
        for batch in batches(found):
            for window in batch:
                add(window, e, H, u)
            for matrix in (e, H, u):
                matrix.step()
    return e.values[:-1]


def add(window: Window, e: Learned, H: Learned, u: Learned) -> None:
    """Add the gradients of one window's loss."""
    around, centre, _ = window
    dim = e.values.shape[1]
    x = np.concatenate([e.values[word] for word in around])
    z = np.tanh(H.values @ x)
    for word, label in [(centre, 1), *((noise, 0) for noise in counted(window))]:
        g = sigmoid(float(z @ u.values[word])) - label
        u.gradient[word] += g * z
        down = g * u.values[word] * (1 - z**2)
        H.gradient += np.outer(down, x)
        dx = H.values.T @ down
        for place, neighbour in enumerate(around):
            e.gradient[neighbour] += dx[place * dim : (place + 1) * dim]


def test_it_equals_its_equations() -> None:
    corpus = Corpus(zipf_text(120, 40, 4))
    recipe = NNLM(
        dim=6, window=2, hidden=5, negatives=3, epochs=2, min_count=2, sample=0.02, seed=3
    )
    learned = recipe(corpus)
    expected = literal(recipe, corpus)
    first = start(3, "vectors", (len(expected) + 1, 6), 6, 0.0).values[:-1]
    assert np.abs(expected - first).max() > 0.1
    np.testing.assert_allclose(learned.vectors, expected, atol=2e-4)


def test_the_gradients_are_those_of_the_loss() -> None:
    given = made_up(2, (16, 12), (4, 12), (16, 4), (2, 3, 4))
    weights = some_weights(3, 16, 3)
    _, *found = gradients(*given, weights)
    slopes = gradient(lambda *arrays: gradients(*arrays, weights)[0], *given)
    for ours, theirs in zip(found, slopes, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-7)


def test_words_of_one_place_come_together_where_the_company_is_the_same() -> None:
    recipe = NNLM(dim=16, window=2, epochs=6, min_count=1, sample=0.0)
    assert told_apart(recipe(placed())) > 0.3
