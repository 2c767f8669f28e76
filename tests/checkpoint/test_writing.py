"""Writing: all or nothing, what is refused, rounding, streams; and weights that are pickles."""

from __future__ import annotations

import json
import os
import pickle
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_models import content, make_tokenizer, new_model, same_rows, size, wrap

from tokenspace.checkpoint import Checkpoint, Target, weights, write
from tokenspace.errors import ConfigError, FormatError, InputError
from tokenspace.nn.validate import validate


@pytest.fixture
def ready(model, tokenizer):
    """A model, a tokenizer fitted to it, and rows for it."""
    checkpoint = Checkpoint.open(model("gpt2"))
    target = Target.of(checkpoint, tokenizer("llama"))
    rows = same_rows(checkpoint.table().vectors, target.vocab.match(checkpoint.vocab).ids)
    return checkpoint, target, rows


def test_what_is_cut_off_midway_leaves_nothing(ready, model, tmp_path, monkeypatch):
    checkpoint, target, rows = ready
    before = content(model("gpt2"))
    real, calls = weights.narrow, []

    def full(values, dtype):
        calls.append(dtype)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights, "narrow", full)
    with pytest.raises(OSError, match="No space"):
        write(checkpoint, tmp_path / "out", target, input=rows)
    assert calls and not list(tmp_path.iterdir())
    monkeypatch.setattr(weights, "narrow", real)

    def refuse(folder, written):
        assert (folder / "model.safetensors").is_file() and not (tmp_path / "out").exists()
        assert written.rows == len(target.vocab)
        raise FormatError("no")

    with pytest.raises(FormatError, match="no"):
        write(checkpoint, tmp_path / "out", target, input=rows, finish=refuse)
    assert not list(tmp_path.iterdir()) and content(model("gpt2")) == before


def test_a_directory_that_exists(ready, tmp_path):
    checkpoint, target, rows = ready
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("x")
    with pytest.raises(InputError, match="it exists") as caught:
        write(checkpoint, out, target, input=rows)
    assert "--force" in caught.value.hint and content(out) == {"mine": b"x"}
    write(checkpoint, out, target, input=rows, force=True)
    assert (out / "config.json").is_file() and not (out / "mine").exists()
    for place in (checkpoint.root, checkpoint.root.parent):
        with pytest.raises(InputError, match="it is or holds the source"):
            write(checkpoint, place, target, input=rows, force=True)


def test_rows_that_do_not_fit(ready, model, tmp_path):
    checkpoint, target, rows = ready
    bad = rows.copy()
    bad[5, 3] = np.nan
    refused = [
        (InputError, "not \\(", {"input": rows[1:]}),
        (InputError, "rows with NaN or infinite values: 'b?", {"input": bad}),
        (InputError, "no output matrix", {"input": rows, "output": rows}),
        (InputError, "its own", {"input": rows, "untie": True}),
        (InputError, "partners of shape", {"input": rows, "partners": np.arange(3)}),
        (InputError, "partners of shape", {"input": rows, "partners": np.full(len(rows), 9999)}),
        (ConfigError, "rows=7 is below", {"input": rows, "rows": 7}),
        (ConfigError, "exclude each other", {"input": rows, "rows": 999, "pad_to_multiple": 8}),
        (ConfigError, "pad_to_multiple=0", {"input": rows, "pad_to_multiple": 0}),
    ]
    for kind, message, given in refused:
        with pytest.raises(kind, match=message):
            write(checkpoint, tmp_path / "out", target, **given)
    with pytest.raises(ConfigError, match="not tied"):
        llama = Checkpoint.open(model("llama"))
        own = llama.table().vectors
        write(llama, tmp_path / "out", model("llama"), input=own, output=own, untie=True)
    folder = tmp_path / "body"
    shutil.copytree(model("gpt2"), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["GPT2Model"]}))
    with pytest.raises(ConfigError, match="has no output"):
        write(
            Checkpoint.open(folder), tmp_path / "out", target, input=rows, output=rows, untie=True
        )
    assert not (tmp_path / "out").exists()


def test_rounding_is_to_nearest_and_ties_to_even():
    random = np.random.default_rng(5)
    bits = random.integers(0, 2**32, 50_000, dtype=np.uint32)
    edge = np.array([0x3F808000, 0x3F818000, 0x3F807FFF, 0x3F808001, 0x80000000, 1], np.uint32)
    values = np.concatenate([bits, edge]).view(np.float32)
    values = values[np.isfinite(values) & (np.abs(values) < 3e38)]
    ours = weights.narrow(values, "BF16")
    theirs = torch.from_numpy(values).to(torch.bfloat16).view(torch.int16).numpy()
    np.testing.assert_array_equal(ours.view(np.int16), theirs)
    small = values[np.abs(values) < 6e4]
    np.testing.assert_array_equal(
        weights.narrow(small, "F16"), torch.from_numpy(small).to(torch.float16).numpy()
    )
    for dtype, value in (("F16", 65_520.0), ("BF16", 3.4e38)):
        with pytest.raises(InputError, match=f"not finite as {dtype}"):
            weights.narrow(np.array([1, value], np.float32), dtype)


def test_large_tensors_pass_in_blocks(ready, tmp_path, monkeypatch):
    checkpoint, target, rows = ready
    write(checkpoint, tmp_path / "whole", target, input=rows, pad_to_multiple=50)
    monkeypatch.setattr(weights, "_BLOCK", 100)
    write(checkpoint, tmp_path / "blocks", target, input=rows, pad_to_multiple=50)
    assert content(tmp_path / "whole") == content(tmp_path / "blocks")


def test_a_file_that_ends_early(ready, tmp_path):
    checkpoint, target, rows = ready
    folder = tmp_path / "source"
    shutil.copytree(checkpoint.root, folder)
    torn = Checkpoint.open(folder)
    assert torn.tensors
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(file.seek(0, os.SEEK_END) - rows.nbytes - 40)
    with pytest.raises(FormatError, match="ended while"):
        write(torn, tmp_path / "out", target, input=rows)
    with pytest.raises(FormatError, match="not a whole safetensors file"):
        Checkpoint.open(folder).tensors
    assert not (tmp_path / "out").exists()


def test_what_a_checker_finds(ready, tmp_path):
    checkpoint, target, rows = ready
    write(checkpoint, tmp_path / "out", target, input=rows)
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    assert validate(tmp_path / "out", memory=10).ran is False
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    from safetensors.torch import save_file

    for damage, message in (("missing", "missing keys: .*ln_f"), ("odd", "unexpected keys: .*odd")):
        broken = dict(tensors)
        if damage == "missing":
            del broken["transformer.ln_f.weight"]
        else:
            broken["odd.weight"] = torch.ones(2)
        save_file(broken, tmp_path / "out" / "model.safetensors", {"format": "pt"})
        with pytest.raises(FormatError, match=message):
            validate(tmp_path / "out").check()
    save_file(tensors, tmp_path / "out" / "model.safetensors", {"format": "pt"})
    config["eos_token_id"] = 5000
    (tmp_path / "out" / "config.json").write_text(json.dumps(config))
    with pytest.raises(FormatError, match="eos_token_id=5000 is beyond"):
        validate(tmp_path / "out").check()
    config |= {"eos_token_id": 0, "auto_map": {"AutoModel": "x.X"}}
    (tmp_path / "out" / "config.json").write_text(json.dumps(config))
    assert "code of its own" in validate(tmp_path / "out").problems[0]


# Pickles


def test_pickled_weights_are_read_as_tensors_alone(model, tokenizer, tmp_path):
    folder = tmp_path / "pickled"
    network = new_model("gpt2")
    network.save_pretrained(folder)
    wrap(make_tokenizer("gpt"), "gpt").save_pretrained(folder)
    expected = content(folder)
    states = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(states, folder / "pytorch_model.bin")
    checkpoint = Checkpoint.open(folder)
    rows = checkpoint.table().vectors
    written = write(
        checkpoint, tmp_path / "same", folder, input=rows[: size(make_tokenizer("gpt"))]
    )
    assert written.rewritten == ("model.safetensors",) and written.kept == ()
    made = load_file(tmp_path / "same" / "model.safetensors")
    assert made.keys() == states.keys() and all(torch.equal(made[n], states[n]) for n in made)
    assert set(content(tmp_path / "same")) == set(expected)
    validate(tmp_path / "same").check()
    # several files
    names = sorted(states)
    homes = {n: f"pytorch_model-0000{1 + (i > 9)}-of-00002.bin" for i, n in enumerate(names)}
    for file in set(homes.values()):
        torch.save({n: states[n] for n in names if homes[n] == file}, folder / file)
    (folder / "pytorch_model.bin").unlink()
    index = folder / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": homes}))
    written = write(
        Checkpoint.open(folder), tmp_path / "two", folder, input=rows[: size(make_tokenizer("gpt"))]
    )
    assert written.rewritten == tuple(f"model-0000{i}-of-00002.safetensors" for i in (1, 2))
    validate(tmp_path / "two").check()
    index.write_text(json.dumps({"weight_map": {"x": "../pytorch_model.bin"}}))
    with pytest.raises(FormatError, match="missing"):
        Checkpoint.open(folder)


class Harm:
    def __reduce__(self):
        return os.mkdir, (os.environ["HARM"],)


def test_a_pickle_that_needs_more_is_refused(model, tmp_path, monkeypatch):
    monkeypatch.setenv("HARM", str(tmp_path / "harm"))
    folder = tmp_path / "pickled"
    shutil.copytree(model("gpt2"), folder)
    (folder / "model.safetensors").unlink()
    torch.save({"wte.weight": torch.ones(2, 2), "x": Harm()}, folder / "pytorch_model.bin")
    with pytest.raises(FormatError, match="as tensors alone") as caught:
        Checkpoint.open(folder)
    assert "safe_serialization" in caught.value.hint and not (tmp_path / "harm").exists()
    for data in (b"", b"PK", pickle.dumps({"x": 1})):
        (folder / "pytorch_model.bin").write_bytes(data)
        with pytest.raises(FormatError, match=r"pytorch_model\.bin"):
            Checkpoint.open(folder)
