"""Compressed model directories: what transformers loads of them, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as tf
from safetensors.torch import load_file
from tiny_models import KINDS, content

from tokenspace.checkpoint import Checkpoint
from tokenspace.compress.directory import compress_model
from tokenspace.compress.hollow import NOTE, Hollow, fill
from tokenspace.errors import ConfigError, FormatError, InputError
from tokenspace.nn.compressed import LookupEmbedding, load_compressed
from tokenspace.nn.validate import loader_of
from tokenspace.recipe import make

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def answer(model, decoder: bool) -> torch.Tensor:
    ids = torch.tensor([[3, 5, 7, 9]])
    more = {"decoder_input_ids": ids[:, :2]} if decoder else {}
    with torch.inference_mode():
        return model(input_ids=ids, **more)[0]


@pytest.mark.parametrize("name", list(KINDS))
def test_a_result_is_smaller_and_does_what_its_plain_form_does(name, model, tmp_path):
    source = model(name)
    before = content(source)
    report = compress_model(make("int8"), source, tmp_path / "out", no_validate=True)
    assert content(source) == before
    assert report.metrics["bytes_after"] < 0.35 * report.metrics["bytes_before"]
    assert not list((tmp_path / "out").glob("model*.safetensors.index.json"))
    assert not (tmp_path / "out" / "model.safetensors").exists()
    loader = getattr(tf, loader_of(Checkpoint.open(source)))
    with pytest.raises(OSError):  # never with random rows
        loader.from_pretrained(tmp_path / "out", local_files_only=True)
    fill(tmp_path / "out", tmp_path / "plain")
    stock, info = loader.from_pretrained(tmp_path / "plain", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert tf.AutoTokenizer.from_pretrained(tmp_path / "plain").get_vocab()
    ours = load_compressed(tmp_path / "out")
    decoder = stock.config.is_encoder_decoder
    assert torch.equal(answer(ours, decoder), answer(stock.eval(), decoder))
    original = loader.from_pretrained(source).eval()
    assert not torch.equal(answer(stock, decoder), answer(original, decoder))
    torch.testing.assert_close(
        answer(stock, decoder), answer(original, decoder), atol=0.1, rtol=0.1
    )


def test_only_an_untied_model_goes_without_the_whole_matrix(model, tmp_path):
    for name, whole in (("llama", False), ("gpt2", True)):
        compress_model(make("int8"), model(name), tmp_path / name, no_validate=True)
        found = load_compressed(tmp_path / name).get_input_embeddings()
        assert isinstance(found, LookupEmbedding) is not whole


def test_plain_both_and_the_report(model, tmp_path):
    report = compress_model(
        make("int8"), model("llama"), tmp_path / "out", matrix="both", plain=True,
        eval_texts=["a few words to be measured on"],
    )  # fmt: skip
    assert [row["matrix"] for row in report.rows] == ["input", "output"]
    assert {"bits_per_byte_before", "bits_per_byte_after", "gain_low"} <= report.metrics.keys()
    kept, exact = (load_file(f / "model.safetensors") for f in (tmp_path / "out", model("llama")))
    for key, values in exact.items():
        same = torch.equal(kept[key], values)
        assert same is (key not in ("model.embed_tokens.weight", "lm_head.weight")), key
        torch.testing.assert_close(kept[key], values, atol=0.01 * float(values.abs().max()), rtol=0)
    saved = json.loads((tmp_path / "out" / "report.json").read_text())
    assert saved["metrics"] == dict(report.metrics)
    assert "<svg" in (tmp_path / "out" / "report.html").read_text()


def test_a_sharded_bfloat16_model_keeps_every_other_byte(model, tmp_path):
    network = tf.LlamaForCausalLM.from_pretrained(model("llama")).to(torch.bfloat16)
    network.save_pretrained(tmp_path / "in", max_shard_size="8KB")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "in" / file).write_bytes((model("llama") / file).read_bytes())
    compress_model(make("int8"), tmp_path / "in", tmp_path / "out", no_validate=True)
    fill(tmp_path / "out", tmp_path / "plain")
    index = "model.safetensors.index.json"
    assert len(list((tmp_path / "in").glob("*.safetensors"))) > 1
    one, two = (json.loads((tmp_path / n / index).read_text()) for n in ("in", "plain"))
    assert one["weight_map"] == two["weight_map"]
    for shard in sorted(set(one["weight_map"].values())):
        old, new = (load_file(tmp_path / n / shard) for n in ("in", "plain"))
        assert old.keys() == new.keys()
        for key, values in old.items():
            assert new[key].dtype == values.dtype
            assert torch.equal(new[key], values) is (key != "model.embed_tokens.weight")


def test_counts_of_a_text_reach_the_method(model, tmp_path, cli):
    (tmp_path / "text.txt").write_text("words and words\n")
    done = cli(
        "compress", "hash", "--source", model("bert"), "--budget", 0.5, "--out", tmp_path / "out",
        "--counts-text", tmp_path / "text.txt", "--no-validate", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    table = next(iter(Hollow.open(tmp_path / "out").tables.values()))
    opened = Checkpoint.open(model("bert"))
    counts = opened.vocab.count(["words and words"])
    vectors = opened.table("input").vectors
    m = len(table.tensors["shared"])
    often = int(counts.argmax())
    mates = [i for i in range(often % m, len(counts), m) if counts[i] == 0]
    assert counts[often] and mates
    shared = table.rows(np.array([often]))[0]
    if not counts[[i for i in range(often % m, len(counts), m) if i != often]].any():
        np.testing.assert_allclose(shared, vectors[often], atol=1e-5)


def test_decompress_writes_what_transformers_loads(model, tmp_path, cli):
    compress_model(make("int8"), model("gpt2"), tmp_path / "out", no_validate=True)
    done = cli("decompress", tmp_path / "out", "--out", tmp_path / "plain", "--json")
    assert done.code == 0
    assert json.loads(done.out)["tensors"]
    tf.GPT2LMHeadModel.from_pretrained(tmp_path / "plain")
    assert cli("decompress", tmp_path / "out", "--out", tmp_path / "plain").code == 3


def broken(folder: Path, fault: str) -> None:
    note = folder / NOTE
    if fault == "no note":
        note.unlink()
    elif fault == "not JSON":
        note.write_text("{")
    elif fault == "another place":
        note.write_text(note.read_text().replace("compressed-0", "../compressed-0"))
    elif fault == "no shard":
        next(folder.glob("*.rest.safetensors")).unlink()
    else:
        file = folder / "compressed-0.safetensors"
        file.write_bytes(file.read_bytes()[: -40 if fault == "cut" else 4])


@pytest.mark.parametrize("fault", ["no note", "not JSON", "another place", "no shard", "cut", "4"])
def test_a_damaged_directory_is_refused_and_nothing_is_left(fault, model, tmp_path):
    compress_model(make("int8"), model("gpt2"), tmp_path / "out", no_validate=True)
    broken(tmp_path / "out", fault)
    with pytest.raises(FormatError):
        load_compressed(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_cannot_be_done_is_refused(model, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="exists"):
        compress_model(make("int8"), model("gpt2"), tmp_path / "out", no_validate=True)
    with pytest.raises(ConfigError, match="budget"):
        compress_model(make("hash", budget=1e-6), model("gpt2"), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_method_that_needs_counts_takes_them_from_a_text(model, tmp_path, cli):
    (tmp_path / "text.txt").write_text("words and words\n")
    words = ["compress", "adaptemb", "--source", model("bert"), "--budget", 0.5]
    words += ["--no-validate", "--out", tmp_path / "out"]
    refused = cli(*words)
    assert refused.code == 2
    assert "counts" in refused.err
    assert not (tmp_path / "out").exists()
    assert cli(*words, "--counts-text", tmp_path / "text.txt").code == 0
