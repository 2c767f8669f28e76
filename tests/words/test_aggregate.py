"""Aggregate: equal to a loop over transformers' own outputs; choice of sentences; bad input."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tokenspace.corpus import Corpus
from tokenspace.data import zipf_text
from tokenspace.encode.static import StaticEncoder, text_vocabulary
from tokenspace.errors import ConfigError, InputError
from tokenspace.text_encoder import TokenStates
from tokenspace.toy_encoder import ToyEncoder
from tokenspace.vocab import Vocabulary
from tokenspace.words.aggregate import Aggregate, drawn, pooled
from tokenspace.words.trial import association, rank_correlation

TEXTS = ["The wide river; the river-bank!", "", "İstanbul'da a WIDE bank", "river"]


def literal(texts, word, pool, layer, encoder):
    """Average the states of every occurrence of a word, found by a plain search in the text."""
    found = []
    for text in texts:
        ((_, s),) = encoder.token_states([text], layer=layer)
        low, at = text.lower(), -1
        while (at := low.find(word, at + 1)) >= 0:
            inside = [t for t, (a, b) in enumerate(s.spans) if a < at + len(word) and b > at]
            rows = s.states[inside].astype(np.float64)
            whole = s.heads[0].astype(np.float64)
            found.append(
                {"mean": rows.mean(0), "first": rows[0], "last": rows[-1], "cls": whole}[pool]
            )
    return np.mean(found, axis=0)


@pytest.mark.parametrize("pool", ["mean", "first", "last", "cls"])
@pytest.mark.parametrize("layer", [0, -1])
def test_it_is_the_mean_over_all_occurrences(pool: str, layer: int) -> None:
    encoder = ToyEncoder()
    recipe = Aggregate(contexts=9, pool=pool, layer=layer, min_count=1)  # type: ignore[arg-type]
    table = recipe(Corpus(TEXTS), encoder=encoder)
    assert table.notes["alone"] == 0
    for word in ("river", "wide", "bank"):
        expected = literal(TEXTS, word, pool, layer, encoder)
        np.testing.assert_allclose(table.row(word), expected, atol=1e-5)
    assert table.counts is not None
    assert table.counts[table.id("river")] == 3


def test_alone_and_words_that_no_sentence_holds() -> None:
    encoder, vocab = ToyEncoder(), Vocabulary.words(["river", "unheard", "wide"])
    alone = Aggregate(contexts=0)(Corpus(TEXTS), encoder=encoder, vocab=vocab)
    in_text = Aggregate()(Corpus(TEXTS), encoder=encoder, vocab=vocab)
    assert (alone.notes["alone"], in_text.notes["alone"]) == (3, 1)
    ((_, states),) = encoder.token_states(["unheard"])
    np.testing.assert_allclose(alone.row("unheard"), states.states.mean(axis=0), atol=1e-6)
    np.testing.assert_array_equal(in_text.row("unheard"), alone.row("unheard"))
    assert np.abs(in_text.row("river") - alone.row("river")).max() > 0.1


def test_words_of_a_pretrained_network_by_its_word_pieces(bert) -> None:
    from tokenspace.nn.encoder import load_encoder

    encoder = load_encoder(str(bert), device="cpu")
    texts = ["the UNKNOWNS sails", "a red ship"]
    table = Aggregate(min_count=1)(Corpus(texts), encoder=encoder)
    (_, first), (_, second) = sorted(encoder.token_states(texts), key=lambda pair: pair[0])
    np.testing.assert_allclose(table.row("unknowns"), first.states[1:4].mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(table.row("ship"), second.states[2], atol=1e-5)
    long = ["the sea is blue and " * 20 + "cold"]  # four times what the network takes
    assert Aggregate(min_count=1)(Corpus(long), encoder=encoder).notes["alone"] == 0


def test_tokens_of_a_tokenizer_and_those_that_are_no_text(bert) -> None:
    from tokenspace.nn.encoder import load_encoder

    encoder = load_encoder(str(bert), device="cpu")
    table = Aggregate()(Corpus(["unknowns sails", "sea"]), encoder=encoder, vocab=encoder.vocab)
    ((_, states),) = encoder.token_states(["unknowns sails"])
    np.testing.assert_allclose(table.row("##known"), states.states[1], atol=1e-5)
    assert not table.row("[CLS]").any()
    assert table.row("blue").any()  # alone


def test_sentences_are_drawn_evenly_and_none_twice() -> None:
    texts = ["a b"] * 30 + ["c c a"] * 5
    stream = Corpus(texts).encode(whole=True)
    a, c = (stream.vocab.ids[word] for word in "ac")
    counts: Counter[int] = Counter()
    for seed in range(2_000):
        sentences, words = drawn(stream, 7, seed)
        assert (np.diff(sentences) >= 0).all()
        own = sentences[words == a].tolist()
        assert len(own) == len(set(own)) == 7
        assert sorted(sentences[words == c].tolist()) == [30, 31, 32, 33, 34]
        counts.update(own)
    expected = 2_000 * 7 / 35
    assert len(counts) == 35
    assert all(abs(count - expected) < 5 * np.sqrt(expected) for count in counts.values())


def test_pooling_by_hand() -> None:
    states = TokenStates(
        np.arange(8, dtype=np.float32).reshape(4, 2),
        np.array([[0, 2], [2, 5], [6, 7], [7, 9]]),
        np.array([0, 0, 1, 1]),
        np.array([[50, 51], [60, 61]], np.float32),
    )
    assert pooled(states, 0, 5, "mean").tolist() == [1, 2]
    assert pooled(states, 1, 7, "first").tolist() == [0, 1]
    assert pooled(states, 1, 7, "last").tolist() == [4, 5]
    assert pooled(states, 6, 9, "cls").tolist() == [60, 61]
    assert pooled(states, 5, 6, "mean") is None
    assert pooled(states, 9, 12, "mean") is None


def test_what_it_learns_is_what_stands_together() -> None:
    texts = zipf_text(2_000, 200, 8)
    held_out = {"association": association(texts[::5])}
    corpus = Corpus([text for i, text in enumerate(texts) if i % 5])
    found = rank_correlation(Aggregate()(corpus, encoder=ToyEncoder()), held_out)["rho"]
    alone = rank_correlation(Aggregate(contexts=0)(corpus, encoder=ToyEncoder()), held_out)["rho"]
    assert found > alone + 0.1


def test_the_most_frequent_words_are_kept() -> None:
    corpus = Corpus(["a a a b b c", "a b d"])
    table = Aggregate(min_count=1, max_vocab=2)(corpus, encoder=ToyEncoder())
    assert table.vocab.tokens == ("a", "b")


def test_unusable_encoders_and_words_are_refused() -> None:
    corpus, few = Corpus(TEXTS), Aggregate(min_count=1)
    static = StaticEncoder(text_vocabulary(Vocabulary.words(["a"])), np.zeros((2, 4), np.float32))
    with pytest.raises(InputError, match="StaticEncoder gives a token the same vector"):
        few(corpus, encoder=static)
    with pytest.raises(InputError, match=r"no token for 1 of 3 words, such as '!\?'"):
        few(corpus, encoder=ToyEncoder(), vocab=Vocabulary.words(["river", "wide", "!?"]))
    with pytest.raises(InputError, match="all 6 words the same vector"):
        few(corpus, encoder=_Constant())
    with pytest.raises(ConfigError, match="layer=5"):
        Aggregate(min_count=1, layer=5)(corpus, encoder=ToyEncoder())
    with pytest.raises(InputError, match="fewer than 2 different words"):
        few(Corpus(["a a"]), encoder=ToyEncoder())


class _Constant(ToyEncoder):
    def token_states(self, texts, **options):
        for index, states in super().token_states(texts, **options):
            yield index, states._replace(states=np.ones_like(states.states))
