"""Edits that do the same to all words do it to the n-grams of a fastText model as well."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokenspace.corpus import Corpus
from tokenspace.edit import ABTT, ICA, LEACE, Align, HardDebias, Projection, SoftDebias, Whiten
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
        lambda source: HardDebias()(source, definitional=SETS),
        lambda source: SoftDebias()(source, definitional=SETS),
        lambda source: Align()(source, target=turned(source)),
    ],
)
def test_what_is_not_the_same_for_all_words_loses_the_ngrams(
    source: EmbeddingTable, edit: Any
) -> None:
    result = edit(source)
    assert result.subwords is None
    assert any("n-grams" in line for line in result.notes["report"]["notes"])


def test_the_edited_model_is_saved_and_answers(source: EmbeddingTable, tmp_path: Path) -> None:
    result = ABTT()(source)
    result.save(tmp_path / "edited")
    again = EmbeddingTable.load(tmp_path / "edited")
    assert again.subwords is not None
    np.testing.assert_array_equal(again.subwords.vectors(LATER), result.subwords.vectors(LATER))
