"""Search by a vector and weighted words: the definition, ties, files, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array

from tokenspace.errors import FormatError, InputError
from tokenspace.retrieve.hybrid import HybridIndex


def documents(N: int = 30, D: int = 6, V: int = 40, top: int = 4) -> tuple[np.ndarray, csr_array]:
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(N, D)).astype(np.float32)
    lexical = np.zeros((N, V), np.float32)
    for row in lexical:
        row[rng.choice(V, top, replace=False)] = rng.normal(3, 2, top)
    return dense, csr_array(lexical)


def test_by_hand() -> None:
    # document 0 keeps word 2 at 3, document 1 words 0 and 3 at 1 and 2
    lexical = csr_array(np.array([[0, 0, 3, 0], [1, 0, 0, 2]], np.float32))
    index = HybridIndex(np.array([[1, 0], [0, 2]], np.float32), lexical)
    query = np.array([[2, 1]], np.float32), np.array([[5, 100, -1, 0.5]], np.float32)
    # 0: 2 + 3 * -1 = -1;  1: 2 + 1 * 5 + 2 * 0.5 = 8; the query's 100 is no document's word
    ids, scores = index.search(*query, k=5)
    assert ids.tolist() == [[1, 0]]
    assert scores.tolist() == [[8.0, -1.0]]


def test_the_definition_in_loops() -> None:
    dense, lexical = documents()
    rng = np.random.default_rng(1)
    e, mu = rng.normal(size=(7, 6)), rng.normal(size=(7, 40))
    whole = lexical.toarray()
    expected = np.zeros((7, 30))
    for q in range(7):
        for d in range(30):
            expected[q, d] = sum(float(a) * float(b) for a, b in zip(e[q], dense[d], strict=True))
            for i in np.flatnonzero(whole[d]):
                expected[q, d] += mu[q, i] * float(whole[d, i])
    index = HybridIndex(dense, lexical)
    np.testing.assert_allclose(index.scores(e, mu), expected, rtol=1e-5, atol=1e-5)
    ids, _ = index.search(e, mu, 5)
    np.testing.assert_array_equal(ids, np.argsort(-expected, axis=1)[:, :5])


def test_a_score_does_not_depend_on_other_queries() -> None:
    index = HybridIndex(*documents())
    rng = np.random.default_rng(2)
    e = rng.normal(size=(9, 6)).astype(np.float32)
    mu = rng.normal(size=(9, 40)).astype(np.float32)
    whole = index.scores(e, mu)
    for q in range(9):
        np.testing.assert_array_equal(index.scores(e[q : q + 1], mu[q : q + 1])[0], whole[q])


def test_ties_come_in_the_order_of_documents() -> None:
    dense, lexical = np.ones((5, 2), np.float32), csr_array(np.ones((5, 3), np.float32))
    ids, scores = HybridIndex(dense, lexical).search(np.ones((1, 2)), np.ones((1, 3)), 3)
    assert ids.tolist() == [[0, 1, 2]]
    assert scores.tolist() == [[5.0, 5.0, 5.0]]


def test_saved_and_loaded(tmp_path: Path) -> None:
    index = HybridIndex(*documents())
    index.save(tmp_path / "index")
    again = HybridIndex.load(tmp_path / "index")
    rng = np.random.default_rng(3)
    e, mu = rng.normal(size=(4, 6)), rng.normal(size=(4, 40))
    np.testing.assert_array_equal(again.scores(e, mu), index.scores(e, mu))
    assert again.nbytes == index.nbytes == 30 * 6 * 4 + 30 * 4 * 8 + 31 * 4
    (tmp_path / "index" / "hybrid.safetensors").write_bytes(b"no")
    with pytest.raises(FormatError, match="not a whole hybrid index"):
        HybridIndex.load(tmp_path / "index")


def test_refused() -> None:
    dense, lexical = documents()
    with pytest.raises(InputError, match="dense of shape"):
        HybridIndex(dense[:3], lexical)
    with pytest.raises(InputError, match="no documents"):
        HybridIndex(dense[:0], lexical[:0])
    with pytest.raises(InputError, match="dense: not all values are finite"):
        HybridIndex(np.full_like(dense, np.nan), lexical)
    index = HybridIndex(dense, lexical)
    with pytest.raises(InputError, match=r"words of shape \(2, 39\), expected \(2, 40\)"):
        index.search(np.ones((2, 6)), np.ones((2, 39)))
    with pytest.raises(InputError, match="k=0"):
        index.search(np.ones((2, 6)), np.ones((2, 40)), 0)
