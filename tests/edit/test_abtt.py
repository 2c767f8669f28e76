"""ABTT by hand, against the paper's algorithm, and its limits."""

from __future__ import annotations

import numpy as np
import pytest

from tokenspace.edit import ABTT
from tokenspace.edit.trial import bag
from tokenspace.errors import ConfigError
from tokenspace.metrics import isotropy
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary


def made_of(rows: list[list[float]]) -> EmbeddingTable:
    words = Vocabulary.words([f"w{i}" for i in range(len(rows))])
    return EmbeddingTable(words, np.array(rows, np.float32))


def test_by_hand() -> None:
    """The mean is (1, 1); the rows less it vary most along the first axis."""
    table = ABTT(top=1)(made_of([[5, 2], [-3, 2], [5, 0], [-3, 0]]))
    np.testing.assert_allclose(table.vectors, [[0, 1], [0, 1], [0, -1], [0, -1]], atol=1e-6)


def test_against_the_papers_algorithm() -> None:
    source = bag(tiny=True)["source"]
    V = source.vectors.astype(np.float64)
    V = V - V.mean(axis=0)
    u = np.linalg.svd(V, full_matrices=False)[2]
    expected = [w - (u[0] @ w) * u[0] - (u[1] @ w) * u[1] for w in V]
    np.testing.assert_allclose(ABTT(top=2)(source).vectors, expected, atol=1e-5)


def test_without_a_direction_only_the_mean_goes() -> None:
    source = bag(tiny=True)["source"]
    np.testing.assert_allclose(
        ABTT(top=0)(source).vectors, source.vectors - source.vectors.mean(axis=0), atol=1e-5
    )


def test_a_hundredth_of_the_width_and_at_least_one() -> None:
    draw = np.random.default_rng(0)
    for width, top in ((30, 1), (130, 1), (300, 3)):
        source = made_of(draw.standard_normal((400, width)).tolist())
        assert ABTT()(source).notes["report"]["metrics"]["directions"] == top


def test_the_space_is_more_even_afterwards() -> None:
    figures = ABTT()(bag(tiny=True)["source"]).notes["report"]["metrics"]
    assert figures["isotropy_before"] < figures["isotropy_after"] <= 1
    assert abs(figures["mean_cosine_after"]) < 0.5 * figures["mean_cosine_before"]


def test_isotropy_by_hand() -> None:
    assert isotropy(np.array([[2.0, 0], [-3.0, 0], [0, 1.0], [0, -1.0]])) == pytest.approx(1)
    one = isotropy(np.array([[1.0, 0], [1.0, 0]]))  # Z is 2e along, 2 across, 2 / e against
    assert one == pytest.approx(np.exp(-2))


def test_all_directions_are_refused() -> None:
    with pytest.raises(ConfigError, match="nothing would be left"):
        ABTT(top=2)(made_of([[1, 2], [3, 4]]))
