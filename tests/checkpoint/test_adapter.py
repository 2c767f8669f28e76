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


def test_tokens_that_the_adapter_added(model, tokenizer, tmp_path):
    more = V + 2
    tensors = {f"{EMBED}.weight": draw(more, D), f"{HEAD}.weight": draw(more, D)}
    folder = adapter(tmp_path / "a", model("llama"), tensors)
    words = make_tokenizer("llama")
    words.add_special_tokens(["<|user|>", "<|bot|>"])
    wrap(words, "llama").save_pretrained(folder)
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
        ({"use_dora": True}, lora(INNER), "kind DoRA"),
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
    tied = adapter(tmp_path / "tied", model("gpt2"), lora(HEAD, size(make_tokenizer("gpt"))))
    with pytest.raises(
        InputError, match=r"lm_head\.weight, which the model does not have"
    ) as caught:
        Checkpoint.open(tied, merge_adapter=True)
    assert "untied" in caught.value.hint
    (tied / "adapter_model.safetensors").unlink()
    with pytest.raises(FormatError, match=r"adapter_model\.safetensors: missing"):
        Checkpoint.open(tied)
