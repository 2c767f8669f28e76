"""SIF against a literal transcription, by hand, and through sentence-transformers."""

from __future__ import annotations

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from tokenspace.corpus import Corpus
from tokenspace.encode.sif import SIF
from tokenspace.encode.trial import cooccurrence_table
from tokenspace.errors import ConfigError, InputError
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary
from tokenspace.weighting import all_but_the_top, sif_weights

PLAIN = SIF(a=1e9, components=0, top=0, unit=False)
WORDS = ["a", "b", "c", "d"]


def table(vectors, counts=None) -> EmbeddingTable:
    names = WORDS[: len(vectors)]
    given = None if counts is None else np.array(counts, np.int64)
    return EmbeddingTable(Vocabulary.words(names), np.array(vectors, np.float32), given)


def literal(
    texts: list[str],
    given: EmbeddingTable,
    queries: list[str],
    *,
    a: float,
    components: int,
    unit: bool,
    top: int,
) -> np.ndarray:
    """Arora et al. (2017), algorithm 1, on prepared vectors, in float64 and text by text."""
    v = {w: given.vectors[i].astype(np.float64) for w, i in given.vocab.ids.items()}
    if unit:
        v = {w: x / np.linalg.norm(x) for w, x in v.items()}
    if top:
        mean = np.mean(list(v.values()), axis=0)
        v = {w: x - mean for w, x in v.items()}
        directions = np.linalg.svd(np.array(list(v.values())))[2][:top]
        for u in directions:
            v = {w: x - (x @ u) * u for w, x in v.items()}
    total = sum(given.counts.tolist())
    p = {w: given.counts[i] / total for w, i in given.vocab.ids.items()}

    def mean_of(text: str) -> np.ndarray:
        words = text.split()
        sums = np.zeros(given.shape[1])
        for w in words:
            if w in v:
                sums += a / (a + p[w]) * v[w]
        return sums / max(1, len(words))

    X = np.array([mean_of(text) for text in texts])
    U = np.linalg.svd(X, full_matrices=False)[2][:components]
    found = []
    for query in queries:
        x = mean_of(query)
        found.append(x - sum(((x @ u) * u for u in U), np.zeros_like(x)))
    return np.array(found)


@pytest.mark.parametrize("components", [0, 1, 3])
@pytest.mark.parametrize(("unit", "top"), [(False, 0), (True, 0), (True, 2)])
def test_it_is_the_literal_algorithm(components: int, unit: bool, top: int) -> None:
    from tokenspace.data import zipf_text

    texts = zipf_text(150, 60, 5, seed=2)
    given = cooccurrence_table(texts, 10)
    queries = [*texts[:20], "", f"{texts[0]} unheard", texts[1].split()[0]]
    recipe = SIF(a=1e-2, components=components, unit=unit, top=top)
    ours = recipe(Corpus(texts), table=given).encode(queries)
    theirs = literal(texts, given, queries, a=1e-2, components=components, unit=unit, top=top)
    np.testing.assert_allclose(ours, theirs, atol=2e-6)


def test_weights_by_hand() -> None:
    # p = 1/2, 1/4, 1/4, 0; a = 1/4: a / (a + p) = 1/3, 1/2, 1/2, 1
    np.testing.assert_allclose(
        sif_weights(np.array([4, 2, 2, 0]), 0.25), [1 / 3, 1 / 2, 1 / 2, 1], rtol=1e-6
    )


def test_the_weighted_mean_by_hand() -> None:
    given = table([[1, 0], [0, 1], [1, 1]], [4, 2, 2])
    encoder = SIF(a=0.25, components=0, top=0, unit=False)(Corpus(["a b"]), table=given)
    # (1/3 a + 1/2 b) / 2, and c twice
    np.testing.assert_allclose(
        encoder.encode(["a b", "c, C!", "A zebra"]),
        [[1 / 6, 1 / 4], [0.5, 0.5], [1 / 6, 0]],
        rtol=1e-6,
    )


def test_the_removed_direction_by_hand() -> None:
    # every text points along (1, 1): nothing of it may be left in any text
    given = table([[1, 1], [2, 2], [1, -1]], [1, 1, 1])
    encoder = SIF(a=1e9, top=0, unit=False)(Corpus(["a", "b", "a b"]), table=given)
    np.testing.assert_allclose(encoder.encode(["a b b"]), [[0, 0]], atol=1e-6)
    np.testing.assert_allclose(encoder.encode(["c"]), [[1, -1]], atol=1e-6)


def test_without_weights_and_removal_it_is_the_mean() -> None:
    given = table([[1, 0], [0, 3], [5, 5]], [70, 20, 10])
    encoder = PLAIN(Corpus(["a b c"]), table=given)
    np.testing.assert_allclose(encoder.encode(["a b", "c"]), [[0.5, 1.5], [5, 5]], rtol=1e-6)


def test_all_but_the_top_leaves_zero_rows_alone() -> None:
    rows = np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)
    rows[7] = 0
    cleaned = all_but_the_top(rows, 2)
    some = np.delete(cleaned, 7, axis=0)
    assert not cleaned[7].any()
    np.testing.assert_allclose(some.mean(axis=0), 0, atol=1e-6)
    assert np.linalg.matrix_rank(some, tol=1e-3) == 4


def test_counts_come_from_the_corpus_where_the_table_has_none() -> None:
    vectors = [[1, 0], [0, 1], [1, 1]]
    corpus = Corpus(["a a b c", "a a b c"])
    recipe = SIF(a=0.25, components=0, top=0)
    counted = recipe(corpus, table=table(vectors, [4, 2, 2])).encode(["a b c"])
    np.testing.assert_array_equal(recipe(corpus, table=table(vectors)).encode(["a b c"]), counted)


def test_a_token_that_was_never_seen_in_training_is_left_out() -> None:
    encoder = PLAIN(Corpus(["a"]), table=table([[1, 0], [0, 9]], [5, 0]))
    np.testing.assert_array_equal(encoder.encode(["b"]), [[0, 0]])


def test_token_vectors_are_unit_and_follow_the_tokens() -> None:
    given = table([[3, 4], [0, 2]], [5, 5])
    encoder = PLAIN(Corpus(["a b"]), table=given)
    tokens = encoder.encode_tokens(["b a", "", "b what a"])
    assert tokens.heights.tolist() == [2, 0, 3]
    np.testing.assert_allclose(tokens[0], [[0, 1], [0.6, 0.8]], rtol=1e-6)
    np.testing.assert_allclose(tokens[2], [[0, 1], [0, 0], [0.6, 0.8]], rtol=1e-6)
    assert len(encoder.vocab.encode("b what a")) == 3


def word_pieces() -> tuple[EmbeddingTable, list[str]]:
    """A tokenizer that pads and cuts, as a model's own does."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "red", "##dish", "fox", "blue", "whale"]
    tokenizer = Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")
    tokenizer.enable_truncation(2)
    vectors = np.random.default_rng(3).standard_normal((len(pieces), 5)).astype(np.float32)
    texts = ["reddish fox", "blue whale red", "whale", "fox fox reddish blue"]
    return EmbeddingTable(Vocabulary.of(tokenizer), vectors), texts


@pytest.mark.parametrize("kind", ["words", "whitespace", "wordpiece"])
def test_sentence_transformers_loads_what_was_saved(kind: str, tmp_path) -> None:
    if kind == "wordpiece":
        given, texts = word_pieces()
        corpus = Corpus(texts)
    else:
        texts = ["The cat's mat, the CAT", "un café d’été 12", "12 mats", "mat unheard of"]
        corpus = Corpus(texts, split=kind)
        words = list(corpus.count())
        vectors = np.random.default_rng(4).standard_normal((len(words), 5)).astype(np.float32)
        given = EmbeddingTable(Vocabulary.words(words), vectors)
    encoder = SIF(a=0.1)(corpus, table=given)
    encoder.save(tmp_path / "encoder")
    stock = SentenceTransformer(str(tmp_path / "encoder"), device="cpu")
    queries = [*texts, "", "never seen"]
    np.testing.assert_allclose(stock.encode(queries), encoder.encode(queries), atol=1e-5)
    assert stock.get_embedding_dimension() == encoder.dim
    again = type(encoder).load(tmp_path / "encoder")
    np.testing.assert_array_equal(again.encode(queries), encoder.encode(queries))
    assert encoder.encode(queries).any()


def test_a_tokenizer_with_padding_is_not_changed_and_does_not_pad() -> None:
    given, texts = word_pieces()
    before = given.vocab.tokenizer.to_str()
    encoder = SIF(components=0)(Corpus(texts), table=given)
    assert [len(row) for row in encoder.encode_tokens(texts)] == [3, 3, 1, 5]
    assert given.vocab.tokenizer.to_str() == before


def test_bad_input_is_refused() -> None:
    given = table([[1, 0], [0, 1]], [1, 1])
    with pytest.raises(ConfigError, match="must be below the width 2"):
        SIF(components=2)(Corpus(["a"]), table=given)
    with pytest.raises(InputError, match="no text of the corpus"):
        SIF()(Corpus(["x y z"]), table=given)
    with pytest.raises(ConfigError, match="a=0"):
        SIF(a=0)
    encoder = PLAIN(Corpus(["a"]), table=given)
    with pytest.raises(InputError, match="not one string"):
        encoder.encode("a b")
    with pytest.raises(InputError, match="batch_size=0"):
        encoder.encode(["a"], batch_size=0)
