"""Analogies: ranks against a float64 loop over the vocabulary, LRCos against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from tokenspace.data import Analogy
from tokenspace.errors import ConfigError
from tokenspace.logistic import fit, predict
from tokenspace.rng import stream
from tokenspace.words.evaluation import analogies, analogy


def literal(unit: np.ndarray, asked: np.ndarray) -> dict[str, list[list[tuple[int, int]]]]:
    """Return (rank without the question's words, rank with them) by every measure, in float64."""
    U = unit.astype(np.float64)
    out: dict[str, list] = {"3cosadd": [], "3cosmul": [], "pairdir": []}
    for a, b, c, d in asked:
        A, B, C = U @ U[a], U @ U[b], U @ U[c]
        scores = {
            "3cosadd": B - A + C,
            "3cosmul": ((1 + B) / 2) * ((1 + C) / 2) / ((1 + A) / 2 + 1e-3),
        }
        way, far = U[b] - U[a], U - U[c]
        lengths = np.maximum(np.linalg.norm(far, axis=1), 1e-3)
        scores["pairdir"] = far @ way / lengths
        for name, score in scores.items():
            better = {x for x in range(len(U)) if score[x] >= score[d] and x != d}
            out[name].append((1 + len(better - {a, b, c}), 1 + len(better)))
    return out


@pytest.fixture
def unit() -> np.ndarray:
    rows = np.random.default_rng(5).standard_normal((700, 8)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("block", [1, 1 << 22])
@pytest.mark.parametrize("threads", [1, 3])
def test_ranks_are_those_of_a_slow_loop(unit, monkeypatch, block: int, threads: int) -> None:
    monkeypatch.setattr(analogy, "_BLOCK", block)  # 1: several blocks of 256 rows
    draw = np.random.default_rng(1)
    asked = np.array([draw.choice(700, 4, replace=False) for _ in range(60)])
    asked[::2, 3] = [  # answers that are found, too
        next(x for x in np.argsort(-(unit @ (unit[b] - unit[a] + unit[c]))) if x not in (a, b, c))
        for a, b, c, _ in asked[::2]
    ]
    found, wanted = analogy.ranks(unit, asked, threads=threads), literal(unit, asked)
    for name, pairs in wanted.items():
        np.testing.assert_array_equal(np.column_stack(found[name]), pairs, err_msg=name)
    assert (found["3cosadd"][0][::2] == 1).all()


def test_an_answer_among_the_questions_words_has_no_rank_without_them(unit) -> None:
    without, including = analogy.ranks(unit, np.array([[1, 2, 3, 2]]))["3cosadd"]
    assert without[0] == 701
    assert 1 <= including[0] <= 700


def test_ties_count_against_the_answer() -> None:
    same = np.ones((50, 4), np.float32) / 2
    for without, including in analogy.ranks(same, np.array([[0, 1, 2, 3]])).values():
        assert (without[0], including[0]) == (47, 50)


WORDS = ["man", "woman", "king", "queen", "boy", "girl", "tree", "paris", "france", "rome", "italy"]
QUESTIONS = [
    Analogy("family", "man", "woman", "king", "queen"),
    Analogy("family", "man", "woman", "boy", "girl"),
    Analogy("gram1-x", "Paris", "France", "Rome", "Italy"),
    Analogy("gram1-x", "paris", "france", "oslo", "norway"),
]


@pytest.fixture
def table(make):
    """Differences that are exact: the second of a pair is the first plus one direction."""
    eye = np.eye(9)
    vectors = [eye[0], eye[0] + eye[8], eye[1], eye[1] + eye[8], eye[2], eye[2] + eye[8], eye[3],
               eye[4], eye[4] + eye[7], eye[5], eye[5] + eye[7]]  # fmt: skip
    return make(WORDS, vectors, range(100, 89, -1))


def test_exact_differences_are_found(table) -> None:
    add, mul, way, lr = analogies(table, QUESTIONS)
    assert [result.measure for result in (add, mul, way, lr)] == list(analogy.MEASURES)
    assert (add.score.value, add.score.used, add.score.total) == (1.0, 3, 4)
    assert add.also["semantic"] == add.also["syntactic"] == add.also["section family"] == 1.0
    assert add.also["mrr"] == add.also["top5"] == 1.0
    assert add.unknown == ("norway", "oslo")
    assert np.isnan(add.items[3])
    # of the pairs, one is unknown: (man, woman), (king, queen), (boy, girl), and two of countries
    assert (lr.score.used, lr.score.total) == (5, 6)


@pytest.mark.parametrize("some", [QUESTIONS[2:], QUESTIONS[3:], []])
def test_questions_of_one_kind_or_none_known(table, some) -> None:
    for result in analogies(table, some, measures=("3cosadd", "3cosmul", "pairdir")):
        known = len(some) == 2
        assert (result.score.used > 0) == known
        assert np.isnan(result.score.value) != known
        assert np.isnan(result.also.get("semantic", np.nan))


@pytest.mark.parametrize("oov", ["zero", "mean"])
def test_unknown_words_may_count_as_wrong(table, oov) -> None:
    (add,) = analogies(table, QUESTIONS, measures=["3cosadd"], oov=oov)
    assert (add.score.value, add.score.used, add.score.total) == (0.75, 4, 4)


def test_candidates_may_be_the_most_frequent_words(table, make) -> None:
    (add,) = analogies(table, QUESTIONS, measures=["3cosadd"], restrict=6)
    assert (add.score.used, add.unknown) == (
        2, ("France", "Italy", "Paris", "Rome", "france", "norway", "oslo", "paris"),
    )  # fmt: skip
    rare = make(WORDS, table.vectors, range(11))  # now the last words are the frequent ones
    (add,) = analogies(rare, QUESTIONS, measures=["3cosadd"], restrict=4)
    assert add.score.used == 1


def test_no_question_is_known(make) -> None:
    for result in analogies(make(["x", "y"]), QUESTIONS):
        assert np.isnan(result.score.value)
        assert result.score.used == 0


def test_wrong_settings_are_refused(table) -> None:
    with pytest.raises(ConfigError, match="restrict=0"):
        analogies(table, QUESTIONS, restrict=0)
    with pytest.raises(ConfigError, match="'cos'"):
        analogies(table, QUESTIONS, measures=["cos"])


@pytest.mark.parametrize("block", [1, 1 << 22])
def test_lrcos_is_that_of_scikit_learn(unit, monkeypatch, block: int) -> None:
    monkeypatch.setattr(analogy, "_BLOCK", block)
    pairs = np.random.default_rng(2).permutation(700)[:24].reshape(12, 2)
    noise = stream(0, "lrcos", "s").integers(700, size=12)
    without, including = analogy._lrcos(unit, pairs, np.array(["s"] * 12, object), 0)
    for row, (c, d) in enumerate(pairs):
        targets = [t for t in pairs[:, 1] if t != d]
        rows = [*targets, *pairs[:, 0], *(n for n in noise if n != d)]
        y = [int(r in set(pairs[:, 1])) for r in rows]
        model = LogisticRegression(class_weight="balanced", tol=1e-8, max_iter=1000)
        model.fit(unit[rows], y)
        score = model.predict_proba(unit)[:, 1] * (unit @ unit[c])
        better = {x for x in range(700) if score[x] >= score[d] and x != d}
        assert abs(including[row] - 1 - len(better)) <= 1  # near ties
        assert abs(without[row] - 1 - len(better - {c})) <= 1


def test_logistic_regression_is_that_of_scikit_learn() -> None:
    draw = np.random.default_rng(0)
    y = draw.integers(4, size=300)
    X = (draw.standard_normal((300, 5)) + np.eye(5)[y]).astype(np.float32)
    weights = draw.random(300)
    W = fit(X, y, 4, C=0.3, weights=weights, iterations=1000)
    model = LogisticRegression(C=0.3, tol=1e-10, max_iter=5000).fit(X, y, weights)
    np.testing.assert_allclose(W[:, :-1], model.coef_, atol=2e-3)
    agree = (predict(X, W) == model.predict(X)).mean()
    assert agree > 0.99


def test_logistic_regression_has_the_gradient_of_its_loss() -> None:
    """At the optimum the loss is larger a step away in any direction."""
    draw = np.random.default_rng(1)
    X, y = draw.standard_normal((40, 3)).astype(np.float32), draw.integers(3, size=40)

    def loss(W: np.ndarray) -> float:
        Z = X.astype(np.float64) @ W[:, :-1].T + W[:, -1]
        log = np.log(np.exp(Z).sum(axis=1)) - Z[np.arange(40), y]
        return 0.5 * float((W[:, :-1] ** 2).sum()) + 2.0 * float(log.sum())

    W = fit(X, y, 3, C=2.0, iterations=1000)
    least = loss(W)
    for _ in range(20):
        step = draw.standard_normal(W.shape)
        assert loss(W + 0.05 * step) > least
