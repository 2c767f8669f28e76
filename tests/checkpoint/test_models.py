"""Whole directories: every architecture, read again by plain transformers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file
from tiny_models import KINDS, content, make_tokenizer, new_model, same_rows, size, wrap
from tokenizers import Tokenizer

from tokenspace.checkpoint import Checkpoint, Target, write
from tokenspace.errors import FormatError
from tokenspace.nn.validate import PROBES, validate

OTHER = {"gpt": "llama", "llama": "bert", "t5": "bert", "bert": "gpt", "roberta": "gpt"}
AUTO = {
    "gpt2": "AutoModelForCausalLM",
    "llama": "AutoModelForCausalLM",
    "neox": "AutoModelForCausalLM",
    "bert": "AutoModelForMaskedLM",
    "roberta": "AutoModelForMaskedLM",
    "distilbert": "AutoModelForMaskedLM",
    "t5": "AutoModelForSeq2SeqLM",
    "bart": "AutoModelForSeq2SeqLM",
}


def transplant(source: Path, target: Path, out: Path, **options):
    checkpoint = Checkpoint.open(source)
    fitted = Target.of(checkpoint, target)
    if fitted.identical:
        partners = np.arange(len(fitted.vocab))
        partners[partners >= checkpoint.rows] = -1
    else:
        partners = fitted.vocab.match(checkpoint.vocab).ids
    sides = {"input": same_rows(checkpoint.table().vectors, partners)}
    if not checkpoint.tied:
        sides["output"] = same_rows(checkpoint.table("output").vectors, partners)
    return checkpoint, fitted, write(checkpoint, out, fitted, **sides, **options)


@pytest.mark.parametrize("name", KINDS)
def test_its_own_tokenizer_gives_every_file_back(name, model, tmp_path):
    source = model(name)
    before = content(source)
    _, target, written = transplant(source, source, tmp_path / "out")
    assert target.identical and not target.notes
    assert content(tmp_path / "out") == before == content(source)
    assert written.rows == Checkpoint.open(source).rows


@pytest.mark.parametrize("name", KINDS)
def test_another_tokenizer(name, model, tokenizer, tmp_path):
    kind = KINDS[name][0]
    out = tmp_path / "out"
    checkpoint, target, written = transplant(model(name), tokenizer(OTHER[kind]), out)
    found = validate(out)
    found.check()
    assert (found.ran, found.loader, found.rows) == (True, AUTO[name], len(target.vocab))
    assert written.rows == len(target.vocab) != checkpoint.rows
    old, new = load_file(model(name) / "model.safetensors"), load_file(out / "model.safetensors")
    assert list(old) == list(new)
    changed = {n for t in checkpoint.tensors for n in (t.name, *t.aliases)}
    assert {n for n in old if old[n].shape != new[n].shape} == changed
    assert all(torch.equal(old[n], new[n]) for n in old if n not in changed)
    partners = target.vocab.match(checkpoint.vocab).ids
    copied = partners >= 0
    assert copied.any() and not copied.all()
    for tensor in checkpoint.tensors:
        axis = tensor.axis
        was, now = (t[tensor.name].transpose(0, axis).numpy() for t in (old, new))
        np.testing.assert_array_equal(now[copied], was[partners[copied]])
        if tensor.role == "bias":
            mean = was[np.unique(partners[copied])].mean(axis=0, dtype=np.float64)
            np.testing.assert_allclose(
                now[~copied], np.broadcast_to(mean, now[~copied].shape), rtol=1e-5
            )


def permuted(kind: str, keep: tuple[int, ...]) -> tuple[Tokenizer, np.ndarray]:
    """Return a tokenizer with other ids, and the new id of every old one."""
    made = json.loads(make_tokenizer(kind).to_str())
    count = len(made["model"]["vocab"])
    free = [i for i in range(count) if i not in keep]
    new = np.arange(count)
    new[free] = np.random.default_rng(3).permutation(free)
    made["model"]["vocab"] = {t: int(new[i]) for t, i in made["model"]["vocab"].items()}
    for token in made["added_tokens"]:
        token["id"] = int(new[token["id"]])
    post = made["post_processor"] or {}
    for token in post.get("special_tokens", {}).values():
        token["ids"] = [int(new[i]) for i in token["ids"]]
    for key in {"cls", "sep"} & post.keys():
        post[key][1] = int(new[post[key][1]])
    return Tokenizer.from_str(json.dumps(made)), new


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert", "roberta", "t5", "bart"])
def test_a_permuted_tokenizer_permutes_the_logits(name, model, tmp_path):
    kind = KINDS[name][0]
    shuffled, new = permuted(kind, ())
    wrap(shuffled, kind).save_pretrained(tmp_path / "tokenizer")
    _, target, _ = transplant(model(name), tmp_path / "tokenizer", tmp_path / "out")
    final = {t: i for i, t in enumerate(target.vocab.tokens)}
    new = np.array([final[t] for t in Checkpoint.open(model(name)).vocab.tokens if t])
    logits = []
    for folder in (model(name), tmp_path / "out"):
        network = getattr(tf, AUTO[name]).from_pretrained(folder).eval()
        batch = dict(
            tf.AutoTokenizer.from_pretrained(folder)(" the quick cat sat on", return_tensors="pt")
        )
        if AUTO[name] == "AutoModelForSeq2SeqLM":
            start = network.config.decoder_start_token_id
            batch["decoder_input_ids"] = torch.cat(
                [torch.tensor([[start]]), batch["input_ids"][:, 1:3]], dim=1
            )
        with torch.no_grad():
            logits.append((batch["input_ids"][0].numpy(), network(**batch).logits[0].numpy()))
    (ids, old), (moved, made) = logits
    np.testing.assert_array_equal(new[ids], moved)
    np.testing.assert_allclose(made[:, new], old[:, : len(new)], atol=2e-6)


def test_in_plain_transformers_without_us(model, tokenizer, tmp_path):
    script = """
import sys, warnings
import torch, transformers as tf
tf.utils.logging.set_verbosity_error()
for folder, auto in zip(sys.argv[1::2], sys.argv[2::2]):
    net, info = getattr(tf, auto).from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    batch = tf.AutoTokenizer.from_pretrained(folder)("the quick brown fox", return_tensors="pt")
    assert torch.isfinite(net.eval()(**batch)[0]).all()
assert "tokenspace" not in sys.modules
"""
    words = []
    for name, kind in (("gpt2", "bert"), ("roberta", "t5")):
        transplant(model(name), tokenizer(kind), tmp_path / name)
        words += [str(tmp_path / name), AUTO[name]]
    ended = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


# Rows


def test_exact_height_and_multiples(model, tokenizer, tmp_path):
    _, target, written = transplant(model("llama"), tokenizer("gpt"), tmp_path / "a", rows=400)
    tokens = len(target.vocab)
    assert (written.rows, written.padding) == (400, 400 - tokens)
    tensors = load_file(tmp_path / "a" / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        assert tensors[name].shape[0] == 400
        mean = tensors[name][:tokens].double().mean(0).float()
        torch.testing.assert_close(tensors[name][tokens:], mean.expand(400 - tokens, -1))
    assert json.loads((tmp_path / "a" / "config.json").read_text())["vocab_size"] == 400
    assert validate(tmp_path / "a").problems == ()
    _, _, written = transplant(model("bert"), tokenizer("gpt"), tmp_path / "b", pad_to_multiple=64)
    assert written.rows % 64 == 0 and written.rows - written.padding > written.rows - 64
    bias = load_file(tmp_path / "b" / "model.safetensors")["cls.predictions.bias"]
    assert len(bias) == written.rows and bias[-1] == bias[-2]


def test_padding_rows_and_ghosts_of_the_model_itself(tmp_path):
    for name, rows in (("gpt2", size(make_tokenizer("gpt")) + 9), ("llama", 280)):
        kind = KINDS[name][0]
        folder = tmp_path / name
        new_model(name, rows).save_pretrained(folder)
        wrap(make_tokenizer(kind), kind).save_pretrained(folder)
        checkpoint, target, written = transplant(folder, folder, tmp_path / f"{name}-out")
        assert target.identical and written.rows == rows == len(checkpoint.vocab)
        assert content(folder) == content(tmp_path / f"{name}-out")
        assert len(checkpoint.vocab.holes) == (9 if name == "gpt2" else 0)
        assert bool(checkpoint.vocab.ghosts) == (name == "llama")


def test_an_output_of_its_own(model, tokenizer, tmp_path):
    heads = {"gpt2": "lm_head.weight", "bert": "cls.predictions.decoder.weight"}
    heads |= {"roberta": "lm_head.decoder.weight", "distilbert": "vocab_projector.weight"}
    heads |= {"t5": "lm_head.weight", "bart": "lm_head.weight"}
    for name, head in heads.items():
        checkpoint = Checkpoint.open(model(name))
        target = Target.of(checkpoint, tokenizer("llama"))
        rows = same_rows(checkpoint.table().vectors, target.vocab.match(checkpoint.vocab).ids)
        out = tmp_path / name
        write(checkpoint, out, target, input=rows, output=2 * rows, untie=True)
        validate(out).check()
        again = Checkpoint.open(out)
        assert not again.tied and again.tensors[1].name == head
        np.testing.assert_array_equal(again.table("output").vectors, 2 * rows)


# Files


def test_shards(tokenizer, tmp_path):
    source = tmp_path / "source"
    new_model("llama").save_pretrained(source, max_shard_size="5KB")
    wrap(make_tokenizer("llama"), "llama").save_pretrained(source)
    before = content(source)
    for link in (True, False):
        out = tmp_path / f"out-{link}"
        _, _, written = transplant(source, tokenizer("gpt"), out, link=link)
        assert len(written.rewritten) == 2 and len(written.kept) >= 3
        assert written.linked == (len(written.kept) if link else 0)
        for name in written.kept:
            assert (out / name).samefile(source / name) == link
            assert (out / name).read_bytes() == before[name] and not (out / name).is_symlink()
        index = json.loads((out / "model.safetensors.index.json").read_text())
        tensors = {
            n: f for f in sorted(set(index["weight_map"].values())) for n in load_file(out / f)
        }
        assert index["weight_map"] == tensors
        model = tf.AutoModelForCausalLM.from_pretrained(out)
        assert index["metadata"]["total_size"] == sum(p.nbytes for p in model.parameters())
        assert index["metadata"]["total_parameters"] == model.num_parameters()
        validate(out).check()
    assert content(source) == before
    transplant(source, source, tmp_path / "same")
    assert content(tmp_path / "same") == before


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_the_type_is_kept(dtype, model, tokenizer, tmp_path):
    source = tmp_path / "source"
    new_model("gpt2").to(getattr(torch, dtype)).save_pretrained(source)
    wrap(make_tokenizer("gpt"), "gpt").save_pretrained(source)
    transplant(source, source, tmp_path / "same")
    assert content(source) == content(tmp_path / "same")
    checkpoint = Checkpoint.open(source)
    target = Target.of(checkpoint, tokenizer("llama"))
    rows = np.random.default_rng(0).normal(size=(len(target.vocab), 16)).astype(np.float32)
    write(checkpoint, tmp_path / "out", target, input=rows)
    made = load_file(tmp_path / "out" / "model.safetensors")["transformer.wte.weight"]
    assert torch.equal(made, torch.from_numpy(rows).to(getattr(torch, dtype)))
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == dtype
    validate(tmp_path / "out").check()


def test_a_sentence_transformers_directory(tokenizer, tmp_path):
    source = tmp_path / "source"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        config = tf.BertConfig(vocab_size=size(make_tokenizer("bert")), **SHAPE_OF_BERT)
        tf.BertModel(config, add_pooling_layer=False).save_pretrained(source)
    wrap(make_tokenizer("bert"), "bert", model_max_length=64).save_pretrained(source)
    kinds = ["Transformer", "Pooling", "Normalize"]
    modules = [
        {
            "idx": i,
            "name": str(i),
            "path": f"{i}_{k}" if i else "",
            "type": f"sentence_transformers.models.{k}",
        }
        for i, k in enumerate(kinds)
    ]
    pooling = {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True}
    files = {
        "modules.json": modules,
        "1_Pooling/config.json": pooling,
        "2_Normalize/config.json": {},
        "sentence_bert_config.json": {"max_seq_length": 32, "do_lower_case": False},
        "config_sentence_transformers.json": {"prompts": {"query": "q: "}},
    }
    for name, value in files.items():
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(json.dumps(value))
    (source / "pytorch_model.bin").write_bytes(b"the old vocabulary")
    (source / "onnx").mkdir()
    (source / "onnx" / "model.onnx").write_bytes(b"the old vocabulary too")
    checkpoint, target, written = transplant(source, tokenizer("gpt"), tmp_path / "out")
    assert checkpoint.kind == "encoder" and checkpoint.tied
    assert target.added == ("[CLS]", "[SEP]", "[PAD]")
    assert set(written.left_out) == {"pytorch_model.bin", "onnx/"}
    made = content(tmp_path / "out")
    assert all(made[name] == content(source)[name] for name in files)
    found = validate(tmp_path / "out")
    found.check()
    assert (found.loader, found.ran) == ("SentenceTransformer", True)
    words = tf.AutoTokenizer.from_pretrained(tmp_path / "out")
    ids = words(PROBES[0])["input_ids"]
    assert (ids[0], ids[-1]) == (target.vocab.ids["[CLS]"], target.vocab.ids["[SEP]"])
    assert words.model_max_length == 64
    transplant(source, source, tmp_path / "same")
    same = content(tmp_path / "same")
    assert same == {n: b for n, b in content(source).items() if n in same}
    # the older layout, with the transformer in a folder of its own
    inner = tmp_path / "nested" / "0_Transformer"
    (tmp_path / "nested").mkdir()
    (tmp_path / "out").rename(inner)
    for name in ("modules.json", "1_Pooling", "2_Normalize"):
        (inner / name).rename(tmp_path / "nested" / name)
    modules[0]["path"] = "0_Transformer"
    (tmp_path / "nested" / "modules.json").write_text(json.dumps(modules))
    transplant(tmp_path / "nested", tokenizer("t5"), tmp_path / "again")
    assert (tmp_path / "again" / "0_Transformer" / "tokenizer.json").is_file()
    validate(tmp_path / "again").check()


def test_a_table_of_word_vectors_as_a_sentence_transformer(tokenizer, tmp_path):
    inner = tmp_path / "source" / "0_StaticEmbedding"
    inner.mkdir(parents=True)
    words = make_tokenizer("bert")
    words.save(str(inner / "tokenizer.json"))
    vectors = torch.arange(8.0 * size(words)).reshape(-1, 8)
    save_file({"embedding.weight": vectors}, inner / "model.safetensors", {"format": "pt"})
    kind = "sentence_transformers.models.StaticEmbedding"
    module = {"idx": 0, "name": "0", "path": inner.name, "type": kind}
    (tmp_path / "source" / "modules.json").write_text(json.dumps([module]))
    _, target, _ = transplant(tmp_path / "source", tokenizer("gpt"), tmp_path / "out")
    found = validate(tmp_path / "out")
    found.check()
    assert (found.ran, found.rows) == (True, len(target.vocab))
    with pytest.raises(FormatError, match=r"no model\.safetensors in it"):
        (tmp_path / "source" / "modules.json").unlink()
        (tmp_path / "source" / "config.json").write_text("{}")
        Checkpoint.open(tmp_path / "source")


SHAPE_OF_BERT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
}
