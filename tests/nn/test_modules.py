"""Lists of modules that sentence-transformers runs: our token vectors, its own text vectors."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules as st
from tokenizers import Tokenizer

from tokenspace.errors import InputError
from tokenspace.nn.encoder import load_encoder

TEXTS = ["the sea is blue", "", "a red ship, sails over the cold sea.", "unknowns", "the the"]


def written_by_the_peer(folder, modules, prompts=None):
    model = SentenceTransformer(modules=modules, device="cpu", prompts=prompts)
    model.save(str(folder), create_model_card=False)
    return SentenceTransformer(str(folder), device="cpu", local_files_only=True)


@pytest.mark.parametrize(
    "mode", ["mean", "max", "cls", "lasttoken", "weightedmean", ("mean", "max")]
)
def test_every_pooling_equals_the_peer(bert, tmp_path, mode):
    modules = [st.Transformer(str(bert)), st.Pooling(16, mode), st.Normalize()]
    peer = written_by_the_peer(tmp_path / "st", modules)
    ours = load_encoder(str(tmp_path / "st"), device="cpu")
    ran_here = type(ours.body).__name__ == "_Transformer"
    assert ran_here == (mode in ("mean", "max", "cls", "lasttoken"))
    np.testing.assert_allclose(ours.encode(TEXTS), peer.encode(TEXTS), atol=1e-5)


def test_dense_layers_are_honoured(bert, tmp_path):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        modules = [st.Transformer(str(bert)), st.Pooling(16), st.Dense(16, 5)]
    peer = written_by_the_peer(tmp_path / "st", modules)
    ours = load_encoder(str(tmp_path / "st"), device="cpu")
    vectors, rows = ours.encode_both(TEXTS)
    assert (ours.dim, rows.width) == (5, 16)
    np.testing.assert_allclose(vectors, peer.encode(TEXTS), atol=1e-5)
    assert [len(tokens) for tokens in ours.tokens(TEXTS)] == rows.heights.tolist()
    ours.save(tmp_path / "again")
    again = load_encoder(str(tmp_path / "again"), device="cpu")
    np.testing.assert_array_equal(again.encode(TEXTS), vectors)


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("mode", ["mean", "weightedmean"])
def test_prompts_equal_the_peer(bert, tmp_path, include, mode):
    modules = [st.Transformer(str(bert)), st.Pooling(16, mode, include_prompt=include)]
    peer = written_by_the_peer(tmp_path / "st", modules, {"query": "query : "})
    ours = load_encoder(str(tmp_path / "st"), device="cpu").prompted("query")
    theirs = peer.encode(TEXTS, prompt_name="query")
    np.testing.assert_allclose(ours.encode(TEXTS), theirs, atol=1e-5)


def test_a_static_table_gives_its_rows(bert, tmp_path):
    tokenizer = Tokenizer.from_file(str(bert / "tokenizer.json"))
    table = np.random.default_rng(0).normal(size=(tokenizer.get_vocab_size(), 6)).astype(np.float32)
    peer = written_by_the_peer(tmp_path / "st", [st.StaticEmbedding(tokenizer, table)])
    ours = load_encoder(str(tmp_path / "st"), device="cpu")
    vectors, rows = ours.encode_both(TEXTS)
    np.testing.assert_allclose(vectors, peer.encode(TEXTS), atol=1e-5)
    assert rows.heights.tolist() == [4, 0, 10, 3, 2]
    ids = tokenizer.encode("unknowns", add_special_tokens=False).ids
    want = table[ids] / np.linalg.norm(table[ids], axis=1, keepdims=True)
    np.testing.assert_allclose(rows[3], want, atol=1e-5)


def test_a_first_module_without_tokens_is_refused(bert, tmp_path):
    modules = [st.BoW(["the", "sea"])]
    written_by_the_peer(tmp_path / "st", modules)
    with pytest.raises(InputError, match="BoW gives no vectors of tokens"):
        load_encoder(str(tmp_path / "st"), device="cpu")


def test_a_plain_directory_equals_the_peer(bert):
    peer = SentenceTransformer(str(bert), device="cpu", local_files_only=True)
    ours = load_encoder(str(bert), device="cpu")
    np.testing.assert_allclose(ours.encode(TEXTS), peer.encode(TEXTS), atol=1e-5)


def test_a_lower_casing_directory_is_left_to_the_peer(sentence_bert):
    path = sentence_bert / "sentence_bert_config.json"
    path.write_text(json.dumps({"max_seq_length": 12, "do_lower_case": True}))
    ours = load_encoder(str(sentence_bert), device="cpu")
    peer = SentenceTransformer(str(sentence_bert), device="cpu", local_files_only=True)
    assert type(ours.body).__name__ == "_Modules"
    np.testing.assert_allclose(ours.encode(["The SEA"]), peer.encode(["The SEA"]), atol=1e-5)
