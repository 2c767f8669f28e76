"""PPMI-SVD: equal to its equations in float64, whole by whole and block by block."""

from __future__ import annotations

import numpy as np
import pytest

from tokenspace.corpus import Corpus
from tokenspace.data import zipf_text
from tokenspace.errors import ConfigError, InputError
from tokenspace.words import ppmi_svd
from tokenspace.words.ppmi_svd import PPMISVD, decomposed, neighbours, ppmi
from tokenspace.words.trial import association, rank_correlation

TEXTS = zipf_text(40, 30, 3, seed=1)


def literal(texts: list[list[int]], size: int, window: int) -> np.ndarray:
    """Count the weights of pairs, position by position."""
    n = np.zeros((size, size))
    for row in texts:
        for i, w in enumerate(row):
            for j, c in enumerate(row):
                d = abs(i - j)
                if 1 <= d <= window:
                    n[w, c] += (window - d + 1) / window
    return n


@pytest.mark.parametrize("block", [1, 7, 1 << 20])
@pytest.mark.parametrize("window", [1, 3, 50])
def test_counts_equal_a_loop(block: int, window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ppmi_svd, "BLOCK", block)
    text = Corpus(TEXTS).encode()
    rows = [[text.vocab.ids[word] for word in line.split()] for line in TEXTS]
    found = neighbours(text, window, 0, 0).toarray()
    np.testing.assert_allclose(found, literal(rows, len(text.vocab), window), atol=1e-9)


def test_thinning_keeps_as_often_as_its_probability_says() -> None:
    # One sentence a pair: "a b" many times and "c d" once; only pairs that are whole count.
    text = Corpus(["a b"] * 20_000 + ["c d"] * 200).encode()
    f = text.counts / text.counts.sum()
    sample = 0.02
    p = np.minimum(1, np.sqrt(sample / f))
    a, b, c, d = (text.vocab.ids[word] for word in "abcd")
    found = neighbours(text, 2, sample, 3).toarray()
    expected = 20_000 * p[a] * p[b]
    assert found[a, b] == found[b, a]
    assert abs(found[a, b] - expected) < 5 * np.sqrt(expected)
    assert found[c, d] == 200
    assert found.sum() == 2 * (found[a, b] + found[c, d])


@pytest.mark.parametrize(("smoothing", "shift"), [(1.0, 1.0), (0.75, 1.0), (0.75, 5.0), (0.0, 2.0)])
def test_ppmi_equals_its_equation(smoothing: float, shift: float) -> None:
    text = Corpus(TEXTS).encode()
    counts = neighbours(text, 4, 0, 0)
    n = counts.toarray()
    total, expected = (n.sum(axis=0) ** smoothing).sum(), np.zeros(n.shape)
    for w in range(len(n)):
        for c in range(len(n)):
            if n[w, c]:
                chance = n[w].sum() * n[:, c].sum() ** smoothing / total
                expected[w, c] = max(0.0, np.log(n[w, c] / chance) - np.log(shift))
    found = ppmi(counts, smoothing, shift)
    np.testing.assert_allclose(found.toarray(), expected, atol=1e-9)
    assert (found.data > 0).all()


def test_a_pair_that_meets_by_hand() -> None:
    # "a b" and "c d": n_ab = 1, every word has n = 1, Z = 4: PMI = ln 4.
    text = Corpus(["a b", "c d"]).encode()
    X = ppmi(neighbours(text, 1, 0, 0), 1.0, 1.0).toarray()
    a, b, c = (text.vocab.ids[word] for word in "abc")
    assert X[a, b] == X[b, a] == pytest.approx(np.log(4))
    assert X[a, c] == 0


def test_the_decomposition_is_that_of_lapack_with_signs_fixed() -> None:
    X = ppmi(neighbours(Corpus(TEXTS).encode(), 4, 0, 0), 0.75, 1.0)
    exact, S, _ = np.linalg.svd(X.toarray(), full_matrices=False)
    U, found = decomposed(X, 20, 0)  # with the further columns the basis is the whole space
    np.testing.assert_allclose(found, S[:20], rtol=1e-4)
    for own, column in zip(U.T[:5], exact.T, strict=False):
        assert own[np.abs(own).argmax()] > 0
        assert abs(own @ column) == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(U.T @ U, np.eye(20), atol=1e-5)


def test_a_narrow_basis_comes_near_to_the_best_of_its_width() -> None:
    X = ppmi(neighbours(Corpus(zipf_text(400, 150, 6)).encode(), 4, 0, 0), 0.75, 1.0)
    U, _ = decomposed(X, 10, 0)
    kept = np.linalg.norm(U.T @ X.toarray()) ** 2
    best = (np.linalg.svd(X.toarray(), compute_uv=False)[:10] ** 2).sum()
    assert 0.98 * best < kept <= 1.0001 * best


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_rows_are_the_left_vectors_by_a_power_of_the_values(power: float) -> None:
    corpus = Corpus(TEXTS)
    recipe = PPMISVD(dim=20, min_count=1, sample=0, power=power)
    X = ppmi(neighbours(corpus.encode(), 4, 0, 0), 0.75, 1.0).toarray()
    U, S, _ = np.linalg.svd(X)
    expected = U[:, :20] * S[:20] ** power
    W = recipe(corpus).vectors
    np.testing.assert_allclose(W @ W.T, expected @ expected.T, atol=2e-3 * (S[0] ** (2 * power)))
    assert W.dtype == np.float32


def test_what_it_learns_is_what_stands_together_and_is_the_same_again() -> None:
    texts = zipf_text(4_000, 200, 8)
    held_out = association(texts[::5])
    corpus = Corpus([text for i, text in enumerate(texts) if i % 5])
    one, two = (PPMISVD(dim=20, seed=4)(corpus) for _ in range(2))
    assert one.vectors.tobytes() == two.vectors.tobytes()
    assert rank_correlation(one, {"association": held_out})["rho"] > 0.3


def test_words_that_never_meet_another_have_the_zero_vector_and_are_counted() -> None:
    table = PPMISVD(dim=2, min_count=1, sample=0)(Corpus(["a b c", "c b a", "lone", "d e", "e d"]))
    lone = table.vocab.ids["lone"]
    assert not table.vectors[lone].any()
    assert table.notes["zero_rows"] == 1
    assert table.notes["pairs"] > 0


def test_too_few_words_are_refused() -> None:
    with pytest.raises(ConfigError, match="dim=3 needs more than 3 different words"):
        PPMISVD(dim=3, min_count=1)(Corpus(["a b c"]))
    with pytest.raises(InputError, match="fewer than 2 different words"):
        PPMISVD(dim=1, min_count=1)(Corpus(["a a"]))
