"""The metrics of bias against loops over their definitions, hand-made sets and scikit-learn."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import spearmanr

from tokenspace.arrays import Floats2d
from tokenspace.edit import association
from tokenspace.edit.association import ect, mac, ripa, rnd, rnsb, weat
from tokenspace.errors import InputError


def rows(seed: int, *sizes: int, dim: int = 6) -> list[Floats2d]:
    draw = np.random.default_rng(seed)
    return [draw.standard_normal((size, dim)).astype(np.float32) for size in sizes]


def cos(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def closer(w: np.ndarray, A: Floats2d, B: Floats2d) -> float:
    return sum(cos(w, a) for a in A) / len(A) - sum(cos(w, b) for b in B) / len(B)


@pytest.mark.parametrize("sides", [1, 2])
@pytest.mark.parametrize("sizes", [(4, 4, 3, 5), (2, 5, 1, 1)])
def test_weat_is_its_definition_over_every_partition(sides: int, sizes: tuple[int, ...]) -> None:
    X, Y, A, B = (np.asarray(part, np.float64) for part in rows(0, *sizes))
    s = [closer(w, A, B) for w in (*X, *Y)]
    n = len(X)

    def score(first: tuple[int, ...]) -> float:
        return sum(v if i in first else -v for i, v in enumerate(s))

    seen = score(tuple(range(n)))
    every = [score(first) for first in combinations(range(len(s)), n)]
    far = [v >= seen - 1e-12 if sides == 1 else abs(v) >= abs(seen) - 1e-12 for v in every]
    found = weat(X, Y, A, B, sides=sides)  # type: ignore[arg-type]
    assert found.exact
    assert found.partitions == len(every)
    assert found.p_value == pytest.approx(sum(far) / len(far))
    assert found.score == pytest.approx(seen)
    mean = sum(s) / len(s)
    spread = (sum((v - mean) ** 2 for v in s) / len(s)) ** 0.5
    assert found.difference == pytest.approx(sum(s[:n]) / n - sum(s[n:]) / (len(s) - n))
    assert found.effect == pytest.approx(found.difference / spread)


def test_weat_by_hand() -> None:
    """x is a, y is b: s = 1 and -1, score 2, effect 2, and one partition of two is as high."""
    a, b = np.array([[1.0, 0.0]], np.float32), np.array([[0.0, 1.0]], np.float32)
    found = weat(a * 3, b, a, b)
    assert found == (2.0, 2.0, 2.0, 0.5, True, 2)
    assert weat(a, b, a, b, sides=2).p_value == 1.0
    assert np.isnan(weat(a, a, a, b).effect)
    assert weat(a, b, a, b, ddof=1).effect == pytest.approx(2**0.5)


def test_drawn_partitions_come_near_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    sets = rows(3, 7, 7, 4, 4)
    exact = weat(*sets)
    monkeypatch.setattr(association, "EXACT", 100)
    drawn = weat(*sets, seed=1)
    assert not drawn.exact
    assert drawn.p_value == pytest.approx(exact.p_value, abs=0.006)  # 4 standard errors
    assert weat(*sets, seed=1) == drawn
    assert weat(*sets, seed=2) != drawn


def test_relative_norm_distance() -> None:
    T1, T2, A = (np.asarray(part, np.float64) for part in rows(1, 3, 4, 5))
    one, two = T1.mean(axis=0), T2.mean(axis=0)
    away = [np.sqrt(((a - one) ** 2).sum()) - np.sqrt(((a - two) ** 2).sum()) for a in A]
    assert rnd(T1, T2, A) == pytest.approx(sum(away) / 5)  # type: ignore[arg-type]
    angles = [cos(a, two) - cos(a, one) for a in A]
    found = rnd(T1, T2, A, norm="cosine")  # type: ignore[arg-type]
    assert found == pytest.approx(sum(angles) / 5)
    assert rnd(T1, T1, A) == 0  # type: ignore[arg-type]


def test_rnsb_is_zero_for_equal_words_and_more_for_unequal_ones() -> None:
    draw = np.random.default_rng(4)
    shift = np.array([2, 0, 0, 0])
    A, B = draw.standard_normal((10, 4)) + shift, draw.standard_normal((10, 4)) - shift
    same = np.tile(draw.standard_normal(4), (3, 1))
    assert rnsb([same, same], A, B) == pytest.approx(0, abs=1e-9)
    mild, strong = (np.array([[x, 0, 0, 0], [-x, 0, 0, 0]]) for x in (0.2, 1.5))
    assert 0 < rnsb([mild], A, B) < rnsb([strong], A, B)
    assert rnsb([strong], A, B, seed=3) == rnsb([strong], A, B, seed=3)


def test_mac_ect_and_ripa_are_their_definitions() -> None:
    T1, T2, A, B = (np.asarray(part, np.float64) for part in rows(6, 3, 4, 5, 2))
    away = [np.mean([1 - cos(t, a) for a in part]) for t in T1 for part in (A, B)]
    assert mac(T1, [A, B]) == pytest.approx(np.mean(away))  # type: ignore[arg-type,list-item]
    means = [np.mean(part, axis=0) for part in (T1, T2)]
    rank = spearmanr(*([cos(mean, a) for a in A] for mean in means)).statistic
    assert ect(T1, T2, A) == pytest.approx(rank)  # type: ignore[arg-type]
    assert ect(T1, T1, A) == pytest.approx(1)  # type: ignore[arg-type]
    pairs = [(T1[:1], T2[:1]), (T1[1:2], T2[1:2])]
    each = [(w @ (a - b)[0]) / np.linalg.norm(a - b) for w in A for a, b in pairs]
    expected = np.mean(np.reshape(each, (5, 2)), axis=1)
    np.testing.assert_allclose(ripa(A, pairs), expected)  # type: ignore[arg-type]


def test_bad_sets_are_refused() -> None:
    A, B = rows(7, 3, 3)
    none, zero = np.zeros((0, 6), np.float32), np.zeros((1, 6), np.float32)
    for call in (
        lambda: weat(none, A, A, B),
        lambda: weat(zero, A, A, B),
        lambda: rnd(none, A, B),
        lambda: rnsb([A], A[:1], B),
        lambda: rnsb([none], A, B),
        lambda: mac(A, []),
        lambda: ect(A, zero, B),
        lambda: ripa(A, []),
    ):
        with pytest.raises(InputError):
            call()
