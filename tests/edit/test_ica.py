"""ICA finds sources that were mixed, gives white axes in their order, and says what it did."""

from __future__ import annotations

import numpy as np
import pytest

from tokenspace.edit import ICA
from tokenspace.edit.ica import rotation
from tokenspace.edit.trial import bag
from tokenspace.errors import ConfigError
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary


def mixed(size: int = 4_000) -> tuple[np.ndarray, EmbeddingTable]:
    """Return four skewed sources, and a table of their mixtures."""
    draw = np.random.default_rng(0)
    S = draw.exponential(size=(size, 4)) ** [1.0, 1.2, 1.5, 1.8]
    S = (S - S.mean(axis=0)) / S.std(axis=0)
    vectors = S @ draw.standard_normal((4, 4)) + draw.standard_normal(4)
    words = Vocabulary.words([f"w{i}" for i in range(size)])
    return S, EmbeddingTable(words, np.asarray(vectors, np.float32))


@pytest.mark.parametrize("seed", [0, 1])
def test_mixed_sources_are_found(seed: int) -> None:
    S, source = mixed()
    made = ICA(seed=seed)(source)
    C = np.abs(S.T @ made.vectors) / len(S)
    assert C.max(axis=1) == pytest.approx(np.ones(4), abs=0.02)
    assert sorted(C.argmax(axis=1).tolist()) == [0, 1, 2, 3]
    np.testing.assert_array_equal(C.argmax(axis=1), [3, 2, 1, 0])  # most skewed first
    assert ((made.vectors**3).mean(axis=0) > 0).all()
    assert made.notes["report"]["notes"] == []


def test_axes_are_white() -> None:
    made = ICA(steps=20)(bag(tiny=True)["source"])
    np.testing.assert_allclose(np.cov(made.vectors.T, bias=True), np.eye(12), atol=1e-4)


def test_one_step_against_the_equation() -> None:
    draw = np.random.default_rng(1)
    Z = np.linalg.qr(draw.standard_normal((50, 3)))[0] * np.sqrt(50)
    first, _, steps = rotation(Z, 3, 1, 0.0)
    start = rotation(Z, 3, 1, 0.0)[0]
    np.testing.assert_array_equal(first, start)
    assert steps == 1
    B, new = first, np.zeros((3, 3))
    for i in range(3):
        for z in Z:
            y = B[i] @ z
            new[i] += (np.tanh(y) * z - (1 - np.tanh(y) ** 2) * B[i]) / len(Z)
    values, vectors = np.linalg.eigh(new @ new.T)
    expected = (vectors / np.sqrt(values)) @ vectors.T @ new
    np.testing.assert_allclose(rotation(Z, 3, 2, 0.0)[0], expected, atol=1e-9)


def test_fewer_dimensions_and_missing_rank() -> None:
    source = bag(tiny=True)["source"]
    assert ICA(dims=3, steps=5)(source).shape == (120, 3)
    flat = source.vectors.copy()
    flat[:, 3] = flat[:, 2]
    made = ICA(steps=5)(source.replace(vectors=flat))
    assert made.shape == (120, 12)
    assert np.abs(made.vectors[:, 11]).max() == 0
    with pytest.raises(ConfigError, match="dims=13"):
        ICA(dims=13)(source)


def test_what_did_not_settle_is_said() -> None:
    said = ICA(steps=1, tolerance=1e-9)(bag(tiny=True)["source"]).notes["report"]["notes"]
    assert "the last step still turned an axis" in said[0]
