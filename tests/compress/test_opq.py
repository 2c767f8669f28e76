"""OPQ: the rotation is one, it is undone, and it is worth its bytes."""

from __future__ import annotations

import numpy as np
import pytest

from tokenspace.compress.opq import OPQ
from tokenspace.compress.pq import PQ
from tokenspace.errors import ConfigError


@pytest.fixture
def draw() -> np.random.Generator:
    return np.random.default_rng(6)


def test_reading_undoes_the_rotation(draw: np.random.Generator) -> None:
    source = draw.standard_normal((300, 8)).astype(np.float32)
    table = OPQ(budget=0.9, bits=4, rounds=5)(source)
    rotation, books = (table.tensors[name].astype(np.float64) for name in ("rotation", "books"))
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(8), atol=1e-5)
    parts = int(table.settings["parts"])
    assert table.nbytes == 300 * -(-parts * 4 // 8) + 4 * 16 * 8 + 4 * 64
    rows = table.rows(np.arange(300))
    for i, row in enumerate(source.astype(np.float64)):
        slow = []
        for j, part in enumerate(np.split(row @ rotation, parts)):
            slow.append(books[j][np.argmin(((books[j] - part) ** 2).sum(axis=1))])
        np.testing.assert_allclose(rows[i], np.concatenate(slow) @ rotation.T, atol=1e-5)


def test_turning_serves_unequal_parts(draw: np.random.Generator) -> None:
    spread = np.array([8, 6, 4, 3, 0.1, 0.1, 0.1, 0.1])
    source = (draw.standard_normal((2_000, 8)) * spread).astype(np.float32)
    turned = OPQ(budget=0.06, bits=4, rounds=20)(source)
    plain = PQ(budget=0.06, bits=4)(source)
    assert turned.settings["parts"] == plain.settings["parts"]
    assert turned.metrics["rms_error"] < 0.9 * plain.metrics["rms_error"]


def test_as_many_rows_as_centroids_come_back(draw: np.random.Generator) -> None:
    few = draw.standard_normal((4, 6)).astype(np.float32)
    source = few[draw.integers(0, 4, 300)]
    table = OPQ(budget=0.5, bits=4, rounds=5)(source)
    np.testing.assert_allclose(table.rows(np.arange(300)), source, atol=1e-4)


def test_the_rotation_counts(draw: np.random.Generator) -> None:
    source = draw.standard_normal((100, 16)).astype(np.float32)
    assert PQ(budget=0.4, bits=4)(source).ratio <= 0.4
    with pytest.raises(
        ConfigError, match=r"opq: budget=0.3 .* least it can do is 2,148 \(0.3356\)"
    ):
        OPQ(budget=0.3, bits=4)(source)
