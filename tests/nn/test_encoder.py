"""Loading and running encoders: shapes, places, invariances, prompts, saving."""

from __future__ import annotations

import dataclasses
import json
import logging

import numpy as np
import pytest
import torch

from tokenspace.errors import ConfigError, FormatError, InputError
from tokenspace.nn.encoder import load_encoder
from tokenspace.text_encoder import Tally

TEXTS = [
    "the sea is blue",
    "",
    "a red ship, sails over the cold sea.",
    "unknowns",
    "Étrange 日本 sea",
    "the the the",
]


def unpadded(encoder, text):
    """The last hidden states of one text alone, by transformers' own call: (T, H)."""
    body = encoder.body
    inputs = body.wordpieces([text], return_tensors="pt")
    with torch.no_grad():
        return body.network(**inputs).last_hidden_state[0]


def test_a_plain_directory_gets_the_mean_of_its_tokens(bert):
    encoder = load_encoder(str(bert), device="cpu")
    vectors = encoder.encode(TEXTS)
    assert vectors.dtype == np.float32
    assert vectors.shape == (6, encoder.dim) == (6, 16)
    for vector, text in zip(vectors, TEXTS, strict=True):
        np.testing.assert_allclose(vector, unpadded(encoder, text).mean(0).numpy(), atol=1e-5)


def test_token_rows_are_unit_length_and_without_special_tokens(bert):
    encoder = load_encoder(str(bert), device="cpu")
    rows = encoder.encode_tokens(TEXTS)
    assert rows.heights.tolist() == [4, 0, 10, 3, 4, 3]
    np.testing.assert_allclose(np.linalg.norm(rows.flat, axis=1), 1, atol=1e-5)
    inner = torch.nn.functional.normalize(unpadded(encoder, TEXTS[2])[1:-1], dim=1)
    np.testing.assert_allclose(rows[2], inner.numpy(), atol=1e-5)


def test_tokens_are_parallel_to_the_rows_and_spell_the_text(bert):
    encoder = load_encoder(str(bert), device="cpu")
    found = encoder.tokens(TEXTS)
    assert [len(tokens) for tokens in found] == encoder.encode_tokens(TEXTS).heights.tolist()
    assert found[3] == [("un", 0, 2), ("known", 2, 7), ("s", 7, 8)]
    assert found[4] == [("Étrange", 0, 7), ("日", 8, 9), ("本", 9, 10), ("sea", 11, 14)]


@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
def test_neither_batch_nor_order_changes_a_result(sentence_bert, batch_size):
    encoder = load_encoder(str(sentence_bert), device="cpu")
    texts = TEXTS * 3
    vectors, rows = encoder.encode_both(texts, batch_size=batch_size)
    np.testing.assert_allclose(vectors, encoder.encode(texts, batch_size=7), atol=1e-5)
    np.testing.assert_allclose(rows.flat, encoder.encode_tokens(texts).flat, atol=1e-5)
    back = encoder.encode(texts[::-1], batch_size=batch_size)[::-1]
    np.testing.assert_allclose(vectors, back, atol=1e-5)


def test_equal_calls_give_equal_bytes_and_leave_torch_alone(sentence_bert):
    encoder = load_encoder(str(sentence_bert), device="cpu")
    state, count = torch.get_rng_state(), torch.get_num_threads()
    assert encoder.encode(TEXTS).tobytes() == encoder.encode(TEXTS).tobytes()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == count
    assert torch.is_grad_enabled()


def test_own_pooling_and_normalisation_are_honoured(sentence_bert):
    encoder = load_encoder(str(sentence_bert), device="cpu")
    first = unpadded(encoder, TEXTS[0])[0]
    want = torch.nn.functional.normalize(first, dim=0).numpy()
    np.testing.assert_allclose(encoder.encode(TEXTS)[0], want, atol=1e-5)


def test_long_texts_are_cut_and_counted(sentence_bert, caplog):
    encoder = load_encoder(str(sentence_bert), device="cpu")
    with caplog.at_level(logging.WARNING, logger="tokenspace.nn.encoder"):
        rows = encoder.encode_tokens(["sea " * 50, "sea"])
    assert rows.heights.tolist() == [10, 1]  # 12 with [CLS] and [SEP]
    assert "1 of 2 texts were cut" in caplog.text


def test_who_counts_is_told_and_nobody_is_warned(sentence_bert, caplog):
    encoder, tally = load_encoder(str(sentence_bert), device="cpu"), Tally()
    texts = ["sea " * 50, "sea", ""]
    found = encoder.encode_counted(texts, tally, batch_tokens=7)
    assert (tally.tokens, tally.cut) == (12 + 3 + 2, 1)
    assert not caplog.records
    np.testing.assert_allclose(found, encoder.encode(texts), atol=1e-5)
    encoder.encode_counted(texts, tally)
    assert (tally.tokens, tally.cut) == (34, 2)


@pytest.mark.parametrize("words", [10, 40])  # with [CLS] and [SEP] 12, and more
def test_a_prompt_that_leaves_the_text_no_room_is_refused(sentence_bert, words):
    encoder = load_encoder(str(sentence_bert), device="cpu")
    encoder = dataclasses.replace(encoder, prompts={"fits": "sea " * 9, "long": "sea " * words})
    assert encoder.prompted("fits").encode(["ship"]).shape == (1, 16)
    with pytest.raises(InputError, match="'long' leaves the text no room: the model takes 12"):
        encoder.prompted("long").encode(["ship"])


def test_without_instructions_for_bfloat16_a_warning_says_so(sentence_bert, monkeypatch, caplog):
    monkeypatch.setattr("tokenspace.nn.encoder.quicker_in_bf16", lambda: False)
    assert load_encoder(str(sentence_bert), device="cpu").in_bfloat16().precision == "bfloat16"
    assert "float32 is quicker" in caplog.text


def test_without_a_stated_limit_the_positions_are_the_limit(bert):
    encoder = load_encoder(str(bert), device="cpu")
    assert encoder.encode_tokens(["sea " * 50]).heights.tolist() == [22]


def test_a_prompt_moves_the_vector_but_neither_rows_nor_places(sentence_bert):
    plain = load_encoder(str(sentence_bert), device="cpu")
    query = plain.prompted("query")
    assert plain.prompted("passage") is plain
    assert query.prefix == "query : "
    short = TEXTS[:2] + TEXTS[3:]  # with the prompt TEXTS[2] is longer than the limit
    assert query.tokens(short) == plain.tokens(short)
    assert query.encode_tokens(TEXTS[:1]).heights.tolist() == [4]
    written = plain.encode(["query : the sea is blue"])
    np.testing.assert_allclose(query.encode(TEXTS[:1]), written, atol=1e-5)
    assert np.abs(query.encode(TEXTS[:1]) - plain.encode(TEXTS[:1])).max() > 0.01


def test_saved_and_loaded_again_it_is_the_same(sentence_bert, tmp_path):
    encoder = load_encoder(str(sentence_bert), device="cpu").prompted("query")
    encoder.save(tmp_path / "saved")
    again = load_encoder(str(tmp_path / "saved"), device="cpu")
    assert again.prefix == "query : "
    assert again.body.limit == 12
    np.testing.assert_array_equal(again.encode(TEXTS), encoder.encode(TEXTS))


def test_nothing_gives_empty_results(bert):
    encoder = load_encoder(str(bert), device="cpu")
    assert encoder.encode([]).shape == (0, 16)
    vectors, rows = encoder.encode_both([""])
    assert vectors.shape == (1, 16)
    assert rows.flat.shape == (0, 16)
    assert len(encoder.encode_tokens([])) == 0
    assert encoder.tokens([]) == []


@pytest.mark.parametrize(
    ("texts", "says"),
    [("one string", "not one string"), (["a", 3], "text 1 is int"), (["\ud800"], "surrogate")],
)
def test_unusable_texts_are_refused(bert, texts, says):
    with pytest.raises(InputError, match=says):
        load_encoder(str(bert), device="cpu").encode(texts)


def test_an_impossible_batch_size_is_refused(bert):
    with pytest.raises(ConfigError, match=r"batch_size=0 is outside \[1, inf\]"):
        load_encoder(str(bert), device="cpu").encode(TEXTS, batch_size=0)


def test_truncated_and_foreign_weights_are_refused(bert):
    config = json.loads((bert / "config.json").read_text())
    (bert / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(FormatError, match=r"the weights lack .*layer\.2"):
        load_encoder(str(bert), device="cpu")
    (bert / "config.json").write_text(json.dumps(config))
    whole = (bert / "model.safetensors").read_bytes()
    (bert / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FormatError, match="cannot be loaded"):
        load_encoder(str(bert), device="cpu")


def test_loading_says_nothing_on_the_terminal(bert, capfd):
    load_encoder(str(bert), device="cpu").encode(TEXTS)
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
