"""What edits do to words in no list they do to the n-grams of a fastText model as well."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokenspace.corpus import Corpus
from tokenspace.edit import (
    ABTT,
    ICA,
    LEACE,
    Align,
    DoubleHard,
    HardDebias,
    Projection,
    SoftDebias,
    Whiten,
)
from tokenspace.rng import stream
from tokenspace.table import EmbeddingTable
from tokenspace.word_sets import WordSets
from tokenspace.words import FastText

SETS = WordSets([["aa", "bb"], ["ab", "ba"]])
LATER = ["abab", "bbaab", "aaaabbbb"]  # not in the text, but all of their n-grams are


@pytest.fixture(scope="module")
def source() -> EmbeddingTable:
    draw = stream(0, "texts")
    words = ["".join(letters) for n in (1, 2, 3) for letters in product("ab", repeat=n)]
    texts = [" ".join(draw.choice(words, 12)) for _ in range(60)]
    knobs: dict[str, Any] = {"dim": 6, "epochs": 3, "min_count": 1, "threads": 1}
    table = FastText(**knobs, ngrams="1-3")(Corpus(texts, split="whitespace"))
    assert len(table.vocab) == 14
    return table


EDITS: dict[str, Any] = {
    "abtt": lambda source: ABTT(top=2)(source),
    "whiten": lambda source: Whiten()(source),
    "whiten to 3": lambda source: Whiten(kind="pca", dims=3)(source),
    "ica": lambda source: ICA()(source),
    "leace": lambda source: LEACE()(source, classes=SETS),
    "projection": lambda source: Projection()(source, definitional=SETS),
    "align": lambda source: Align(unit=False)(source, target=turned(source)),
    "align at length 1": lambda source: Align(centre=False)(source, target=turned(source)),
}


def turned(source: EmbeddingTable) -> EmbeddingTable:
    """Return the words elsewhere."""
    vectors = np.roll(source.vectors, 1, axis=1) + np.float32(0.01)
    return EmbeddingTable(source.vocab, vectors)


@pytest.mark.parametrize("name", EDITS)
def test_a_word_without_a_row_moves_as_the_others_do(source: EmbeddingTable, name: str) -> None:
    result = EDITS[name](source)
    ones = np.ones((len(source.vocab), 1))
    affine, *_ = np.linalg.lstsq(np.hstack([source.vectors, ones]), result.vectors, rcond=None)
    np.testing.assert_allclose(
        np.hstack([source.vectors, ones]) @ affine, result.vectors, atol=1e-4
    )
    before = np.hstack([source.subwords.vectors(LATER), np.ones((len(LATER), 1))])
    scale = np.abs(result.vectors).max()
    np.testing.assert_allclose(
        result.subwords.vectors(LATER) / scale, before @ affine / scale, atol=2e-4
    )
    assert np.abs(result.subwords.vectors(LATER)).max() > 0
    assert not any("n-grams" in line for line in result.notes["report"]["notes"])


@pytest.mark.parametrize(
    "edit",
    [
        lambda source: HardDebias(equal=False)(source, definitional=SETS),
        lambda source: HardDebias(k=2, unit=True)(source, definitional=SETS),
        lambda source: DoubleHard(candidates=2, words=3, equal=False)(source, definitional=SETS),
        lambda source: SoftDebias()(source, definitional=SETS),
    ],
)
def test_a_word_without_a_row_is_neutral(source: EmbeddingTable, edit: Any) -> None:
    """The map of the n-grams' rows makes of neutral words what the edit did, but for length."""
    result = edit(source)
    rows = source.subwords.rows
    assert np.linalg.matrix_rank(rows - rows.mean(axis=0)) == source.shape[1]
    affine, *_ = np.linalg.lstsq(
        np.hstack([rows, np.ones((len(rows), 1))]), result.subwords.rows, rcond=None
    )
    listed = {word for words in SETS for word in words}
    neutral = [i for i, word in enumerate(source.vocab.tokens) if word not in listed]
    assert len(neutral) == 10
    ours = np.hstack([source.vectors[neutral], np.ones((10, 1))]) @ affine
    theirs = result.vectors[neutral]
    cosines = (ours * theirs).sum(axis=1)
    cosines /= np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    np.testing.assert_allclose(cosines, 1, atol=1e-4)
    assert np.abs(result.subwords.vectors(LATER) - source.subwords.vectors(LATER)).max() > 1e-3


def test_a_shift_by_the_length_of_a_row_loses_the_ngrams(source: EmbeddingTable) -> None:
    result = Align()(source, target=turned(source))
    assert result.subwords is None
    assert any("n-grams" in line for line in result.notes["report"]["notes"])


def test_the_edited_model_is_saved_and_answers(source: EmbeddingTable, tmp_path: Path) -> None:
    result = ABTT()(source)
    result.save(tmp_path / "edited")
    again = EmbeddingTable.load(tmp_path / "edited")
    assert again.subwords is not None
    np.testing.assert_array_equal(again.subwords.vectors(LATER), result.subwords.vectors(LATER))
