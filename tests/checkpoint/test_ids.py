"""Ids in config.json and generation_config.json follow their tokens."""

from __future__ import annotations

import json

import pytest
import transformers as tf
from tiny_models import make_tokenizer, new_model, same_rows, wrap

from tokenspace.checkpoint import Checkpoint, Ids, Target, write


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Llama with a generation_config.json that names ids in every way."""
    folder = tmp_path_factory.mktemp("ids") / "llama"
    new_model("llama").save_pretrained(folder)
    wrap(make_tokenizer("llama"), "llama").save_pretrained(folder)
    vocab = make_tokenizer("llama").get_vocab()
    a, cat, quick = vocab["a"], vocab["Ġcat"], vocab["Ġbrown"]
    settings = {
        "bos_token_id": 1,
        "eos_token_id": [2, 0],
        "pad_token_id": None,
        "suppress_tokens": [a, cat, quick, -1],
        "begin_suppress_tokens": [vocab["Ġbrow"]],
        "forced_eos_token_id": 2,
        "forced_decoder_ids": [[1, a], [2, vocab["Ġbrow"]]],
        "bad_words_ids": [[a, cat], [quick], [2]],
        "sequence_bias": [[[cat], -1.0]],
        "lang_to_id": {"a": a, "b": vocab["Ġbrow"]},
        "temperature": 0.5,
        "transformers_version": "5",
    }
    (folder / "generation_config.json").write_text(json.dumps(settings))
    config = json.loads((folder / "config.json").read_text())
    config |= {"eos_token_id": 2, "pad_token_id": -1, "image_token_index": vocab["Ġbrow"]}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def transplanted(folder, tokenizer, out):
    checkpoint = Checkpoint.open(folder)
    target = Target.of(checkpoint, tokenizer)
    mates = target.vocab.match(checkpoint.vocab).ids
    rows = [same_rows(checkpoint.table(side).vectors, mates) for side in ("input", "output")]
    written = write(checkpoint, out, target, input=rows[0], output=rows[1])
    files = [json.loads((out / f"{n}.json").read_text()) for n in ("config", "generation_config")]
    return target.vocab, written, *files


def test_every_id_follows_its_token(folder, tokenizer, tmp_path):
    vocab, written, config, generation = transplanted(folder, tokenizer("bert"), tmp_path / "out")
    a, cat = vocab.ids["##a"], vocab.ids["cat"]
    cls, sep, unk, brown = (vocab.ids[t] for t in ("[CLS]", "[SEP]", "[UNK]", "brown"))
    assert generation["bos_token_id"] == cls
    assert generation["eos_token_id"] == [sep, unk]
    assert generation["pad_token_id"] is None
    assert generation["suppress_tokens"] == [a, cat, brown, -1]
    assert "begin_suppress_tokens" not in generation
    assert generation["forced_decoder_ids"] == [[1, a]]
    assert generation["forced_eos_token_id"] == sep
    assert generation["bad_words_ids"] == [[a, cat], [brown], [sep]]
    assert generation["sequence_bias"] == [[[cat], -1.0]]
    assert generation["lang_to_id"] == {"a": a}
    assert (generation["temperature"], generation["transformers_version"]) == (0.5, "5")
    assert (config["bos_token_id"], config["eos_token_id"]) == (cls, sep)
    assert config["image_token_index"] is None and config["vocab_size"] == len(vocab)
    lost = " ".join(written.notes)
    assert "image_token_index" in lost and "begin_suppress_tokens" in lost
    made = tf.GenerationConfig.from_pretrained(tmp_path / "out")
    assert made.eos_token_id == [sep, unk]


def test_a_byte_follows_its_byte(folder, tokenizer, tmp_path):
    vocab, _, _, generation = transplanted(folder, tokenizer("gpt"), tmp_path / "out")
    a, cat = vocab.ids["a"], vocab.ids["Ġcat"]
    assert generation["suppress_tokens"] == [a, cat, vocab.ids["Ġbrown"], -1]
    assert generation["forced_decoder_ids"] == [[1, a], [2, vocab.ids["Ġbrow"]]]
    assert generation["bos_token_id"] == 0 and generation["eos_token_id"] == [0]


def test_no_id_is_better_than_a_wrong_one(model, tokenizer, tmp_path):
    checkpoint = Checkpoint.open(model("gpt2"))
    target = Target.of(checkpoint, tokenizer("t5"))  # it has no beginning
    rows = same_rows(checkpoint.table().vectors, target.vocab.match(checkpoint.vocab).ids)
    write(checkpoint, tmp_path / "out", target, input=rows)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["bos_token_id"] is None  # absent, it would be 50256
    assert config["eos_token_id"] == target.vocab.roles["eos"]
    generation = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert "bos_token_id" not in generation


def test_the_start_of_a_decoder(model, tokenizer, tmp_path):
    for name, kind in (("t5", "gpt"), ("bart", "t5"), ("bart", "bert")):
        checkpoint = Checkpoint.open(model(name))
        target = Target.of(checkpoint, tokenizer(kind))
        rows = same_rows(checkpoint.table().vectors, target.vocab.match(checkpoint.vocab).ids)
        out = tmp_path / f"{name}-{kind}"
        write(checkpoint, out, target, input=rows)
        config = json.loads((out / "config.json").read_text())
        start = "pad" if name == "t5" else "eos"
        assert config["decoder_start_token_id"] == config[f"{start}_token_id"]
        assert config["pad_token_id"] == target.vocab.roles["pad"]
        assert config["vocab_size"] == len(target.vocab)


def test_the_end_of_a_text_is_no_padding():
    from tokenspace.vocab import Vocabulary

    source = Vocabulary.of(make_tokenizer("t5"))
    target = Vocabulary.of(make_tokenizer("gpt"))
    ids = Ids(source, target, {})
    assert ids.role("pad", 0) is None and ids.one(0) is None
    assert ids.role("eos", 1) == ids.one(1) == 0
    assert ids.one(10_000) is None
    assert Ids(source, target, {0: 5}).role("pad", 0) == 5
