from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tokenspace.errors import InputError
from tokenspace.recipe import apply
from tokenspace.table import EmbeddingTable
from tokenspace.transplant._word_vectors import token_vectors
from tokenspace.transplant.ofa import OFA, primitives
from tokenspace.transplant.trial import bag
from tokenspace.vocab import Vocabulary


def gaussian(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def words(text: str, vectors: Any) -> EmbeddingTable:
    return EmbeddingTable(Vocabulary.words(text.split()), np.array(vectors, np.float32))


def test_by_hand() -> None:
    source = words("cat dog sun", [[1, 0], [0, 1], [5, 5]])
    space = words("cat dog sun katze", [[1, 0], [0, 1], [-1, 0], [3, 3]])
    made = OFA(k=2)(source, Vocabulary.words(["sun", "katze", "other"]), vectors=space)
    # katze lies between cat and dog, at equal cosines, and sun is far
    np.testing.assert_allclose(made.vectors, [[5, 5], [0.5, 0.5], [2, 2]], atol=1e-6)
    assert made.notes["tokens"] == [1]
    assert made.notes["neighbours"] == [[0, 1]]
    assert made.notes["weights"] == [[0.5, 0.5]]
    assert [made.notes[key] for key in ("copied", "rebuilt", "mean")] == [1, 1, 1]


@pytest.mark.parametrize("rank", [0, 5])
def test_equals_the_literal_algorithm(rank: int) -> None:
    given = bag(tiny=True)
    E = given["source"].vectors.astype(np.float64)
    left, right = (
        token_vectors(vocab, given["vectors"]).astype(np.float64)
        for vocab in (given["source"].vocab, given["target"])
    )
    keys = [i for i, u in enumerate(left) if u.any()]
    made = apply(OFA(k=4, temperature=0.2, rank=rank), given)
    # F and P of the paper: E = U Σ Vᵀ, F = U, P = Σ Vᵀ, of which the first r columns and rows
    U, sigma, Vt = np.linalg.svd(E, full_matrices=False)
    r = rank or len(sigma)
    F, P = U[:, :r], sigma[:r, None] * Vt[:r]
    assert len(made.notes["tokens"]) > 25
    for t in made.notes["tokens"]:
        u = right[t] / np.linalg.norm(right[t])
        cosines = np.array([u @ left[i] / np.linalg.norm(left[i]) for i in keys])
        best = np.argsort(cosines)[::-1][:4]
        p = np.exp(cosines[best] / 0.2)
        row = (p / p.sum()) @ F[[keys[i] for i in best]] @ P
        np.testing.assert_allclose(made.vectors[t], row, rtol=1e-3, atol=1e-4)
    assert made.notes["kept"] == pytest.approx((sigma[:r] ** 2).sum() / (sigma**2).sum(), abs=1e-6)


def test_one_neighbour_of_a_word_that_is_a_token_is_that_token() -> None:
    space = words("cat Katze chat", [[1, 2], [1, 2.01], [2, 1]])
    source = words("cat chat 7", gaussian(0, 3, 4))
    made = OFA(k=1)(source, Vocabulary.words(["Katze", "7"]), vectors=space)
    np.testing.assert_array_equal(made.row("Katze"), source.row("cat"))


def test_the_full_rank_changes_nothing() -> None:
    given = bag(tiny=True)
    width = given["source"].shape[1]
    np.testing.assert_allclose(
        apply(OFA(rank=width), given).vectors, apply(OFA(), given).vectors, atol=1e-5
    )
    P, kept = primitives(given["source"].vectors, width)
    np.testing.assert_allclose(P @ P.T, np.eye(width), atol=1e-5)
    assert kept == pytest.approx(1)


def test_a_source_of_low_rank_is_kept_exactly() -> None:
    rows = (gaussian(0, 40, 3) @ gaussian(1, 3, 12)).astype(np.float32)
    P, kept = primitives(rows, 3)
    assert kept == pytest.approx(1)
    np.testing.assert_allclose(rows @ P.T @ P, rows, atol=1e-4)


def test_case_copies_the_row_of_the_other_spelling() -> None:
    source = words("us it 7", [[1, 0], [0, 1], [4, 4]])
    space = words("us it US", [[1, 0], [0, 1], [0, 1]])
    target = Vocabulary.words(["US", "7"])
    assert OFA(k=1)(source, target, vectors=space).vectors.tolist() == [[0, 1], [4, 4]]
    made = OFA(k=1, case=True)(source, target, vectors=space)
    assert made.vectors.tolist() == [[1, 0], [4, 4]]
    assert made.notes["copied"] == 2


def test_bad_input_is_refused() -> None:
    source = words("cat 7", [[1, 0], [0, 1]])
    target = Vocabulary.words(["katze", "7"])
    with pytest.raises(InputError, match="rank=3 exceeds the 2 columns"):
        OFA(rank=3)(source, target, vectors=words("cat katze", [[1, 0], [1, 1]]))
    with pytest.raises(InputError, match="no token of the source"):
        OFA()(source, target, vectors=words("katze", [[1, 1]]))
