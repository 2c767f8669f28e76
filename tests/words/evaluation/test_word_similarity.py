"""Word similarity: by hand, against scipy, and what becomes of unknown words."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tokenspace.errors import ConfigError
from tokenspace.subwords import Subwords
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary
from tokenspace.words.evaluation import similarity, word_similarity
from tokenspace.words.evaluation.lookup import find, row_ids

PAIRS = [("a", "b", 9.0), ("A", "C", 7.0), ("a", "d", 5.0), ("a", "e", 1.0), ("a", "zz", 3.0)]


@pytest.fixture
def fan(make) -> EmbeddingTable:
    """Five words at growing angles from the first."""
    angles = np.radians([0, 10, 30, 70, 120])
    return make("abcde", np.column_stack([np.cos(angles), np.sin(angles)]))


def test_it_counts_what_it_skips(fan: EmbeddingTable) -> None:
    score = word_similarity(fan, PAIRS)
    assert (score.value, score.used, score.total) == (pytest.approx(1.0), 4, 5)
    assert (score.low, score.high) == pytest.approx((1.0, 1.0))
    empty = word_similarity(fan, [("x", "y", 1.0)])
    assert np.isnan(empty.value)
    assert (empty.used, empty.total) == (0, 1)
    assert similarity(fan, PAIRS).unknown == ("zz",)


@pytest.mark.parametrize("oov", ["skip", "zero", "mean"])
def test_it_is_a_slow_loop_with_scipy(make, oov: str) -> None:
    draw = np.random.default_rng(3)
    words = [f"w{i}" for i in range(40)]
    table = make(words[:30], width=5)
    pairs = [
        (*draw.choice(words, 2, replace=False), float(draw.integers(1, 6))) for _ in range(120)
    ]
    given, cosines = [], []
    mean = table.vectors.astype(np.float64).mean(axis=0)
    for first, second, score in pairs:
        if oov == "skip" and not {first, second} <= set(words[:30]):
            continue
        x, y = (
            table.row(w).astype(np.float64) if w in words[:30]
            else (mean if oov == "mean" else np.zeros(5))
            for w in (first, second)
        )  # fmt: skip
        lengths = np.linalg.norm(x) * np.linalg.norm(y)
        cosines.append(float(x @ y / lengths) if lengths else 0.0)
        given.append(score)
    found = similarity(table, pairs, oov=oov)
    assert found.score.used == len(given)
    assert found.score.value == pytest.approx(stats.spearmanr(given, cosines).statistic, abs=1e-5)
    assert found.also["pearson"] == pytest.approx(stats.pearsonr(given, cosines)[0], abs=1e-5)


def test_the_interval_is_that_of_its_seed(fan: EmbeddingTable) -> None:
    pairs = [(a, b, float(i)) for i, (a, b, _) in enumerate(PAIRS * 9)]
    first, again, other = (word_similarity(fan, pairs, seed) for seed in (0, 0, 1))
    assert (first.low, first.high) == (again.low, again.high)
    assert (first.low, first.high) != (other.low, other.high)


def test_words_are_looked_up_as_written_then_small_then_capital(make) -> None:
    table = make(["paris", "Rome", "US", "us", "kız"])
    assert row_ids(table, ["Paris", "rome", "US", "Us", "ROME", "x"]).tolist() == [
        0,
        1,
        2,
        3,
        1,
        -1,
    ]
    assert row_ids(table, ["KIZ"], "tr").tolist() == [4]
    assert row_ids(table, ["KIZ"]).tolist() == [-1]


def test_character_n_grams_make_words_known(make) -> None:
    rows = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
    grams = Subwords(rows, 3, 4)
    table = EmbeddingTable(Vocabulary.words(["where"]), np.ones((1, 3), np.float32), subwords=grams)
    found = find(table, ["where", "there"], oov="mean")
    assert found.known.all()
    assert found.ids.tolist() == [0, -1]
    np.testing.assert_array_equal(found.vectors[1], grams.vectors(["there"])[0])


def test_tokens_of_a_tokenizer_are_found_by_their_bytes() -> None:
    from tokenizers import Tokenizer, decoders, models

    tokenizer = Tokenizer(models.BPE({"Ġcat": 0, "c": 1, "cat": 2, "dog": 3}, []))
    tokenizer.decoder = decoders.ByteLevel()
    table = EmbeddingTable(Vocabulary.of(tokenizer), np.eye(4, dtype=np.float32))
    assert row_ids(table, ["cat", "dog", "cow"]).tolist() == [0, 3, -1]


def test_an_unknown_policy_is_refused(fan: EmbeddingTable) -> None:
    with pytest.raises(ConfigError, match="oov='drop'"):
        similarity(fan, PAIRS, oov="drop")  # type: ignore[arg-type]
