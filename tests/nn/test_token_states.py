"""States of all tokens: equal to transformers' own, whole texts in windows, layers by number."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules as st

from tokenspace.errors import ConfigError, InputError
from tokenspace.nn.encoder import load_encoder

TEXTS = ["the sea is blue", "", "a red ship, sails over the cold sea.", "unknowns"]


def hidden(encoder, text, layer=-1):
    """The hidden states of one short text alone, by transformers' own call: (T, H)."""
    ids = torch.tensor([encoder.body.tokenizer.encode(text).ids])
    with torch.no_grad():
        found = encoder.body.network(input_ids=ids, output_hidden_states=True)
    return found.hidden_states[layer][0].numpy()


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_states_are_those_of_the_network_and_spans_those_of_the_text(bert, batch_size):
    encoder = load_encoder(str(bert), device="cpu")
    found = dict(encoder.token_states(TEXTS, batch_size=batch_size))
    assert sorted(found) == [0, 1, 2, 3]
    for index, text in enumerate(TEXTS):
        want = hidden(encoder, text)
        np.testing.assert_allclose(found[index].states, want[1:-1], atol=1e-5)
        np.testing.assert_allclose(found[index].heads, want[:1], atol=1e-5)
        spelled = [text[a:b] for a, b in found[index].spans]
        assert spelled == [surface for surface, _, _ in encoder.tokens([text])[0]]


def test_layers_are_counted_from_what_enters_the_network(bert):
    encoder = load_encoder(str(bert), device="cpu")
    every = [hidden(encoder, TEXTS[0], layer)[1:-1] for layer in range(3)]
    for layer, layers, want in [
        (0, 1, every[0]),
        (1, 1, every[1]),
        (2, 1, every[2]),
        (-1, 2, (every[1] + every[2]) / 2),
        (-2, 2, (every[0] + every[1]) / 2),
    ]:
        ((_, found),) = encoder.token_states(TEXTS[:1], layer=layer, layers=layers)
        np.testing.assert_allclose(found.states, want, atol=1e-5)
    for layer, layers in [(3, 1), (-4, 1), (0, 2), (-1, 4)]:
        with pytest.raises(ConfigError, match="the encoder has 2 layers"):
            list(encoder.token_states(TEXTS, layer=layer, layers=layers))


def test_a_long_text_is_read_in_windows_and_nothing_is_lost(sentence_bert):
    encoder = load_encoder(str(sentence_bert), device="cpu")  # 12 tokens, 10 of them the text's
    words = ("the sea is blue and cold a red ship sails over it " * 3).split()[:33]
    text = " ".join(words)
    ((_, found),) = encoder.token_states([text])
    assert [text[a:b] for a, b in found.spans] == words
    # windows begin at words 0, 5, 10, ... and a token has the state of the one it is deeper in
    windows = [words[start : start + 10] for start in range(0, 30, 5)]
    assert len(found.heads) == len(windows)
    assert found.windows.tolist() == [0] * 8 + [i for i in range(1, 6) for _ in range(5)]
    for index, (state, window) in enumerate(zip(found.states, found.windows, strict=True)):
        alone = hidden(encoder, " ".join(windows[window]))
        np.testing.assert_allclose(state, alone[1 + index - 5 * window], atol=1e-5)
    mean = encoder.mean_states([text])[0]
    every = np.concatenate([hidden(encoder, " ".join(window)) for window in windows])
    np.testing.assert_allclose(mean, every.mean(axis=0), atol=1e-5)
    assert encoder.encode_tokens([text]).heights.tolist() == [10]  # its own limit is as it was


def test_means_are_of_all_tokens_and_without_the_prompt(sentence_bert):
    encoder = load_encoder(str(sentence_bert), device="cpu").prompted("query")
    means = encoder.mean_states(TEXTS[:2], layer=1)
    want = [hidden(encoder, text, 1).mean(axis=0) for text in TEXTS[:2]]
    np.testing.assert_allclose(means, want, atol=1e-5)
    assert encoder.mean_states([]).shape == (0, 16)


def test_unusable_texts_and_batches_are_refused(bert):
    encoder = load_encoder(str(bert), device="cpu")
    with pytest.raises(InputError, match="not one string"):
        encoder.token_states("text")
    with pytest.raises(InputError, match="text 0 is int"):
        encoder.mean_states([3])
    with pytest.raises(ConfigError, match="batch_size=0"):
        encoder.mean_states(TEXTS, batch_size=0)


def test_a_list_of_modules_has_the_states_and_layers_of_its_transformer(bert, tmp_path):
    plain = load_encoder(str(bert), device="cpu")
    modules = [st.Transformer(str(bert)), st.Pooling(16), st.Dense(16, 5)]
    SentenceTransformer(modules=modules, device="cpu").save(str(tmp_path / "st"))
    dense = load_encoder(str(tmp_path / "st"), device="cpu")
    for layer in (0, 1, -1):
        want, found = (dict(e.token_states(TEXTS, layer=layer)) for e in (plain, dense))
        for index in range(len(TEXTS)):
            np.testing.assert_allclose(found[index].states, want[index].states, atol=1e-5)
        means = [e.mean_states(TEXTS, layer=layer) for e in (plain, dense)]
        np.testing.assert_allclose(*means, atol=1e-5)
