from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tokenspace.corpus import Corpus
from tokenspace.errors import InputError, MissingEvidence
from tokenspace.recipe import apply
from tokenspace.table import EmbeddingTable
from tokenspace.transplant import focus
from tokenspace.transplant._neighbours import unit
from tokenspace.transplant.focus import FOCUS, sparse_sums
from tokenspace.transplant.trial import bag
from tokenspace.vocab import Vocabulary


def gaussian(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def literal(z: np.ndarray) -> np.ndarray:
    """Transcribe sparsemax: sort, find the largest i with 1 + i z_(i) > Σ z_(j), subtract τ."""
    z = z.astype(np.float64)
    ordered = sorted(z, reverse=True)
    rho = max(i for i in range(1, len(z) + 1) if 1 + i * ordered[i - 1] > sum(ordered[:i]))
    tau = (sum(ordered[:rho]) - 1) / rho
    return np.maximum(z - tau, 0)


def test_by_hand() -> None:
    # z = (0.5, 0.3, -1): 1 + 2 · 0.3 > 0.8, 1 − 3 < −0.2, so ρ = 2, τ = −0.1, p = (0.6, 0.4, 0)
    keys = np.array([[0.5], [0.3], [-1]], np.float32)
    sums, support = sparse_sums(np.ones((1, 1), np.float32), keys, np.diag([1, 10, 100]))
    np.testing.assert_allclose(sums, [[0.6, 4, 0]], atol=1e-6)
    assert support.tolist() == [2]


@pytest.mark.parametrize("temperature", [0.05, 1.0, 3.0])
def test_equals_the_literal_sparsemax(temperature: float, monkeypatch) -> None:
    monkeypatch.setattr(focus, "BLOCK", 1)
    X, A, E = unit(gaussian(0, 130, 12)), unit(gaussian(1, 400, 12)), gaussian(2, 400, 7)
    sums, support = sparse_sums(X, A, E, temperature=temperature)
    for x, row, size in zip(X, sums, support, strict=True):
        p = literal(A @ x / temperature)
        assert p.sum() == pytest.approx(1)
        assert size == (p > 1e-7).sum()
        np.testing.assert_allclose(row, p @ E, atol=2e-5)


def test_values_in_any_order_have_one_answer() -> None:
    z, E = np.sort(gaussian(0, 500)) / 3, gaussian(1, 500, 3)
    for order in (np.arange(500), np.arange(500)[::-1], np.random.default_rng(0).permutation(500)):
        sums, _ = sparse_sums(np.ones((1, 1), np.float32), z[order, None], E[order])
        np.testing.assert_allclose(sums[0], literal(z) @ E, atol=1e-5)


def test_cold_is_the_nearest_and_hot_is_the_mean() -> None:
    X, A, E = unit(gaussian(0, 20, 6)), unit(gaussian(1, 50, 6)), gaussian(2, 50, 4)
    cold, support = sparse_sums(X, A, E, temperature=1e-3)
    np.testing.assert_allclose(cold, E[(X @ A.T).argmax(axis=1)], atol=0.2)
    assert support.max() <= 2
    hot, support = sparse_sums(X, A, E, temperature=1e3)
    np.testing.assert_allclose(hot, np.tile(E.mean(0), (20, 1)), atol=1e-2)
    assert support.min() == 50


def test_an_anchor_apart_from_all_others_is_copied() -> None:
    anchors = np.eye(4, dtype=np.float32)  # cosines 1, 0, 0, 0: ρ = 1
    made, support = sparse_sums(anchors, anchors, gaussian(0, 4, 3))
    np.testing.assert_array_equal(made, gaussian(0, 4, 3))
    assert support.tolist() == [1, 1, 1, 1]


def test_vectors_over_the_targets_tokens() -> None:
    vocab = Vocabulary.words(["a", "b", "new", "rare", "c", "unknown"])
    helper = EmbeddingTable(
        Vocabulary.words(["new", "c", "a", "b", "rare"]),
        np.array([[2, 0], [-1, 0], [3, 0], [0, 1], [0, 0]], np.float32),
    )
    source = EmbeddingTable(Vocabulary.words(["c", "a", "b"]), gaussian(0, 3, 4))
    made = FOCUS()(source, vocab, vectors=helper)
    np.testing.assert_allclose(made.row("new"), source.row("a"), atol=1e-6)
    for token in ("rare", "unknown"):  # a zero vector, none at all
        np.testing.assert_allclose(made.row(token), source.vectors.mean(0), atol=1e-6)
    assert made.notes["tokens"] == [2]
    assert [made.notes[key] for key in ("anchors", "copied", "rebuilt", "mean")] == [3, 3, 1, 2]


def test_words_stand_for_tokens_that_begin_with_a_space() -> None:
    given = bag(tiny=True)
    made = FOCUS()(given["source"], given["target"], vectors=given["vectors"])
    new = [given["target"].surfaces[token] for token in made.notes["tokens"]]
    assert any(surface.startswith(b" ") for surface in new)


def test_rows_are_convex_sums_of_anchors() -> None:
    given = bag(tiny=True)
    _, shared = given["target"].shared(given["source"].vocab)
    low, high = given["source"].vectors[shared].min(0), given["source"].vectors[shared].max(0)
    made = apply(FOCUS(dim=16, min_count=2, threads=1), given)
    rows = made.vectors[made.notes["tokens"]]
    assert len(rows) > 10
    assert (rows >= low - 1e-5).all()
    assert (rows <= high + 1e-5).all()


def test_rare_tokens_get_no_helper_vector() -> None:
    given = bag(tiny=True)
    seen = Counter(i for text in given["corpus"] for i in given["target"].encode(text))
    made = apply(FOCUS(dim=8, epochs=1, min_count=40, threads=1), given)
    assert made.notes["rebuilt"] > 0
    assert all(seen[token] >= 40 for token in made.notes["tokens"])
    new = len(given["target"]) - made.notes["copied"]
    assert made.notes["mean"] == new - made.notes["rebuilt"] > 0


def test_a_helper_learned_from_text_finds_what_keeps_its_company() -> None:
    # "katze" stands where "cat" does, "hund" where "dog" does
    rng = np.random.default_rng(0)
    company = {"cat": "purr milk mouse", "katze": "purr milk mouse"}
    company |= {"dog": "bark bone walk", "hund": "bark bone walk"}
    text = [
        " ".join(rng.permutation([word, *rng.choice(company[word].split(), 3)]))
        for word in rng.choice(list(company), 4000)
    ]
    tokens = sorted({word for line in text for word in line.split()})
    old = [token for token in tokens if token not in ("katze", "hund")]
    source = EmbeddingTable(Vocabulary.words(old), np.eye(len(old), dtype=np.float32))
    learn = FOCUS(dim=16, min_count=1, epochs=10, threads=1)
    made = learn(source, Vocabulary.words(tokens), corpus=Corpus(text))
    assert old[made.row("katze").argmax()] == "cat"
    assert old[made.row("hund").argmax()] == "dog"


def test_what_is_missing_is_said() -> None:
    given = bag(tiny=True)
    with pytest.raises(MissingEvidence, match="corpus or vectors"):
        FOCUS()(given["source"], given["target"])
    with pytest.raises(InputError, match="no shared token has a helper vector"):
        words = EmbeddingTable(Vocabulary.words(["zzz"]), np.ones((1, 2), np.float32))
        FOCUS()(given["source"], given["target"], vectors=words)
