"""What every index keeps to: true scores, best first, and no dependence on document order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from subjects import bag, names, queries, run

from tokenspace.arrays import Ragged
from tokenspace.errors import InputError

pytestmark = pytest.mark.parametrize("name", names("retrieve"))


def chamfer(query: np.ndarray, doc: np.ndarray) -> float:
    """Return the sum over query tokens of the best inner product with a document token."""
    return float((query.astype(np.float64) @ doc.astype(np.float64).T).max(axis=1).sum())


def scored(index: Any, docs: Ragged, asked: Ragged) -> tuple[Ragged, Ragged]:
    """Return documents and queries as the index scores them: given, or by its own encoder."""
    if not hasattr(index, "encode_documents"):
        return docs, asked
    return index.encode_documents(docs), index.encode_queries(asked)


def test_answers_are_best_first_with_true_scores(name: str) -> None:
    docs = bag("retrieve")["docs"]
    asked = queries(docs)
    index = run(name)
    ids, scores = index.search(asked, 5)
    docs, asked = scored(index, docs, asked)
    assert ids.shape == scores.shape == (len(asked), 5)
    assert ids.dtype == np.int64
    assert scores.dtype == np.float32
    assert (np.diff(scores, axis=1) <= 0).all()
    for query, row, given in zip(asked, ids, scores, strict=True):
        assert len(set(row)) == 5
        np.testing.assert_allclose(given, [chamfer(query, docs[i]) for i in row], rtol=2e-2)


def test_most_of_the_best_are_found(name: str) -> None:
    docs = bag("retrieve")["docs"]
    asked = queries(docs)
    index = run(name)
    ids, _ = index.search(asked, 5)
    docs, asked = scored(index, docs, asked)
    hits = 0
    for query, row in zip(asked, ids, strict=True):
        best = np.argsort([-chamfer(query, doc) for doc in docs], kind="stable")[:5]
        hits += len(np.intersect1d(best, row))
    assert hits / ids.size >= 0.6  # an exact index finds all; its own test asks for that


def test_the_order_of_documents_does_not_matter(name: str) -> None:
    given = bag("retrieve")
    docs, asked = given["docs"], queries(given["docs"])
    order = np.random.default_rng(2).permutation(len(docs))
    straight = run(name, given).search(asked, len(docs))
    moved = run(name, {**given, "docs": docs.take(order)}).search(asked, len(docs))
    for ids, scores, other, others in zip(*straight, *moved, strict=True):
        mine = dict(zip(ids.tolist(), scores.tolist(), strict=True))
        theirs = dict(zip(order[other].tolist(), others.tolist(), strict=True))
        assert mine.keys() == theirs.keys()
        np.testing.assert_allclose(
            [mine[i] for i in mine], [theirs[i] for i in mine], rtol=1e-4, atol=1e-4
        )


def test_asking_for_more_than_there_is_gives_what_there_is(name: str) -> None:
    docs = bag("retrieve")["docs"]
    ids, scores = run(name).search(queries(docs), len(docs) + 7)
    assert ids.shape == scores.shape == (len(queries(docs)), len(docs))
    assert (np.sort(ids, axis=1) == np.arange(len(docs))).all()


def test_no_queries_no_answers(name: str) -> None:
    docs = bag("retrieve")["docs"]
    ids, scores = run(name).search(Ragged.pack([], width=docs.width), 3)
    assert ids.shape == scores.shape == (0, 3)


def test_bytes_are_counted(name: str) -> None:
    assert run(name).nbytes > 0


@pytest.mark.parametrize("fault", ["no documents", "NaN", "offsets"])
def test_unusable_documents_are_refused(name: str, fault: str) -> None:
    docs = bag("retrieve")["docs"]
    if fault == "no documents":
        bad = Ragged.pack([], width=docs.width)
    elif fault == "NaN":
        flat = docs.flat.copy()
        flat[1, 1] = np.nan
        bad = Ragged(flat, docs.offsets)
    else:
        bad = Ragged(docs.flat, docs.offsets[:-1])
    with pytest.raises(InputError):
        run(name, {**bag("retrieve"), "docs": bad})


@pytest.mark.parametrize("k", [0, -1])
def test_a_k_that_makes_no_sense_is_refused(name: str, k: int) -> None:
    docs = bag("retrieve")["docs"]
    with pytest.raises(InputError):
        run(name).search(queries(docs), k)


def test_queries_of_another_width_are_refused(name: str) -> None:
    docs = bag("retrieve")["docs"]
    with pytest.raises(InputError):
        run(name).search(Ragged.pack([np.ones((2, docs.width + 1), np.float32)]), 3)
