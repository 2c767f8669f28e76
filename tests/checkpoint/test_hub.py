"""Names on the Hugging Face Hub, answered by its local cache."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub.utils import filter_repo_objects
from safetensors.torch import load_file
from test_adapter import INNER, adapter, lora
from tokenizers import AddedToken

from tokenspace.checkpoint import Checkpoint
from tokenspace.checkpoint.folder import _without_weights, called
from tokenspace.errors import TokenspaceError
from tokenspace.nn.encoder import load_encoder

REVISION = "0123456789abcdef0123456789abcdef01234567"
TEXT = "the quick brown fox sat on the mat\n"


@pytest.fixture
def cache(model, tokenizer, tmp_path, monkeypatch) -> Path:
    """A cache with models, a tokenizer that has a chat template, a longer one, and an adapter."""
    from tiny_models import make_tokenizer, wrap

    bigger = make_tokenizer("gpt")
    bigger.add_tokens([AddedToken("matcat")])
    wrap(bigger, "gpt").save_pretrained(tmp_path / "bigger")
    places = {"some/gpt": model("gpt2"), "gpt": model("gpt2"), "some/llama": model("llama")}
    places |= {"some/tokens": tokenizer("llama"), "some/bigger": tmp_path / "bigger"}
    places["some/adapter"] = adapter(tmp_path / "lora", Path("some/llama"), lora(INNER))
    root = tmp_path / "hub"
    for name, folder in places.items():
        home = root / ("models--" + name.replace("/", "--"))
        (home / "refs").mkdir(parents=True)
        (home / "refs" / "main").write_text(REVISION)
        shutil.copytree(folder, home / "snapshots" / REVISION)
    (root / "models--some--tokens/snapshots" / REVISION / "chat_template.jinja").write_text("{{x}}")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(root))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return root


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("source", ["some/gpt", "gpt"])
def test_a_model_and_a_tokenizer_by_their_ids(source, cli, tmp_path):
    out = tmp_path / "out"
    words = ["--source", source, "--target", "some/tokens", "--out", out, "--no-validate"]
    done = cli("transplant", "mean", *words)
    assert (done.code, done.err) == (0, "")
    assert f"mean: {source} with the tokens of a bpe-byte tokenizer" in done.out
    assert (out / "chat_template.jinja").read_text() == "{{x}}"
    assert json.loads((out / "tokenizer_config.json").read_text())["bos_token"] == "<s>"


@pytest.mark.usefixtures("cache")
def test_the_other_commands_take_ids(cli, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    done = cli("compare-tokenizers", "gpt", "some/tokens", "--text", text)
    assert (done.code, done.err) == (0, "") and "Shared tokens" in done.out
    done = cli("prune", "some/gpt", "--text", text, "--out", tmp_path / "less", "--no-validate")
    assert done.code == 0 and "some/gpt with the tokens" in done.out
    words = ["--out", tmp_path / "more", "--no-validate"]
    done = cli("expand", "some/gpt", "some/bigger", *words)
    assert done.code == 0, done.err
    assert Checkpoint.open(tmp_path / "more").rows == Checkpoint.open("some/gpt").rows + 1
    words = ["--target", "some/tokens", "--donor", "some/llama", "--out", tmp_path / "by-donor"]
    done = cli("transplant", "ridge", "--source", "gpt", *words, "--no-validate")
    assert done.code == 0, done.err


@pytest.mark.usefixtures("cache")
def test_an_adapter_and_its_model_by_their_ids(cli, tmp_path):
    out = tmp_path / "out"
    words = ["--source", "some/adapter", "--target", "gpt", "--out", out, "--no-validate"]
    done = cli("transplant", "mean", *words)
    assert done.code == 0, done.err
    assert (out / "adapter" / "adapter_model.safetensors").is_file()
    assert "the PEFT adapter is in adapter/, unchanged" in done.out


@pytest.mark.parametrize("shards", [1, 2])
def test_a_model_whose_weights_are_only_pickles(shards, model, cli, tmp_path, monkeypatch):
    """Only what was asked for arrives: the pickles where there is nothing else."""
    remote, local = tmp_path / "remote", tmp_path / "snapshots" / REVISION
    shutil.copytree(model("gpt2"), remote)
    weights = load_file(remote / "model.safetensors")
    (remote / "model.safetensors").unlink()
    names = [f"pytorch_model-{i + 1:05}-of-{shards:05}.bin" for i in range(shards)]
    names = names if shards > 1 else ["pytorch_model.bin"]
    homes = {tensor: names[i % shards] for i, tensor in enumerate(weights)}
    for name in names:
        torch.save({t: weights[t] for t, home in homes.items() if home == name}, remote / name)
    if shards > 1:
        index = {"metadata": {}, "weight_map": homes}
        (remote / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    for name in ("optimizer.bin", "tf_model.h5", "onnx/pytorch_model.bin"):
        (remote / name).parent.mkdir(exist_ok=True)
        (remote / name).write_bytes(b"not asked for")
    asked = []

    def download(name: str, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        assert name == "some/old"
        every = (str(p.relative_to(remote)) for p in remote.rglob("*") if p.is_file())
        found = set(
            filter_repo_objects(
                every, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns
            )
        )
        asked.append({name for name in found if name.endswith(".bin")})
        for path in found:
            (local / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(remote / path, local / path)
        return str(local)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    out = tmp_path / "out"
    words = ["--source", "some/old", "--target", model("gpt2"), "--out", out, "--no-validate"]
    done = cli("transplant", "mean", *words)
    assert (done.code, done.err) == (0, "")
    assert asked == [set(), set(), set(names)]
    made: dict[str, torch.Tensor] = {}
    for file in out.glob("*.safetensors"):
        made |= load_file(file)
    assert made.keys() == weights.keys()
    assert all(torch.equal(made[name], weights[name]) for name in weights)
    asked.clear()
    shutil.rmtree(local)
    with pytest.raises(TokenspaceError):  # a reader that would unpickle asks for none
        load_encoder("some/old")
    assert asked == [set(), set()]
    shutil.rmtree(local)
    torch.save({"wte": print}, remote / names[0])
    done = cli("transplant", "mean", *words, "--force")
    assert done.code == 3 and f"{names[0]}: it cannot be read as tensors alone" in done.err


def test_modules_with_pickles_beside_safetensors(model, tmp_path):
    """Of a sentence-transformers directory each part is asked for what it lacks."""
    shutil.copytree(model("bert"), tmp_path / "model")
    for part in ("1_Pooling", "2_Dense", "3_Dense"):
        (tmp_path / "model" / part).mkdir()
        (tmp_path / "model" / part / "config.json").write_text("{}")
    (tmp_path / "model" / "3_Dense" / "model.safetensors").write_bytes(b"")
    assert _without_weights(tmp_path / "model") == ["1_Pooling/", "2_Dense/"]


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    "words",
    [
        ["transplant", "mean", "--source", "some/gone", "--target", "gpt", "--out", "OUT"],
        ["transplant", "mean", "--source", "gpt", "--target", "some/gone", "--out", "OUT"],
        ["expand", "gpt", "some/gone", "--out", "OUT"],
        ["prune", "some/gone", "--text", "TEXT", "--out", "OUT"],
        ["compare-tokenizers", "some/gone", "gpt"],
        ["hypernet", "some/gone", "--corpus", "TEXT", "--out", "OUT.safetensors"],
    ],
)
def test_what_is_nowhere_ends_in_one_line(words, cli, tmp_path):
    (tmp_path / "text").write_text(TEXT)
    places = {"OUT": tmp_path / "out", "TEXT": tmp_path / "text"}
    done = cli(*(places.get(word, word) for word in words))
    assert done.code == 3 and done.out == ""
    assert done.err.count("\n") == 1 and done.err.startswith(
        "tokenspace: error: some/gone: no such"
    )
    assert not (tmp_path / "out").exists()


def test_a_file_name_is_never_asked_for(cli, monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", None)  # calling it would fail
    done = cli("compare-tokenizers", "tokens.json", tmp_path)
    assert done.code == 3 and "tokens.json: no such file or directory" in done.err


def test_what_a_model_is_called(tmp_path):
    revision = tmp_path / "models--some--model" / "snapshots" / REVISION
    assert called(revision) == "some/model"
    assert called(tmp_path / "site-packages" / "some_model" / "model") == "some_model"
    assert called(tmp_path / "plain") == "plain"
