"""Searching by short codes: limits that are exact, a literal RaBitQ, and what is refused."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokenspace.arrays import Ragged
from tokenspace.errors import ConfigError, FormatError, InputError
from tokenspace.retrieve._rabitq import RaBitQ
from tokenspace.retrieve.maxsim import MaxSim
from tokenspace.retrieve.short_codes import ShortCodes, ShortCodesIndex
from tokenspace.retrieve.store import TokenStore

CODES = ("f32", "f16", "i8", "pq", "opq", "pq-fast-scan", "rabitq")
METRICS = ("ip", "cosine", "l2")


def normal(seed: int, count: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


def literal(query: np.ndarray, doc: np.ndarray, metric: str) -> float:
    """Follow the definition, row by row, in float64."""
    total = 0.0
    for q in query.astype(np.float64):
        values = []
        for p in doc.astype(np.float64):
            if metric == "l2":
                values.append(-float(((q - p) ** 2).sum()))
            elif metric == "cosine":
                values.append(float(q @ p / np.linalg.norm(q) / np.linalg.norm(p)))
            else:
                values.append(float(q @ p))
        total += max(values)
    return total


def test_a_case_computed_by_hand() -> None:
    docs = Ragged.single(np.array([[1, 0], [0, 2], [3, 4]], np.float32))
    query = Ragged.single(np.array([[1, 1]], np.float32))
    for metric, order, scores in (
        ("ip", [2, 1, 0], [7, 2, 1]),
        ("l2", [0, 1, 2], [-1, -2, -13]),
        ("cosine", [2, 0, 1], [7 / 50**0.5, 0.5**0.5, 0.5**0.5]),
    ):
        for rerank in (0, 10):
            recipe = ShortCodes(code="f32", metric=metric, rerank=rerank, rows="f32")
            numbers, values = recipe(docs).search(query, 3)
            np.testing.assert_array_equal(numbers, [order])
            np.testing.assert_allclose(values, [scores], rtol=1e-5)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("code", CODES)
def test_with_all_documents_re_ranked_scores_are_those_of_the_definition(
    code: Any, metric: Any
) -> None:
    rows = normal(0, 300, 10)
    cuts = np.sort(np.random.default_rng(1).choice(298, 40, replace=False) + 1)
    docs = Ragged(rows, np.concatenate([[0], cuts, [300]]))
    queries = Ragged(normal(2, 9, 10), np.array([0, 1, 4, 9]))
    index = ShortCodes(code=code, metric=metric, rerank=100, rows="f32")(docs)
    slow = np.array([[literal(query, doc, metric) for doc in docs] for query in queries])
    numbers, scores = index.search(queries, 5)
    np.testing.assert_array_equal(numbers, np.argsort(-slow, axis=1)[:, :5])
    np.testing.assert_allclose(scores, -np.sort(-slow, axis=1)[:, :5], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("code", ["f32", "f16", "i8"])
def test_numbers_alone_find_what_is_exact(code: Any, metric: Any) -> None:
    docs, queries = Ragged.single(normal(3, 400, 16)), Ragged.single(normal(4, 20, 16))
    found, scores = ShortCodes(code=code, metric=metric, rerank=0)(docs).search(queries, 10)
    slow = np.array([[literal(q, p, metric) for p in docs] for q in queries])
    exact = np.argsort(-slow, axis=1)[:, :10]
    shared = [len(np.intersect1d(a, b)) for a, b in zip(found, exact, strict=True)]
    assert np.mean(shared) >= (10 if code == "f32" else 9)
    np.testing.assert_allclose(scores, np.take_along_axis(slow, found, axis=1), atol=0.5)


def test_a_query_row_that_found_nothing_counts_its_worst() -> None:
    docs = Ragged(np.array([[1, 0], [0, 1], [0.9, 0], [0, -1]], np.float32), np.array([0, 2, 3, 4]))
    query = Ragged.pack([[[1, 0], [0, 1]]])
    index = ShortCodes(code="f32", rerank=0)(docs)
    # two rows for each query row: 1, 0.9 of documents 0 and 1; then 1 and 0 of 0 and of 0 or 1
    numbers, scores = index.search(query, 2)
    np.testing.assert_array_equal(numbers, [[0, 1]])
    np.testing.assert_allclose(scores, [[2, 0.9]], rtol=1e-6)


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("width", [8, 13])
def test_rabitq_is_that_of_the_definition(squared: bool, width: int) -> None:
    rows, queries = normal(5, 50, width) + 0.3, normal(6, 4, width)
    held = RaBitQ.encode(TokenStore.pack(Ragged.single(rows)), 7, squared=squared)
    estimates, halves = held.estimate(queries)
    c, P = rows.mean(axis=0, dtype=np.float64), held.rotation.astype(np.float64)
    np.testing.assert_allclose(P.T @ P, np.eye(width), atol=1e-5)
    for i, q in enumerate(queries.astype(np.float64)):
        for j, x in enumerate(rows.astype(np.float64)):
            norm = np.linalg.norm(x - c)
            o = (x - c) @ P / norm
            sign = np.where(o > 0, 1, -1) / np.sqrt(width)
            product = norm * (sign @ ((q - c) @ P)) / (sign @ o)
            error = np.sqrt((1 - (sign @ o) ** 2) / (sign @ o) ** 2) * 1.9 / np.sqrt(width - 1)
            half = norm * np.linalg.norm(q - c) * error
            value = c @ q + (x - c) @ c + product
            if squared:
                value = -(norm**2) - ((q - c) ** 2).sum() + 2 * product
                half *= 2
            np.testing.assert_allclose(estimates[i, j], value, rtol=1e-3, atol=1e-3)
            np.testing.assert_allclose(halves[i, j], half, rtol=1e-3)


def test_rabitq_is_unbiased_and_its_bounds_hold_for_most() -> None:
    rows, queries = normal(8, 4000, 64), normal(9, 20, 64)
    tokens = TokenStore.pack(Ragged.single(rows))
    estimates, halves = RaBitQ.encode(tokens, 0, squared=False).estimate(queries)
    off = estimates - queries @ rows.T
    assert abs(off.mean()) < 0.02 * np.abs(off).mean()
    assert 0.92 < (np.abs(off) <= halves).mean() < 0.96
    constant = TokenStore.pack(Ragged.single(np.ones((3, 5), np.float32)))
    found, half = RaBitQ.encode(constant, 0, squared=False).estimate(np.ones((1, 5), np.float32))
    np.testing.assert_allclose(found, 5, rtol=1e-6)
    np.testing.assert_allclose(half, 0, atol=1e-6)


def test_bounds_choose_who_is_re_ranked() -> None:
    docs, queries = Ragged.single(normal(10, 2000, 64)), Ragged.single(normal(11, 20, 64))
    index = ShortCodes(code="rabitq", rerank="bound", rows="f32")(docs)
    numbers, scores = MaxSim()(docs).search(queries, 5)
    found, values = index.search(queries, 5)
    shared = [len(np.intersect1d(a, b)) for a, b in zip(found, numbers, strict=True)]
    assert np.mean(shared) >= 4.8
    sizes = [len(chosen) for chosen, _ in index.find(queries, 5)]
    assert min(sizes) >= 5 and max(sizes) < 2000
    assert (values <= scores + 1e-5).all()


def test_a_width_that_parts_do_not_divide_is_filled_up() -> None:
    docs, queries = Ragged.single(normal(12, 400, 11)), Ragged.single(normal(13, 5, 11))
    exact = MaxSim()(docs).search(queries, 5)[0]
    for code, parts in (("pq", 4), ("opq", 4), ("pq-fast-scan", 3)):
        index = ShortCodes(code=code, parts=parts, rerank=40)(docs)
        found = index.search(queries, 5)[0]
        shared = [len(np.intersect1d(a, b)) for a, b in zip(found, exact, strict=True)]
        assert np.mean(shared) >= 4


@pytest.mark.parametrize("code", CODES)
def test_a_saved_index_answers_the_same(code: Any, tmp_path: Path) -> None:
    docs, queries = Ragged.single(normal(14, 300, 8)), Ragged.single(normal(15, 5, 8))
    index = ShortCodes(code=code, seed=2)(docs)
    index.save(tmp_path / "index")
    again = ShortCodesIndex.load(tmp_path / "index")
    for mine, theirs in zip(index.search(queries, 7), again.search(queries, 7), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert again.nbytes == index.nbytes
    path = tmp_path / "index" / "short_codes.json"
    text = path.read_text("utf-8")
    other = {**json.loads(text), "recipe": ShortCodes(code=code, seed=3).to_dict()}
    path.write_text(json.dumps(other), "utf-8")
    with pytest.raises(FormatError, match="different configurations"):
        ShortCodesIndex.load(tmp_path / "index")
    path.write_text(text, "utf-8")
    tensors = tmp_path / "index" / "short_codes.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-9])
    with pytest.raises(FormatError, match="build the index again"):
        ShortCodesIndex.load(tmp_path / "index")


def test_few_rows_are_warned_of_and_too_few_refused(caplog: pytest.LogCaptureFixture) -> None:
    docs = Ragged.single(normal(0, 300, 8))
    with caplog.at_level(logging.WARNING, "tokenspace"):
        ShortCodes(code="pq")(docs)
    assert "300 rows for 256 centroids: below 9984 rows" in caplog.text
    with pytest.raises(InputError, match="100 rows for 256 centroids") as caught:
        ShortCodes(code="opq")(Ragged.single(docs.flat[:100]))
    assert "code='i8'" in str(caught.value.hint)


def test_constant_dimensions_are_no_trouble() -> None:
    rows = normal(0, 100, 8)
    rows[:, 3] = 2.0
    for code in ("i8", "pq-fast-scan", "rabitq"):
        numbers, scores = ShortCodes(code=code)(Ragged.single(rows)).search(
            Ragged.single(rows[:5]), 3
        )
        assert np.isfinite(scores).all()
        assert numbers.shape == (5, 3)


def test_unusable_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="rerank='bound' with code='pq'"):
        ShortCodes(code="pq", rerank="bound")
    with pytest.raises(ConfigError, match="parts=9 is above the width 8"):
        ShortCodes(parts=9)(Ragged.single(normal(0, 100, 8)))
