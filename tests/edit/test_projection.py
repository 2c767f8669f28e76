"""Projection by hand, against the projection written out, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tokenspace.edit import Projection
from tokenspace.edit._subspace import subspace, unit
from tokenspace.edit.trial import bag
from tokenspace.errors import ConfigError, InputError
from tokenspace.recipe import apply
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary
from tokenspace.word_sets import WordSets

SPACE = EmbeddingTable(
    Vocabulary.words(["she", "he", "nurse", "tea"]),
    np.array([[0.6, 0.8, 0], [-0.6, 0.8, 0], [3, 4, 0], [0, 0, 2]], np.float32),
)


def test_by_hand() -> None:
    made = Projection()(SPACE, definitional=WordSets([["she", "he"]]))
    np.testing.assert_allclose(
        made.vectors, [[0, 0.8, 0], [0, 0.8, 0], [0, 4, 0], [0, 0, 2]], atol=1e-6
    )
    again = Projection()(made, directions=np.array([[5.0, 0, 0]], np.float32))
    np.testing.assert_array_equal(again.vectors, made.vectors)


def test_single_words_are_directions_themselves() -> None:
    made = Projection()(SPACE, definitional=WordSets(["tea", "coffee"]))
    np.testing.assert_allclose(made.vectors[:3], SPACE.vectors[:3], atol=1e-6)
    np.testing.assert_array_equal(made.vectors[3], 0)
    assert made.notes["report"]["notes"] == ["definitional: not in the table: coffee"]


def test_directions_need_not_be_orthogonal_or_of_length_one() -> None:
    given = bag(tiny=True)
    D = np.array([*given["directions"], given["directions"].sum(axis=0)], np.float32)
    made = Projection()(given["source"], directions=D)
    W = given["source"].vectors.astype(np.float64)
    expected = W - W @ np.linalg.pinv(D.astype(np.float64), rcond=1e-6) @ D
    np.testing.assert_allclose(made.vectors, expected, atol=1e-5)
    np.testing.assert_allclose(made.vectors @ D.T, 0, atol=1e-4)
    assert made.notes["report"]["metrics"]["directions"] == 2


def test_several_directions_of_sets() -> None:
    given = bag(tiny=True)
    made = Projection(k=3)(given["source"], definitional=given["definitional"])
    rows = [unit(given["source"].vectors[i : i + 2]) for i in range(0, 12, 2)]
    np.testing.assert_allclose(made.vectors @ subspace(rows, 3).basis.T, 0, atol=1e-6)


def test_directions_from_a_file(tmp_path: Path, cli) -> None:
    SPACE.save(tmp_path / "in.vec")
    np.save(tmp_path / "d.npy", np.array([[0, 1.0, 0]], np.float32))
    done = cli(
        "edit", "projection", "--source", tmp_path / "in.vec", "--out", tmp_path / "out",
        "--directions", tmp_path / "d.npy",
    )  # fmt: skip
    assert done.code == 0, done.err
    table = EmbeddingTable.load(tmp_path / "out")
    np.testing.assert_allclose(table.row("nurse"), [3, 0, 0], atol=1e-6)
    assert np.abs(table.notes["removed"]).tolist() == [[0, 1, 0]]


@pytest.mark.parametrize(
    "directions",
    [np.zeros((1, 3)), np.ones((1, 4)), np.ones(3), np.full((1, 3), np.nan)],
    ids=["zero", "width", "one dimension", "NaN"],
)
def test_unusable_directions_are_refused(directions: np.ndarray) -> None:
    with pytest.raises(InputError) as caught:
        Projection()(SPACE, directions=directions.astype(np.float32))
    assert caught.value.hint


def test_refusals() -> None:
    with pytest.raises(InputError, match="nun, monk"):
        Projection()(SPACE, definitional=WordSets([["nun", "monk"]]))
    with pytest.raises(InputError, match="nun"):
        Projection()(SPACE, definitional=WordSets(["nun"]))
    with pytest.raises(ConfigError, match="k=2"):
        Projection(k=2)(SPACE, definitional=WordSets([["she", "he"]]))
    with pytest.raises(ConfigError, match="nothing would be left"):
        apply(Projection(), {"source": SPACE, "directions": np.eye(3, dtype=np.float32)})
