"""The table of vectors: what it refuses, and its neighbours against a plain computation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenspace.errors import InputError
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary


def table(rows: int = 6, width: int = 4, seed: int = 0) -> EmbeddingTable:
    generator = np.random.default_rng(seed)
    vectors = generator.standard_normal((rows, width)).astype(np.float32)
    return EmbeddingTable(Vocabulary.words([f"w{i}" for i in range(rows)]), vectors)


def test_rows_and_sizes() -> None:
    small = table()
    assert small.shape == (6, 4)
    assert small.nbytes == 96
    np.testing.assert_array_equal(small.row("w2"), small.vectors[2])
    np.testing.assert_array_equal(small.rows(np.array([3, 0])), small.vectors[[3, 0]])
    with pytest.raises(InputError, match="no token 'w9'"):
        small.row("w9")


def test_what_is_not_a_table_is_refused() -> None:
    vocab = Vocabulary.words([f"w{i}" for i in range(8)])
    with pytest.raises(InputError, match="8 tokens and vectors of shape"):
        EmbeddingTable(vocab, np.zeros((7, 2), np.float32))
    with pytest.raises(InputError, match="counts have shape"):
        EmbeddingTable(vocab, np.zeros((8, 2), np.float32), np.zeros(7, np.int64))
    vectors = np.zeros((8, 2), np.float32)
    vectors[1:7, 0] = np.nan
    with pytest.raises(InputError, match=r"'w1', 'w2', 'w3', 'w4', 'w5'\n"):
        EmbeddingTable(vocab, vectors)
    assert EmbeddingTable(vocab, vectors, finite=True).shape == (8, 2)


def test_vectors_become_float32_rows() -> None:
    vectors = np.asfortranarray(np.arange(6, dtype=np.float64).reshape(3, 2))
    made = EmbeddingTable(Vocabulary.words(["a", "b", "c"]), vectors)  # type: ignore[arg-type]
    assert made.vectors.dtype == np.float32
    assert made.vectors.flags.c_contiguous
    np.testing.assert_array_equal(made.vectors, vectors)


@given(st.integers(1, 30), st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 3))
def test_neighbours_are_those_of_a_plain_sort(rows: int, seed: int, k: int, values: int) -> None:
    generator = np.random.default_rng(seed)
    vectors = generator.integers(0, values, (rows, 2)).astype(np.float32)  # many ties
    made = EmbeddingTable(Vocabulary.words([str(i) for i in range(rows)]), vectors)
    queries = np.array([[1, 0], [1, 1], [0, 0]], np.float32)
    ids, scores = made.nearest_ids(queries, k, exclude=(0,))
    lengths = np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), 1e-12)
    for row, cosines in enumerate((queries / lengths) @ made.unit.T):
        cosines[0] = -np.inf
        expected = sorted(range(rows), key=lambda i: (-cosines[i], i))[:k]
        assert ids[row].tolist() == expected
        np.testing.assert_array_equal(scores[row], cosines[expected])


def test_nearest_leaves_out_the_query_and_rows_without_a_token() -> None:
    vectors = np.array([[1, 0], [1, 0], [1, 0.5], [0, 1]], np.float32)
    made = EmbeddingTable(Vocabulary(["a", "", "b", "c"]), vectors)
    assert [token for token, _ in made.nearest("a")] == ["b", "c"]
    assert made.nearest(np.array([0.0, 2.0], np.float32), 1) == [("c", 1.0)]
    with pytest.raises(InputError, match="do not fit vectors of width 2"):
        made.nearest(np.zeros(3, np.float32))


def test_analogy_by_hand() -> None:
    words = ["man", "king", "woman", "queen", "tree"]
    vectors = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 1, 1], [-1, 0, 0]], np.float32)
    made = EmbeddingTable(Vocabulary.words(words), vectors)
    assert made.analogy("man", "king", "woman", 1)[0][0] == "queen"


def test_replace_keeps_counts_only_with_the_vocabulary() -> None:
    made = EmbeddingTable(
        Vocabulary.words(["a", "b"]), np.eye(2, dtype=np.float32), np.array([3, 4])
    )
    again = made.replace(vectors=2 * made.vectors)
    assert again.counts is not None
    assert made.replace(vectors=made.vectors, vocab=Vocabulary.words(["c", "d"])).counts is None
    with pytest.raises(InputError, match="NaN"):
        made.replace(vectors=np.full((2, 2), np.nan, np.float32))


def test_load_and_save_go_through_io(tmp_path: Path) -> None:
    table().save(tmp_path / "t")
    again = EmbeddingTable.load(str(tmp_path / "t"))
    np.testing.assert_array_equal(again.vectors, table().vectors)
