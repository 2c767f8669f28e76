from __future__ import annotations

import logging

import numpy as np
import pytest

from tokenspace.errors import ConfigError, InputError
from tokenspace.table import EmbeddingTable
from tokenspace.transplant._shared import combine
from tokenspace.transplant.omp import OMP, follow, pursue, select, solve
from tokenspace.vocab import Vocabulary


def gaussian(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def literal(x: np.ndarray, anchors: np.ndarray, k: int) -> tuple[list[int], np.ndarray]:
    """Transcribe the paper in float64: argmax of |⟨a, r⟩|, then least squares, k times."""
    A, x = anchors.astype(np.float64), x.astype(np.float64)
    r, chosen, c = x, [], np.zeros(0)
    for _ in range(k):
        score = np.abs(A @ r)
        score[chosen] = -1
        chosen.append(int(score.argmax()))
        c = np.linalg.lstsq(A[chosen].T, x, rcond=None)[0]
        r = x - A[chosen].T @ c
    return chosen, c


def tables(
    base: np.ndarray, donor: np.ndarray, anchors: int
) -> tuple[EmbeddingTable, Vocabulary, EmbeddingTable]:
    words = [f"w{i}" for i in range(len(donor))]
    source = EmbeddingTable(Vocabulary.words(words[:anchors]), base[:anchors])
    target = Vocabulary.words(words)
    return source, target, EmbeddingTable(target, donor)


def test_by_hand() -> None:
    # x = (3, 1): |⟨a, x⟩| = 3, 1, 2.83. Anchor 0 leaves r = (0, 1), whose products with the others
    # are 1 and 0.71, so that anchor 1 is next and x = 3 a_0 + 1 a_1.
    anchors = np.array([[1, 0], [0, 1], [0.7071, 0.7071]], np.float32)
    supports, c = pursue(np.array([[3, 1]], np.float32), anchors, 2)
    assert supports.tolist() == [[0, 1]]
    np.testing.assert_allclose(c, [[3, 1]], atol=1e-6)
    np.testing.assert_allclose(
        combine(supports, c, np.array([[1, 1], [10, 0], [0, 0]], np.float32)), [[13, 3]], atol=1e-5
    )


@pytest.mark.parametrize("memory", [2048, 1, 0], ids=["float32", "16 bits", "vectors"])
def test_equals_the_literal_algorithm(memory: int) -> None:
    X, A = gaussian(0, 100, 96), gaussian(1, 600, 96)
    supports, c = pursue(X, A, 12, memory=memory)
    equal = 0
    for x, found, ours in zip(X, supports, c, strict=True):
        chosen, theirs = literal(x, A, 12)
        equal += chosen == found.tolist()
        if chosen == found.tolist():
            np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert equal >= 99.5 / 100 * len(X)


@pytest.mark.parametrize("normalize", [False, True])
def test_sixteen_bits_choose_as_float32_does(normalize: bool) -> None:
    # Rows of a real table share a direction and differ in length; some are nearly the same. Most
    # choices among 600 are closer than 16 bits tell: the float64 residual must settle them.
    common = gaussian(40, 48)
    A = (gaussian(41, 600, 48) + common) * np.exp(0.3 * gaussian(42, 600, 1))
    A[300:] = A[:300] + 1e-3 * gaussian(43, 300, 48)
    X = gaussian(44, 200, 48) + common
    fine, coarse = (select(X, A, 16, normalize=normalize, memory=m) for m in (2048, 1))
    np.testing.assert_array_equal(coarse, fine)
    np.testing.assert_array_equal(fine, select(X, A, 16, normalize=normalize, memory=0))


def test_the_residual_is_orthogonal_to_the_support() -> None:
    X, A = gaussian(2, 20, 64), gaussian(3, 300, 64)
    supports, c = pursue(X, A, 16)
    r = X - combine(supports, c, A)
    assert np.abs(np.einsum("bkd,bd->bk", A[supports], r)).max() < 1e-4


def test_supports_nest() -> None:
    X, A = gaussian(4, 30, 48), gaussian(5, 200, 48)
    np.testing.assert_array_equal(select(X, A, 20)[:, :7], select(X, A, 7))


def test_threads_and_blocks_do_not_change_a_bit() -> None:
    X, A = gaussian(6, 300, 32), gaussian(7, 150, 32)
    one, two = pursue(X, A, 8, threads=1), pursue(X, A, 8, threads=3)
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])


def test_all_anchors_give_least_squares() -> None:
    X, A = gaussian(8, 10, 40), gaussian(9, 12, 40)
    supports, c = pursue(X, A, 12)
    assert (np.sort(supports, 1) == np.arange(12)).all()
    best = np.linalg.lstsq(A.T.astype(float), X.T.astype(float), rcond=None)[0].T
    np.testing.assert_allclose(combine(supports, c, A), best @ A, atol=1e-4)


def test_more_anchors_than_there_are_leave_the_rest_empty() -> None:
    supports, c = pursue(gaussian(10, 3, 20), gaussian(11, 4, 20), 9)
    assert (supports[:, 4:] == -1).all()
    assert (c[:, 4:] == 0).all()
    assert (supports[:, :4] >= 0).all()


def test_ties_take_the_lowest_index() -> None:
    anchors = np.array([[0, 1], [1, 0], [1, 0], [0, -1]], np.float32)
    for find in (lambda x: select(x, anchors, 2), lambda x: follow(x, anchors, 2)):
        assert find(np.array([[2, 1]], np.float32)).tolist() == [[1, 0]]
        assert find(np.array([[1, 1]], np.float32)).tolist() == [[0, 1]]


def test_duplicate_and_nearly_dependent_atoms_are_passed_over() -> None:
    A = gaussian(12, 30, 24)
    A = np.concatenate([A, A, A + 1e-5 * gaussian(13, 30, 24)])
    supports, c = pursue(gaussian(14, 40, 24), A, 20)
    originals = np.where(supports >= 0, supports % 30, -1 - np.arange(20))
    assert all(len(set(row)) == 20 for row in originals.tolist())
    assert np.abs(c).sum(axis=1).max() < 50


def test_stops_where_the_residual_is_small() -> None:
    A = gaussian(15, 60, 50)
    supports = select((2 * A[7] - A[3])[None], A, 10)
    assert sorted(supports[0, :2]) == [3, 7]
    assert (supports[0, 2:] == -1).all()
    loose = select(gaussian(16, 5, 50), A, 30, tolerance=0.8)
    assert ((loose >= 0).sum(1) < 30).all()
    assert (loose[:, 0] >= 0).all()


def test_a_zero_target_has_no_support() -> None:
    supports, c = pursue(np.zeros((1, 8), np.float32), gaussian(17, 20, 8), 3)
    assert supports.tolist() == [[-1, -1, -1]]
    assert c.tolist() == [[0, 0, 0]]


def test_normalize_compares_directions() -> None:
    anchors = np.array([[1, 0], [0, 1], [5, 5]], np.float32)
    x = np.array([[3, 0.1]], np.float32)
    assert select(x, anchors, 1).tolist() == [[2]]
    assert select(x, anchors, 1, normalize=True).tolist() == [[0]]


def test_ridge_is_that_of_the_normal_equations() -> None:
    X, A = gaussian(18, 6, 30), gaussian(19, 80, 30)
    supports = select(X, A, 5)
    penalty = 0.1 * np.square(A.astype(float)).sum(1).mean()
    for x, chosen, c in zip(X, supports, solve(X, A, supports, ridge=0.1), strict=True):
        a = A[chosen].astype(float)
        np.testing.assert_allclose(c, np.linalg.solve(a @ a.T + penalty * np.eye(5), a @ x), 1e-4)


def test_planted_rows_are_recovered() -> None:
    rng = np.random.default_rng(20)
    A = rng.standard_normal((300, 64))
    chosen = np.stack([rng.choice(300, 6, replace=False) for _ in range(40)])
    X = np.einsum("nk,nkd->nd", rng.standard_normal((40, 6)), A[chosen])
    donor = np.concatenate([A, X])
    base = donor @ rng.standard_normal((64, 48)) / 8
    given = tables(base.astype(np.float32), donor.astype(np.float32), 300)
    table = OMP(k=12)(given[0], given[1], donor=given[2])
    np.testing.assert_allclose(table.vectors[300:], base[300:], atol=1e-4)
    assert set(table.notes["support"]) == {6}


def test_the_error_is_bounded_by_the_residual() -> None:
    A, X, M = gaussian(21, 400, 48), gaussian(22, 50, 48), gaussian(23, 48, 32)
    supports, c = pursue(X, A, 10)
    r = np.linalg.norm(X - combine(supports, c, A), axis=1)
    error = np.linalg.norm(combine(supports, c, A @ M) - X @ M, axis=1)
    assert (error <= r * np.linalg.norm(M, 2) * (1 + 1e-4)).all()
    assert r.min() > 0.01


def related(seed: int = 0, noise: float = 0.1) -> tuple[EmbeddingTable, Vocabulary, EmbeddingTable]:
    latent = gaussian(seed, 240, 20)
    base = latent @ gaussian(seed + 1, 20, 24) + noise * gaussian(seed + 2, 240, 24)
    donor = latent @ gaussian(seed + 3, 20, 40) + noise * gaussian(seed + 4, 240, 40)
    return tables(base, donor, 200)


def test_copies_shared_rows_and_does_not_depend_on_the_order_of_ids() -> None:
    source, target, donor = related()
    table = OMP()(source, target, donor=donor)
    np.testing.assert_array_equal(table.vectors[:200], source.vectors)
    order = np.random.default_rng(5).permutation(len(target))
    shuffled = Vocabulary.words([target.tokens[i] for i in order])
    again = OMP()(source, shuffled, donor=donor)
    np.testing.assert_array_equal(again.vectors, table.vectors[order])


def test_its_own_vocabulary_changes_nothing() -> None:
    source, _, donor = related()
    table = OMP()(source, source.vocab, donor=donor)
    np.testing.assert_array_equal(table.vectors, source.vectors)


def test_auto_chooses_k_by_held_out_anchors_and_beats_the_mean() -> None:
    source, target, donor = related()
    table = OMP()(source, target, donor=donor)
    curve = table.notes["curve"]
    assert curve[str(table.notes["k"])] == min(curve.values()) < 0.5
    assert max(int(k) for k in curve) <= 20  # half the donor's width
    assert len(table.notes["tokens"]) == table.notes["rebuilt"] == 40
    assert (np.array(table.notes["residual"]) < 0.9).all()


def test_auto_falls_back_to_the_mean_where_nothing_is_learned(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source, target, donor = tables(gaussian(30, 240, 24), gaussian(31, 240, 24), 200)
    with caplog.at_level(logging.WARNING):
        table = OMP()(source, target, donor=donor)
    assert "mean" in caplog.text
    assert table.notes["k"] == 0
    assert min(table.notes["curve"].values()) >= 1
    np.testing.assert_allclose(table.vectors[200:], table.vectors[200:201].repeat(40, 0))
    np.testing.assert_allclose(table.vectors[200], source.vectors.mean(0), atol=1e-6)


def test_center_works_on_differences_from_the_means() -> None:
    source, target, donor = related()
    far = donor.replace(vectors=donor.vectors + 100)
    moved = source.replace(vectors=source.vectors - 50)
    near = OMP(k=8, center=True)(source, target, donor=donor).vectors
    np.testing.assert_allclose(
        OMP(k=8, center=True)(moved, target, donor=far).vectors, near - 50, atol=2e-2
    )


def test_zero_rows_and_missing_tokens_of_the_donor_get_the_mean() -> None:
    source, target, donor = related()
    vectors = donor.vectors.copy()
    vectors[[5, 210]] = 0
    short = EmbeddingTable(Vocabulary.words(target.tokens[:239]), vectors[:239])
    table = OMP(k=4)(source, target, donor=short)
    mean = source.vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    np.testing.assert_array_equal(table.vectors[[210, 239]], [mean, mean])
    assert table.notes["anchors"] == 199
    assert table.notes["mean"] == 2
    assert table.notes["rebuilt"] == 38


def test_min_count_leaves_rare_anchors_out() -> None:
    source, target, donor = related()
    counts = np.r_[np.full(100, 3), np.full(140, 50)]
    counted = EmbeddingTable(target, donor.vectors, counts=counts)
    assert OMP(k=4, min_count=10)(source, target, donor=counted).notes["anchors"] == 100
    few = EmbeddingTable(
        source.vocab, source.vectors, counts=np.r_[np.full(150, 9), np.full(50, 99)]
    )
    assert OMP(k=4, min_count=10)(few, target, donor=counted).notes["anchors"] == 50


def test_k_is_clamped_to_half_the_donors_width(caplog: pytest.LogCaptureFixture) -> None:
    source, target, donor = related()
    with caplog.at_level(logging.WARNING):
        table = OMP(k=30)(source, target, donor=donor)
    assert table.notes["k"] == 20
    assert "k=30" in caplog.text


def test_too_few_anchors_are_refused_unless_asked_for() -> None:
    source, target, donor = tables(gaussian(40, 30, 8), gaussian(41, 30, 16), 20)
    with pytest.raises(InputError, match="with k=6: 20 usable anchors are too few, it needs 24"):
        OMP(k=6)(source, target, donor=donor)
    assert OMP(k=6, allow_few=True)(source, target, donor=donor).notes["k"] == 6


def test_bad_input_is_refused() -> None:
    good = gaussian(50, 4, 8)
    with pytest.raises(InputError, match="8 wide and anchors 7"):
        pursue(good, gaussian(51, 9, 7), 2)
    bad = good.copy()
    bad[2, 1] = np.inf
    with pytest.raises(InputError, match="targets: rows with NaN or infinite values: 2"):
        pursue(bad, good, 2)
    with pytest.raises(ConfigError, match="k=0 is outside"):
        OMP(k=0)
    source, _, donor = related()
    with pytest.raises(InputError, match="share no token"):
        OMP()(source, Vocabulary.words(["other"]), donor=donor)
    apart = EmbeddingTable(Vocabulary.words(["x", "y"]), gaussian(52, 2, 40))
    with pytest.raises(InputError, match="0 usable anchors"):
        OMP()(source, donor.vocab, donor=apart)
