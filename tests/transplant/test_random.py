from __future__ import annotations

import numpy as np
import pytest

from tokenspace.errors import ConfigError
from tokenspace.table import EmbeddingTable
from tokenspace.transplant._shared import noise
from tokenspace.transplant.random import Random
from tokenspace.vocab import Vocabulary


def tables(new: int, seed: int = 0) -> tuple[EmbeddingTable, Vocabulary]:
    words = [f"w{i:05}" for i in range(20 + new)]
    rows = 9 + np.random.default_rng(seed).standard_normal((20, 8))
    return EmbeddingTable(Vocabulary.words(words[:20]), rows.astype(np.float32)), Vocabulary.words(
        words
    )


def test_by_hand() -> None:
    source, target = tables(3)
    table = Random(std=0.5, seed=4)(source, target)
    np.testing.assert_allclose(
        table.vectors[20:], noise(source, 3, 4, "random") / 2, rtol=1e-6, atol=1e-9
    )
    np.testing.assert_array_equal(table.vectors[:20], source.vectors)
    assert table.notes["copied"] == 20
    assert table.notes["drawn"] == 3


def test_the_draws_are_standard_normal_and_know_nothing_of_the_source() -> None:
    source, target = tables(10_000)
    z = np.sort(Random()(source, target).vectors[20:].ravel().astype(np.float64)) / 0.02
    assert abs(z.mean()) < 0.02
    assert z.std() == pytest.approx(1, abs=0.02)
    assert (np.abs(z) < 1.96).mean() == pytest.approx(0.95, abs=0.01)


def test_no_deviation_gives_zero_rows() -> None:
    source, target = tables(2)
    assert not Random(std=0)(source, target).vectors[20:].any()


def test_every_matrix_and_seed_has_draws_of_its_own() -> None:
    (source, target), (output, _) = tables(50), tables(50, seed=1)
    first, second, third = (
        Random(seed=seed)(table, target).vectors[20:].ravel()
        for table, seed in ((source, 0), (output, 0), (source, 1))
    )
    for other in (second, third):
        assert abs(np.corrcoef(first, other)[0, 1]) < 0.2


def test_a_negative_deviation_is_refused() -> None:
    with pytest.raises(ConfigError, match="std=-1"):
        Random(std=-1)
