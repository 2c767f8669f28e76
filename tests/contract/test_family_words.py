"""What every trainer of word vectors keeps to."""

from __future__ import annotations

import numpy as np
import pytest
from subjects import bag, names, run

from tokenspace.corpus import Corpus
from tokenspace.errors import InputError

pytestmark = pytest.mark.parametrize("name", names("words"))


def test_every_row_has_a_token_and_a_count(name: str) -> None:
    table = run(name)
    assert table.shape[0] == len(table.vocab) == len(set(table.vocab.tokens))
    assert table.counts is not None
    assert table.counts.dtype == np.int64
    assert (table.counts >= 0).all()


def test_a_given_vocabulary_keeps_its_order(name: str) -> None:
    given = bag("words")
    learned = run(name, given).vocab
    table = run(name, {**given, "vocab": learned})
    assert table.vocab.tokens == learned.tokens


def test_texts_in_another_container_give_the_same_table(name: str) -> None:
    given = bag("words")
    again = {**given, "corpus": Corpus(tuple(given["corpus"]))}
    np.testing.assert_array_equal(run(name, given).vectors, run(name, again).vectors)


@pytest.mark.parametrize("texts", [[], [""], ["", "  "]])
def test_an_empty_corpus_is_refused(name: str, texts: list[str]) -> None:
    with pytest.raises(InputError):
        run(name, {**bag("words"), "corpus": Corpus(texts)})


def test_a_corpus_of_one_word_is_refused(name: str) -> None:
    with pytest.raises(InputError):
        run(name, {**bag("words"), "corpus": Corpus(["word word word word"] * 20)})
