"""Averages of word vectors against literal transcriptions in float64."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tokenspace.errors import ConfigError
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary
from tokenspace.weighting import usif_weights
from tokenspace.words.evaluation import sentences
from tokenspace.words.evaluation.sentences import WAYS, sentence_vectors, tokens

WORDS = list("abcdefghijkl")


@pytest.fixture
def pairs() -> list[tuple[str, str, float]]:
    draw = np.random.default_rng(2)
    return [
        (*(" ".join(draw.choice(WORDS, draw.integers(2, 9))) for _ in range(2)), float(i % 6))
        for i in range(40)
    ]


def literal(way: str, texts: list[list[str]], v: dict[str, np.ndarray], c: dict[str, int]) -> list:
    """Arora et al. (2017), Ethayarajh (2018), Rueckle et al. (2018), text by text."""
    total, V = sum(c.values()), len(c)
    p = {w: n / total for w, n in c.items()}
    out = []
    t = 1 - (1 - 1 / V) ** np.mean([len(text) for text in texts])
    alpha = max(sum(p[w] > t for w in c) / V, 1 / V)
    a = (1 - alpha) / (alpha * V / 2)
    for text in texts:
        X = np.array([v[w] / np.linalg.norm(v[w]) for w in text])
        if way == "mean":
            out.append(X.mean(axis=0))
        elif way == "sif":
            out.append(
                np.mean([1e-3 / (1e-3 + p[w]) * x for w, x in zip(text, X, strict=True)], axis=0)
            )
        elif way == "usif":
            X = X / np.sqrt((X**2).sum(axis=0))
            out.append(
                np.mean([a / (a / 2 + p[w]) * x for w, x in zip(text, X, strict=True)], axis=0)
            )
        else:
            cubes = np.mean(X**3, axis=0)
            roots = np.sign(cubes) * np.abs(cubes) ** (1 / 3)
            out.append(np.concatenate([X.mean(axis=0), X.min(axis=0), X.max(axis=0), roots]))
    M = np.array(out)
    m = {"sif": 1, "usif": 5}.get(way, 0)
    if m:
        _, s, C = np.linalg.svd(M)
        for i in range(m):
            share = s[i] ** 2 / (s[:m] ** 2).sum()
            M = M - share * (np.array(out) @ C[i])[:, None] * C[i]
    return list(M)


@pytest.mark.parametrize("way", ["mean", "sif", "usif", "pmean"])
def test_ways_are_the_literal_ones(make, pairs, way: str) -> None:
    counts = np.arange(1, 13) ** 2
    table = make(WORDS, counts=counts, width=7)
    v = {w: table.row(w).astype(np.float64) for w in WORDS}
    texts = [p[0].split() for p in pairs] + [p[1].split() for p in pairs]
    vectors = literal(way, texts, v, dict(zip(WORDS, counts.tolist(), strict=True)))
    cosines = [
        x @ y / (np.linalg.norm(x) * np.linalg.norm(y))
        for x, y in zip(vectors[:40], vectors[40:], strict=True)
    ]
    (found,) = sentences(table, pairs, ways=[way])
    np.testing.assert_allclose(found.items[:, 1], cosines, atol=2e-5)
    given = [pair[2] for pair in pairs]
    assert found.score.value == pytest.approx(stats.pearsonr(given, cosines)[0], abs=1e-4)
    assert found.also["spearman"] == pytest.approx(stats.spearmanr(given, cosines)[0], abs=0.01)


def test_top_directions_are_those_of_the_table(make, pairs) -> None:
    table = make(WORDS, width=7)
    table = table.replace(vectors=table.vectors + 5)  # one direction that all words share
    X = table.vectors.astype(np.float64)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    whole = np.concatenate([X, X])  # the words of the sentences are those of the table
    whole -= whole.mean(axis=0)
    top = np.linalg.svd(whole)[2][0]
    R = whole[12:] - np.outer(whole[12:] @ top, top)
    mean = [[R[[WORDS.index(w) for w in p[k].split()]].mean(axis=0) for p in pairs] for k in (0, 1)]
    cosines = [x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in zip(*mean, strict=True)]
    (found,) = sentences(table, pairs, ways=["mean+top"])
    np.testing.assert_allclose(found.items[:, 1], cosines, atol=1e-4)


def test_usif_weights_by_hand() -> None:
    # V = 4, length 2: t = 1 - (3/4)^2 = 7/16; one p above it: alpha = 1/4, a = (3/4) / (1/2)
    weights = usif_weights(np.array([5, 3, 1, 1]), 2.0)
    np.testing.assert_allclose(weights, [1.5 / (0.75 + p) for p in (0.5, 0.3, 0.1, 0.1)], rtol=1e-6)
    # none above t: alpha is 1 / V = 1/2, a = (1/2) / (1/2)
    np.testing.assert_allclose(usif_weights(np.array([1, 1]), 11.0), [1.0, 1.0], rtol=1e-6)


def test_unknown_words_and_empty_sentences(make) -> None:
    table = make(["a", "b"], [[1, 0], [0, 1]], [3, 1])
    pairs = [("a", "a zz", 5.0), ("zz", "b", 1.0), ("A b!", "b, a", 3.0)]
    (found,) = sentences(table, pairs, ways=["mean"])
    np.testing.assert_allclose(found.items[:, 1], [1, 0, 1])
    assert found.score.used == 3
    assert found.unknown == ("zz",)
    assert found.notes == ("1 of 6 sentences have no known word",)
    (found,) = sentences(table, pairs, ways=["mean"], oov="mean")
    assert 0 < found.items[1, 1] < 1
    bare = make(["a", "b"], [[1, 0], [0, 1]])
    assert "frequencies" in sentences(bare, pairs, ways=["sif"])[0].notes[0]
    with pytest.raises(ConfigError, match="'max'"):
        sentences(table, pairs, ways=["max"])


def test_no_sentence_at_all() -> None:
    for way in WAYS:
        plain = way.partition("+")[0]
        nothing = sentence_vectors(np.zeros((0, 3), np.float32), [], np.zeros(0), plain)
        assert nothing.shape == (0, 12 if plain == "pmean" else 3)


def test_words_are_split_as_a_corpus_splits_them(make) -> None:
    from tokenspace.corpus import Corpus

    text = "It’s Ada's 3rd try: re-use naïve IDs, x_y 42!"
    corpus = Corpus([text]).encode(min_count=1)
    split = tokens(make(["a"]), [text])[0]
    assert len(split) == len(corpus.ids)
    assert split[:3] == ["it's", "ada's", "3"]
    assert tokens(make(["a"]), ["ILIK"], "tr") == [["ılık"]]


def test_a_tables_own_tokenizer_splits_the_sentences() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE({"Ġ": 0, "a": 1, "Ġa": 2, "b": 3}, [("Ġ", "a")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    table = EmbeddingTable(Vocabulary.of(tokenizer), np.eye(4, dtype=np.float32))
    assert tokens(table, ["b a"]) == [["b", "Ġa"]]
    (found,) = sentences(table, [("b a", "b", 1.0), ("a", "b", 0.0)], ways=["mean"])
    np.testing.assert_allclose(found.items[:, 1], [np.sqrt(0.5), 0], atol=1e-6)
