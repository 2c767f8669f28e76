from __future__ import annotations

import numpy as np
import pytest

from tokenspace.errors import InputError
from tokenspace.table import EmbeddingTable
from tokenspace.transplant.mean import Mean
from tokenspace.vocab import Vocabulary


def table(vectors: list[list[float]], words: str) -> EmbeddingTable:
    return EmbeddingTable(Vocabulary.words(words.split()), np.array(vectors, np.float32))


def test_by_hand() -> None:
    # the mean of (1, 0), (3, 2) and (5, 7) is (3, 3)
    source = table([[1, 0], [3, 2], [5, 7]], "a b c")
    result = Mean()(source, Vocabulary.words(["new", "c", "a"]))
    assert result.vectors.tolist() == [[3, 3], [5, 7], [1, 0]]
    assert result.notes["copied"] == 2
    assert result.notes["mean"] == 1


def test_is_accumulated_in_float64() -> None:
    vectors = np.full((200_000, 1), 0.1, np.float32)
    vectors[0] = 1e6
    words = [f"w{i}" for i in range(len(vectors))]
    result = Mean()(
        EmbeddingTable(Vocabulary.words(words), vectors), Vocabulary.words(["w1", "new"])
    )
    exact = np.float32(sum(float(x) for x in vectors[:, 0]) / len(vectors))
    assert result.vectors[1, 0] == exact


def test_never_wins_a_greedy_choice() -> None:
    draw = np.random.default_rng(0)
    source = table(draw.standard_normal((30, 6)).tolist(), " ".join(f"w{i}" for i in range(30)))
    row = Mean()(source, Vocabulary.words(["w0", "new"])).vectors[1].astype(np.float64)
    H = draw.standard_normal((2000, 6))
    old = H @ source.vectors.T.astype(np.float64)
    assert (H @ row <= old.max(axis=1)).all()
    # and the probability that moves is at most 1 / (1 + n)
    share = np.exp(H @ row) / (np.exp(old).sum(axis=1) + np.exp(H @ row))
    assert share.max() <= 1 / 31 + 1e-9


def test_its_own_vocabulary_changes_nothing() -> None:
    source = table([[1, 0], [3, 2]], "a b")
    np.testing.assert_array_equal(Mean()(source, source.vocab).vectors, source.vectors)


def test_special_tokens_are_copied_by_role() -> None:
    source = EmbeddingTable(
        Vocabulary(["<s>", "cat", "</s>"], roles={"bos": "<s>", "eos": "</s>"}),
        np.array([[1, 1], [2, 2], [6, 9]], np.float32),
    )
    target = Vocabulary(["[SEP]", "cat", "[CLS]", "new"], roles={"sep": "[SEP]", "cls": "[CLS]"})
    result = Mean()(source, target)
    assert result.vectors.tolist() == [[6, 9], [2, 2], [1, 1], [3, 4]]


def test_bad_input_is_refused() -> None:
    source = table([[1, 0]], "a")
    with pytest.raises(InputError, match="share no token"):
        Mean()(source, Vocabulary.words(["b"]))
    with pytest.raises(InputError, match="0 target tokens"):
        Mean()(source, Vocabulary.words([]))
