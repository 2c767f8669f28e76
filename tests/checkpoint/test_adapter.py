"""PEFT adapters, built by hand: carried over, refused, merged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from tiny_models import content, make_tokenizer, new_model, same_rows, size, wrap

from tokenspace.checkpoint import Checkpoint, Target, write
from tokenspace.errors import FormatError, InputError
from tokenspace.nn.validate import validate

RANDOM = np.random.default_rng(11)
INNER = "base_model.model.model.layers.0.self_attn.q_proj"
EMBED = "base_model.model.model.embed_tokens"
HEAD = "base_model.model.lm_head"
Q = "model.layers.0.self_attn.q_proj.weight"
R, D = 3, 16
V = size(make_tokenizer("llama"))


def draw(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def lora(module: str, out: int = D, into: int = D) -> dict[str, np.ndarray]:
    return {f"{module}.lora_A.weight": draw(R, into), f"{module}.lora_B.weight": draw(out, R)}


def adapter(folder: Path, base: Path, tensors: dict[str, np.ndarray], **config: object) -> Path:
    folder.mkdir()
    settings = {"peft_type": "LORA", "base_model_name_or_path": str(base), "r": R, "lora_alpha": 6}
    (folder / "adapter_config.json").write_text(json.dumps(settings | config))
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def test_an_inner_adapter_is_carried_over(model, tokenizer, tmp_path):
    folder = adapter(tmp_path / "a", model("llama"), lora(INNER))
    (folder / "tokenizer.json").write_text("of the old model")
    (folder / "README.md").write_text("card")
    checkpoint = Checkpoint.open(folder)
    assert checkpoint.root == model("llama") and checkpoint.adapter is not None
    target = Target.of(checkpoint, tokenizer("gpt"))
    mates = target.vocab.match(checkpoint.vocab).ids
    rows = [same_rows(checkpoint.table(side).vectors, mates) for side in ("input", "output")]
    write(checkpoint, tmp_path / "out", target, input=rows[0], output=rows[1])
    carried = content(tmp_path / "out" / "adapter")
    assert set(carried) == {"README.md", "adapter_config.json", "adapter_model.safetensors"}
    assert all(data == content(folder)[name] for name, data in carried.items())
    validate(tmp_path / "out").check()
    np.testing.assert_array_equal(
        load_file(tmp_path / "out" / "model.safetensors")[Q],
        load_file(model("llama") / "model.safetensors")[Q],
    )
    moved = adapter(tmp_path / "b", tmp_path / "gone", lora(INNER))
    with pytest.raises(InputError, match="no such directory"):
        Checkpoint.open(moved)
    assert Checkpoint.open(moved, base=model("llama")).adapter is not None
    with pytest.raises(InputError, match="names no model"):
        Checkpoint.open(adapter(tmp_path / "c", "", lora(INNER), base_model_name_or_path=None))


@pytest.mark.parametrize(
    "tensors",
    [
        lora(HEAD, V),
        {f"{EMBED}.lora_embedding_A": draw(R, V), f"{EMBED}.lora_embedding_B": draw(D, R)},
        {f"{EMBED}.weight": draw(V, D)},
        {f"{HEAD}.modules_to_save.default.weight": draw(V, D)},
        {f"{EMBED}.token_adapter.trainable_tokens_delta": draw(2, D)},
    ],
)
def test_an_adapter_with_rows_of_its_own_is_refused(tensors, model, tmp_path):
    folder = adapter(tmp_path / "a", model("llama"), {**tensors, **lora(INNER)})
    with pytest.raises(InputError, match=r"the adapter changes .*(lm_head|embed_tokens)") as caught:
        Checkpoint.open(folder)
    assert "--merge-adapter" in caught.value.hint


@pytest.mark.parametrize("rslora", [False, True])
def test_merging(rslora, model, tokenizer, tmp_path):
    tensors = {
        **lora(INNER),
        **lora("base_model.model.model.layers.1.mlp.up_proj", 32),
        f"{EMBED}.lora_embedding_A": draw(R, V),
        f"{EMBED}.lora_embedding_B": draw(D, R),
        f"{HEAD}.weight": draw(V, D),
    }
    pattern = {"up_proj": 9}
    folder = adapter(
        tmp_path / "a", model("llama"), tensors, use_rslora=rslora, alpha_pattern=pattern
    )
    checkpoint = Checkpoint.open(folder, merge_adapter=True)
    assert checkpoint.adapter is None
    root = np.sqrt(R) if rslora else R
    old = {
        n: t.astype(np.float64) for n, t in load_file(model("llama") / "model.safetensors").items()
    }
    wide = {n: t.astype(np.float64) for n, t in tensors.items()}
    up = "model.layers.1.mlp.up_proj.weight"
    ups = "base_model.model.model.layers.1.mlp.up_proj"
    expected = dict(old)
    expected[Q] = (
        old[Q] + 6 / root * wide[f"{INNER}.lora_B.weight"] @ wide[f"{INNER}.lora_A.weight"]
    )
    expected[up] = old[up] + 9 / root * wide[f"{ups}.lora_B.weight"] @ wide[f"{ups}.lora_A.weight"]
    a, b = wide[f"{EMBED}.lora_embedding_A"], wide[f"{EMBED}.lora_embedding_B"]
    embed = "model.embed_tokens.weight"
    expected[embed] = old[embed] + 6 / root * (b @ a).T
    expected["lm_head.weight"] = wide[f"{HEAD}.weight"]
    np.testing.assert_allclose(checkpoint.table().vectors, expected[embed], atol=1e-5)
    np.testing.assert_array_equal(checkpoint.table("output").vectors, tensors[f"{HEAD}.weight"])
    sides = [checkpoint.table(side).vectors for side in ("input", "output")]
    write(checkpoint, tmp_path / "out", model("llama"), input=sides[0], output=sides[1])
    made = load_file(tmp_path / "out" / "model.safetensors")
    assert made.keys() == expected.keys() and not (tmp_path / "out" / "adapter").exists()
    for name, values in expected.items():
        np.testing.assert_allclose(made[name], values, atol=1e-5, err_msg=name)
        if name not in (Q, up, embed, "lm_head.weight"):
            np.testing.assert_array_equal(made[name], old[name].astype(np.float32))
    validate(tmp_path / "out").check()


def test_merging_into_shards_of_half_precision_and_conv1d(tmp_path):
    base = tmp_path / "base"
    new_model("gpt2").to(torch.bfloat16).save_pretrained(base, max_shard_size="8KB")
    wrap(make_tokenizer("gpt"), "gpt").save_pretrained(base)
    module = "base_model.model.transformer.h.1.attn.c_attn"
    tensors = lora(module, 48)
    ids = [4, 2, 200]
    rows = draw(3, D)
    tensors["base_model.model.transformer.wte.token_adapter.trainable_tokens_delta"] = rows
    folder = adapter(
        tmp_path / "a",
        base,
        tensors,
        fan_in_fan_out=True,
        trainable_token_indices={"wte": ids},
    )
    checkpoint = Checkpoint.open(folder, merge_adapter=True)
    written = write(checkpoint, tmp_path / "out", base, input=checkpoint.table().vectors)
    assert len(written.rewritten) == 2 and len(written.kept) >= 2
    from transformers import AutoModelForCausalLM

    old, new = (
        AutoModelForCausalLM.from_pretrained(p).state_dict() for p in (base, tmp_path / "out")
    )
    conv = "transformer.h.1.attn.c_attn.weight"
    delta = 2 * (tensors[f"{module}.lora_B.weight"] @ tensors[f"{module}.lora_A.weight"]).T
    want = (old[conv].float() + torch.from_numpy(delta)).to(torch.bfloat16)
    torch.testing.assert_close(new[conv], want, rtol=0.01, atol=0.01)
    assert (new[conv] == want).float().mean() > 0.99  # float32 sums in another order
    want = old["transformer.wte.weight"].clone()
    want[ids] = torch.from_numpy(rows).to(torch.bfloat16)
    assert torch.equal(new["transformer.wte.weight"], want)
    same = [n for n in old if n not in (conv, "transformer.wte.weight", "lm_head.weight")]
    assert all(torch.equal(old[n], new[n]) for n in same)


def float64(folder: Path) -> dict[str, np.ndarray]:
    """All weights of a model, tied ones once."""
    return {n: t.astype(np.float64) for n, t in load_file(folder / "model.safetensors").items()}


def merged(folder: Path, out: Path, **config: object) -> dict[str, np.ndarray]:
    """Merge, write with the same tokens, load: the weights of the result."""
    checkpoint = Checkpoint.open(folder, merge_adapter=True)
    rows = {"input": checkpoint.table().vectors}
    if not checkpoint.tied:
        rows["output"] = checkpoint.table("output").vectors
    write(checkpoint, out, checkpoint.vocab, **rows)
    validate(out).check()
    settings = json.loads((out / "config.json").read_text())
    assert {name: settings[name] for name in config} == config
    return float64(out)


def agree(made: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert made.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(made[name], values, rtol=1e-5, atol=1e-5, err_msg=name)


# What follows is laid out as peft 0.21.2 writes it. Where expected values say that a tied model
# comes apart, the same was seen of the logits of PeftModel.from_pretrained(model, adapter).


def product(tensors: dict[str, np.ndarray], module: str, kind: str = "lora") -> np.ndarray:
    """B A in float64."""
    end = ".weight" if kind == "lora" else ""
    a, b = (tensors[f"{module}.{kind}_{x}{end}"].astype(np.float64) for x in "AB")
    return b @ a


def grown(folder: Path) -> Path:
    """Put a tokenizer with two tokens more beside an adapter."""
    words = make_tokenizer("llama")
    words.add_special_tokens(["<|user|>", "<|bot|>"])
    wrap(words, "llama").save_pretrained(folder)
    return folder


def embedding_lora(module: str, rows: int) -> dict[str, np.ndarray]:
    return {f"{module}.lora_embedding_A": draw(R, rows), f"{module}.lora_embedding_B": draw(D, R)}


def test_lora_on_matrices_that_grew(model, tmp_path):
    """Tokens were added, and the adapter brings the matrices that it changes."""
    more = V + 2
    tensors = {
        **{f"{EMBED}.base_layer.weight": draw(more, D), **embedding_lora(EMBED, more)},
        **{f"{HEAD}.base_layer.weight": draw(more, D), **lora(HEAD, more)},
    }
    folder = grown(adapter(tmp_path / "a", model("llama"), tensors))
    made = merged(folder, tmp_path / "out", vocab_size=more)
    expected = float64(model("llama"))
    embed = 2 * product(tensors, EMBED, "lora_embedding").T
    expected["model.embed_tokens.weight"] = tensors[f"{EMBED}.base_layer.weight"] + embed
    head = 2 * product(tensors, HEAD)
    expected["lm_head.weight"] = tensors[f"{HEAD}.base_layer.weight"] + head
    agree(made, expected)


def test_trained_rows_of_added_tokens(model, tmp_path):
    more, ids = V + 2, [V + 1, 5, V]
    tensors = {
        f"{EMBED}.token_adapter.base_layer.weight": draw(more, D),
        f"{EMBED}.token_adapter.trainable_tokens_delta": draw(3, D),
        f"{HEAD}.weight": draw(more, D),
    }
    folder = adapter(tmp_path / "a", model("llama"), tensors, trainable_token_indices=ids)
    grown(folder)
    expected = float64(model("llama"))
    embed = tensors[f"{EMBED}.token_adapter.base_layer.weight"].copy()
    embed[ids] = tensors[f"{EMBED}.token_adapter.trainable_tokens_delta"]
    expected |= {"model.embed_tokens.weight": embed, "lm_head.weight": tensors[f"{HEAD}.weight"]}
    agree(merged(folder, tmp_path / "out"), expected)


def test_saved_modules_of_a_model_that_grew(model, tmp_path):
    """Three copies of a matrix, of which one counts."""
    tensors = {
        f"{module}.{kind}weight": draw(V + 2, D)
        for module in (EMBED, HEAD)
        for kind in ("", "modules_to_save.", "original_module.")
    }
    expected = float64(model("llama"))
    expected["model.embed_tokens.weight"] = tensors[f"{EMBED}.modules_to_save.weight"]
    expected["lm_head.weight"] = tensors[f"{HEAD}.modules_to_save.weight"]
    folder = grown(adapter(tmp_path / "a", model("llama"), tensors))
    agree(merged(folder, tmp_path / "out"), expected)


def test_an_adapter_of_trained_rows_alone(model, tmp_path):
    tensors = {f"{EMBED}.trainable_tokens_delta": draw(2, D)}
    kind = {"peft_type": "TRAINABLE_TOKENS", "token_indices": [9, 4]}
    expected = float64(model("llama"))
    expected["model.embed_tokens.weight"][[9, 4]] = tensors[f"{EMBED}.trainable_tokens_delta"]
    folder = adapter(tmp_path / "a", model("llama"), tensors, **kind)
    agree(merged(folder, tmp_path / "out"), expected)


WTE = "base_model.model.transformer.wte"
GPT = size(make_tokenizer("gpt"))


def test_an_input_matrix_alone_unties_the_model(model, tmp_path):
    tensors = embedding_lora(WTE, GPT)
    expected = float64(model("gpt2"))
    expected["lm_head.weight"] = expected["transformer.wte.weight"]
    delta = 2 * product(tensors, WTE, "lora_embedding").T
    expected["transformer.wte.weight"] = expected["transformer.wte.weight"] + delta
    folder = adapter(tmp_path / "a", model("gpt2"), tensors)
    agree(merged(folder, tmp_path / "out", tie_word_embeddings=False), expected)


def test_an_output_matrix_alone_unties_the_model(model, tmp_path):
    """peft keeps fan_in_fan_out of its last layer, here the head; c_proj is square and Conv1D."""
    proj = "base_model.model.transformer.h.1.attn.c_proj"
    tensors = {**lora(HEAD, GPT), **lora(proj)}
    expected = float64(model("gpt2"))
    tensors[f"{HEAD}.base_layer.weight"] = expected["transformer.wte.weight"].astype(np.float32)
    expected["lm_head.weight"] = expected["transformer.wte.weight"] + 2 * product(tensors, HEAD)
    expected["transformer.h.1.attn.c_proj.weight"] += 2 * product(tensors, proj).T
    folder = adapter(tmp_path / "a", model("gpt2"), tensors, fan_in_fan_out=False)
    agree(merged(folder, tmp_path / "out", tie_word_embeddings=False), expected)


def test_one_side_of_bert_comes_with_its_bias(model, tmp_path):
    head = "base_model.model.cls.predictions.decoder"
    rows = size(make_tokenizer("bert"))
    tensors = lora(head, rows)
    expected = float64(model("bert"))
    word = expected["bert.embeddings.word_embeddings.weight"]
    expected["cls.predictions.decoder.weight"] = word + 2 * product(tensors, head)
    expected["cls.predictions.decoder.bias"] = expected["cls.predictions.bias"]
    agree(merged(adapter(tmp_path / "a", model("bert"), tensors), tmp_path / "out"), expected)


def test_what_stays_tied(model, tmp_path):
    """Trained rows count on both sides; equal matrices for both are one."""
    rows = {f"{WTE}.token_adapter.trainable_tokens_delta": draw(2, D)}
    folder = adapter(tmp_path / "a", model("gpt2"), rows, trainable_token_indices=[7, 3])
    expected = float64(model("gpt2"))
    expected["transformer.wte.weight"][[7, 3]] = next(iter(rows.values()))
    agree(merged(folder, tmp_path / "rows"), expected)
    whole = draw(GPT + 1, D)
    ids = {"trainable_token_indices": {"wte": [GPT]}}
    both = {f"{module}.token_adapter.base_layer.weight": whole for module in (WTE, HEAD)}
    both |= {
        f"{module}.token_adapter.trainable_tokens_delta": np.ones((1, D), np.float32)
        for module in (WTE, HEAD)
    }
    checkpoint = Checkpoint.open(
        adapter(tmp_path / "b", model("gpt2"), both, **ids), merge_adapter=True
    )
    assert checkpoint.tied and checkpoint.setting("tie_word_embeddings") is not False
    np.testing.assert_array_equal(checkpoint.table("output").vectors[:GPT], whole[:GPT])
    assert (checkpoint.table("output").vectors[GPT] == 1).all()


def test_biases_of_tokens_are_no_inner_layer(model, tmp_path):
    bias = "base_model.model.cls.predictions"
    rows = size(make_tokenizer("bert"))
    values = draw(rows)
    folder = adapter(
        tmp_path / "a", model("bert"), {f"{bias}.bias": values, f"{bias}.decoder.bias": values}
    )
    with pytest.raises(InputError, match=r"the adapter changes cls\.predictions\.bias, .*replaced"):
        Checkpoint.open(folder)
    made = merged(folder, tmp_path / "out")
    np.testing.assert_array_equal(made["cls.predictions.bias"], values)


def test_tokens_that_the_adapter_added(model, tokenizer, tmp_path):
    more = V + 2
    tensors = {f"{EMBED}.weight": draw(more, D), f"{HEAD}.weight": draw(more, D)}
    folder = grown(adapter(tmp_path / "a", model("llama"), tensors))
    checkpoint = Checkpoint.open(folder, merge_adapter=True)
    assert checkpoint.rows == more == checkpoint.setting("vocab_size")
    assert checkpoint.vocab.tokens[-2:] == ("<|user|>", "<|bot|>")
    sides = [checkpoint.table(side).vectors for side in ("input", "output")]
    write(checkpoint, tmp_path / "out", checkpoint.vocab, input=sides[0], output=sides[1])
    again = Checkpoint.open(tmp_path / "out")
    assert again.vocab == checkpoint.vocab
    np.testing.assert_array_equal(again.table().vectors, tensors[f"{EMBED}.weight"])
    validate(tmp_path / "out").check()


def test_adapters_that_cannot_be_merged(model, tmp_path):
    base = model("llama")
    cases = [
        ({"peft_type": "IA3"}, lora(INNER), "kind IA3"),
        ({"use_dora": True}, lora(INNER), "with use_dora is not merged"),
        ({"target_parameters": ["x"]}, lora(INNER), "with target_parameters is not merged"),
        ({"init_lora_weights": "pissa_niter_4"}, lora(INNER), "began as pissa_niter_4"),
        ({}, {f"{INNER}.lora_magnitude_vector": draw(D)}, "lora_magnitude_vector"),
        ({}, lora("base_model.model.model.layers.9.x"), "which the model does not have"),
        ({}, lora(INNER, D + 1), "does not fit"),
        ({}, {f"{EMBED}.trainable_tokens_delta": draw(2, D)}, "does not fit"),
        ({}, {f"{EMBED}.weight": draw(V, D + 1)}, "does not fit"),
    ]
    for number, (config, tensors, message) in enumerate(cases):
        folder = adapter(tmp_path / str(number), base, tensors, **config)
        with pytest.raises(InputError, match=message):
            Checkpoint.open(folder, merge_adapter=True)
    shared = {"base_model.model.shared.lora_embedding_A": draw(R, 280)}
    shared |= {"base_model.model.shared.lora_embedding_B": draw(D, R)}
    folder = adapter(tmp_path / "shared", model("t5"), shared)
    with pytest.raises(InputError, match=r"shared\.weight, which encoder and decoder share"):
        Checkpoint.open(folder, merge_adapter=True)
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(FormatError, match=r"adapter_model\.safetensors: missing"):
        Checkpoint.open(folder)


@pytest.mark.parametrize(
    ("tensors", "config", "message"),
    [
        ({f"{HEAD}.ia3_l": draw(V, 1)}, {"peft_type": "IA3"}, r"changes lm_head\.weight"),
        ({f"{HEAD}.lora_magnitude_vector": draw(V)}, {}, r"changes lm_head\.weight"),
        (lora(INNER), {"alora_invocation_tokens": [5, 6]}, "ids of the old tokenizer"),
    ],
)
def test_adapters_of_other_kinds_that_know_the_tokens(tensors, config, message, model, tmp_path):
    folder = adapter(tmp_path / "a", model("llama"), tensors, **config)
    with pytest.raises(InputError, match=message):
        Checkpoint.open(folder)


def test_an_embedding_that_is_not_of_tokens_is_inner(model, tmp_path):
    folder = adapter(
        tmp_path / "a", model("gpt2"), embedding_lora("base_model.model.transformer.wpe", 200)
    )
    assert Checkpoint.open(folder).adapter is not None
