"""Whiten by hand, by what defines it, and its limits."""

from __future__ import annotations

import numpy as np
import pytest

from tokenspace.edit import Whiten
from tokenspace.edit.trial import bag
from tokenspace.errors import ConfigError, InputError
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary


def test_by_hand() -> None:
    rows = np.array([[5, 2], [-3, 2], [5, 0], [-3, 0]], np.float32)
    source = EmbeddingTable(Vocabulary.words(list("abcd")), rows)
    expected = [[1, 1], [-1, 1], [1, -1], [-1, -1]]
    np.testing.assert_allclose(Whiten()(source).vectors, expected, atol=1e-5)
    pca = Whiten(kind="pca", dims=1)(source).vectors
    np.testing.assert_allclose(np.abs(pca), 1, atol=1e-5)
    assert pca.shape == (4, 1)


@pytest.mark.parametrize("kind", ["zca", "pca"])
def test_the_covariance_is_the_identity(kind: str) -> None:
    made = Whiten(kind=kind)(bag(tiny=True)["source"])
    np.testing.assert_allclose(made.vectors.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(np.cov(made.vectors.T, bias=True), np.eye(12), atol=1e-4)


def counted(counts: list[int]) -> EmbeddingTable:
    source = bag(tiny=True)["source"]
    return EmbeddingTable(source.vocab, source.vectors, np.array(counts, np.int64))


def test_words_count_as_often_as_they_occur() -> None:
    """By hand: counts of 1 and 2 are the same as a table in which words stand once and twice."""
    counts = [1 + i % 2 for i in range(120)]
    source = counted(counts)
    twice = np.repeat(source.vectors, counts, axis=0).astype(np.float64)
    mu = twice.mean(axis=0)
    values, U = np.linalg.eigh(np.cov(twice.T, bias=True))
    expected = (source.vectors - mu) @ U / np.sqrt(values) @ U.T
    made = Whiten()(source)
    np.testing.assert_allclose(made.vectors, expected, atol=1e-4)
    assert made.notes["report"]["metrics"]["by_counts"] == 1
    even = Whiten(weights="even")(source)
    np.testing.assert_array_equal(even.vectors, Whiten()(bag(tiny=True)["source"]).vectors)
    same = Whiten()(counted([7] * 120))
    np.testing.assert_allclose(same.vectors, even.vectors, atol=1e-5)


def test_counts_that_are_not_known() -> None:
    with pytest.raises(InputError, match="how often") as caught:
        Whiten(weights="counts")(bag(tiny=True)["source"])
    assert "--weights even" in str(caught.value.hint)
    made = Whiten()(counted([0] * 120))
    assert made.notes["report"]["metrics"]["by_counts"] == 0


def test_zca_is_the_nearest_white_table() -> None:
    source = bag(tiny=True)["source"]
    zca, pca = (Whiten(kind=kind)(source).vectors for kind in ("zca", "pca"))
    centred = source.vectors - source.vectors.mean(axis=0)
    distance = np.linalg.norm(zca - centred)
    assert distance < np.linalg.norm(pca - centred)
    draw = np.random.default_rng(0)
    for _ in range(20):  # any other white table is a rotation of it
        turn = np.linalg.qr(np.eye(12) + 0.1 * draw.standard_normal((12, 12)))[0]
        assert np.linalg.norm(zca @ turn * np.sign(np.diag(turn)) - centred) > distance


def test_the_principal_axes_come_in_their_order() -> None:
    source = bag(tiny=True)["source"]
    whole, half = Whiten(kind="pca")(source), Whiten(kind="pca", dims=6)(source)
    np.testing.assert_array_equal(whole.vectors[:, :6], half.vectors)
    centred = source.vectors - source.vectors.mean(axis=0)
    loads = np.linalg.norm(whole.vectors.T @ centred, axis=1)  # root of each eigenvalue, times V
    assert (np.diff(loads) < 0).all()


def test_missing_rank_becomes_zero_and_white_stays_white() -> None:
    source = bag(tiny=True)["source"]
    flat = source.vectors.copy()
    flat[:, 3] = flat[:, 2]
    made = Whiten()(source.replace(vectors=flat))
    assert made.notes["report"]["metrics"]["rank"] == 11
    assert np.abs(made.vectors).max() < 20
    again = Whiten()(Whiten()(source))
    np.testing.assert_allclose(again.vectors, Whiten()(source).vectors, atol=1e-3)


@pytest.mark.parametrize("knobs", [{"dims": 3}, {"kind": "pca", "dims": 13}])
def test_refusals(knobs: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="dims"):
        Whiten(**knobs)(bag(tiny=True)["source"])
