"""Networks as ONNX graphs: the same vectors, near ones in int8, and what no graph can express."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch
from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast

from tiny_bert import write_modules
from tokenspace.encode import _shards
from tokenspace.encode.onnx import convert, sample, stated
from tokenspace.encode.static import StaticEncoder, text_vocabulary
from tokenspace.encode.vectors import How, write_vectors
from tokenspace.errors import ConfigError, FormatError, InputError, MissingExtra
from tokenspace.nn.encoder import load_encoder
from tokenspace.vocab import Vocabulary

TEXTS = ["the sea is blue", "a red ship sails over the cold sea", "it", "", "un known"] * 3


@pytest.fixture
def sentence_bert(bert):
    prompts = {"query": "query : "}
    write_modules(bert, {"pooling_mode_cls_token": True}, "Normalize", prompts=prompts)
    return bert


def test_the_graph_gives_the_vectors_rows_and_places_of_the_network(sentence_bert, tmp_path):
    encoder = load_encoder(str(sentence_bert), device="cpu")
    found = convert(encoder, tmp_path / "graph", texts=TEXTS)
    assert found.least_cosine > 0.999999
    assert stated(tmp_path / "graph") == found
    graph = load_encoder(str(tmp_path / "graph"))
    assert (graph.precision, graph.dim, dict(graph.prompts)) == ("float32", 16, encoder.prompts)
    for batch in (1, 4, None):
        ours, theirs = (e.encode_both(TEXTS, batch_size=batch) for e in (graph, encoder))
        np.testing.assert_allclose(ours[0], theirs[0], atol=1e-5)
        np.testing.assert_allclose(ours[1].flat, theirs[1].flat, atol=1e-5)
    assert graph.tokens(TEXTS) == encoder.tokens(TEXTS)
    query = (e.prompted("query").encode(TEXTS) for e in (graph, encoder))
    np.testing.assert_allclose(*query, atol=1e-5)
    np.testing.assert_allclose(graph.mean_states(TEXTS), encoder.mean_states(TEXTS), atol=1e-5)


def test_written_again_it_is_the_same_directory(sentence_bert, tmp_path):
    convert(load_encoder(str(sentence_bert), device="cpu"), tmp_path / "graph", texts=TEXTS)
    graph = load_encoder(str(tmp_path / "graph"))
    graph.save(tmp_path / "again")
    again = load_encoder(str(tmp_path / "again"))
    np.testing.assert_array_equal(again.encode(TEXTS), graph.encode(TEXTS))
    assert again.prompts == graph.prompts
    assert not list(tmp_path.glob("graph/**/*.safetensors"))


def test_modules_after_the_pooling_are_in_the_graph(bert, tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Transformer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        made = SentenceTransformer(
            modules=[Transformer(str(bert)), Pooling(16, "max"), Dense(16, 6)], device="cpu"
        )
    made.save(str(tmp_path / "dense"), create_model_card=False)
    encoder = load_encoder(str(tmp_path / "dense"), device="cpu")
    convert(encoder, tmp_path / "graph", texts=TEXTS)
    graph = load_encoder(str(tmp_path / "graph"))
    assert graph.dim == 6
    np.testing.assert_allclose(graph.encode(TEXTS), encoder.encode(TEXTS), atol=1e-5)


def test_a_decoder_is_converted_as_well(bert, tmp_path):
    config = LlamaConfig(
        vocab_size=23,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=24,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        LlamaModel(config).save_pretrained(tmp_path / "llama")
    wordpieces = PreTrainedTokenizerFast.from_pretrained(bert)
    wordpieces.model_input_names = ["input_ids", "attention_mask"]
    wordpieces.save_pretrained(tmp_path / "llama")
    write_modules(tmp_path / "llama", {"pooling_mode_lasttoken": True})
    encoder = load_encoder(str(tmp_path / "llama"), device="cpu")
    convert(encoder, tmp_path / "graph", texts=TEXTS)
    graph = load_encoder(str(tmp_path / "graph"))
    np.testing.assert_allclose(graph.encode(TEXTS), encoder.encode(TEXTS), atol=1e-4)


def test_int8_is_near_smaller_and_says_so(sentence_bert, tmp_path):
    encoder = load_encoder(str(sentence_bert), device="cpu")
    convert(encoder, tmp_path / "exact", texts=TEXTS)
    found = convert(encoder, tmp_path / "graph", precision="int8", texts=TEXTS)
    assert 0.9 < found.least_cosine < 1 - 1e-7
    graph = load_encoder(str(tmp_path / "graph"))
    assert graph.precision == "int8"
    cosines = (graph.encode(TEXTS) * encoder.encode(TEXTS)).sum(1)
    assert cosines.min() == pytest.approx(found.least_cosine, abs=1e-6)
    kinds = [
        {
            item.data_type
            for item in onnx.load(tmp_path / name / "onnx/model.onnx").graph.initializer
        }
        for name in ("exact", "graph")
    ]
    assert onnx.TensorProto.INT8 in kinds[1] - kinds[0]
    with pytest.raises(ConfigError, match="precision='float32': the encoder is int8"):
        write_vectors(str(tmp_path / "graph"), TEXTS, tmp_path / "v.npy", How(precision="float32"))


def test_a_run_in_int8_converts_once_and_says_what_it_costs(sentence_bert, tmp_path, monkeypatch):
    monkeypatch.setattr(_shards, "TEXTS", 4)
    how = How(precision="int8")
    done = write_vectors(str(sentence_bert), TEXTS, tmp_path / "v.npy", how)
    assert done.precision == "int8"
    assert done.agreement.texts == 12  # without the empty ones
    convert(load_encoder(str(sentence_bert)), tmp_path / "graph", precision="int8", texts=TEXTS)
    want = load_encoder(str(tmp_path / "graph")).encode(TEXTS)
    cosines = (np.load(tmp_path / "v.npy") * want).sum(1)
    assert cosines.min() > 0.98  # what is quantised depends on the batch
    again = write_vectors(str(tmp_path / "graph"), TEXTS, tmp_path / "w.npy")
    assert again.agreement == stated(tmp_path / "graph")
    with pytest.raises(InputError, match="2 texts do not tell what int8 costs"):
        write_vectors(str(sentence_bert), ["a", "sea"], tmp_path / "x.npy", how)
    assert sorted(path.name for path in tmp_path.glob("*.parts")) == []


def test_what_a_graph_cannot_do_is_said(sentence_bert, tmp_path):
    encoder = load_encoder(str(sentence_bert), device="cpu")
    convert(encoder, tmp_path / "graph", texts=TEXTS)
    graph = load_encoder(str(tmp_path / "graph"))
    with pytest.raises(ConfigError, match="gives its last layer alone"):
        list(graph.token_states(TEXTS[:1], layer=1))
    with pytest.raises(ConfigError, match="multiplies in float32"):
        graph.body.in_bfloat16()
    with pytest.raises(ConfigError, match="cannot be trained or converted again"):
        convert(graph, tmp_path / "twice", texts=TEXTS)
    assert not (tmp_path / "twice").exists()


def test_what_cannot_be_converted_is_refused(sentence_bert, tmp_path, monkeypatch):
    encoder = load_encoder(str(sentence_bert), device="cpu")
    out = tmp_path / "graph"
    static = StaticEncoder(text_vocabulary(Vocabulary.words(["sea"])), np.eye(2, dtype=np.float32))
    with pytest.raises(ConfigError, match="a StaticEncoder is no pretrained network"):
        convert(static, out)
    static.save(tmp_path / "static")
    with pytest.raises(ConfigError, match="no network but a table"):
        convert(load_encoder(str(tmp_path / "static")), out, texts=TEXTS)
    with pytest.raises(ConfigError, match="the encoder is bfloat16"):
        convert(encoder.in_bfloat16(), out, texts=TEXTS)
    with pytest.raises(ConfigError, match="precision='int4' is not one of"):
        convert(encoder, out, precision="int4", texts=TEXTS)
    with pytest.raises(InputError, match="2 texts do not tell"):
        convert(encoder, out, texts=TEXTS[:2])
    monkeypatch.setattr(encoder.body, "include_prompt", False)
    with pytest.raises(InputError, match="pooling leaves its prompts out"):
        convert(encoder, out, texts=TEXTS)
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(MissingExtra, match="needs the extra 'onnx'"):
        convert(encoder, out, texts=TEXTS)
    assert not out.exists()


def test_a_graph_that_gives_other_vectors_is_not_written(sentence_bert, tmp_path, monkeypatch):
    encoder = load_encoder(str(sentence_bert), device="cpu")
    encoded = encoder.body.encoded

    def bent(ids, mask, types, prompt):  # decides by the number of texts, as a trace cannot
        states, pooled = encoded(ids, mask, types, prompt)
        return states, pooled if len(ids) == 2 else pooled.flip(1)

    monkeypatch.setattr(encoder.body, "encoded", bent)
    with pytest.raises(FormatError, match="gives other vectors than the network"):
        convert(encoder, tmp_path / "graph", texts=TEXTS)
    assert not (tmp_path / "graph").exists()


@pytest.mark.parametrize("file", ["model.onnx", "tokenizer.json", "tokenspace.json"])
def test_a_damaged_directory_is_refused(sentence_bert, tmp_path, file):
    convert(load_encoder(str(sentence_bert), device="cpu"), tmp_path / "graph", texts=TEXTS)
    (tmp_path / "graph/onnx" / file).write_text("{}")
    with pytest.raises(FormatError, match="not a whole converted model"):
        load_encoder(str(tmp_path / "graph"))


def test_the_command(sentence_bert, tmp_path, cli):
    (tmp_path / "text.txt").write_text("\n".join(TEXTS))
    out = tmp_path / "graph"
    words = ("encode", "onnx", sentence_bert, "--texts", tmp_path / "text.txt", "--out", out)
    ended = cli(*words, "--precision", "int8", "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["neighbours"] > 0.5
    assert cli(*words).code == 2
    ended = cli(*words, "--force")
    assert ended.code == 0
    assert "float32" in ended.out
    assert "least cosine 1.0000" in ended.out
    ended = cli("encode", "run", out, tmp_path / "text.txt", "--out", tmp_path / "v.npy")
    assert "15 vectors of 16 numbers" in ended.out


def test_without_texts_the_documentation_is_the_sample(tmp_path):
    texts = sample(())
    assert 200 < len(texts) <= 500
    assert all(len(text.split()) > 5 for text in texts)
    (tmp_path / "t.txt").write_text("\n".join(f"text {i}" for i in range(1001)))
    assert len(sample([tmp_path / "t.txt"])) == 334
