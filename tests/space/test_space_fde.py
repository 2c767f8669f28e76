"""Shards answer as one, and stay mapped while their pages are given back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tokenspace.retrieve import mapped
from tokenspace.retrieve.coded import CodedStore
from tokenspace.space import fde, lexical
from tokenspace.space.fde import FDEIndex
from tokenspace.space.jobs import HERE, Jobs
from tokenspace.space.lexical import Lexical


@dataclass(frozen=True)
class Held:
    tokens: CodedStore
    jobs: Jobs = HERE


@pytest.fixture
def tokens(tmp_path: Path) -> CodedStore:
    draw = np.random.default_rng(0)
    table = draw.standard_normal((50, 8)).astype(np.float32)
    rows = [draw.integers(0, 50, draw.integers(1, 9)) for _ in range(37)]
    return CodedStore.write(tmp_path / "tokens", table, rows)


@pytest.mark.parametrize("store", ["int8", "float16", "float32"])
def test_many_shards_answer_as_one(
    store: str, tokens: CodedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = np.random.default_rng(1).standard_normal((3, 8)).astype(np.float32)
    one = FDEIndex.write(tmp_path / "one", Held(tokens), store)
    monkeypatch.setattr(fde, "SHARD", 10)
    many = FDEIndex.write(tmp_path / "many", Held(tokens), store)
    assert [len(shard) for shard in many.shards] == [10, 10, 10, 7]
    for k in (5, 37):
        for mine, theirs in zip(many.search(query, k), one.search(query, k), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    chosen = np.array([0, 9, 10, 36])
    np.testing.assert_array_equal(many.rows(chosen), one.rows(chosen))
    numbers, scores = many.search(query, 37)
    expected = many.rows(np.arange(37)) @ many.encode(query)
    np.testing.assert_allclose(scores, expected[numbers], rtol=1e-5, atol=1e-5)


def test_a_mapping_that_gave_its_pages_back_reads_the_same(
    tokens: CodedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapped, "SMALL", 0)
    query = np.random.default_rng(1).standard_normal((3, 8)).astype(np.float32)
    index = FDEIndex.write(tmp_path / "fde", Held(tokens), "int8")
    before = index.search(query, 37)
    for shard in index.shards:
        shard.rest()
    for mine, theirs in zip(index.search(query, 37), before, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_changed_shards_hold_the_kept_documents_and_then_the_new(
    tokens: CodedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fde, "SHARD", 10)
    index = FDEIndex.write(tmp_path / "fde", Held(tokens), "float32")
    keep = np.array([0, 3, 12, 13, 25, 36])
    rows = [*(tokens.codes[tokens.offsets[i] : tokens.offsets[i + 1]] for i in keep), [1, 2]]
    changed = CodedStore.write(tmp_path / "changed", tokens.table, rows)
    index.change(tmp_path / "next", keep, Held(changed))
    again = FDEIndex.open(tmp_path / "next")
    np.testing.assert_array_equal(again.rows(np.arange(6)), index.rows(keep))
    assert sum(map(len, again.shards)) == 7


def test_lexical_shards_on_disk_score_as_those_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lexical, "SHARD", 3)
    texts = ["a cold sea", "a warm lake", "sea and lake", "walrus in the sea", "nothing of it"]
    held, mapped = Lexical.fit(iter(texts)), Lexical.write(tmp_path / "bm25", iter(texts))
    assert mapped.sizes == [3, 2]
    for _ in range(2):
        np.testing.assert_array_equal(
            mapped.scores(["sea", "walru"]), held.scores(["sea", "walru"])
        )
    assert mapped.scores(["sea"]).astype(bool).tolist() == [True, False, True, True, False]
