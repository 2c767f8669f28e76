"""The click task: what is loaded, how it is split, and that training follows a layer's stages."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tokenspace import data
from tokenspace.compress import ctr
from tokenspace.compress.ctr_net import ClickNet, layer_of, train, tuned
from tokenspace.errors import ConfigError
from tokenspace.nn.embedding import FullEmbedding
from tokenspace.recipe import make


@pytest.fixture(scope="module")
def clicks() -> ctr.Clicks:
    return ctr.load("zipf", 1, smoke=True)


def check(found: ctr.Clicks) -> None:
    """Fail unless parts, fields and counts agree with the rows."""
    rows = np.concatenate([found.train, found.valid, found.test])
    np.testing.assert_array_equal(np.sort(rows), np.arange(len(found.ids)))
    assert len(found.valid) == len(found.test) == len(rows) // 10
    assert set(np.unique(found.labels)) == {0, 1}
    places = np.arange(found.ids.shape[1])
    np.testing.assert_array_equal(found.fields[found.ids], np.tile(places, (len(rows), 1)))
    np.testing.assert_array_equal(np.unique(found.ids), np.arange(found.size))
    assert found.counts.sum() == len(found.train) * len(places)
    assert found.counts[0] == (found.ids[found.train] == 0).sum()


def test_rows_are_split_and_counted(clicks: ctr.Clicks) -> None:
    check(clicks)
    again, other = (ctr.load("zipf", seed, smoke=True) for seed in (1, 2))
    np.testing.assert_array_equal(again.ids, clicks.ids)
    np.testing.assert_array_equal(again.test, clicks.test)
    assert not np.array_equal(other.ids[:50], clicks.ids[:50])
    with pytest.raises(ConfigError, match="no click data 'avazu'"):
        ctr.load("avazu")


def test_ids_are_in_no_order(clicks: ctr.Clicks) -> None:
    assert (np.diff(clicks.fields) != 0).mean() > 0.3


@pytest.mark.data
def test_the_real_sets_are_what_they_are_said_to_be() -> None:
    if data.available("movietweetings_100k_dev"):
        found = ctr.load("movietweetings", 3)
        check(found)
        assert found.size == 23_720
        assert len(found.ids) == 80_000
        assert found.labels.mean() == pytest.approx(0.51, abs=0.005)
        assert np.bincount(found.fields)[:2].tolist() == [14_178, 9_417]
    if data.available("adult_dev"):
        found = ctr.load("adult", 3)
        check(found)
        assert len(found.ids) == 20_000
        assert found.labels.sum() == 4_761


def test_the_network_by_hand() -> None:
    layer = FullEmbedding(3, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.5, 0.5]]))
    net = ClickNet(layer, 3, 0)
    net.head = torch.nn.Identity()  # shows what the hidden layer is given
    given = net.judged(layer(torch.tensor([[0, 1, 2]])))
    np.testing.assert_allclose(given[0].detach(), [1, 1.5, 1, 1, 2, 3, -1, 0.5, 0.5])


def test_training_learns_and_repeats(clicks: ctr.Clicks) -> None:
    first, second = (train(layer_of(None, clicks, 0), clicks, 0, epochs=2) for _ in range(2))
    assert {**first, "seconds": 0} == {**second, "seconds": 0}
    assert first["steps"] == 2 * -(-len(clicks.train) // 256)
    assert first["ratio"] == 1
    assert 0.3 < first["logloss"] < 0.72
    assert first["auc"] > 0.52


def test_a_compressed_table_is_measured_as_exported(clicks: ctr.Clicks) -> None:
    found = tuned(make("hash", budget=0.1), clicks, 0, epochs=1)
    assert found["ratio"] <= 0.1
    assert found["bytes"] == found["ratio"] * 4 * 16 * clicks.size
    assert found["init_std"] in (0.05, 0.01, 0.005)


class Staged(FullEmbedding):
    """A layer with a second stage, a parameter that is searched, and notes of what was called."""

    def __init__(self, size: int, notes: list[object], later: bool = False) -> None:
        super().__init__(size, 4)
        self.scale = torch.nn.Parameter(torch.ones(1))
        self.notes, self.later = notes, later

    def look(self, ids: torch.Tensor) -> torch.Tensor:
        return super().look(ids) * self.scale

    def penalty(self) -> torch.Tensor:
        self.notes.append("penalty")
        return 0 * self.scale.sum()

    def searched(self) -> list[torch.nn.Parameter]:
        return [] if self.later else [self.scale]

    def after_step(self, step: int, total: int) -> None:
        self.notes.append((step, total, self.scale.item()))

    def settled(self, evaluate) -> FullEmbedding | None:
        if self.later:
            return None
        self.notes.append(evaluate(self))
        return Staged(self.num_embeddings, self.notes, later=True)


def test_the_stages_of_a_layer_are_gone_through(clicks: ctr.Clicks) -> None:
    notes: list[object] = []
    figures = train(Staged(clicks.size, notes), clicks, 0, epochs=1)
    total = -(-len(clicks.train) // 256)
    called = [note for note in notes if isinstance(note, tuple)]
    assert [note[:2] for note in called] == [(step, total) for step in range(1, total + 1)] * 2
    assert figures["steps"] == 2 * total
    # plain descent at 1e-3 moves it less than AdamW at 2e-3 would, and AdamW leaves it alone
    searched = [abs(note[2] - 1) for note in called[:total]]
    assert 0 < max(searched) < 1e-3
    assert called[-1][2] != 1  # in the second stage it is a parameter as others
    (evaluated,) = (note for note in notes if isinstance(note, float))
    assert 0 <= evaluated <= 1
