from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import nnls

from tokenspace.errors import InputError
from tokenspace.transplant._hull import hull_check, max_logit_violation

SQUARE = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], np.float32)


def test_by_hand() -> None:
    # (2, 0) is 1 to the right of the square; the vertex (1, 1) is 2√2 from (3, 3)
    side = hull_check([2, 0], SQUARE)
    assert not side.inside
    np.testing.assert_allclose(side.separator, [1, 0], atol=1e-12)
    np.testing.assert_allclose(side.weights, [0.5, 0.5, 0, 0], atol=1e-12)
    assert side.margin == pytest.approx(1)
    assert side.distance == pytest.approx(1)
    corner = hull_check([3, 3], SQUARE)
    np.testing.assert_allclose(corner.separator, [0.5**0.5, 0.5**0.5])
    assert corner.margin == pytest.approx(8**0.5)
    for row in ([0.3, -0.2], [1, 1], [1, 0], [0, 0]):  # within, a vertex, an edge, the middle
        found = hull_check(row, SQUARE)
        assert found.inside
        np.testing.assert_allclose(found.weights @ SQUARE, row, atol=1e-6)


def test_either_answer_is_proved() -> None:
    draw = np.random.default_rng(0)
    inside = outside = 0
    for _ in range(200):
        d, n = (int(draw.integers(1, top)) for top in (12, 40))
        V, x = draw.standard_normal((n, d)), draw.standard_normal(d) * draw.uniform()
        found = hull_check(x, V)
        assert found.weights.min() >= 0
        assert found.weights.sum() == pytest.approx(1)
        assert np.linalg.norm(found.weights @ V - x) == pytest.approx(found.distance, abs=1e-9)
        if found.inside:
            inside += 1
            assert found.distance < 1e-5
        else:
            outside += 1
            h = found.separator
            assert np.linalg.norm(h) == pytest.approx(1)
            assert h @ x - (V @ h).max() == pytest.approx(found.margin)
            assert found.margin > 0
            # the nearest point by another algorithm lies between margin and distance
            share, _ = nnls(np.vstack([V.T, np.full(n, 1e4)]), np.append(x, 1e4))
            least = np.linalg.norm(share @ V / share.sum() - x)
            assert found.margin <= least * (1 + 1e-6) <= found.distance * (1 + 2e-6)
    assert min(inside, outside) > 20


def test_means_and_convex_rows_are_inside_and_random_rows_are_not() -> None:
    draw = np.random.default_rng(1)
    V = draw.standard_normal((300, 24)).astype(np.float32)
    convex = (draw.dirichlet(np.full(300, 0.05), 10) @ V).astype(np.float32)
    assert all(hull_check(row, V).inside for row in [V.mean(0), V[7], *convex])
    assert not any(hull_check(row, V).inside for row in draw.normal(V.mean(0), V.std(0), (10, 24)))
    assert hull_check(V[0], np.repeat(V[:1], 3, axis=0)).inside
    assert hull_check(np.zeros(3), np.zeros((4, 3))).inside


def test_a_separator_is_a_hidden_state_at_which_the_new_row_wins() -> None:
    draw = np.random.default_rng(2)
    V = draw.standard_normal((60, 8))
    x = 2 * draw.standard_normal(8)
    h = hull_check(x, V).separator
    assert max_logit_violation(x[None], V, h[None])[0] > 0
    assert max_logit_violation(V.mean(0)[None], V, h[None])[0] < 0


def test_violations_are_those_of_the_literal_loop() -> None:
    draw = np.random.default_rng(3)
    V, new, H = (draw.standard_normal(shape) for shape in ((30, 6), (5, 6), (5000, 6)))
    longest = max(np.sqrt((row**2).sum()) for row in [*V, *new])
    found = max_logit_violation(new.astype(np.float32), V.astype(np.float32), H)
    for h, excess in list(zip(H, found, strict=True))[::97]:
        exact = max(h @ row for row in new) - max(h @ row for row in V)
        assert excess == pytest.approx(exact / np.sqrt((h**2).sum()) / longest, abs=1e-6)
    inside = draw.dirichlet(np.ones(30), 5) @ V
    assert max_logit_violation(inside, V, H).max() <= 1e-12
    assert 0 < (found > 1e-6).mean() < 1
    assert max_logit_violation(new, V, np.zeros((2, 6))).tolist() == [0, 0]


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match=r"shape \(3,\)"):
        hull_check([1, 2, 3], SQUARE)
    with pytest.raises(InputError, match="NaN"):
        hull_check([np.nan, 0], SQUARE)
    with pytest.raises(InputError, match="rows of shape"):
        hull_check([1, 2], np.zeros((0, 2)))
