"""AdaptEmb: hot rows copied, rare ones shared, in both forms of the index."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tokenspace.compress import adaptemb
from tokenspace.compress.adaptemb import AdaptEmb
from tokenspace.errors import ConfigError, InputError, MissingEvidence


@pytest.fixture
def draw() -> np.random.Generator:
    return np.random.default_rng(9)


def test_rows_by_hand() -> None:
    # 4 rows fit beside an index of 4 bytes for each of 6: two hot ones (ids 5 and 1), two shared
    source = np.arange(24, dtype=np.float32).reshape(6, 4)
    counts = np.array([2, 9, 0, 6, 3, 9])
    table = AdaptEmb(budget=92 / 96, hot=0.34)(source, counts=counts)
    # by rank: 1, 5 own rows; then 3, 4, 0, 2, of which 3 and 0 share, and 4 and 2
    np.testing.assert_array_equal(table.tensors["index"], [2, 0, 3, 2, 3, 1])
    shared = (6 * source[3] + 2 * source[0]) / 8
    np.testing.assert_allclose(
        table.tensors["rows"], [source[1], source[5], shared, source[4]], rtol=1e-6
    )
    np.testing.assert_allclose(table.rows(np.array([0, 2, 5])), [shared, source[4], source[5]])
    assert table.nbytes == 6 * 4 + 4 * 16


@pytest.mark.parametrize("budget", [0.05, 0.1, 0.2, 0.5])
def test_rows_are_the_literal_ones(draw: np.random.Generator, budget: float, monkeypatch) -> None:
    size, width = 400, 16
    source = draw.standard_normal((size, width)).astype(np.float32)
    counts = draw.permutation(1000 // np.arange(1, size + 1))
    recipe = AdaptEmb(budget=budget)
    table = recipe(source, counts=counts)
    indexed, hot, rare = recipe.split(size, width)
    assert indexed == ("index" in table.tensors) == (budget >= 2 / width)
    order = sorted(range(size), key=lambda x: (-counts[x], x))
    place = {x: rank for rank, x in enumerate(sorted(order[:hot]) if not indexed else order[:hot])}
    for rank, x in enumerate(order[hot:]):
        if indexed:
            place[x] = hot + rank % rare
        else:
            a, b = table.tensors["hashes"].tolist()
            place[x] = hot + (a * x + b) % (2**31 - 1) % rare
    for x in range(size):
        same = [y for y in range(size) if place[y] == place[x]]
        weights = counts[same] + 1e-9
        mean = (weights[:, None] * source[same].astype(np.float64)).sum(axis=0) / weights.sum()
        np.testing.assert_allclose(table.rows(np.array([x]))[0], mean, rtol=1e-5, atol=1e-6)
    monkeypatch.setattr(adaptemb, "_BLOCK", width * 7)
    again = recipe(source, counts=counts)
    np.testing.assert_allclose(again.tensors["rows"], table.tensors["rows"], atol=1e-6)


@pytest.mark.parametrize("budget", [0.02, 0.1, 0.3, 0.5])
def test_the_budget_is_used_and_kept(budget: float) -> None:
    counts = 1_000_000 // np.arange(1, 23_721)
    recipe = AdaptEmb(budget=budget)
    table = recipe.embedding(23_720, 16, counts=counts).export()
    assert 0.99 * budget <= table.ratio <= budget
    indexed, hot, rare = recipe.split(23_720, 16)
    if not indexed:  # both sides cost the same
        assert hot * (16 + 1) == pytest.approx(rare * 16, rel=0.02)


def test_the_layer_reads_as_the_table_does() -> None:
    counts = 1_000_000 // np.arange(1, 501)
    for budget in (0.1, 0.4):
        layer = AdaptEmb(budget=budget).embedding(500, 16, counts=counts)
        rows = layer(torch.arange(500)).detach()
        np.testing.assert_array_equal(layer.export().rows(np.arange(500)), rows)
        assert "place" not in layer.state_dict()


def test_where_all_are_hot_nothing_is_shared(draw: np.random.Generator) -> None:
    source = draw.standard_normal((40, 8)).astype(np.float32)
    table = AdaptEmb(budget=1, hot=0.8)(source, counts=np.arange(40))
    np.testing.assert_array_equal(table.rows(np.arange(8, 40)), source[8:])


def test_bad_input_is_refused(draw: np.random.Generator) -> None:
    source = draw.standard_normal((40, 8)).astype(np.float32)
    with pytest.raises(MissingEvidence, match="adaptemb needs counts"):
        AdaptEmb().embedding(40, 8)
    with pytest.raises(InputError, match="counts have shape"):
        AdaptEmb()(source, counts=np.ones(41, np.int64))
    with pytest.raises(ConfigError, match=r"hot=0.9 leaves nothing to share"):
        AdaptEmb(budget=0.5, hot=0.9)(source, counts=np.arange(40))
    with pytest.raises(ConfigError, match="least it can do is 48"):
        AdaptEmb(budget=0.03)(source, counts=np.arange(40))
