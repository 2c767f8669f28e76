"""Where a name leads, and directories that are refused before anything is loaded."""

from __future__ import annotations

import json

import pytest

from tokenspace.checkpoint.folder import inspect_folder, locate
from tokenspace.errors import FormatError, InputError, MissingExtra
from tokenspace.nn.encoder import load_encoder


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (tmp_path / "model.safetensors").write_bytes(b"")
    return tmp_path


def put(folder, name, content):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(content))


def test_a_harmless_directory_passes(folder):
    put(folder, "modules.json", [{"type": "sentence_transformers.models.Pooling", "path": ""}])
    put(folder, "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "auto_map": None})
    put(folder, "1_x/config.json", {"rope_scaling": {"type": "linear"}})
    inspect_folder(folder)
    assert locate(str(folder)) == folder


@pytest.mark.parametrize(
    ("name", "content", "field"),
    [
        ("config.json", {"auto_map": {"AutoModel": "modeling_x.X"}}, "auto_map"),
        ("config.json", {"text_config": {"auto_map": {"A": "x.X"}}}, r"text_config\.auto_map"),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["t.T", None]}}, "auto_map"),
        ("tokenizer_config.json", {"tokenizer_class": "someone/repo--t.T"}, "tokenizer_class"),
        ("modules.json", [{"type": "custom_x.Transformer", "path": ""}], r"\[0\]\.type"),
        ("modules.json", [{"type": "os.path", "path": ""}], r"\[0\]\.type"),
        ("0_Router/router_config.json", {"types": {"a": "modeling_x.X"}}, r"types\.a"),
    ],
)
def test_code_of_its_own_is_refused_by_file_and_field(folder, name, content, field):
    put(folder, name, content)
    file = name.rpartition("/")[2]
    with pytest.raises(InputError, match=rf"{file}: {field} asks for code") as caught:
        load_encoder(str(folder))
    assert "--trust-remote-code" in caught.value.hint
    inspect_folder(folder, trust_remote_code=True)


def test_code_is_refused_before_it_could_run(folder):
    put(folder, "config.json", {"auto_map": {"AutoConfig": "modeling_x.X"}, "model_type": "x"})
    (folder / "modeling_x.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\n")
    with pytest.raises(InputError):
        load_encoder(str(folder))
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("place", ["pytorch_model.bin", "2_Dense/pytorch_model.bin"])
@pytest.mark.parametrize("trust", [False, True])
def test_pickled_weights_are_refused(folder, place, trust):
    (folder / place).parent.mkdir(exist_ok=True)
    if place.count("/") == 0:
        (folder / "model.safetensors").unlink()
    (folder / place).write_bytes(b"")
    with pytest.raises(InputError, match="the weights are a pickle") as caught:
        load_encoder(str(folder), trust_remote_code=trust)
    assert "safe_serialization" in caught.value.hint


def test_a_pickle_beside_safetensors_is_not_read(folder):
    (folder / "pytorch_model.bin").write_bytes(b"")
    inspect_folder(folder)


def test_a_directory_without_a_model_and_broken_json_are_refused(tmp_path, folder):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FormatError, match=r"neither config\.json nor modules\.json"):
        load_encoder(str(empty))
    (folder / "config.json").write_text("{")
    with pytest.raises(FormatError, match=r"config\.json: not valid JSON"):
        load_encoder(str(folder))


def test_a_module_outside_the_directory_is_refused(bert):
    kind = "sentence_transformers.models"
    modules = [
        {"type": f"{kind}.Transformer", "path": ""},
        {"type": f"{kind}.Pooling", "path": "../elsewhere"},
    ]
    (bert / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(InputError, match="leads outside"):
        load_encoder(str(bert))


def test_a_package_leads_to_the_directory_inside_it(tmp_path, monkeypatch):
    info = tmp_path / "some_model-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-model\nVersion: 1.0\n")
    files = [
        "some_model/__init__.py",
        "some_model/model/config.json",
        "some_model/model/x/config.json",
    ]
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in files))
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    (tmp_path / "some_model/__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert locate("some-model") == tmp_path / "some_model" / "model"


def test_an_impossible_path_is_refused_without_the_network():
    with pytest.raises(InputError, match="no such directory"):
        locate("./not/there/at/all")


def test_what_the_hub_does_not_give_is_refused(monkeypatch):
    import huggingface_hub

    def offline(name, **options):
        raise ConnectionError("no route\nmore")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(InputError, match=r"no installed package .*\(ConnectionError: no route\)"):
        locate("someone/model")


def test_from_the_hub_configuration_comes_first_and_is_inspected(monkeypatch, folder):
    import huggingface_hub

    asked = []

    def snapshot(name, *, allow_patterns, ignore_patterns):
        asked.append(allow_patterns)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert locate("someone/model") == folder
    put(folder, "config.json", {"auto_map": {"AutoModel": "x.X"}})
    with pytest.raises(InputError, match="asks for code"):
        locate("someone/model")
    assert [patterns == ["*.json"] for patterns in asked] == [True, False, True]
    assert not any("*.bin" in patterns or "*.py" in patterns for patterns in asked)


def test_without_torch_the_extra_is_named(monkeypatch):
    import importlib
    import sys

    import tokenspace.nn

    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtra, match="'models'") as caught:
        importlib.reload(tokenspace.nn)
    assert caught.value.hint == "pip install 'tokenspace[models]'"
