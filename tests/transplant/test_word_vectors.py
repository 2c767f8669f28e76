from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from tokenspace.errors import InputError
from tokenspace.subwords import Subwords
from tokenspace.table import EmbeddingTable
from tokenspace.transplant import _word_vectors
from tokenspace.transplant._word_vectors import lexicon, token_vectors
from tokenspace.transplant.trial import bag
from tokenspace.vocab import Vocabulary


def bytes_of(*merges: tuple[str, str]) -> Vocabulary:
    """Return a byte-level BPE over the letters of the merges."""
    letters = sorted({letter for pair in merges for part in pair for letter in part})
    tokens = ["<unk>", *letters, *("".join(pair) for pair in merges)]
    ids = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=list(merges), unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(["<unk>"])
    return Vocabulary.of(tokenizer)


def test_by_hand_the_mean_of_the_words_that_a_token_is_part_of() -> None:
    # "ab" is one token, " ab" is Ġ and ab; "ca" is c and a, " ca" is Ġc and a; " zz" begins with Ġ
    vocab = bytes_of(("a", "b"), ("Ġ", "c"))
    words = EmbeddingTable(
        Vocabulary.words(["ab", "ca", "zz"]),
        np.array([[1, 0], [0, 1], [9, 9]], np.float32),
        np.array([3, 1, 50]),
    )
    made = {vocab.tokens[i]: row.tolist() for i, row in enumerate(token_vectors(vocab, words))}
    assert made["ab"] == [1, 0]
    assert made["Ġc"] == made["c"] == made["a"] == [0, 1]
    np.testing.assert_allclose(made["Ġ"], [453 / 53, 450 / 53], rtol=1e-6)
    assert made["b"] == made["<unk>"] == [0, 0]


def literal(vocab: Vocabulary, table: EmbeddingTable) -> np.ndarray:
    """Transcribe u = Σ_w f_w v_w / Σ_w f_w, word after word, in float64."""
    total, weight = np.zeros((len(vocab), table.shape[1])), np.zeros(len(vocab))
    for word, v in zip(table.vocab.tokens, table.vectors.astype(np.float64), strict=True):
        f = 1 if table.counts is None else table.counts[table.vocab.ids[word]]
        for token in {*vocab.encode(word), *vocab.encode(" " + word)}:
            total[token] += f * v
            weight[token] += f
    return total / np.maximum(weight, 1)[:, None]


@pytest.mark.parametrize("counted", [False, True])
def test_equals_the_literal_mean(counted: bool, monkeypatch) -> None:
    monkeypatch.setattr(_word_vectors, "BLOCK", 7)
    given = bag(tiny=True)
    counts = np.random.default_rng(0).integers(0, 99, 150) if counted else None
    words = EmbeddingTable(
        Vocabulary.words(given["vectors"].vocab.tokens[:150]),
        given["vectors"].vectors[:150],
        counts,
    )
    made = token_vectors(given["target"], words)
    np.testing.assert_allclose(made, literal(given["target"], words), rtol=1e-4, atol=1e-5)
    assert (~made.any(axis=1)).sum() > 0


def test_with_ngrams_the_text_of_the_token_counts() -> None:
    draw = np.random.default_rng(1)
    subwords = Subwords(draw.standard_normal((50, 4)).astype(np.float32), 3, 4)
    words = EmbeddingTable(
        Vocabulary.words(["ab", "abc"]),
        draw.standard_normal((2, 4)).astype(np.float32),
        subwords=subwords,
    )
    vocab = bytes_of(("a", "b"), ("Ġ", "ab"), ("Ã", "¤"), ("c", "ab"))
    made = {vocab.tokens[i]: row for i, row in enumerate(token_vectors(vocab, words))}
    np.testing.assert_array_equal(made["ab"], words.vectors[0])
    np.testing.assert_array_equal(made["Ġab"], words.vectors[0])
    others = subwords.vectors(["cab", "ä", "c"])
    for token, row in zip(["cab", "Ã¤", "c"], others, strict=True):
        np.testing.assert_array_equal(made[token], row)
        assert row.any()
    for token in ("Ġ", "Ã", "<unk>"):  # no text, half a letter, special
        assert not made[token].any()


def test_ngrams_that_are_not_finite_are_refused() -> None:
    subwords = Subwords(np.full((5, 2), np.nan, np.float32), 1, 3)
    words = EmbeddingTable(Vocabulary.words(["a"]), np.ones((1, 2), np.float32), subwords=subwords)
    with pytest.raises(InputError, match="NaN"):
        token_vectors(bytes_of(("a", "b")), words)


def test_texts_are_found_without_their_spaces() -> None:
    vocab = bytes_of(("Ġ", "a"), ("a", "b"))
    table = EmbeddingTable(vocab, np.zeros((len(vocab), 2), np.float32))
    found = lexicon(table)
    assert {text: vocab.tokens[i] for text, i in found.items()} == {"a": "a", "b": "b", "ab": "ab"}
