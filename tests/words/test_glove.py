"""GloVe: counts equal to a loop, steps equal to the equations in float64, and it fits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tokenspace.corpus import Corpus
from tokenspace.data import zipf_text
from tokenspace.errors import InputError, NotConverged
from tokenspace.vocab import Vocabulary
from tokenspace.words import _pairs
from tokenspace.words._pairs import PairCounts, count_pairs
from tokenspace.words.glove import GloVe, descend, fit, pieces
from tokenspace.words.trial import association, rank_correlation

TEXTS = zipf_text(40, 30, 3, seed=1)


def dense(X: PairCounts) -> np.ndarray:
    """Return the whole matrix, both triangles."""
    size = len(X.starts) - 1
    full = np.zeros((size, size))
    for w in range(size):
        for at in range(X.starts[w], X.starts[w + 1]):
            c = X.columns[at]
            assert full[w, c] == 0
            full[w, c] = full[c, w] = X.values[at]
    return full


def literal(texts: list[list[int]], size: int, window: int) -> np.ndarray:
    """Add 1 / d for every pair of places of one text, position by position."""
    X = np.zeros((size, size))
    for row in texts:
        for i, w in enumerate(row):
            for j, c in enumerate(row):
                if 1 <= abs(i - j) <= window:
                    X[w, c] += 1 / abs(i - j)
    return X


@pytest.mark.parametrize("portion", [1, 50, 1 << 21])
@pytest.mark.parametrize("window", [1, 4, 100])
def test_counts_equal_a_loop(window: int, portion: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pairs, "PORTION", portion)
    text = Corpus(TEXTS).encode()
    rows = [[text.vocab.ids[word] for word in line.split()] for line in TEXTS]
    X = count_pairs(text, 1 / np.arange(1, window + 1), 2)
    np.testing.assert_allclose(dense(X), literal(rows, len(text.vocab), window), rtol=1e-6)
    for w in range(len(text.vocab)):
        assert (X.columns[X.starts[w] : X.starts[w + 1]] <= w).all()


def test_counts_by_hand() -> None:
    # "a b a": a and b meet at distance 1 twice, the two a at distance 2 from either side.
    text = Corpus(["a b a", "b"]).encode()
    np.testing.assert_allclose(dense(count_pairs(text, np.array([1, 0.5]), 1)), [[1, 2], [2, 0]])


def test_a_token_without_occurrence_has_no_pair() -> None:
    text = Corpus(["a b"]).encode(Vocabulary.words(["x", "a", "y", "b", "z"]))
    X = dense(count_pairs(text, np.ones(3), 1))
    assert X.sum() == 2
    assert X[1, 3] == 1


def mixed(*sizes: int) -> Corpus:
    """Return texts of twenty sentences each."""
    lines = zipf_text(*sizes)
    return Corpus([" ".join(lines[i : i + 20]) for i in range(0, len(lines), 20)])


class Problem:
    """A few entries and the parameters that a step starts from, as the kernel takes them."""

    def __init__(self, size: int = 7, dim: int = 8, scale: float = 0.5) -> None:
        draw = np.random.default_rng(size)
        self.size, self.dim = size, dim
        self.P = draw.normal(0, scale, (size, 4, dim)).astype(np.float32)
        self.P[:, 2:] = draw.uniform(1, 3, (size, 2, dim))
        self.B = draw.normal(0, scale, (size, 4)).astype(np.float32)
        self.B[:, 2:] = draw.uniform(1, 3, (size, 2))
        rows = [
            np.sort(draw.choice(w + 1, (w + 2) // 2, replace=False)) for w in range(size)
        ]  # with pairs of a word and itself
        self.starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
        self.columns = np.concatenate(rows).astype(np.int32)
        self.values = draw.uniform(0.1, 30, len(self.columns)).astype(np.float32)
        self.f = np.minimum(1, self.values / 10) ** 0.75

    def run(self, lr: float) -> tuple[np.ndarray, np.ndarray, float, int]:
        P, B = self.P.copy(), self.B.copy()
        owners, cuts = pieces(self.starts)
        order = np.arange(len(owners))
        cost, entries = descend(
            P.reshape(-1), B.reshape(-1), self.dim, owners, cuts, order, 0, len(owners),
            self.columns, np.log(self.values), self.f.astype(np.float32), np.float32(lr),
        )  # fmt: skip
        return P, B, cost, entries

    def entries(self) -> Iterator[tuple[int, int, float, float]]:
        """Yield i, j, ln X_ij and f of every entry of the whole matrix, in the kernel's order."""
        for w in range(self.size):
            for at in range(self.starts[w], self.starts[w + 1]):
                c = int(self.columns[at])
                for i, j in ((w, c), (c, w))[: 1 if w == c else 2]:
                    yield i, j, np.log(float(self.values[at])), float(self.f[at])


def cost(problem: Problem, P: np.ndarray, B: np.ndarray) -> float:
    return sum(
        0.5 * f * (P[i, 0] @ P[j, 1] + B[i, 0] + B[j, 1] - log) ** 2
        for i, j, log, f in problem.entries()
    )


def test_the_kernel_equals_its_equations() -> None:
    problem = Problem(size=30, dim=16)
    P, B = problem.P.astype(np.float64), problem.B.astype(np.float64)
    spent = 0.0
    for i, j, log, f in problem.entries():
        w, c = P[i, 0].copy(), P[j, 1].copy()
        diff = w @ c + B[i, 0] + B[j, 1] - log
        delta = f * diff
        spent += 0.5 * delta * diff
        tw, tc = 0.3 * delta * c, 0.3 * delta * w
        P[i, 0] -= tw / np.sqrt(P[i, 2])
        P[j, 1] -= tc / np.sqrt(P[j, 3])
        P[i, 2] += tw**2
        P[j, 3] += tc**2
        B[i, 0] -= delta / np.sqrt(B[i, 2])
        B[j, 1] -= delta / np.sqrt(B[j, 3])
        B[i, 2] += delta**2
        B[j, 3] += delta**2
    found = problem.run(0.3)
    np.testing.assert_allclose(found[0], P, atol=2e-4, rtol=1e-4)
    np.testing.assert_allclose(found[1], B, atol=2e-4, rtol=1e-4)
    assert found[2] == pytest.approx(spent, rel=1e-4)
    assert found[3] == len(list(problem.entries()))


def test_the_step_of_vectors_is_the_gradient_of_the_cost() -> None:
    # With squares of 1 and a tiny rate; biases, which the rate does not slow, held by huge squares.
    problem = Problem()
    problem.P[:, 2:] = 1
    problem.B[:, 2:] = 1e18
    P, _, spent, _ = problem.run(1e-4)
    exact, B = problem.P.astype(np.float64), problem.B.astype(np.float64)
    assert spent == pytest.approx(cost(problem, exact, B), rel=1e-3)
    for place in np.ndindex(problem.size, 2, problem.dim):
        value = exact[place]
        exact[place] = value + 1e-5
        high = cost(problem, exact, B)
        exact[place] = value - 1e-5
        slope = (high - cost(problem, exact, B)) / 2e-5
        exact[place] = value
        assert (problem.P[place] - P[place]) / 1e-4 == pytest.approx(slope, abs=0.05, rel=0.02)


def test_the_step_of_a_bias_is_its_gradient_by_the_root_of_its_square() -> None:
    problem = Problem(size=2)
    problem.starts, problem.columns = np.array([0, 0, 1]), np.array([0], np.int32)
    problem.values, problem.f = np.array([4.0], np.float32), np.array([0.5])
    problem.P[:, :2] = 0
    problem.B[:] = [[0, 0, 4, 9], [0, 0, 16, 25]]
    _, B, spent, entries = problem.run(0.05)
    delta = -0.5 * np.log(4)
    np.testing.assert_allclose(B[:, :2], [[-delta / 2, -delta / 3], [-delta / 4, -delta / 5]])
    np.testing.assert_allclose(B[:, 2:] - [[4, 9], [16, 25]], delta**2, rtol=1e-5)
    assert entries == 2
    assert spent == pytest.approx(2 * 0.25 * np.log(4) ** 2)


@pytest.mark.parametrize("lengths", [[1], [64], [65], [0, 3, 0, 200, 0], [128, 0, 1]])
def test_pieces_cover_every_pair_once(lengths: list[int]) -> None:
    starts = np.concatenate([[0], np.cumsum(lengths)])
    owners, cuts = pieces(starts)
    assert cuts[0] == 0
    assert cuts[-1] == starts[-1]
    assert (np.diff(cuts) > 0).all()
    assert (np.diff(cuts) <= 64).all()
    for owner, a, b in zip(owners, cuts, cuts[1:], strict=False):
        assert starts[owner] <= a < b <= starts[owner + 1]


def test_a_matrix_of_low_rank_is_found() -> None:
    # ln X = u_i + u_j + s_i s_j: after training, the products and biases give it back.
    draw = np.random.default_rng(0)
    u, s = draw.uniform(2, 3, 30), draw.choice([-1.0, 1.0], 30)
    full = np.exp(u[:, None] + u + np.outer(s, s))
    rows, columns = np.tril_indices(30)
    X = PairCounts(
        np.concatenate([[0], np.cumsum(np.arange(1, 31))]),
        columns.astype(np.int32),
        full[rows, columns].astype(np.float32),
    )
    found = fit(X, GloVe(dim=8, epochs=400, threads=1, lr=0.1))
    fitted = found.W @ found.contexts.T + found.b[:, None] + found.context_b
    assert np.abs(fitted - np.log(full)).mean() < 0.05
    assert found.cost < 0.01
    assert found.entries == 900


def test_words_of_one_topic_come_together() -> None:
    # Several topics a text: pairs that never meet teach GloVe nothing.
    table = GloVe(dim=24, min_count=2, x_max=10, threads=1)(mixed(2000, 120, 6))
    pairs = {"planted": association(zipf_text(1000, 120, 6, seed=1), words=120)}
    assert rank_correlation(table, pairs)["rho"] > 0.4
    assert table.notes["pairs"] > 120
    assert 0 < table.notes["loss"] < 0.1


def test_threads_fit_as_well() -> None:
    one, two = (
        GloVe(dim=24, min_count=2, x_max=10, threads=n)(mixed(2000, 120, 6)).notes["loss"]
        for n in (1, 2)
    )
    assert two == pytest.approx(one, rel=0.05)


def test_the_vectors_are_the_sum_of_both_matrices() -> None:
    corpus, recipe = Corpus(TEXTS), GloVe(dim=9, epochs=2, min_count=1, threads=1)
    found = recipe.factors(corpus)
    assert found.words.shape == (len(found.vocab), 9)
    np.testing.assert_array_equal(recipe(corpus).vectors, found.words + found.contexts)
    assert found.word_biases is not None
    assert found.word_biases.shape == (len(found.vocab),)


def test_what_cannot_be_learned_from_is_refused() -> None:
    with pytest.raises(InputError, match="fewer than 2 different words"):
        GloVe()(Corpus(["a " * 100]))
    with pytest.raises(InputError, match="no two words stand in the same text"):
        GloVe(min_count=1)(Corpus(["a", "b"]))
    with pytest.raises(NotConverged, match=r"the cost is \S+ in epoch"):
        fit(
            PairCounts(np.array([0, 0, 1]), np.zeros(1, np.int32), np.full(1, np.nan, np.float32)),
            GloVe(dim=8, threads=1),
        )
