"""Align against rotations that are known, the two other maps by what defines them, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from tokenspace.edit import Align
from tokenspace.edit._subspace import unit
from tokenspace.edit.align import fit
from tokenspace.edit.trial import bag
from tokenspace.errors import InputError
from tokenspace.pairs import Pairs
from tokenspace.recipe import apply
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary


def turned(source: EmbeddingTable, W: np.ndarray, prefix: str = "") -> EmbeddingTable:
    words = [prefix + token for token in source.vocab.tokens]
    return EmbeddingTable(Vocabulary.words(words), np.asarray(source.vectors @ W, np.float32))


def test_a_quarter_turn_by_hand() -> None:
    W = fit(np.eye(2), np.array([[0.0, 1.0], [-1.0, 0.0]]), "orthogonal")
    np.testing.assert_allclose(W, [[0, 1], [-1, 0]], atol=1e-12)


@pytest.mark.parametrize("kind", ["orthogonal", "cca", "least_squares"])
@pytest.mark.parametrize("centre", [True, False])
def test_a_rotation_is_found_again(kind: str, centre: bool) -> None:
    source = bag(tiny=True)["source"]
    W = np.linalg.qr(np.random.default_rng(0).standard_normal((12, 12)))[0]
    target = turned(source, W, "t")
    known = Pairs([(f"w{i}", f"tw{i}") for i in range(0, 120, 4)])
    made = Align(kind=kind, centre=centre)(source, target=target, dictionary=known)
    np.testing.assert_allclose(made.vectors, target.vectors, atol=1e-4)
    assert made.vocab is source.vocab


def test_a_rotation_keeps_lengths_and_cosines() -> None:
    given = bag(tiny=True)
    made = apply(Align(centre=False), given)
    source = given["source"].vectors.astype(np.float64)
    np.testing.assert_allclose(made.vectors @ made.vectors.T, source @ source.T, atol=1e-4)


def test_no_other_rotation_fits_better() -> None:
    draw = np.random.default_rng(1)
    X, Y = draw.standard_normal((30, 5)), draw.standard_normal((30, 5))
    W = fit(X, Y, "orthogonal")
    best = np.linalg.norm(X @ W - Y)
    for _ in range(50):
        S = 0.1 * draw.standard_normal((5, 5))
        turn = np.linalg.qr(np.eye(5) + S - S.T)[0]
        turn *= np.sign(np.diag(turn))
        assert np.linalg.norm(X @ W @ turn - Y) >= best - 1e-9


def test_cca_takes_one_covariance_into_the_other() -> None:
    draw = np.random.default_rng(2)
    X = draw.standard_normal((200, 4)) @ draw.standard_normal((4, 4))
    Y = draw.standard_normal((200, 6)) @ draw.standard_normal((6, 6))
    W = fit(Y, X, "cca")
    np.testing.assert_allclose(W.T @ (Y.T @ Y) @ W, X.T @ X, rtol=1e-6, atol=1e-6)


def test_cca_against_the_correlations() -> None:
    """In whitened form the map's fit is the sum of the canonical correlations."""
    draw = np.random.default_rng(3)
    X = draw.standard_normal((300, 3))
    Y = X @ draw.standard_normal((3, 3)) + 0.5 * draw.standard_normal((300, 3))
    white = [np.linalg.qr(M)[0] for M in (X, Y)]
    correlations = np.linalg.svd(white[0].T @ white[1], compute_uv=False)
    mapped = X @ fit(X, Y, "cca")
    S = np.linalg.inv(Y.T @ Y)
    assert np.trace(mapped.T @ Y @ S) == pytest.approx(correlations.sum())


def test_without_a_dictionary_the_words_of_both_are_known() -> None:
    given = bag(tiny=True)
    everything = Pairs([(word, word) for word in given["source"].vocab.tokens])
    one = Align()(given["source"], target=given["target"])
    two = Align()(given["source"], target=given["target"], dictionary=everything)
    np.testing.assert_array_equal(one.vectors, two.vectors)
    cosines = (unit(one.vectors) * unit(given["target"].vectors)).sum(axis=1)
    assert cosines.mean() > 0.98


def test_other_widths_and_unknown_words_are_refused() -> None:
    given = bag(tiny=True)
    wide = EmbeddingTable(given["target"].vocab, np.ones((120, 13), np.float32))
    with pytest.raises(InputError, match="12 to 13"):
        Align()(given["source"], target=wide)
    with pytest.raises(InputError, match="1 of 2 pairs"):
        apply(Align(), {**given, "dictionary": Pairs([("w1", "w1"), ("w2", "none")])})


def test_a_map_to_another_width() -> None:
    given = bag(tiny=True)
    W = np.random.default_rng(4).standard_normal((12, 5))
    target = turned(given["source"], W)
    made = Align(kind="least_squares", centre=False, unit=False)(given["source"], target=target)
    np.testing.assert_allclose(made.vectors, target.vectors, atol=1e-4)
    assert made.shape == (120, 5)
