"""A file of texts becomes a file of vectors: every format, every setting, and after a kill."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import threading
from dataclasses import asdict

import numpy as np
import pyarrow.parquet
import pytest
import torch

from tiny_bert import write_modules
from tokenspace.corpus import Corpus
from tokenspace.durable import lock
from tokenspace.encode import _shards, vectors
from tokenspace.encode.static import StaticEncoder, text_vocabulary
from tokenspace.encode.vectors import How, estimate, write_vectors
from tokenspace.errors import ConfigError, InputError, SpaceBusy
from tokenspace.io import load_matrix, load_ragged, read_tensors
from tokenspace.nn.encoder import load_encoder
from tokenspace.vocab import Vocabulary

WORDS = ["the", "sea", "is", "blue", "and", "cold", "a", "red", "ship", "sails", "over", "it"]
TEXTS = [" ".join(WORDS[i % 7 : i % 7 + 1 + i % 5]) for i in range(22)] + ["", "日本 sea"]


@pytest.fixture
def model(bert):
    write_modules(bert, {"pooling_mode_mean_tokens": True}, prompts={"query": "query : "})
    return str(bert)


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(_shards, "TEXTS", 5)


@pytest.fixture
def text(tmp_path):
    (tmp_path / "text.txt").write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    return str(tmp_path / "text.txt")


def expected(model):
    return load_encoder(model, device="cpu").encode(TEXTS)


def test_every_format_holds_the_vectors_in_order(model, text, tmp_path, small_shards):
    want = expected(model)
    for name in ("v.npy", "v.safetensors", "v.parquet"):
        done = write_vectors(model, text, tmp_path / name)
        assert (done.texts, done.dim, done.empty, done.kept, done.cut) == (24, 16, 1, 0, 0)
        assert done.tokens == sum(len(e) for e in load_encoder(model)._tokenize(TEXTS))
        assert not (tmp_path / f"{name}.parts").exists()
    np.testing.assert_allclose(np.load(tmp_path / "v.npy", mmap_mode="r"), want, atol=1e-5)
    found = read_tensors(tmp_path / "v.safetensors")["vectors"]
    np.testing.assert_allclose(found, want, atol=1e-5)
    table = pyarrow.parquet.read_table(tmp_path / "v.parquet")
    assert table["text"].to_pylist() == TEXTS
    np.testing.assert_allclose(np.array(table["vector"].to_pylist()), want, atol=1e-5)


def test_what_it_writes_is_read_as_vectors(model, text, tmp_path):
    write_vectors(model, text, tmp_path / "v.safetensors")
    want = expected(model)
    np.testing.assert_allclose(load_matrix(tmp_path / "v.safetensors"), want, atol=1e-5)
    flat, offsets = load_ragged(tmp_path / "v.safetensors")
    np.testing.assert_allclose(flat, want, atol=1e-5)
    assert offsets.tolist() == list(range(25))


def test_long_texts_make_smaller_shards_and_numbers_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(_shards, "TEXTS", 3)
    monkeypatch.setattr(_shards, "CHARACTERS", 8)
    texts = ["a", "b", "c", "dddd", "eeee", "f" * 20, "g"]
    corpus = Corpus(texts)
    survey = _shards.Survey.of(corpus)
    assert survey.sizes == (3, 2, 1, 1)
    items = list(survey.items(corpus, {1, 3}))
    assert items == [(1, 3, ["dddd", "eeee"]), (3, 6, ["g"])]
    with pytest.raises(InputError, match="text 6 has a vector that is not finite"):
        write_vectors(Broken("g"), texts, tmp_path / "v.npy")


def test_lists_corpora_tables_and_encoders_do_as_well(model, tmp_path):
    (tmp_path / "t.csv").write_text("id,body\n1,the sea\n2,a red ship\n")
    want = load_encoder(model).encode(["the sea", "a red ship"])
    given = (["the sea", "a red ship"], Corpus(["the sea", "a red ship"]), f"{tmp_path}/t.csv#body")
    for number, texts in enumerate(given):
        out = tmp_path / f"{number}.npy"
        write_vectors(load_encoder(model), texts, out)
        np.testing.assert_allclose(np.load(out), want, atol=1e-5)
    static = StaticEncoder(text_vocabulary(Vocabulary.words(["sea"])), np.eye(2, dtype=np.float32))
    done = write_vectors(static, ["sea", "ship", ""], tmp_path / "s.npy")
    assert done.tokens is None
    np.testing.assert_array_equal(np.load(tmp_path / "s.npy"), static.encode(["sea", "ship", ""]))


def test_a_row_without_a_text_keeps_its_place(model, tmp_path, cli):
    rows = [{"text": "the sea"}, {"text": None}, {"text": "a red ship"}]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = write_vectors(model, tmp_path / "t.jsonl", tmp_path / "v.npy")
    assert (done.texts, done.empty) == (3, 1)
    want = load_encoder(model).encode(["the sea", "", "a red ship"])
    np.testing.assert_allclose(np.load(tmp_path / "v.npy"), want, atol=1e-5)
    cli("encode", "run", model, tmp_path / "t.jsonl", "--out", tmp_path / "w.npy")
    np.testing.assert_allclose(np.load(tmp_path / "w.npy"), want, atol=1e-5)


WITHOUT_TORCH = """
import sys
for name in ("torch", "transformers", "sentence_transformers"):
    sys.modules[name] = None
from tokenspace.encode.vectors import write_vectors
print(write_vectors(*sys.argv[1:]).texts)
"""


def test_a_table_of_vectors_needs_no_torch(text, tmp_path):
    vocab = text_vocabulary(Vocabulary.words(["sea"]))
    StaticEncoder(vocab, np.eye(2, dtype=np.float32)).save(tmp_path / "static")
    words = [str(tmp_path / "static"), text, str(tmp_path / "v.npy")]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *words], capture_output=True, text=True, check=False
    )
    assert done.stdout == "24\n", done.stderr


def test_width_length_and_prompt(model, tmp_path):
    how = How(prompt="query", dim=5, normalize=True)
    write_vectors(model, TEXTS, tmp_path / "v.npy", how)
    found = np.load(tmp_path / "v.npy")
    want = load_encoder(model).encode(["query : " + text for text in TEXTS])[:, :5]
    want /= np.linalg.norm(want, axis=1, keepdims=True)
    np.testing.assert_allclose(found, want, atol=1e-5)
    rows = np.array([[3, 4], [0, 0]], np.float32)
    static = StaticEncoder(text_vocabulary(Vocabulary.words(["sea"])), rows)
    write_vectors(static, ["sea", "zebra"], tmp_path / "s.npy", How(normalize=True))
    np.testing.assert_allclose(np.load(tmp_path / "s.npy"), [[0.6, 0.8], [0, 0]], atol=1e-6)


def test_bfloat16_is_near_and_written_as_float32(model, tmp_path):
    write_vectors(model, TEXTS, tmp_path / "v.npy", How(precision="bfloat16"))
    found, want = np.load(tmp_path / "v.npy"), expected(model)
    assert found.dtype == np.float32
    assert 0 < np.abs(found - want).max() < 0.1
    cosines = (found * want).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(want, axis=1)
    assert cosines.min() > 0.999
    encoder = load_encoder(model)
    halved = encoder.in_bfloat16()
    assert (encoder.precision, halved.precision) == ("float32", "bfloat16")
    np.testing.assert_array_equal(encoder.encode(TEXTS), want)  # the copy is what changed
    states, _ = halved.states(TEXTS[:2])
    assert states.dtype == torch.float32


def test_pooled_in_float32_the_mean_is_that_of_the_rounded_states(model):
    halved = load_encoder(model).in_bfloat16()
    states, _ = halved.states(["the sea is blue and cold"])
    with torch.no_grad():
        want = states[0].double().mean(0)
    np.testing.assert_allclose(halved.encode(["the sea is blue and cold"])[0], want, atol=1e-6)


class Stops:
    """Encodes as another does, and raises at the call numbered ``last``."""

    dim = 16

    def __init__(self, inner, last):
        self.inner, self.left = inner, last

    def encode(self, texts, *, batch_size=32):
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return self.inner.encode(texts)


KILLED = """
import os, signal, sys
from tokenspace.encode import _shards, vectors
_shards.TEXTS = 5
write = _shards.Parts.write
def deadly(self, number, shard):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, number, shard)
_shards.Parts.write = deadly
vectors.write_vectors(*sys.argv[1:])
"""


def test_a_killed_run_goes_on_with_the_same_bytes(model, text, tmp_path, small_shards, caplog):
    write_vectors(model, text, tmp_path / "whole.npy")
    out = tmp_path / "v.npy"
    ended = subprocess.run([sys.executable, "-c", KILLED, model, text, str(out)], check=False)
    assert ended.returncode == -signal.SIGKILL
    parts = tmp_path / "v.npy.parts"
    assert len(list(parts.glob("*.safetensors"))) == 3
    assert not out.exists()
    (parts / "00000001.safetensors").write_bytes(b"half a shard")
    assert estimate(model, text, out).kept == 10
    done = write_vectors(model, text, out)
    assert done.kept == 10
    assert out.read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert not parts.exists()
    assert not caplog.records


@pytest.mark.parametrize(
    ("change", "texts"),
    [
        (How(normalize=True), TEXTS),
        (How(prompt="query"), TEXTS),
        (How(dim=3), TEXTS),
        (How(batch_tokens=8), TEXTS),
        (How(), [*TEXTS[:-1], "the sea"]),
    ],
)
def test_other_settings_or_texts_begin_anew(model, tmp_path, small_shards, caplog, change, texts):
    out = tmp_path / "v.npy"
    _leave(model, out)
    with caplog.at_level(logging.WARNING, logger="tokenspace.encode.vectors"):
        assert write_vectors(model, texts, out, change).kept == 0
    assert "of other texts or settings: begun anew" in caplog.text
    _leave(model, out)
    assert write_vectors(model, TEXTS, out, force=True).kept == 5


def _leave(model, out):
    """Leave one finished shard behind, as an interrupted run does."""
    corpus = Corpus(TEXTS)
    parts = _shards.Parts.beside(out, _shards.Survey.of(corpus))
    parts.folder.mkdir()
    parts.begin(parts.plan(model, corpus, asdict(How())))
    parts.write(0, _shards.Shard(np.zeros((5, 16), np.float32), 1, 0))


def test_an_encoder_without_a_path_begins_anew(model, tmp_path, small_shards):
    encoder = load_encoder(model)
    with pytest.raises(KeyboardInterrupt):
        write_vectors(Stops(encoder, 2), TEXTS, tmp_path / "v.npy")
    assert len(list((tmp_path / "v.npy.parts").glob("*.safetensors"))) == 2
    assert write_vectors(encoder, TEXTS, tmp_path / "v.npy").kept == 0
    np.testing.assert_allclose(np.load(tmp_path / "v.npy"), expected(model), atol=1e-5)


def test_two_writers_of_one_file_are_refused(model, tmp_path):
    with lock(tmp_path / "v.npy.parts", "file"), pytest.raises(SpaceBusy, match="another process"):
        write_vectors(model, TEXTS, tmp_path / "v.npy")


def test_cut_texts_are_counted_and_warned_about_once(model, tmp_path, small_shards, caplog):
    texts = ["sea " * 40 if i % 3 == 0 else "sea" for i in range(12)]
    with caplog.at_level(logging.WARNING):
        done = write_vectors(model, texts, tmp_path / "v.npy")
    assert done.cut == 4
    assert [record.message for record in caplog.records] == [
        "4 of 12 texts were cut at the model's limit"
    ]


def test_a_text_without_a_token_has_what_the_model_gives(model, tmp_path):
    write_vectors(model, ["", "sea"], tmp_path / "v.npy")
    body = load_encoder(model).body
    with torch.inference_mode():
        inputs = body.wordpieces([""], return_tensors="pt")
        want = body.network(**inputs).last_hidden_state[0].mean(0)
    np.testing.assert_allclose(np.load(tmp_path / "v.npy")[0], want.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"prompt": "passage"}, "the model has no prompt 'passage'"),
        ({"dim": 17}, "dim=17: the model's vectors have 16 numbers"),
        ({"dim": 0}, r"dim=0 is outside \[1, inf\]"),
        ({"batch_tokens": -1}, r"batch_tokens=-1 is outside \[1, inf\]"),
        ({"precision": "float16"}, "precision='float16' is not one of"),
    ],
)
def test_impossible_settings_leave_nothing_behind(model, tmp_path, change, says):
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ConfigError, match=says):
        write_vectors(model, TEXTS, tmp_path / "v.npy", How(**change))
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "change", [{"precision": "bfloat16"}, {"batch_tokens": 8}, {"prompt": "q"}]
)
def test_what_only_networks_have_is_refused(tmp_path, change):
    static = StaticEncoder(text_vocabulary(Vocabulary.words(["sea"])), np.eye(2, dtype=np.float32))
    with pytest.raises(ConfigError):
        write_vectors(static, ["sea"], tmp_path / "v.npy", How(**change))
    assert not list(tmp_path.iterdir())


def test_bad_targets_texts_and_engines(model, tmp_path, small_shards):
    with pytest.raises(ConfigError, match=r"no format has the suffix '\.csv'"):
        write_vectors(model, TEXTS, tmp_path / "v.csv")
    (tmp_path / "v.npy").touch()
    with pytest.raises(ConfigError, match="exists"):
        write_vectors(model, TEXTS, tmp_path / "v.npy")
    with pytest.raises(InputError, match="there is no text"):
        write_vectors(model, [], tmp_path / "w.npy")
    with pytest.raises(InputError, match="text 13 holds a lone surrogate"):
        write_vectors(model, [*TEXTS[:13], "a\ud800b"], tmp_path / "w.npy")
    with pytest.raises(ConfigError, match="takes a model by its path"):
        write_vectors(load_encoder(model), TEXTS, tmp_path / "w.npy", engine="ray")
    assert not (tmp_path / "w.npy.parts").exists()


class Broken:
    """Gives a vector that is not finite for one text."""

    dim = 2

    def __init__(self, at):
        self.at = at

    def encode(self, texts, *, batch_size=32):
        return np.array([[np.nan if text == self.at else 0.0, 1.0] for text in texts], np.float32)


def test_a_vector_that_is_not_finite_is_never_written(tmp_path, small_shards):
    with pytest.raises(InputError, match="text 7 has a vector that is not finite"):
        write_vectors(Broken("sea"), ["a"] * 7 + ["sea"], tmp_path / "v.npy")
    assert not (tmp_path / "v.npy").exists()


def test_processes_share_the_shards_out(model, text, tmp_path, small_shards, monkeypatch):
    here, gate, results = threading.local(), threading.Barrier(2, timeout=60), {}

    def team():
        return vectors._Team(here.rank, 2, gate.wait)

    monkeypatch.setattr(vectors._Team, "here", staticmethod(team))
    written = _shards.Parts.write
    shared = {0: [], 1: []}

    def write(self, number, shard):
        shared[here.rank].append(number)
        written(self, number, shard)

    monkeypatch.setattr(_shards.Parts, "write", write)

    def work(rank):
        here.rank = rank
        results[rank] = write_vectors(model, text, tmp_path / "v.npy")

    threads = [threading.Thread(target=work, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shared == {0: [0, 2, 4], 1: [1, 3]}
    assert results[0].tokens == results[1].tokens > 0
    np.testing.assert_allclose(np.load(tmp_path / "v.npy"), expected(model), atol=1e-5)


def test_ray_writes_the_same_bytes(model, text, tmp_path, small_shards):
    ray = pytest.importorskip("ray")
    write_vectors(model, text, tmp_path / "here.npy")
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        done = write_vectors(model, text, tmp_path / "ray.npy", engine="ray")
    finally:
        ray.shutdown()
    assert done.tokens > 0
    assert (tmp_path / "ray.npy").read_bytes() == (tmp_path / "here.npy").read_bytes()


def test_the_command(model, text, tmp_path, cli):
    out = tmp_path / "v.npy"
    ended = cli("encode", "run", model, text, "--out", out, "--dry-run", "--json")
    assert ended.code == 0
    would = json.loads(ended.out)
    assert (would["texts"], would["bytes"], would["kept"]) == (24, 24 * 64, 0)
    assert not out.exists()
    assert "would be 24 vectors" in cli("encode", "run", model, text, "--out", out, "--dry-run").out
    ended = cli("encode", "run", model, text, "--out", out)
    assert ended.code == 0
    assert "24 vectors of 16 numbers" in ended.out
    ended = cli("encode", "run", model, text, "--out", out, "--force", "--json", "--dim", 3)
    assert json.loads(ended.out)["dim"] == 3
    ended = cli("encode", "run", model, text, "--out", out)
    assert ended.code == 2
    assert "add --force" in ended.err
    (tmp_path / "bad.txt").write_bytes(b"the sea\n\xff blue\n")
    words = ("encode", "run", model, tmp_path / "bad.txt", "--out", tmp_path / "w.npy")
    assert "byte 0xff at offset 8 is not UTF-8" in cli(*words).err
    assert "2 vectors" in cli(*words, "--errors", "replace").out
    ended = cli("encode", "run", model, text, "--out", tmp_path / "x.npy", "--prompt", "no")
    assert ended.code == 2
    assert "its prompts: query" in ended.err
