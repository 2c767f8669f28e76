"""What every edit keeps to: the same tokens, rows that mean nothing left alone, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
from subjects import bag, names, run

from tokenspace.errors import InputError
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary

pytestmark = pytest.mark.parametrize("name", names("edit"))


def test_the_tokens_are_the_same(name: str) -> None:
    given = bag("edit")
    table = run(name, given)
    assert table.vocab is given["source"].vocab
    assert table.shape[0] == given["source"].shape[0]
    assert not np.array_equal(table.vectors, given["source"].vectors)


def test_the_table_says_what_was_done(name: str) -> None:
    said = run(name).notes["report"]
    assert said["method"] == name
    assert said["metrics"]
    assert all(isinstance(line, str) and line for line in said["notes"])


def test_zero_rows_and_holes_are_left_alone_and_specials_move_with_the_space_or_not(
    name: str,
) -> None:
    given = bag("edit")
    source, plain = given["source"], run(name, given)
    vectors = source.vectors
    more = np.concatenate([vectors, 0 * vectors[:1], np.ones_like(vectors[:1]), vectors[-1:]])
    vocab = Vocabulary([*source.vocab.tokens, "zero", "", "<pad>"], roles={"pad": "<pad>"})
    table = run(name, {**given, "source": EmbeddingTable(vocab, more)})
    np.testing.assert_allclose(table.vectors[:-3], plain.vectors, atol=2e-5)
    np.testing.assert_array_equal(table.vectors[-3], 0)
    if table.shape == more.shape:
        np.testing.assert_array_equal(table.vectors[-2], 1)
    special = table.vectors[-1]
    moved = table.vectors[-4]  # the last word, which is what the special token was
    assert np.array_equal(special, vectors[-1]) or np.array_equal(special, moved)


def test_a_permuted_table_gives_permuted_rows(name: str) -> None:
    given = bag("edit")
    source = given["source"]
    order = np.random.default_rng(3).permutation(len(source.vocab))
    vocab = Vocabulary.words([source.vocab.tokens[i] for i in order])
    other = run(name, {**given, "source": EmbeddingTable(vocab, source.vectors[order])})
    straight = run(name, given)
    np.testing.assert_allclose(
        np.abs(other.vectors), np.abs(straight.vectors[order]), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("rows", [0, 1])
def test_a_table_without_two_words_is_refused(name: str, rows: int) -> None:
    vocab = Vocabulary.words([f"w{i}" for i in range(rows)])
    table = EmbeddingTable(vocab, np.ones((rows, 12), np.float32))
    with pytest.raises(InputError):
        run(name, {**bag("edit"), "source": table})


def test_rows_that_are_not_finite_are_refused_by_name(name: str) -> None:
    given = bag("edit")
    vectors = given["source"].vectors.copy()
    vectors[2, 0] = np.nan
    with pytest.raises(InputError, match="NaN"):
        run(name, {**given, "source": given["source"].replace(vectors=vectors)})
