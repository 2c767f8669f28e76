"""Vocabulary tensors told by name and height, from headers alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny_models import make_tokenizer, same_rows, size

from tokenspace.checkpoint import Checkpoint, Target, write
from tokenspace.errors import ConfigError, FormatError, InputError
from tokenspace.table import EmbeddingTable

V = size(make_tokenizer("gpt"))


def filled(*shape: int, start: float = 0) -> np.ndarray:
    return (start + np.arange(np.prod(shape), dtype=np.float32)).reshape(shape) / 64


def directory(folder: Path, tensors: dict[str, np.ndarray], **config: object) -> Path:
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"vocab_size": V, **config}))
    make_tokenizer("gpt").save(str(folder / "tokenizer.json"))
    return folder


def roles(folder: Path, **options: object) -> dict[str, str]:
    return {t.name: t.role for t in Checkpoint.open(folder, **options).tensors}


@pytest.mark.parametrize(
    ("inner", "outer", "bias"),
    [
        ("model.embed_tokens.weight", "lm_head.weight", "lm_head.bias"),
        ("model.language_model.embed_tokens.weight", "lm_head.weight", None),
        ("bert.embeddings.word_embeddings.weight", None, "cls.predictions.bias"),
        (
            "albert.embeddings.word_embeddings.weight",
            "predictions.decoder.weight",
            "predictions.bias",
        ),
        ("electra.embeddings.word_embeddings.weight", None, "generator_lm_head.bias"),
        ("model.embeddings.tok_embeddings.weight", "decoder.weight", "decoder.bias"),
        ("transformer.word_embedding.weight", "lm_loss.weight", "lm_loss.bias"),
        ("model.shared.weight", "lm_head.weight", "final_logits_bias"),
        ("gpt_neox.embed_in.weight", "embed_out.weight", None),
        ("model.decoder.embed_tokens.weight", "proj_out.weight", None),
    ],
)
def test_names_of_many_architectures(inner, outer, bias, tmp_path):
    tensors = {
        inner: filled(V, 4),
        "model.embed_positions.weight": filled(V, 4, start=1),
        "h.0.mlp.bias": filled(V),
        "ln_f.bias": filled(4),
    }
    expected = {inner: "input"}
    if outer:
        tensors[outer] = filled(V, 4, start=9)
        expected[outer] = "output"
    if bias:
        tensors[bias] = filled(1, V) if bias == "final_logits_bias" else filled(V)
        expected[bias] = "bias"
    folder = directory(tmp_path / "m", tensors)
    assert roles(folder) == expected
    checkpoint = Checkpoint.open(folder)
    assert checkpoint.tied == (outer is None)
    np.testing.assert_array_equal(
        checkpoint.table("output").vectors, tensors[outer] if outer else tensors[inner]
    )
    assert isinstance(checkpoint.table().vectors.base, np.memmap)


def test_equal_copies_are_written_together(tmp_path):
    inner = filled(V, 4)
    names = ["shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"]
    folder = directory(tmp_path / "m", {n: inner for n in [*names, "lm_head.weight"]})
    checkpoint = Checkpoint.open(folder)
    (found,) = checkpoint.tensors
    assert found.name == names[0] and set(found.aliases) == {*names[1:], "lm_head.weight"}
    target = Target.of(checkpoint, make_target(tmp_path))
    rows = same_rows(inner, target.vocab.match(checkpoint.vocab).ids)
    write(checkpoint, tmp_path / "out", target, input=rows)
    made = load_file(tmp_path / "out" / "model.safetensors")
    assert len(made) == 4 and all(np.array_equal(t, rows) for t in made.values())
    untied = directory(
        tmp_path / "u", {n: inner for n in [*names, "lm_head.weight"]}, tie_word_embeddings=False
    )
    assert roles(untied) == {names[0]: "input", "lm_head.weight": "output"}


def make_target(folder: Path, kind: str = "llama") -> Path:
    path = folder / f"{kind}.json"
    make_tokenizer(kind).save(str(path))
    return path


def test_what_is_not_clear_is_asked(tmp_path):
    odd = "cls.predictions.dense.weight"  # MobileBERT: a column for every token
    folder = directory(tmp_path / "a", {"wte.weight": filled(V, 4), odd: filled(2, V)})
    with pytest.raises(FormatError, match=f"unknown meaning: {odd}") as caught:
        roles(folder)
    assert f"--map {odd}=0" in caught.value.hint
    assert roles(folder, mapping={odd: None}) == {"wte.weight": "input"}
    assert roles(folder, mapping={odd: 1}) == {"wte.weight": "input", odd: "mapped"}
    checkpoint = Checkpoint.open(folder, mapping={odd: 1})
    target = Target.of(checkpoint, make_target(tmp_path))
    mates = target.vocab.match(checkpoint.vocab).ids
    rows = same_rows(filled(V, 4), mates)
    write(checkpoint, tmp_path / "out", target, input=rows, partners=mates)
    made = load_file(tmp_path / "out" / "model.safetensors")[odd]
    assert made.shape == (2, len(mates))
    np.testing.assert_array_equal(made[:, mates >= 0], filled(2, V)[:, mates[mates >= 0]])
    given = filled(2, len(mates), start=5)
    write(checkpoint, tmp_path / "given", target, input=rows, others={odd: given})
    np.testing.assert_array_equal(load_file(tmp_path / "given" / "model.safetensors")[odd], given)
    with pytest.raises(InputError, match="no vocabulary tensor 'wpe'"):
        write(checkpoint, tmp_path / "x", target, input=rows, others={"wpe": given})
    for mapping, message in (
        ({"no": 0}, "no tensor"),
        ({odd: 2}, "no such axis"),
        ({odd: 0}, "2 places"),
    ):
        with pytest.raises(ConfigError, match=message):
            roles(folder, mapping=mapping)


def test_two_different_inputs(tmp_path):
    names = ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"]
    tensors = {names[0]: filled(V, 4), names[1]: filled(V, 4, start=1)}
    folder = directory(tmp_path / "a", tensors)
    with pytest.raises(FormatError, match="2 different matrices") as caught:
        roles(folder)
    assert "--map" in caught.value.hint
    both = {names[0]: 0, names[1]: 0}
    assert roles(folder, mapping=both) == {names[0]: "input", names[1]: "mapped"}
    tensors["shared.weight"] = filled(V, 4, start=2)
    with pytest.raises(FormatError, match="two different input matrices"):
        roles(directory(tmp_path / "b", {n: tensors[n] for n in (names[0], "shared.weight")}))


def test_an_untied_model_without_its_head(tmp_path):
    told = {"tie_word_embeddings": False}
    body = directory(
        tmp_path / "a", {"wte.weight": filled(V, 4)}, architectures=["GPT2Model"], **told
    )
    assert Checkpoint.open(body).tied
    whole = ["GPT2LMHeadModel"]
    folder = directory(tmp_path / "b", {"wte.weight": filled(V, 4)}, architectures=whole, **told)
    with pytest.raises(FormatError, match="it is not tied"):
        roles(folder)


def test_sizes_in_nested_settings_and_per_layer_tables(tmp_path):
    tensors = {
        "model.language_model.embed_tokens.weight": filled(V, 4),
        "model.language_model.embed_tokens_per_layer.weight": filled(V - 2, 6, start=3),
        "model.embed_vision.embedding.weight": filled(7, 4),
    }
    text = {"vocab_size": V, "vocab_size_per_layer_input": V - 2, "eos_token_id": 0}
    folder = directory(tmp_path / "m", tensors, text_config=text, vision_config={"vocab_size": V})
    settings = json.loads((folder / "config.json").read_text())
    del settings["vocab_size"]
    (folder / "config.json").write_text(json.dumps(settings))
    checkpoint = Checkpoint.open(folder)
    assert [t.role for t in checkpoint.tensors] == ["input", "per_layer"]
    assert checkpoint.setting("eos_token_id") == 0
    target = Target.of(checkpoint, make_target(tmp_path))
    mates = target.vocab.match(checkpoint.vocab).ids
    write(checkpoint, tmp_path / "out", target, input=same_rows(filled(V, 4), mates))
    made = load_file(tmp_path / "out" / "model.safetensors")
    layers = made["model.language_model.embed_tokens_per_layer.weight"]
    fits = (mates >= 0) & (mates < V - 2)
    np.testing.assert_array_equal(layers[fits], filled(V - 2, 6, start=3)[mates[fits]])
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    rows = len(mates)
    eos = target.vocab.roles["eos"]
    assert config["text_config"] == {
        "vocab_size": rows,
        "vocab_size_per_layer_input": rows,
        "eos_token_id": eos,
    }
    assert config["vision_config"] == {"vocab_size": V}


def test_settings_of_another_model_are_refused(tmp_path):
    folder = directory(tmp_path / "m", {"wte.weight": filled(V, 4)}, vocab_size=V + 1)
    checkpoint = Checkpoint.open(folder)
    target = Target.of(checkpoint, folder)
    with pytest.raises(FormatError, match=f"no vocab_size of {V}"):
        write(checkpoint, tmp_path / "out", target, input=filled(V, 4))
    folder = directory(tmp_path / "i", {"wte.weight": np.ones((V, 4), np.int8)})
    with pytest.raises(FormatError, match="no matrix of token vectors"):
        roles(folder)


def test_the_loader_of_tables_reads_the_same(tmp_path):
    folder = directory(tmp_path / "m", {"wte.weight": filled(V + 3, 4)}, vocab_size=V + 3)
    checkpoint, table = Checkpoint.open(folder), EmbeddingTable.load(folder)
    assert checkpoint.table().notes == table.notes
    assert checkpoint.vocab == table.vocab and len(table.vocab.holes) == 3
    with pytest.raises(InputError, match="no matrix called 'x'"):
        checkpoint.table("x")
