"""Centroids and residual bits: by hand, against a literal transcription, and in their limits."""

from __future__ import annotations

import json
import logging
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tokenspace.arrays import Ragged
from tokenspace.data import topic_docs
from tokenspace.errors import ConfigError, FormatError, InputError
from tokenspace.io import read_tensors, save_tensors
from tokenspace.retrieve._residual import ResidualStore, buckets, inverted, reaching, top
from tokenspace.retrieve.maxsim import MaxSim
from tokenspace.retrieve.plaid import PLAID, PLAIDIndex
from tokenspace.retrieve.store import TokenStore


def unit(seed: int, count: int, longest: int, width: int, shortest: int = 1) -> Ragged:
    rng = np.random.default_rng(seed)
    heights = rng.integers(shortest, longest + 1, count)
    rows = [rng.standard_normal((height, width)) for height in heights]
    return Ragged.pack([part / np.linalg.norm(part, axis=1, keepdims=True) for part in rows])


def literal_codec(index: PLAIDIndex, docs: Ragged) -> tuple[np.ndarray, np.ndarray]:
    """Encode and restore every row number by number, in float64 but for what is compared."""
    store = index.store
    centroids = store.centroids.astype(np.float64)
    codes, rows = [], []
    for x in docs.flat:
        near = int(np.argmin([((x - c) ** 2).sum() for c in centroids]))
        row = np.zeros(len(x))
        for d in range(len(x)):
            residual = x[d] - store.centroids[near, d]
            bucket = sum(residual > cutoff for cutoff in store.cutoffs)
            row[d] = centroids[near, d] + store.weights[bucket]
        codes.append(near)
        rows.append(row / np.linalg.norm(row) if store.unit else row)
    return np.array(codes), np.array(rows)


def literal_find(index: PLAIDIndex, query: np.ndarray, probes: int, candidates: int) -> list[int]:
    """Follow stages 1 and 2 of the paper, document by document, in float64."""
    store = index.store
    C = store.centroids.astype(np.float64) @ query.astype(np.float64).T
    lengths, limit = np.linalg.norm(query.astype(np.float64), axis=1), index.threshold
    opened = {c for j in range(C.shape[1]) for c in np.argsort(-C[:, j], kind="stable")[:probes]}
    codes = [store.codes[a:b].tolist() for a, b in pairwise(store.offsets)]
    found = [i for i, own in enumerate(codes) if opened & set(own)]

    def score(document: int, *, pruned: bool) -> float:
        kept = [c for c in codes[document] if not pruned or (C[c] / lengths).max() >= limit]
        best = [max(C[c, j] for c in kept) if kept else 0.0 for j in range(C.shape[1])]
        return sum(max(b, 0.0) if pruned else b for b in best)

    for pruned, count in ((True, candidates), (False, candidates // 4)):
        if len(found) > count:
            scores = {i: score(i, pruned=pruned) for i in found}
            if pruned and max(scores.values()) <= 0:
                continue
            found = sorted(sorted(found, key=lambda i: -scores[i])[:count])
    return found


def test_a_case_computed_by_hand() -> None:
    centroids = np.array([[1, 0], [0, 1]], np.float32)
    docs = Ragged.pack([[[0.8, 0.6], [0.6, 0.8]], [[1, 0]]])
    cutoffs, weights = np.array([0], np.float32), np.array([-0.3, 0.5], np.float32)
    store = ResidualStore.encode(TokenStore.pack(docs), centroids, cutoffs, weights, unit=False)
    np.testing.assert_array_equal(store.codes, [0, 1, 0])
    # residuals (-.2, .6) -> buckets 0, 1; (.6, -.2) -> 1, 0; (0, 0) -> 0, 0: not above the cutoff
    np.testing.assert_array_equal(store.residuals, [[0b10], [0b01], [0b00]])
    np.testing.assert_allclose(store[0], [[0.7, 0.5], [0.5, 0.7]], rtol=1e-6)
    np.testing.assert_allclose(store[1], [[0.7, -0.3]], rtol=1e-6)
    query = Ragged.pack([[[1, 0], [0, 1]]])
    np.testing.assert_allclose(store.scorer(query)(np.arange(2))[:, 0], [1.4, 0.4], rtol=1e-6)
    starts, documents = inverted(store.codes, store.offsets, 2)
    np.testing.assert_array_equal(starts, [0, 2, 3])
    np.testing.assert_array_equal(documents, [0, 1, 0])
    assert store.nbytes == 3 * 2 + 3 + 3 * 8 + (4 + 1 + 2) * 4


@pytest.mark.parametrize("nbits", [1, 2, 4, 8])
@pytest.mark.parametrize("width", [3, 8, 33])
def test_the_codec_is_that_of_the_definition(nbits: int, width: int) -> None:
    docs, queries = unit(0, 20, 9, width), unit(1, 3, 7, width)
    index = PLAID(nbits=nbits, centroids=8, threads=1)(docs)
    codes, rows = literal_codec(index, docs)
    np.testing.assert_array_equal(index.store.codes, codes)
    np.testing.assert_allclose(index.store.rows(0, len(rows)), rows, rtol=1e-4, atol=1e-5)
    assert index.store.residuals.shape == (len(rows), -(-width * nbits // 8))
    restored = Ragged(rows.astype(np.float32), docs.offsets)
    np.testing.assert_allclose(index.score(queries), MaxSim()(restored).score(queries), rtol=1e-4)


def test_buckets_are_quantiles() -> None:
    rng = np.random.default_rng(0)
    rows, centroids = rng.standard_normal((30_000, 5)), rng.standard_normal((4, 5))
    codes = rng.integers(0, 4, len(rows))
    cutoffs, weights = buckets(rows.astype(np.float32), codes, centroids.astype(np.float32), 2)
    residuals = (rows - centroids[codes]).ravel()
    np.testing.assert_allclose(cutoffs, np.quantile(residuals, [0.25, 0.5, 0.75]), atol=2e-3)
    np.testing.assert_allclose(
        weights, np.quantile(residuals, [0.125, 0.375, 0.625, 0.875]), atol=2e-3
    )


def test_the_helpers_are_their_slow_forms() -> None:
    similar = np.random.default_rng(0).standard_normal((4, 50)).round(1).astype(np.float32)
    found = np.empty((4, 6), np.int64)
    top(similar, found)
    np.testing.assert_array_equal(found, np.argsort(-similar, axis=1, kind="stable")[:, :6])
    kept = np.empty(50, np.bool_)
    limits = np.array([1.5, 1, 2, 9], np.float32)
    reaching(similar, limits, kept)
    np.testing.assert_array_equal(kept, (similar >= limits[:, None]).any(axis=0))
    codes, offsets = np.array([3, 3, 0, 3, 1], np.uint16), np.array([0, 3, 3, 5])
    starts, documents = inverted(codes, offsets, 5)
    lists = [documents[a:b].tolist() for a, b in pairwise(starts)]
    assert lists == [[0], [2], [], [0, 2], []]


@pytest.mark.parametrize(("probes", "candidates"), [(1, 8), (2, 24), (3, 40)])
def test_the_stages_are_those_of_the_paper(probes: int, candidates: int) -> None:
    docs, queries, _ = topic_docs(120, 10, 12, 16, seed=3, n_queries=12)
    index = PLAID(centroids=32, probes=probes, candidates=candidates, threads=1)(docs)
    weights = np.linspace(0.5, 5, 8)[:, None].astype(np.float32)  # of query tokens, as idf is
    for query in [*queries, *(rows * weights for rows in queries)]:
        expected = literal_find(index, query, probes, candidates)
        if len(expected) >= 2:
            np.testing.assert_array_equal(index.find(query, 2), expected)


def test_all_probes_and_candidates_are_the_exact_search_of_the_restored_rows() -> None:
    docs, queries, _ = topic_docs(90, 10, 12, 16, seed=1, n_queries=10)
    index = PLAID(centroids=16, probes=16, candidates=1000, nbits=4)(docs)
    restored = Ragged(index.store.rows(0, len(docs.flat)), docs.offsets)
    numbers, scores = MaxSim()(restored).search(queries, 7)
    found, values = index.search(queries, 7)
    np.testing.assert_array_equal(found, numbers)
    np.testing.assert_allclose(values, scores, rtol=1e-5)
    best, products = index.align(queries[2], 5)
    np.testing.assert_array_equal(best, (queries[2] @ restored[5].T).argmax(axis=1))
    np.testing.assert_allclose(products.sum(), index.score(queries)[2, 5], rtol=1e-5)
    chosen = np.array([[3, -1]] * len(queries))
    expected = np.column_stack([index.score(queries)[:, 3], np.full(len(queries), -np.inf)])
    np.testing.assert_array_equal(index.score(queries, chosen), expected)


def test_more_bits_lose_less_and_eight_lose_almost_nothing() -> None:
    docs, queries, _ = topic_docs(60, 10, 12, 16, seed=2, n_queries=10)
    exact = MaxSim()(docs).score(queries)
    losses = [
        float(np.abs(PLAID(nbits=b, centroids=16)(docs).score(queries) - exact).mean())
        for b in (1, 2, 4, 8)
    ]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.01


def test_rows_of_other_lengths_keep_them() -> None:
    docs = unit(4, 40, 6, 8)
    long = Ragged(docs.flat * 3, docs.offsets)
    index = PLAID(nbits=8, centroids=16)(long)
    assert index.metrics["unit"] == 0
    restored = index.store.rows(0, len(long.flat))
    assert float(np.abs(restored - long.flat).mean()) < 0.02
    np.testing.assert_allclose(np.linalg.norm(restored, axis=1).mean(), 3, rtol=0.01)
    assert PLAID(centroids=16)(docs).metrics["unit"] == 1


def test_the_threshold_passes_about_the_kept_share() -> None:
    docs, queries, _ = topic_docs(300, 20, 24, 32, seed=0, n_queries=40, query_tokens=16)
    for keep in (0.05, 0.3):
        index = PLAID(centroids=128, keep=keep)(docs)
        best = np.array([(index.store.centroids @ q.T).max(axis=1) for q in queries])
        assert 0.5 * keep < float((best >= index.threshold).mean()) < 2 * keep


def test_where_nothing_passes_stage_one_is_left_out() -> None:
    docs, queries, _ = topic_docs(120, 10, 12, 16, seed=3, n_queries=6)
    index = PLAID(centroids=32, probes=8, candidates=8)(docs)
    index.threshold = 2.0  # no cosine reaches it
    for query in queries:
        np.testing.assert_array_equal(index.find(query, 2), literal_find(index, query, 8, 8))


def test_defaults_widen_with_k() -> None:
    docs = unit(5, 700, 4, 8)
    index = PLAID(threads=1)(docs)
    query = docs[0]
    assert len(index.find(query, 10)) <= 64
    assert 64 < len(index.find(query, 100)) <= 256
    assert len(index.find(query, 300)) >= 300


def test_too_few_tokens_reduce_the_centroids(caplog: pytest.LogCaptureFixture) -> None:
    docs = unit(6, 10, 3, 8)
    with caplog.at_level(logging.WARNING, "tokenspace"):
        index = PLAID(centroids=512)(docs)
    assert index.metrics["centroids"] <= len(docs.flat)
    assert "512 centroids reduced to" in caplog.text
    assert PLAID()(Ragged.pack([[[1.0, 0.0]]])).search(Ragged.pack([[[1, 0]]]))[0] == 0


def test_a_store_on_disk_gives_the_same_index(tmp_path: Path) -> None:
    docs, queries, _ = topic_docs(80, 10, 12, 16, seed=1, n_queries=5)
    TokenStore.pack(docs).save(tmp_path / "tokens")
    recipe = PLAID(centroids=32, threads=1)
    held, mapped = recipe(docs), recipe.index(TokenStore.open(tmp_path / "tokens"))
    np.testing.assert_array_equal(held.store.residuals, mapped.store.residuals)
    np.testing.assert_array_equal(held.search(queries, 5)[1], mapped.search(queries, 5)[1])
    held.save(tmp_path / "index")
    again = PLAIDIndex.load(tmp_path / "index")
    assert isinstance(again.store.residuals, np.memmap)
    assert again.nbytes == held.nbytes
    size = sum(file.stat().st_size for file in (tmp_path / "index").iterdir())
    assert held.nbytes <= size <= held.nbytes + 4096


def test_deleted_documents_are_not_found_and_numbers_stay(tmp_path: Path) -> None:
    docs, queries, _ = topic_docs(50, 5, 12, 16, seed=1, n_queries=5)
    index = PLAID(centroids=16, probes=16, candidates=1000)(docs)
    before, scores = index.search(queries, 50)
    gone = sorted({int(row[0]) for row in before})
    index.delete(gone)
    index.save(tmp_path / "index")
    for kept in (index, PLAIDIndex.load(tmp_path / "index")):
        after, values = kept.search(queries, 50)
        assert after.shape == (5, 50 - len(gone))
        for row, old, new, former in zip(after, before, values, scores, strict=True):
            stay = ~np.isin(old, gone)
            np.testing.assert_array_equal(row, old[stay])
            np.testing.assert_array_equal(new, former[stay])
        for bad in (gone[0], 50, -1):
            with pytest.raises(InputError, match=f"document {bad} is not in the index"):
                kept.delete([after[0, 0], bad])
    assert index.alive[after[0, 0]]  # nothing of a refused deletion is done


@pytest.mark.parametrize("nbits", [0, 3, 5, 16])
def test_bits_that_do_not_fit_a_byte_are_refused(nbits: int) -> None:
    with pytest.raises(ConfigError, match=f"nbits={nbits}"):
        PLAID(nbits=nbits)


def test_unusable_input_is_refused() -> None:
    docs = unit(0, 5, 4, 8, 2)
    with pytest.raises(InputError, match="document 1 has no tokens"):
        PLAID()(Ragged.pack([docs[0], np.zeros((0, 8)), docs[1]]))
    index = PLAID(centroids=4)(docs)
    with pytest.raises(InputError, match="query 0 has no tokens"):
        index.search(Ragged.pack([[]], width=8))
    with pytest.raises(InputError, match="expected \\(tokens, 8\\)"):
        index.search(unit(1, 1, 2, 9))
    with pytest.raises(InputError, match="document 5 is outside"):
        index.align(docs[0], 5)


def test_files_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    docs = unit(0, 12, 4, 8)
    index = PLAID(centroids=4)(docs)
    index.save(tmp_path / "index")
    described = tmp_path / "index" / "plaid.json"
    text = described.read_text("utf-8")
    other = {**json.loads(text), "recipe": PLAID(centroids=4, seed=1).to_dict()}
    described.write_text(json.dumps(other), "utf-8")
    with pytest.raises(FormatError, match="different configurations"):
        PLAIDIndex.load(tmp_path / "index")
    described.write_text(text, "utf-8")
    path = tmp_path / "index" / "plaid.safetensors"
    tensors = {name: np.array(value) for name, value in read_tensors(path).items()}
    save_tensors(path, {**tensors, "codes": tensors["codes"][:-1]})
    with pytest.raises(FormatError, match="different documents"):
        PLAIDIndex.load(tmp_path / "index")
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(FormatError, match="not a whole"):
        PLAIDIndex.load(tmp_path / "index")
    described.unlink()
    with pytest.raises(FormatError, match="build the index again"):
        PLAIDIndex.load(tmp_path / "index")
