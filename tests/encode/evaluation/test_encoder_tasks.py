"""Every task against scikit-learn, scipy or a loop, and data that allow no figure."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn import metrics as sklearn
from sklearn.linear_model import LogisticRegression

from tokenspace.encode.evaluation.tasks import (
    STRENGTHS,
    Labelled,
    Scored,
    Search,
    Vectors,
    judge,
    pairs,
)
from tokenspace.errors import InputError
from tokenspace.metrics import cosine
from tokenspace.rng import stream

DRAW = np.random.default_rng(0)
TEXTS = [f"text {i}" for i in range(60)]
ROWS = DRAW.standard_normal((60, 6)).astype(np.float32)


class Fixed:
    """An encoder that knows the vectors of some texts, and counts what it is asked."""

    def __init__(self, rows: np.ndarray = ROWS, **more: object) -> None:
        self.rows = dict(zip(TEXTS, rows, strict=True))
        self.dim, self.asked = rows.shape[1], 0
        self.__dict__.update(more)

    def encode(self, texts: list[str], *, batch_size: int = 32) -> np.ndarray:
        self.asked += len(texts)
        return np.array([self.rows[text] for text in texts])


def ask(family: str, given: object, encoder: object | None = None) -> object:
    return judge(Vectors(encoder or Fixed(), "it"), family, "set", given)  # type: ignore[arg-type]


SCORES = DRAW.integers(6, size=30).astype(float).tolist()


def test_sts_is_spearman_of_cosines() -> None:
    given = Scored(TEXTS[:30], TEXTS[30:], SCORES)
    found = ask("sts", given)
    cosines = cosine(ROWS[:30], ROWS[30:])
    assert found.value == pytest.approx(spearmanr(SCORES, cosines)[0])
    np.testing.assert_allclose(found.items[:, 1], cosines, atol=1e-6)


def test_pair_classification_is_average_precision() -> None:
    truth = [float(score > 2) for score in SCORES]
    found = ask("pair_classification", Scored(TEXTS[:30], TEXTS[30:], truth))
    cosines = cosine(ROWS[:30], ROWS[30:])
    assert found.value == pytest.approx(sklearn.average_precision_score(truth, cosines))


def test_classification_is_logistic_regression_on_half() -> None:
    labels = np.array(["a", "b", "c"])[(ROWS[:, :3] + 0.5 * ROWS[:, 3:]).argmax(axis=1)]
    found = ask("classification", Labelled(TEXTS, labels.tolist()))
    order = stream(0, "halves").permutation(60)
    known, asked = order[:30], order[30:]
    X = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)
    X = X - X[known].mean(axis=0)

    def right(C: float, learned: np.ndarray, tested: np.ndarray) -> np.ndarray:
        peer = LogisticRegression(C=C, max_iter=2000, tol=1e-6).fit(X[learned], labels[learned])
        return peer.predict(X[tested]) == labels[tested]

    folds = [(np.delete(known, np.s_[k::3]), known[k::3]) for k in range(3)]
    scores = [sum(right(C, *fold).sum() for fold in folds) for C in STRENGTHS]
    assert len(set(scores)) > 1
    np.testing.assert_array_equal(
        found.items, right(STRENGTHS[int(np.argmax(scores))], known, asked)
    )


def test_clustering_finds_what_lies_apart() -> None:
    kinds = np.repeat(np.eye(3, 6), 20, axis=0).astype(np.float32)
    labels = np.repeat(["x", "y", "z"], 20).tolist()
    near = Fixed(kinds + 0.01 * ROWS)
    assert ask("clustering", Labelled(TEXTS, labels), near).value == 1.0
    mixed = ask("clustering", Labelled(TEXTS, labels))
    assert mixed.value == pytest.approx(sklearn.v_measure_score(*mixed.items.T))


def search(candidates: list[list[int]] | None) -> tuple[Search, np.ndarray]:
    relevant = [frozenset({i, (i * 7 + 3) % 40}) for i in range(20)]
    unit = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)
    return Search(TEXTS[40:], TEXTS[:40], relevant, candidates), unit[40:] @ unit[:40].T


def test_retrieval_is_ndcg_at_10() -> None:
    given, scores = search(None)
    truth = np.array([[i in answers for i in range(40)] for answers in given.relevant])
    found = ask("retrieval", given)
    assert found.value == pytest.approx(sklearn.ndcg_score(truth, scores, k=10), abs=1e-6)
    assert found.items.shape == (20,)


def test_reranking_is_average_precision_of_the_candidates() -> None:
    given, scores = search([sorted({i, (i * 7 + 3) % 40, 5, 11, 23, 31}) for i in range(20)])
    slow = [
        sklearn.average_precision_score([i in answers for i in own], scores[q, own])
        for q, (answers, own) in enumerate(zip(given.relevant, given.candidates, strict=True))
    ]
    np.testing.assert_allclose(ask("reranking", given).items, slow, atol=1e-6)
    encoder = Fixed()
    ask("reranking", given._replace(candidates=[[0, i] for i in range(20)]), encoder)
    assert encoder.asked == 20 + 20  # documents that are no candidates are not encoded


def test_a_text_is_encoded_once() -> None:
    encoder = Fixed()
    vectors = Vectors(encoder, "it")
    first = vectors(TEXTS[:5] + TEXTS[:3])
    np.testing.assert_array_equal(first[:3], first[5:])
    vectors(TEXTS[:7])
    assert encoder.asked == 7
    assert vectors([]).shape == (0, 6)


def test_sides_have_their_prompts() -> None:
    told: list[str] = []

    def prompted(name: str) -> Fixed:
        told.append(name)
        return Fixed()

    encoder = Fixed(prompts={"query": "q: ", "passage": "p: "}, prompted=prompted)
    ask("retrieval", search(None)[0], encoder)
    assert sorted(told) == ["passage", "query"]
    told.clear()
    ask("sts", Scored(TEXTS[:30], TEXTS[30:], SCORES), encoder)
    assert told == []


def test_zero_vectors_are_like_nothing_and_counted() -> None:
    rows = ROWS.copy()
    rows[:2] = 0
    vectors = Vectors(Fixed(rows), "it")
    found = judge(vectors, "sts", "set", Scored(TEXTS[:30], TEXTS[30:], SCORES))
    assert found.items[:2, 1].tolist() == [0.0, 0.0]
    assert vectors.zero == 2


def test_a_vector_that_is_not_finite_is_refused() -> None:
    rows = ROWS.copy()
    rows[3, 1] = np.nan
    with pytest.raises(InputError, match="it gives a vector that is not finite for 'text 3'"):
        ask("sts", Scored(TEXTS[:30], TEXTS[30:], SCORES), Fixed(rows))


@pytest.mark.parametrize(
    ("family", "given", "said"),
    [
        ("sts", Scored(TEXTS[:3], TEXTS[3:6], [1.0, 1.0, 1.0]), "scores of all 3 pairs are equal"),
        ("pair_classification", Scored(TEXTS[:2], TEXTS[2:4], [1.0, 1.0]), "scores 1, expected"),
        ("pair_classification", Scored(TEXTS[:2], TEXTS[2:4], [0.0, 0.5]), "scores 0, 0.5"),
        ("classification", Labelled(TEXTS, ["a"] * 60), "only one class"),
        ("clustering", Labelled(TEXTS[:4], ["a"] * 4), r"on set: only one class \('a'\)"),
        ("clustering", Labelled([], []), "only one class"),
        ("retrieval", Search([], TEXTS, []), "no query"),
    ],
)  # fmt: skip
def test_data_that_allow_no_figure_are_refused(family: str, given: object, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        ask(family, given)
    assert caught.value.hint


def test_the_half_to_learn_from_needs_two_classes() -> None:
    order = stream(0, "halves").permutation(10)
    labels = ["a"] * 10
    labels[order[-1]] = "b"
    with pytest.raises(InputError, match="half to learn from has only one class"):
        ask("classification", Labelled(TEXTS[:10], labels))


def test_a_class_that_was_never_seen_counts_as_wrong() -> None:
    order = stream(0, "halves").permutation(10)
    labels = np.array(["a", "b"] * 5)[np.argsort(order)].tolist()
    labels[order[-1]] = "new"
    assert ask("classification", Labelled(TEXTS[:10], labels)).items[-1] == 0.0


def test_pairs_are_kept_once() -> None:
    found = pairs([("a", "b", 1.0), ("c", "d", 2.0), ("a", "b", 3.0)])
    assert found == Scored(["a", "c"], ["b", "d"], [1.0, 2.0])
