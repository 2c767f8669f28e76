"""SoftDebias by hand, against slow descent on the paper's own objective, and its limits."""

from __future__ import annotations

import numpy as np
import pytest

from tokenspace.edit import SoftDebias
from tokenspace.edit._subspace import subspace, unit
from tokenspace.edit.soft_debias import solve
from tokenspace.edit.trial import bag
from tokenspace.errors import ConfigError, InputError, NotConverged
from tokenspace.recipe import apply
from tokenspace.word_sets import WordSets


def test_by_hand_in_the_plane() -> None:
    """W W^T = diag(4, 9), N N^T = diag(2, 5), B = (1, 0): only X_11 moves, and it alone counts.

    16 (x - 1)^2 + 3 * 2 x^2 is least at x = 16 / (16 + 6).
    """
    X, _ = solve(np.diag([4.0, 9.0]), np.diag([2.0, 5.0]), np.array([[1.0, 0.0]]), 3.0)
    np.testing.assert_allclose(X, np.diag([16 / 22, 1]), atol=1e-6)


def objective(X: np.ndarray, W: np.ndarray, N: np.ndarray, B: np.ndarray, lam: float) -> float:
    """Return the paper's objective, on all pairs of words."""
    kept = W.T @ X @ W - W.T @ W
    biased = N.T @ X @ B.T
    return float((kept**2).sum() + lam * (biased**2).sum())


@pytest.mark.parametrize("lam", [0.3, 30.0])
def test_against_slow_descent_on_the_papers_objective(lam: float) -> None:
    draw = np.random.default_rng(0)
    W = unit(draw.standard_normal((60, 4)) + 0.5).T
    N, B = W[:, 10:], np.linalg.qr(draw.standard_normal((4, 2)))[0].T
    X, _ = solve(W @ W.T, N @ N.T, B, lam)
    slow, A, NN, P = np.eye(4), W @ W.T, N @ N.T, B.T @ B
    step = 0.5 / (np.linalg.norm(A, 2) ** 2 + lam * np.linalg.norm(NN, 2))
    for _ in range(20_000):
        gradient = 2 * A @ (slow - np.eye(4)) @ A + lam * (P @ slow @ NN + NN @ slow @ P)
        values, vectors = np.linalg.eigh(slow - step * (gradient + gradient.T) / 2)
        slow = (vectors * np.maximum(values, 0)) @ vectors.T
    best = objective(slow, W, N, B, lam)
    assert objective(X, W, N, B, lam) == pytest.approx(best, rel=1e-6)
    np.testing.assert_allclose(X, slow, atol=1e-4)
    for _ in range(20):  # no matrix nearby is better
        change = 1e-3 * draw.standard_normal((4, 4))
        values, vectors = np.linalg.eigh(X + change + change.T)
        other = (vectors * np.maximum(values, 0)) @ vectors.T
        assert objective(other, W, N, B, lam) >= objective(X, W, N, B, lam) - 1e-9 * best


@pytest.mark.parametrize("knobs", [{"lam_rel": 0}, {"lam": 0}])
def test_without_weight_nothing_changes(knobs: dict[str, float]) -> None:
    given = bag(tiny=True)
    made = apply(SoftDebias(**knobs), given)
    np.testing.assert_allclose(made.vectors, given["source"].vectors, atol=1e-5)


def test_a_great_weight_leaves_nothing() -> None:
    given = bag(tiny=True)
    some = apply(SoftDebias(), given).notes["report"]["metrics"]
    none = apply(SoftDebias(lam_rel=1e4), given).notes["report"]["metrics"]
    assert some["direct_bias_before"] == none["direct_bias_before"]
    assert none["direct_bias_after"] < 0.1 * some["direct_bias_after"] < some["direct_bias_before"]


def test_words_are_turned_by_one_matrix_and_keep_their_lengths() -> None:
    given = bag(tiny=True)
    source = given["source"]
    made = apply(SoftDebias(), given)
    old, new = (np.linalg.norm(t.vectors, axis=1) for t in (source, made))
    np.testing.assert_allclose(new, old, rtol=1e-5)
    bare = apply(SoftDebias(unit=True), given)
    np.testing.assert_allclose(np.linalg.norm(bare.vectors, axis=1), 1, rtol=1e-5)
    W = unit(source.vectors)  # the new directions are those of W T, for one symmetric T
    N = W[12:-1]  # the pairs come first, and one word is specific
    g = subspace([W[i : i + 2] for i in range(0, 12, 2)]).basis
    X, _ = solve(W.T @ W, N.T @ N, g, made.notes["report"]["metrics"]["lambda"])
    values, vectors = np.linalg.eigh(X)
    T = (vectors * np.sqrt(values)) @ vectors.T
    np.testing.assert_allclose(bare.vectors, unit(W @ T), atol=1e-6)
    np.testing.assert_allclose(made.notes["directions"], g @ T, atol=1e-6)


def test_the_raw_weight_is_the_relative_one_in_other_units() -> None:
    given = bag(tiny=True)
    relative = apply(SoftDebias(), given)
    lam = relative.notes["report"]["metrics"]["lambda"]
    n = relative.notes["report"]["metrics"]["neutral_words"]
    assert lam == pytest.approx(5 * 120**2 / (12 * n))
    np.testing.assert_allclose(
        apply(SoftDebias(lam=lam, lam_rel=0), given).vectors, relative.vectors, atol=1e-6
    )


def test_words_that_fill_no_more_than_a_plane() -> None:
    given = bag(tiny=True)
    flat = given["source"].vectors.copy()
    flat[:, 4:] = 0
    made = apply(SoftDebias(), {**given, "source": given["source"].replace(vectors=flat)})
    assert np.isfinite(made.vectors).all()
    np.testing.assert_allclose(made.vectors[:, 4:], 0, atol=1e-4)


def test_refusals() -> None:
    given = bag(tiny=True)
    with pytest.raises(NotConverged, match="3 steps"):
        apply(SoftDebias(steps=3), given)
    with pytest.raises(InputError, match=r"0 of 1 definitional .* nun, monk"):
        apply(SoftDebias(), {**given, "definitional": WordSets([["nun", "monk"]])})
    with pytest.raises(ConfigError, match="k=20"):
        apply(SoftDebias(k=20), given)
