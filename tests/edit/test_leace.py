"""LEACE: the classes' means agree, by the least change, and classifiers are at a loss."""

from __future__ import annotations

import numpy as np
import pytest

from tokenspace.edit import LEACE
from tokenspace.edit._linear import logistic
from tokenspace.edit.leace import erasure
from tokenspace.edit.trial import bag
from tokenspace.errors import InputError
from tokenspace.recipe import apply
from tokenspace.word_sets import WordSets


def test_by_hand_in_the_plane() -> None:
    """Classes differ along the first axis; S couples the axes, so the change leans to both."""
    X = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    Z = np.array([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    np.testing.assert_allclose(erasure(X, Z, np.eye(2)), [[1, 0], [0, 0]], atol=1e-12)
    S = np.array([[4.0, 1.0], [1.0, 1.0]])  # cov(X, Z) is along e1: P = S^-1 c c^T / (c^T S^-1 c)
    inverse = np.linalg.inv(S)
    expected = inverse @ np.outer([1, 0], [1, 0]) / inverse[0, 0]
    np.testing.assert_allclose(erasure(X, Z, S), expected, atol=1e-12)


def test_the_means_of_the_classes_agree() -> None:
    given = bag(tiny=True)
    made = apply(LEACE(), given)
    ids = [[made.vocab.ids[w] for w in words] for words in given["classes"]]
    first, second = (made.vectors[i].mean(axis=0) for i in ids)
    before = [given["source"].vectors[i].mean(axis=0) for i in ids]
    np.testing.assert_allclose(first, second, atol=1e-5)
    assert np.linalg.norm(before[0] - before[1]) > 0.5
    figures = made.notes["report"]["metrics"]
    assert figures["apart_after"] < 1e-5 < figures["apart_before"]


def test_a_linear_classifier_cannot_tell_them() -> None:
    given = bag(tiny=True)
    ids = [given["source"].vocab.ids[w] for w in given["classes"].words]
    labels = np.repeat([0, 1], [len(words) for words in given["classes"]])
    right = []
    for table in (given["source"], apply(LEACE(), given)):
        said = logistic(table.vectors[ids], labels)(table.vectors[ids]) > 0
        right.append(np.mean(said == labels))
    assert right[0] > 0.9
    assert right[1] < 0.65


def test_no_other_erasing_map_changes_the_words_less() -> None:
    draw = np.random.default_rng(0)
    X = draw.standard_normal((60, 4)) @ draw.standard_normal((4, 4))
    Z = np.eye(3)[draw.integers(3, size=60)]
    X += 2 * Z @ draw.standard_normal((3, 4))
    centred = X - X.mean(axis=0)
    S = centred.T @ centred / 60
    P = erasure(X, Z, S)
    cross = centred.T @ (Z - Z.mean(axis=0))
    assert np.linalg.matrix_rank(P) == 2
    np.testing.assert_allclose((np.eye(4) - P).T @ cross, 0, atol=1e-9)
    least = np.linalg.norm(centred @ P)
    free = np.eye(4) - cross @ np.linalg.pinv(cross)  # what may be added: nothing of the classes
    for _ in range(50):
        other = P + 0.05 * free @ draw.standard_normal((4, 4))
        np.testing.assert_allclose((np.eye(4) - other).T @ cross, 0, atol=1e-9)
        assert np.linalg.norm(centred @ other) >= least - 1e-9


def test_three_classes_and_their_missing_words() -> None:
    given = bag(tiny=True)
    words = given["source"].vocab.tokens
    classes = WordSets([[*words[20:30], "nun"], words[30:40], words[40:50]])
    made = LEACE()(given["source"], classes=classes)
    means = [made.vectors[i : i + 10].mean(axis=0) for i in (20, 30, 40)]
    np.testing.assert_allclose(means, [means[0]] * 3, atol=1e-5)
    assert made.notes["report"]["notes"] == ["classes: not in the table: nun"]


def test_it_is_done_once() -> None:
    given = bag(tiny=True)
    once = apply(LEACE(), given)
    again = apply(LEACE(), {**given, "source": once})
    np.testing.assert_allclose(again.vectors, once.vectors, atol=1e-4)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([["w1", "w2"], ["nun", "monk"]], "nun, monk"),
        ([["w1", "w2"]], "1 of 1 classes"),
        ([["w1", "w2"], ["w2", "w3"]], "in two classes: w2"),
    ],
)
def test_refusals(classes: list[list[str]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LEACE()(bag(tiny=True)["source"], classes=WordSets(classes))
