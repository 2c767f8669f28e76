from __future__ import annotations

import logging

import numpy as np
import pytest

from tokenspace.errors import ConfigError, InputError
from tokenspace.table import EmbeddingTable
from tokenspace.transplant.ridge import CURVE, Ridge, left_out
from tokenspace.vocab import Vocabulary


def gaussian(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def tables(
    base: np.ndarray, donor: np.ndarray, anchors: int
) -> tuple[EmbeddingTable, Vocabulary, EmbeddingTable]:
    words = [f"w{i}" for i in range(len(donor))]
    source = EmbeddingTable(
        Vocabulary.words(words[:anchors]), np.asarray(base[:anchors], np.float32)
    )
    target = Vocabulary.words(words)
    return source, target, EmbeddingTable(target, np.asarray(donor, np.float32))


def literal(A: np.ndarray, B: np.ndarray, X: np.ndarray, penalty: float) -> np.ndarray:
    """Solve min_M Σ‖(a − ā) M − (b − b̄)‖² + λ'‖M‖² as one least-squares problem."""
    A, B, X = (np.asarray(matrix, np.float64) for matrix in (A, B, X))
    a, b, d = A.mean(0), B.mean(0), A.shape[1]
    rows = np.concatenate([A - a, np.sqrt(penalty) * np.eye(d)])
    M = np.linalg.lstsq(rows, np.concatenate([B - b, np.zeros((d, B.shape[1]))]), rcond=None)[0]
    return np.asarray(b + (X - a) @ M)


def spread(A: np.ndarray) -> float:
    return float(np.square(A - A.mean(0, dtype=np.float64)).sum(axis=1).mean())


def test_by_hand() -> None:
    # donor −1 and 1 four times, source 10 and 14: Σ a b = 16, Σ a² = 8, mean a² = 1.
    # λ = 8 halves the slope of 2: the row of donor 3 is 12 + 1 · 3
    donor = np.array([[-1], [1]] * 4 + [[3]])
    source, target, given = tables(np.array([[10], [14]] * 4), donor, 8)
    assert Ridge(penalty=8)(source, target, donor=given).vectors[8, 0] == pytest.approx(15)
    assert Ridge(penalty=0)(source, target, donor=given).vectors[8, 0] == pytest.approx(18)


@pytest.mark.parametrize("penalty", [1e-3, 1.0, 30.0])
def test_equals_the_literal_regression(penalty: float) -> None:
    base, donor = 5 + gaussian(0, 90, 7), 3 * gaussian(1, 120, 12) - 2
    source, target, given = tables(base, donor, 90)
    rows = Ridge(penalty=penalty)(source, target, donor=given).vectors[90:]
    exact = literal(donor[:90], base, donor[90:], penalty * spread(donor[:90]))
    np.testing.assert_allclose(rows, exact, rtol=1e-4, atol=1e-4)


def test_the_left_out_error_is_that_of_one_regression_for_each_anchor() -> None:
    A, B = gaussian(2, 40, 6), gaussian(3, 40, 5)
    B[:, :3] += A[:, :3]
    errors = left_out(A, B)
    for penalty in (1e-3, 1.0, 100.0):
        missed = base = 0.0
        for i in range(40):
            rest = np.arange(40) != i
            guess = literal(A[rest], B[rest], A[i : i + 1], penalty * spread(A))[0]
            missed += float(np.square(guess - B[i]).sum())
            base += float(np.square(B[rest].mean(0, dtype=np.float64) - B[i]).sum())
        assert errors[penalty] == pytest.approx(missed / base, rel=1e-6)


def test_a_planted_map_is_recovered() -> None:
    donor = gaussian(4, 300, 10)
    base = donor @ gaussian(5, 10, 16) + 7
    source, target, given = tables(base, donor, 250)
    table = Ridge()(source, target, donor=given)
    np.testing.assert_allclose(table.vectors[250:], base[250:], atol=1e-2)
    assert table.notes["lambda"] == CURVE[0]
    np.testing.assert_allclose(
        Ridge(penalty=0)(source, target, donor=given).vectors[250:], base[250:], atol=1e-4
    )


def test_no_scale_of_the_donor_matters() -> None:
    base, donor = gaussian(6, 80, 8), gaussian(7, 100, 9)
    base[:, :8] += donor[:80, :8]
    source, target, given = tables(base, donor, 80)
    large = EmbeddingTable(target, 1000 * donor)
    one, other = (Ridge()(source, target, donor=each) for each in (given, large))
    assert one.notes["lambda"] == other.notes["lambda"]
    np.testing.assert_allclose(one.vectors, other.vectors, atol=1e-4)


def test_a_great_penalty_is_the_mean_of_the_anchors() -> None:
    base, donor = gaussian(8, 50, 4), gaussian(9, 60, 6)
    source, target, given = tables(base, donor, 50)
    rows = Ridge(penalty=1e9)(source, target, donor=given).vectors[50:]
    np.testing.assert_allclose(rows, base.mean(0)[None].repeat(10, 0), atol=1e-5)


def test_auto_takes_the_best_of_the_curve() -> None:
    donor = gaussian(10, 200, 30)
    base = donor[:, :5] @ gaussian(11, 5, 20) + 3 * gaussian(12, 200, 20)
    source, target, given = tables(base, donor, 150)
    notes = Ridge()(source, target, donor=given).notes
    curve = {float(penalty): error for penalty, error in notes["curve"].items()}
    assert curve[notes["lambda"]] == min(curve.values()) < 1
    assert CURVE[0] < notes["lambda"] < CURVE[-1]
    assert (notes["copied"], notes["rebuilt"], notes["mean"]) == (150, 50, 0)


def test_auto_falls_back_to_the_mean_where_nothing_is_learned(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # no covariance at all: every λ has only its own anchor to lose
    donor = np.array([[1], [-1], [1], [-1]] * 3 + [[2]])
    source, target, given = tables(3 + np.array([[1], [1], [-1], [-1]] * 3), donor, 12)
    with caplog.at_level(logging.WARNING):
        table = Ridge()(source, target, donor=given)
    assert "mean" in caplog.text
    assert table.notes["lambda"] is None
    assert (table.notes["rebuilt"], table.notes["mean"]) == (0, 1)
    assert min(table.notes["curve"].values()) > 1
    assert table.vectors[12, 0] == 3


def test_fewer_anchors_than_columns_are_enough() -> None:
    source, target, given = tables(gaussian(15, 10, 4), gaussian(16, 14, 40), 10)
    for penalty in ("auto", 0.0):
        table = Ridge(penalty=penalty)(source, target, donor=given)  # type: ignore[arg-type]
        assert np.isfinite(table.vectors).all()
        assert np.abs(table.vectors).max() < 20


def test_tokens_without_a_donors_row_get_the_mean() -> None:
    base, donor = gaussian(17, 40, 5), gaussian(18, 50, 6)
    base += donor[:40, :5]
    source, target, _ = tables(base, donor, 40)
    donor[45] = 0
    short = EmbeddingTable(Vocabulary.words(target.tokens[:49]), donor[:49])
    table = Ridge()(source, target, donor=short)
    mean = source.vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    np.testing.assert_array_equal(table.vectors[[45, 49]], [mean, mean])
    assert (table.notes["rebuilt"], table.notes["mean"], table.notes["anchors"]) == (8, 2, 40)


def test_bad_input_is_refused() -> None:
    source, target, given = tables(gaussian(19, 7, 4), gaussian(20, 9, 4), 7)
    with pytest.raises(InputError, match="7 usable anchors are too few, it needs 8"):
        Ridge()(source, target, donor=given)
    with pytest.raises(ConfigError, match="penalty=-1"):
        Ridge(penalty=-1)
