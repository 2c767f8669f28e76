"""Order: equal to its equations in float64, with the right gradients."""

from __future__ import annotations

import numpy as np
from literal_contexts import (
    Learned,
    Window,
    batches,
    counted,
    placed,
    sigmoid,
    start,
    told_apart,
    windows,
)

from tokenspace.corpus import Corpus
from tokenspace.data import zipf_text
from tokenspace.words.order import Order


def literal(recipe: Order, corpus: Corpus) -> np.ndarray:
    """Apply the equations of the page, window by window, in float64."""
    stream = corpus.encode(min_count=recipe.min_count)
    size, dim, lr = len(stream.vocab), recipe.dim, recipe.lr
    e = start(recipe.seed, "vectors", (size + 1, dim), dim, lr)
    u = Learned(np.zeros((size, 2 * recipe.window * dim)), lr)
    for epoch in range(recipe.epochs):
        found = windows(
            stream, recipe.window, recipe.negatives, recipe.sample, recipe.seed, epoch, 0.75
        )
        for batch in batches(found):
            for window in batch:
                add(window, e, u)
            for matrix in (e, u):
                matrix.step()
    return e.values[:-1]


def add(window: Window, e: Learned, u: Learned) -> None:
    """Add the gradients of one window's loss."""
    around, centre, _ = window
    dim = e.values.shape[1]
    x = np.concatenate([e.values[word] for word in around])
    for word, label in [(centre, 1), *((noise, 0) for noise in counted(window))]:
        g = sigmoid(float(x @ u.values[word])) - label
        u.gradient[word] += g * x
        for place, neighbour in enumerate(around):
            e.gradient[neighbour] += g * u.values[word][place * dim : (place + 1) * dim]


def test_it_equals_its_equations() -> None:
    corpus = Corpus(zipf_text(120, 40, 4))
    recipe = Order(dim=6, window=2, negatives=3, epochs=2, min_count=2, sample=0.02, seed=3)
    learned = recipe(corpus)
    expected = literal(recipe, corpus)
    first = start(3, "vectors", (len(expected) + 1, 6), 6, 0.0).values[:-1]
    assert np.abs(expected - first).max() > 0.1
    np.testing.assert_allclose(learned.vectors, expected, atol=2e-4)


def test_words_of_one_place_come_together_where_the_company_is_the_same() -> None:
    recipe = Order(dim=16, window=2, epochs=6, min_count=1, sample=0.0)
    assert told_apart(recipe(placed())) > 0.3
