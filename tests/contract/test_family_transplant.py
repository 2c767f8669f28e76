"""What every transplant keeps to: shared rows, order, identity, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
from subjects import bag, names, permuted, run

from tokenspace.errors import InputError
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary

pytestmark = pytest.mark.parametrize("name", names("transplant"))


def test_one_row_for_every_target_token(name: str) -> None:
    given = bag("transplant")
    table = run(name, given)
    assert table.vocab.tokens == given["target"].tokens
    assert table.shape == (len(given["target"]), given["source"].shape[1])


def test_shared_rows_are_copied_bit_for_bit(name: str) -> None:
    given = bag("transplant")
    ours, theirs = given["target"].shared(given["source"].vocab)
    assert len(ours) > 0
    table = run(name, given)
    np.testing.assert_array_equal(table.vectors[ours], given["source"].vectors[theirs])


def test_unseen_rows_are_made(name: str) -> None:
    given = bag("transplant")
    ours, _ = given["target"].shared(given["source"].vocab)
    unseen = np.setdiff1d(np.arange(len(given["target"])), ours)
    assert len(unseen) > 0
    assert np.abs(run(name, given).vectors[unseen]).max(axis=1).min() > 0


def test_a_permuted_target_permutes_the_rows(name: str) -> None:
    given = bag("transplant")
    order = np.random.default_rng(5).permutation(len(given["target"]))
    straight = run(name, given)
    other = run(name, {**given, "target": permuted(given["target"], order)})
    np.testing.assert_allclose(
        other.vectors, straight.vectors[order], rtol=1e-4, atol=1e-5, err_msg=name
    )


def test_the_same_vocabulary_gives_the_same_table(name: str) -> None:
    given = bag("transplant")
    table = run(name, {**given, "target": given["source"].vocab})
    np.testing.assert_array_equal(table.vectors, given["source"].vectors)


def test_an_empty_target_is_refused(name: str) -> None:
    with pytest.raises(InputError):
        run(name, {**bag("transplant"), "target": Vocabulary.words([])})


def test_an_empty_source_is_refused(name: str) -> None:
    empty = EmbeddingTable(Vocabulary.words([]), np.zeros((0, 8), np.float32))
    with pytest.raises(InputError):
        run(name, {**bag("transplant"), "source": empty})


def test_rows_that_are_not_finite_are_refused_by_name(name: str) -> None:
    given = bag("transplant")
    vectors = given["source"].vectors.copy()
    vectors[2, 0] = np.nan
    with pytest.raises(InputError, match="NaN"):
        run(name, {**given, "source": given["source"].replace(vectors=vectors)})
