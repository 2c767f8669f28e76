"""Exact MaxSim against a hand-computed case, a literal transcription, and its limits."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tokenspace.arrays import Ragged, lined
from tokenspace.errors import ConfigError, FormatError, InputError
from tokenspace.retrieve import _amx
from tokenspace.retrieve._kernel import pack_lanes
from tokenspace.retrieve.maxsim import MaxSim, MaxSimIndex
from tokenspace.retrieve.store import StoreWriter, TokenStore, quantize

CODECS = ("f32", "f16", "i8")


def ragged(seed: int, count: int, longest: int, width: int) -> Ragged:
    rng = np.random.default_rng(seed)
    heights = rng.integers(1, longest + 1, count)
    return Ragged.pack([rng.standard_normal((height, width)) for height in heights])


def literal(query: np.ndarray, doc: np.ndarray) -> float:
    """Follow the definition, token by token, in float64."""
    total = 0.0
    for q in query.astype(np.float64):
        total += max(float(np.dot(q, p)) for p in doc.astype(np.float64))
    return total


def test_a_case_computed_by_hand() -> None:
    docs = Ragged.pack([[[1, 0], [0, 1]], [[0.5, 0.5]], [[-1, 0], [0, 2], [0, 0]]])
    queries = Ragged.pack([[[1, 0], [0, 1]], [[2, -1]]])
    index = MaxSim()(docs)
    # query 0: 1 + 1; 0.5 + 0.5; 0 + 2.  query 1: max(2, -1); 0.5; max(-2, -2, 0)
    np.testing.assert_array_equal(index.score(queries), [[2, 1, 2], [2, 0.5, 0]])
    numbers, scores = index.search(queries, 2)
    np.testing.assert_array_equal(numbers, [[0, 2], [0, 1]])  # a tie goes to the lower number
    np.testing.assert_array_equal(scores, [[2, 2], [2, 0.5]])
    best, similar = index.align(queries[0], 2)
    np.testing.assert_array_equal(best, [1, 1])  # the first of two that give 0
    np.testing.assert_array_equal(similar, [0, 2])


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("width", [1, 7, 16, 33])
def test_scores_are_those_of_the_definition(codec: str, width: int) -> None:
    docs, queries = ragged(0, 9, 210, width), ragged(1, 3, 40, width)
    index = MaxSim(codec=codec)(docs)
    held = [index.store[i] for i in range(len(docs))]
    expected = [[literal(query, doc) for doc in held] for query in queries]
    np.testing.assert_allclose(index.score(queries), expected, rtol=1e-4, atol=2e-3)
    exact = [[literal(query, doc) for doc in docs] for query in queries]
    size = np.array([np.abs(query).sum() for query in queries])[:, None]
    loss = {"f32": 1e-6, "f16": 2e-3, "i8": 2e-2}[codec]
    assert (np.abs(index.score(queries) - exact) <= loss * size + 1e-5).all()


@pytest.mark.parametrize("codec", CODECS)
def test_a_score_depends_on_its_own_pair_alone(codec: str) -> None:
    docs, queries = ragged(2, 60, 30, 24), ragged(3, 40, 20, 24)
    index = MaxSim(codec=codec, threads=2)(docs)
    scores = index.score(queries)
    order = np.random.default_rng(0).permutation(len(docs))
    moved = MaxSim(codec=codec, threads=1)(docs.take(order))
    np.testing.assert_array_equal(moved.score(queries), scores[:, order])
    alone = np.concatenate([index.score(queries.take(np.array([i]))) for i in range(len(queries))])
    np.testing.assert_array_equal(alone, scores)
    candidates = np.random.default_rng(1).integers(-1, len(docs), (len(queries), 9))
    expected = np.where(candidates < 0, -np.inf, np.take_along_axis(scores, candidates, axis=1))
    np.testing.assert_array_equal(index.score(queries, candidates), expected)
    np.testing.assert_array_equal(index.store.maxsim(queries[4]), scores[4])
    np.testing.assert_array_equal(index.store.maxsim(queries[4], order[:5]), scores[4, order[:5]])


def test_search_is_the_sorted_scores() -> None:
    docs, queries = ragged(4, 50, 12, 8), ragged(5, 70, 16, 8)
    index = MaxSim()(docs)
    scores = index.score(queries)
    expected = np.argsort(-scores, axis=1, kind="stable")
    for k in (1, 7, 50, 80):
        numbers, values = index.search(queries, k)
        np.testing.assert_array_equal(numbers, expected[:, :k])
        np.testing.assert_array_equal(values, np.take_along_axis(scores, expected[:, :k], axis=1))


def test_equal_documents_come_in_their_order() -> None:
    docs = ragged(6, 1, 9, 5).take(np.zeros(40, np.int64))
    numbers, _ = MaxSim()(docs).search(ragged(7, 3, 4, 5), 12)
    np.testing.assert_array_equal(numbers, np.tile(np.arange(12), (3, 1)))


def test_a_weight_of_a_query_token_weighs_its_part() -> None:
    docs, queries = ragged(8, 20, 15, 10), ragged(9, 1, 8, 10)
    weights = np.linspace(0, 3, len(queries.flat)).astype(np.float32)
    index = MaxSim()(docs)
    weighted = Ragged(queries.flat * weights[:, None], queries.offsets)
    expected = [weights @ index.align(queries[0], i)[1] for i in range(len(docs))]
    np.testing.assert_allclose(index.score(weighted)[0], expected, rtol=1e-5, atol=1e-5)


def test_alignment_sums_to_the_score() -> None:
    docs, queries = ragged(10, 12, 20, 6), ragged(11, 5, 9, 6)
    index = MaxSim()(docs)
    scores = index.score(queries)
    for i, query in enumerate(queries):
        for j, doc in enumerate(docs):
            best, similar = index.align(query, j)
            np.testing.assert_array_equal(best, (query @ doc.T).argmax(axis=1))
            np.testing.assert_allclose(similar.sum(), scores[i, j], rtol=1e-5, atol=1e-5)


def test_one_token_each_is_the_inner_product() -> None:
    docs, queries = ragged(12, 30, 1, 17), ragged(13, 4, 1, 17)
    expected = queries.flat.astype(np.float64) @ docs.flat.T.astype(np.float64)
    np.testing.assert_allclose(MaxSim()(docs).score(queries), expected, rtol=1e-5, atol=1e-5)


def test_a_document_without_tokens_is_refused_or_scores_zero() -> None:
    docs = Ragged.pack([[[-1.0, -1.0]], np.zeros((0, 2)), [[-2.0, -2.0]]])
    with pytest.raises(InputError, match="document 1 has no tokens"):
        MaxSim()(docs)
    query = Ragged.pack([[[1.0, 0.0]]])
    for codec in CODECS:
        index = MaxSim(on_empty="zero", codec=codec)(docs)
        np.testing.assert_array_equal(index.search(query, 3)[0], [[1, 0, 2]])
        assert index.score(query)[0, 1] == 0
        with pytest.raises(InputError, match="no tokens"):
            index.align(query[0], 1)


def test_unusable_questions_are_refused() -> None:
    index = MaxSim()(ragged(14, 5, 4, 3))
    with pytest.raises(InputError, match="query 1 has no tokens"):
        index.search(Ragged.pack([np.ones((1, 3)), np.zeros((0, 3))]))
    with pytest.raises(InputError, match="NaN"):
        index.search(Ragged.pack([np.full((1, 3), np.nan)]))
    with pytest.raises(InputError, match="candidates"):
        index.score(Ragged.pack([np.ones((1, 3))]), np.array([[5]]))
    with pytest.raises(InputError, match="candidates"):
        index.score(Ragged.pack([np.ones((1, 3))]), np.array([[1], [2]]))
    with pytest.raises(InputError, match="query"):
        index.align(np.ones((2, 4), np.float32), 0)
    with pytest.raises(InputError, match="document 5"):
        index.align(np.ones((2, 3), np.float32), 5)


@pytest.mark.parametrize("codec", CODECS)
def test_a_saved_index_answers_alike_from_the_disk(codec: str, tmp_path: Path) -> None:
    docs, queries = ragged(15, 30, 20, 12), ragged(16, 6, 9, 12)
    index = MaxSim(codec=codec)(docs)
    index.save(tmp_path / "index")
    loaded = MaxSimIndex.load(tmp_path / "index")
    np.testing.assert_array_equal(loaded.score(queries), index.score(queries))
    assert loaded.nbytes == index.nbytes
    pieces = [docs.take(np.arange(0, 11)), docs.take(np.arange(11, 30))]
    with StoreWriter.open(tmp_path / "pieces", docs.width, codec) as writer:
        for piece in pieces:
            writer.extend(piece)
    for name in (f"tokens.{codec}", "offsets.npy", "store.json"):
        ours, theirs = tmp_path / "pieces" / name, tmp_path / "index" / name
        assert ours.read_bytes() == theirs.read_bytes()
    path = tmp_path / "index" / f"tokens.{codec}"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FormatError, match="tokens"):
        TokenStore.open(tmp_path / "index")


def test_int8_errs_by_half_a_level() -> None:
    rows = np.random.default_rng(17).standard_normal((50, 9)).astype(np.float32)
    rows[3] = 0
    codes, scales = quantize(rows)
    assert (np.abs(codes * scales[:, None] - rows) <= 0.501 * scales[:, None]).all()
    assert scales[3] == 0
    assert np.abs(codes).max() == 127
    assert TokenStore.pack(Ragged.pack([rows]), "i8").nbytes == 50 * 9 + 50 * 4 + 2 * 8


def test_values_beyond_float16_are_refused() -> None:
    with pytest.raises(InputError, match="float16"):
        MaxSim(codec="f16")(Ragged.pack([[[1e6, 0.0]]]))
    with pytest.raises(ConfigError, match="codec"):
        TokenStore.pack(Ragged.pack([[[1.0]]]), "f8")  # type: ignore[arg-type]


def test_wide_int8_rows_do_not_overflow() -> None:
    docs = Ragged.pack([np.ones((7, 4096)), -np.ones((2, 4096))])
    queries = Ragged.pack([np.ones((3, 4096)), -np.ones((1, 4096))])
    scores = MaxSim(codec="i8")(docs).score(queries)
    np.testing.assert_allclose(scores, [[3 * 4096, -3 * 4096], [-4096, 4096]], rtol=1e-4)


@pytest.mark.parametrize("width", [1, 63, 64, 128, 130])
def test_matrix_registers_change_no_bit(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    heights = np.array([1, 0, 15, 16, 17, 31, 32, 33, 63, 64, 65, 79, 127, 128, 129, 200])
    rng = np.random.default_rng(18)
    flat = rng.standard_normal((heights.sum(), width)) * rng.uniform(0.01, 9, (heights.sum(), 1))
    flat[40] = 0
    docs = Ragged(flat.astype(np.float32), np.concatenate([[0], np.cumsum(heights)]))
    queries = Ragged.pack([rng.standard_normal((n, width)) for n in (1, 15, 40)])
    index = MaxSim(codec="i8", on_empty="zero", threads=2)(docs)
    moved = lined((index.store.tokens.size + 16,), np.int8)[16:]  # begins inside a line
    moved = moved.reshape(index.store.tokens.shape)
    moved[:] = index.store.tokens
    fast = index.score(queries)
    copied = MaxSimIndex(replace(index.store, tokens=moved), threads=1).score(queries)
    monkeypatch.setattr(_amx, "available", lambda: False)
    assert index.score(queries).tobytes() == fast.tobytes() == copied.tobytes()


def test_kernels_for_another_processor_leave_matrix_registers_alone() -> None:
    code = "from tokenspace.retrieve import _amx; print(_amx.available())"
    other = {**os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], env=other, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("width", [2, 66])
def test_halves_of_a_query_are_its_integers(width: int) -> None:
    panels, _ = pack_lanes(ragged(19, 1, 40, width).flat, whole=True)
    panels[0, 0] = [[-32768, 32767]] * 8 + [[-1, 255]] * 8
    halves = _amx.split_lanes(panels)
    assert halves.shape == (len(panels), 2, -(-width // 64) * 16, 16, 4)
    whole = 256 * halves[:, 0].astype(int) + halves[:, 1].astype(int) % 256
    columns = whole.transpose(0, 1, 3, 2).reshape(len(panels), -1, 16)  # (P, W, lanes)
    np.testing.assert_array_equal(columns[:, 0:width:2], panels[..., 0])
    np.testing.assert_array_equal(columns[:, 1:width:2], panels[..., 1])
    assert not columns[:, width:].any()
