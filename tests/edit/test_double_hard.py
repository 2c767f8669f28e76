"""DoubleHard against its steps written out, and on a bias that a common direction hides."""

from __future__ import annotations

import numpy as np
import pytest

from tokenspace.edit import DoubleHard, HardDebias
from tokenspace.edit._subspace import unit
from tokenspace.edit.residual import two_clusters
from tokenspace.edit.trial import bag
from tokenspace.errors import InputError
from tokenspace.recipe import apply
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary
from tokenspace.word_sets import WordSets

TINY = DoubleHard(candidates=3, words=12, unit=True)


def direction(rows: np.ndarray) -> np.ndarray:
    """Return what the six pairs at the head of the rows differ in."""
    W = unit(rows)
    halves = np.concatenate([(W[i] - W[i + 1])[None] for i in range(0, 12, 2)])
    return np.linalg.eigh(halves.T @ halves)[1][:, -1]


def test_against_its_steps() -> None:
    given = bag(tiny=True)
    W = given["source"].vectors.astype(np.float64)
    centred = W - W.mean(axis=0)
    U = np.linalg.svd(centred, full_matrices=False)[2]
    neutral = np.arange(12, 119)
    lean = unit(W[neutral]) @ direction(W)
    order = neutral[np.argsort(lean)]
    leaning = np.concatenate([order[:12], order[-12:]])
    shares = []
    for i in range(3):
        rest = centred - np.outer(centred @ U[i], U[i])
        g = direction(rest)
        rows = unit(rest[leaning])
        apart = two_clusters(unit(rows - np.outer(rows @ g, g)), 0)
        share = np.mean(apart == np.repeat([False, True], 12))
        shares.append(max(share, 1 - share))
    best = int(np.argmin(shares))
    made = apply(TINY, given)
    figures = made.notes["report"]["metrics"]
    assert figures["component"] == best + 1
    assert figures["clusters_with"] == pytest.approx(shares[best])
    rest = centred - np.outer(centred @ U[best], U[best])
    expected = apply(
        HardDebias(unit=True), {**given, "source": given["source"].replace(vectors=rest)}
    )
    np.testing.assert_allclose(made.vectors, expected.vectors, atol=1e-5)


def test_a_common_direction_that_tells_the_sides_is_found() -> None:
    """The second principal direction tells the sides of leaning words, beside the bias itself."""
    draw = np.random.default_rng(0)
    size, width = 400, 10
    side = np.where(np.arange(size) % 2, -1.0, 1.0)
    rows = 0.3 * draw.standard_normal((size, width))
    rows[:, 0] += 2.6 * draw.standard_normal(size)  # common, and nothing to do with the sides
    rows[1:20:2] = rows[0:20:2]  # pairs are alike but for the bias
    rows[:, 1] += 2 * side * (np.arange(size) >= 20)  # common, and the sides of words
    rows[:, 2] += side  # the bias: pairs differ in it alone
    words = [f"w{i}" for i in range(size)]
    source = EmbeddingTable(Vocabulary.words(words), np.asarray(rows, np.float32))
    pairs = WordSets([words[i : i + 2] for i in range(0, 20, 2)])
    made = DoubleHard(candidates=4, words=50)(source, definitional=pairs)
    figures = made.notes["report"]["metrics"]
    assert figures["component"] == 2
    assert figures["clusters_without"] > 0.9
    assert figures["clusters_with"] < 0.75
    assert figures["direct_bias_after"] < 1e-6


def test_a_table_of_nothing_but_the_lists_is_refused() -> None:
    source = EmbeddingTable(
        Vocabulary.words(list("abcde")), np.random.default_rng(0).random((5, 4), np.float32)
    )
    with pytest.raises(InputError, match="1 words of the table are in no list"):
        DoubleHard()(source, definitional=WordSets([["a", "b"], ["c", "d"]]))


def test_two_dimensions_and_unknown_words_are_refused() -> None:
    source = EmbeddingTable(
        Vocabulary.words(list("abcd")), np.random.default_rng(0).random((4, 2), np.float32)
    )
    with pytest.raises(InputError, match="2 dimensions"):
        DoubleHard()(source, definitional=WordSets([["a", "b"], ["c", "d"]]))
    with pytest.raises(InputError, match="nun, monk"):
        apply(DoubleHard(), {**bag(tiny=True), "definitional": WordSets([["nun", "monk"]])})
