"""The decoder's trainer: against a plain loop, on text it must learn, and what it writes."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tokenspace import data, rng
from tokenspace.corpus import Corpus
from tokenspace.errors import ConfigError, FormatError, InputError
from tokenspace.lm.causal import CausalModel
from tokenspace.lm.gpt import GPT, Budget
from tokenspace.lm.trial import bag
from tokenspace.nn.decoder import token_row
from tokenspace.tokenizer_training import byte_bpe, unigram
from tokenspace.vocab import Vocabulary

TINY = GPT(**{**GPT.tiny, "threads": 1})


def learn(recipe=TINY, **changes):
    given = bag(tiny=True)
    tokenizer = changes.pop("tokenizer", given["tokenizer"])
    recipe = type(recipe).from_dict({**recipe.to_dict(), **changes})
    return recipe(given["corpus"], tokenizer=tokenizer)


def test_budgets_by_hand():
    sizes = {"batch": 10, "context": 50}
    assert GPT(budget="2000", **sizes).read_budget() == Budget(2000, None)
    assert GPT(budget="2Mtok", **sizes).read_budget() == Budget(4000, None)
    assert GPT(budget="0.5Mtok", **sizes).read_budget() == Budget(1000, None)
    assert GPT(budget="40ktok", **sizes).read_budget() == Budget(80, None)
    assert GPT(budget="1ktok", batch=100, context=100).read_budget() == Budget(1, None)
    assert GPT(budget="1.5s", **sizes).read_budget() == Budget(sys.maxsize, 1.5)


@pytest.mark.parametrize("budget", ["", "0", "0s", "-3", "2 minutes", "2Gtok", "s", "nan", "1e3"])
def test_a_budget_that_is_none_is_refused(budget):
    with pytest.raises(ConfigError, match="budget"):
        GPT(budget=budget)


@pytest.mark.parametrize("changes", [{"heads": 3}, {"width": 12, "heads": 4}])
def test_heads_of_an_odd_width_are_refused(changes):
    with pytest.raises(ConfigError, match="heads"):
        GPT(**changes)


def test_equals_a_plain_loop(monkeypatch):
    """The recipe is Llama, AdamW and windows from random places: nothing else is in it."""
    monkeypatch.setattr("tokenspace.nn.decoder.quicker_in_bf16", lambda: False)
    vocab = bag(tiny=True)["tokenizer"]
    ids = token_row(bag(tiny=True)["unseen"] * 3, vocab)
    recipe = GPT(width=16, layers=2, heads=2, context=12, batch=3, budget="30", seed=5, lr=1e-2)
    ours = recipe.network(vocab)
    recipe.fit(ours, ids, vocab)

    config = LlamaConfig(
        vocab_size=len(vocab), hidden_size=16, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=12,
        rms_norm_eps=1e-6, tie_word_embeddings=True, pad_token_id=None,
    )  # fmt: skip
    with rng.torch_scope(5, "weights"), torch.no_grad():
        plain = LlamaForCausalLM(config)
        for layer in plain.model.layers:
            layer.self_attn.o_proj.weight.mul_(0.5)  # 1 / sqrt(2 * 2)
            layer.mlp.down_proj.weight.mul_(0.5)
    matrices = [p for p in plain.parameters() if p.ndim > 1]
    gains = [p for p in plain.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": gains, "weight_decay": 0}],
        betas=(0.9, 0.95),
    )
    draw = rng.stream(5, "windows")
    for step in range(1, 31):
        places = draw.integers(0, len(ids) - 11, size=3)
        rows = np.array([[vocab.roles["bos"], *ids[p : p + 12]] for p in places], np.int64)
        batch = torch.from_numpy(rows)
        logits = plain(batch[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * (1 - (step - 1) / 30)  # 2 % of 30 steps: no warm-up
        optimizer.step()
        optimizer.zero_grad()
    for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


def test_the_residual_stream_starts_small():
    network = GPT(width=64, layers=8, heads=4).network(byte_bpe([], 257))
    layer = network.requires_grad_(False).model.layers[3]
    assert float(layer.self_attn.q_proj.weight.std()) == pytest.approx(0.02, rel=0.1)
    assert float(layer.self_attn.o_proj.weight.std()) == pytest.approx(0.02 / 4, rel=0.1)
    assert float(layer.mlp.down_proj.weight.std()) == pytest.approx(0.02 / 4, rel=0.1)
    assert network.lm_head.weight is network.model.embed_tokens.weight


def test_text_that_repeats_is_learned():
    corpus = Corpus(["abcdefghijklmnopqrstuvwxyz " * 4] * 60)
    model = GPT(width=32, layers=1, heads=2, context=32, batch=8, lr=1e-2, budget="150",
                vocab_size=257, threads=1)(corpus)  # fmt: skip
    assert model.metrics["loss"] < 0.5 < math.log(257)
    assert model.metrics["bits_per_byte"] < 1


def test_figures_add_up():
    metrics = learn().metrics
    assert metrics["steps"] == 20
    assert metrics["tokens"] == 20 * 4 * 16
    assert metrics["tokens_per_second"] > 0
    assert metrics["bits_per_byte_low"] < metrics["bits_per_byte"] < metrics["bits_per_byte_high"]


def test_seconds_are_a_budget_too():
    metrics = learn(budget="0.2s").metrics
    assert metrics["steps"] >= 1
    assert metrics["tokens"] / metrics["tokens_per_second"] < 60


def test_held_out_text_does_not_change_the_model():
    """What is held out is scored and nothing more: other text there, the same weights."""
    lines = [f"line {i} of many that are all about as long as this one" for i in range(800)]
    tokenizer = byte_bpe(lines, 300, start="<s>")
    first = TINY(Corpus(lines), tokenizer=tokenizer)
    changed = [*lines[:-3], *[line.upper() for line in lines[-3:]]]  # within the last block
    second = TINY(Corpus(changed), tokenizer=tokenizer)
    for mine, theirs in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert first.metrics["bits_per_byte"] != second.metrics["bits_per_byte"]


def test_a_learned_tokenizer_opens_texts_with_its_start_token():
    model = TINY(bag(tiny=True)["corpus"])
    assert len(model.vocab) <= 300
    assert model.vocab.roles["bos"] == model.vocab.roles["eos"] == 0
    assert model.network.config.bos_token_id == 0
    assert model.vocab.tokenizer.encode("the").ids[0] == 0


def test_a_tokenizer_without_line_breaks_gets_spaces():
    corpus = bag(tiny=True)["corpus"]
    vocab = unigram(corpus, 120)
    model = TINY(corpus, tokenizer=vocab)
    assert model.score(bag(tiny=True)["unseen"]).unknown == 0


def test_a_list_of_words_is_refused():
    with pytest.raises(InputError, match="list of words"):
        TINY(bag(tiny=True)["corpus"], tokenizer=Vocabulary.words(["a", "b"]))


def test_a_window_longer_than_the_text_is_refused():
    with pytest.raises(InputError, match="do not fill a window"):
        learn(context=8192)


def test_plain_transformers_load_what_is_saved(tmp_path):
    model = learn()
    model.save(tmp_path / "model")
    script = """
import json, sys
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging
logging.disable_progress_bar()
folder = sys.argv[1]
model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
tokenizer = AutoTokenizer.from_pretrained(folder)
given = tokenizer("babe bida", return_tensors="pt")
print(json.dumps({
    "info": [sorted(map(str, info[key])) for key in ("missing_keys", "unexpected_keys")],
    "ids": given["input_ids"][0].tolist(), "bos": tokenizer.bos_token_id,
    "logits": model(given["input_ids"]).logits[0].tolist(),
    "ours": sorted(name for name in sys.modules if name.startswith("tokenspace")),
}))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "model")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["info"] == [[], []]
    assert found["ours"] == []
    assert found["ids"] == [found["bos"], *model.vocab.encode("babe bida")]
    np.testing.assert_allclose(
        found["logits"], model.logits(np.array([found["ids"]]))[0], rtol=1e-4, atol=1e-5
    )


def test_generation_is_the_same_with_and_without_a_cache():
    model = learn()
    prompt = torch.tensor([[model.vocab.roles["bos"], *model.vocab.encode("babe bida")]])
    both = [
        model.network.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=5, do_sample=False,
            use_cache=cached, pad_token_id=0,
        )
        for cached in (True, False)
    ]  # fmt: skip
    assert torch.equal(*both)


@pytest.mark.parametrize("damage", ["nothing", "no weights", "not a model", "cut"])
def test_a_damaged_directory_is_refused(tmp_path, damage):
    folder = tmp_path / "model"
    if damage != "nothing":
        learn().save(folder)
    if damage == "no weights":
        (folder / "model.safetensors").unlink()
    elif damage == "not a model":
        (folder / "config.json").write_text('{"model_type": "vit"}')
    elif damage == "cut":
        whole = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError if damage == "nothing" else (InputError, FormatError)):
        CausalModel.load(folder)


def test_threads_are_put_back():
    before = torch.get_num_threads()
    learn()
    assert torch.get_num_threads() == before


def test_the_default_text_is_enough():
    texts = [text for _, text in data.manual()][:12]
    assert TINY(Corpus(texts)).metrics["bits_per_byte"] < 8
