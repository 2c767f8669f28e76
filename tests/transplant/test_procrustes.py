from __future__ import annotations

import logging

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes

from tokenspace.errors import InputError
from tokenspace.table import EmbeddingTable
from tokenspace.transplant.procrustes import Procrustes, turn
from tokenspace.vocab import Vocabulary


def gaussian(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def orthogonal(seed: int, d: int) -> np.ndarray:
    return np.asarray(np.linalg.qr(gaussian(seed, d, d).astype(np.float64))[0])


def tables(
    base: np.ndarray, donor: np.ndarray, anchors: int
) -> tuple[EmbeddingTable, Vocabulary, EmbeddingTable]:
    words = [f"w{i}" for i in range(len(donor))]
    source = EmbeddingTable(
        Vocabulary.words(words[:anchors]), np.asarray(base[:anchors], np.float32)
    )
    target = Vocabulary.words(words)
    return source, target, EmbeddingTable(target, np.asarray(donor, np.float32))


def test_by_hand() -> None:
    # the source is the donor turned by 90°, doubled, and moved by (10, 10): (1, 2) becomes
    # 10 + 2 · (−2, 1)
    donor = np.array([[2, 0], [-2, 0], [0, 1], [0, -1]] * 2 + [[1, 2]], float)
    base = 10 + 2 * np.stack([-donor[:, 1], donor[:, 0]], axis=1)
    source, target, given = tables(base, donor, 8)
    table = Procrustes()(source, target, donor=given)
    np.testing.assert_allclose(table.vectors[8], [6, 12], atol=1e-5)
    assert table.notes["s"] == pytest.approx(2)
    unscaled = Procrustes(scale=False)(source, target, donor=given)
    np.testing.assert_allclose(unscaled.vectors[8], [8, 11], atol=1e-5)
    assert table.notes["error"] == pytest.approx(0, abs=1e-9)


def test_equals_scipys_rotation() -> None:
    A, B = 3 + gaussian(0, 60, 8), gaussian(1, 60, 8)
    B[:, :4] += A[:, :4]
    fitted = turn(A, B)
    A_c, B_c = (rows - rows.mean(0, dtype=np.float64) for rows in (A, B))
    W, total = orthogonal_procrustes(A_c, B_c)
    np.testing.assert_allclose(fitted.W, W, atol=1e-6)
    assert fitted.s == pytest.approx(total / np.square(A_c).sum())
    assert turn(A, B, scale=False).s == 1
    X = gaussian(2, 5, 8)
    exact = B.mean(0) + fitted.s * (X - A.mean(0)) @ W
    np.testing.assert_allclose(fitted(X), exact, atol=1e-5)


@pytest.mark.parametrize(("donor_width", "width"), [(12, 7), (7, 12)])
def test_unequal_widths_equal_the_literal_landmark_pca(donor_width: int, width: int) -> None:
    A, B = gaussian(3, 80, donor_width), gaussian(4, 80, width)
    A, B = (rows * np.linspace(1, 3, rows.shape[1], dtype=np.float32) for rows in (A, B))
    B[:, :7] += A[:, :7]
    A_c, B_c = (rows - rows.mean(0, dtype=np.float64) for rows in (A, B))
    P_A, P_B = (np.linalg.svd(rows, full_matrices=False)[2][:7].T for rows in (A_c, B_c))
    R, _ = orthogonal_procrustes(A_c @ P_A, B_c @ P_B)
    fitted = turn(A, B, scale=False)
    np.testing.assert_allclose(fitted.W, P_A @ R @ P_B.T, atol=1e-5)
    # no loss of length on the axes that are kept
    singular = np.linalg.svd(fitted.W, compute_uv=False)
    np.testing.assert_allclose(singular[:7], 1, atol=1e-6)


def test_a_planted_rotation_is_recovered() -> None:
    donor = gaussian(5, 200, 16)
    base = 5 + 0.3 * donor @ orthogonal(6, 16)
    source, target, given = tables(base, donor, 150)
    table = Procrustes()(source, target, donor=given)
    np.testing.assert_allclose(table.vectors[150:], base[150:], atol=1e-5)
    assert (table.notes["copied"], table.notes["rebuilt"], table.notes["mean"]) == (150, 50, 0)
    assert table.notes["tokens"] == sorted(range(150, 200), key=lambda i: f"w{i}")


def test_no_rotation_and_scale_fits_the_anchors_better() -> None:
    A, B = gaussian(7, 50, 6), gaussian(8, 50, 6)
    best = np.square(turn(A, B)(A) - B).sum()
    b_mean, A_c = B.mean(0), A - A.mean(0)
    for seed in range(20):
        W = orthogonal(100 + seed, 6)
        s = float((A_c @ W * (B - b_mean)).sum() / np.square(A_c).sum())
        assert np.square(b_mean + s * A_c @ W - B).sum() >= best


def test_directions_that_no_anchor_has_are_mapped_to_zero() -> None:
    A, B = gaussian(9, 20, 10), gaussian(10, 20, 10)
    A[:, 6:] = 0
    W = turn(A, B).W
    np.testing.assert_allclose(W[6:], 0, atol=1e-9)
    np.testing.assert_allclose(np.linalg.svd(W, compute_uv=False)[:6], 1, atol=1e-6)
    assert not turn(A[:1].repeat(9, 0), B[:9]).W.any()


def test_spaces_without_anything_in_common_are_told(caplog: pytest.LogCaptureFixture) -> None:
    source, target, given = tables(gaussian(11, 60, 20), gaussian(12, 70, 20), 60)
    with caplog.at_level(logging.WARNING):
        table = Procrustes(scale=False)(source, target, donor=given)
    assert table.notes["error"] > 1
    assert "mean" in caplog.text


def test_tokens_without_a_donors_row_get_the_mean() -> None:
    base, donor = gaussian(13, 40, 5), gaussian(14, 50, 5)
    source, target, _ = tables(base, donor, 40)
    donor[45] = 0
    short = EmbeddingTable(Vocabulary.words(target.tokens[:49]), donor[:49])
    table = Procrustes()(source, target, donor=short)
    mean = source.vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    np.testing.assert_array_equal(table.vectors[[45, 49]], [mean, mean])
    assert (table.notes["rebuilt"], table.notes["mean"], table.notes["anchors"]) == (8, 2, 40)


def test_too_few_anchors_are_refused() -> None:
    source, target, given = tables(gaussian(15, 7, 4), gaussian(16, 9, 4), 7)
    with pytest.raises(InputError, match="7 usable anchors are too few, it needs 8"):
        Procrustes()(source, target, donor=given)
