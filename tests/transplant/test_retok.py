from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tokenspace.errors import InputError
from tokenspace.table import EmbeddingTable
from tokenspace.transplant._hull import hull_check
from tokenspace.transplant.retok import ReTok
from tokenspace.vocab import Vocabulary

LETTERS = [*"abcd", "Ġ"]


def bpe(*merges: str, specials: tuple[str, ...] = ()) -> Vocabulary:
    pairs = [(left, right) for left, _, right in (merge.partition("+") for merge in merges)]
    tokens = [*LETTERS, *("".join(pair) for pair in pairs)]
    model = models.BPE({token: i for i, token in enumerate(tokens)}, pairs)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(specials))
    return Vocabulary.of(tokenizer)


SOURCE = bpe("a+b", "Ġ+c")
TARGET = bpe("a+b", "ab+c", "Ġ+ab", "d+d")


def table(vocab: Vocabulary, seed: int = 0, width: int = 3) -> EmbeddingTable:
    rows = np.random.default_rng(seed).standard_normal((len(vocab), width))
    return EmbeddingTable(vocab, rows.astype(np.float32))


def test_by_hand() -> None:
    # abc is ab c, Ġab is Ġ ab, and dd is d d; the letters and ab are shared
    source = table(SOURCE)
    result = ReTok()(source, TARGET)
    row = {token: source.row(token) for token in SOURCE.tokens}
    np.testing.assert_allclose(result.row("abc"), (row["ab"] + row["c"]) / 2, rtol=1e-6)
    np.testing.assert_allclose(result.row("Ġab"), (row["Ġ"] + row["ab"]) / 2, rtol=1e-6)
    np.testing.assert_allclose(result.row("dd"), row["d"], rtol=1e-6)
    np.testing.assert_array_equal(result.row("ab"), row["ab"])
    assert result.notes["copied"] == 6
    assert result.notes["rebuilt"] == 3
    assert [TARGET.tokens[i] for i in result.notes["tokens"]] == ["abc", "dd", "Ġab"]
    assert result.notes["support"] == [2, 2, 2]


def test_equals_a_loop_over_the_sources_tokenizer() -> None:
    merges = ["a+b", "c+d", "ab+cd", "Ġ+ab", "Ġ+cd", "cd+cd", "d+a", "da+b", "abcd+dab", "Ġab+cdcd"]
    source, target = table(SOURCE, 1, 8), bpe(*merges)
    result = ReTok()(source, target)
    assert SOURCE.tokenizer is not None
    for token in target.tokens:
        if token not in SOURCE.ids:
            ids = SOURCE.tokenizer.encode(token.replace("Ġ", " ")).ids
            exact = source.vectors[ids].astype(np.float64).mean(axis=0)
            np.testing.assert_allclose(result.row(token), exact, atol=1e-6)


def test_rows_lie_in_the_hull_of_the_old_ones() -> None:
    source = table(SOURCE, 2)
    assert all(hull_check(row, source.vectors).inside for row in ReTok()(source, TARGET).vectors)


def test_a_token_without_pieces_gets_the_mean_row() -> None:
    source = table(SOURCE, 3)
    result = ReTok()(source, bpe("a+b", "ab+c", specials=("<start>",)))
    mean = source.vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    np.testing.assert_array_equal(result.row("<start>"), mean)
    assert (result.notes["rebuilt"], result.notes["mean"]) == (1, 1)


def test_a_source_that_cannot_split_is_refused() -> None:
    words = Vocabulary.words(["a", "b"])
    with pytest.raises(InputError, match="no tokenizer"):
        ReTok()(table(words), Vocabulary.words(["a", "ab"]))
    np.testing.assert_array_equal(ReTok()(table(words), words).vectors, table(words).vectors)


def test_white_space_that_the_source_drops_is_the_mean_of_its_punctuation() -> None:
    # BERT has no space; "%" is a mark that this one lacks, and "a" is none
    words = ["[UNK]", "a", "b", "##b", ".", ",", "-"]
    bert = Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    bert.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    bert.decoder = decoders.WordPiece()
    bert.add_special_tokens(["[UNK]"])
    spaces = Tokenizer(models.Unigram([("<unk>", 0.0), ("▁", -1.0), ("▁a", -2.0), ("%", -3.0)], 0))
    spaces.pre_tokenizer = pre_tokenizers.Metaspace()
    spaces.decoder = decoders.Metaspace()
    source = table(Vocabulary.of(bert))
    result = ReTok()(source, Vocabulary.of(spaces))
    marks = np.mean([source.row(mark) for mark in ".,-"], axis=0)
    np.testing.assert_allclose(result.row("▁"), marks, rtol=1e-6)
    np.testing.assert_array_equal(result.row("▁a"), source.row("a"))
    np.testing.assert_allclose(result.row("%"), source.vectors.mean(axis=0), rtol=1e-5)
