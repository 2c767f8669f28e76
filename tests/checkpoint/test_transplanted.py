"""The commands that give a whole model directory other tokens: transplant, expand, prune."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as tf
from click.testing import CliRunner
from tiny_models import byte_bpe, make_tokenizer, new_model, wrap
from tokenizers import AddedToken, Tokenizer, models

from tokenspace.cli import root
from tokenspace.errors import ConfigError, FormatError, InputError
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary

TEXT = "the quick brown fox sat on the mat\na naive cat and a hat\n" * 20


def run(*words: object) -> str:
    done = CliRunner().invoke(root, [str(word) for word in words], standalone_mode=False)
    if done.exception:
        raise done.exception
    return done.output


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


def report(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())


def lines(folder: Path) -> list[dict[str, str]]:
    with (folder / "provenance.tsv").open(newline="") as file:
        return list(csv.DictReader(file, dialect="excel-tab"))


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert"])
def test_a_transplant_says_what_it_did(name, model, tokenizer, text, tmp_path):
    other = tokenizer("llama" if name != "llama" else "gpt")
    out = tmp_path / "out"
    given = ["--source", model(name), "--target", other, "--out", out]
    run("transplant", "mean", *given, "--eval-text", text)
    done, rows = report(out), lines(out)
    figures = done["metrics"]
    assert figures["bits_per_byte_before"] > 0 and figures["bits_per_byte_after"] > 0
    assert figures["gain_low"] - 1e-9 <= figures["gain"] <= figures["gain_high"] + 1e-9
    assert {row["role"] for row in done["rows"]} >= {"input"}
    html = (out / "report.html").read_text()
    assert "<script" not in html and "<svg" in html
    sides = {row["side"] for row in rows}
    assert sides == ({"input", "output"} if name == "llama" else {"input"})
    assert len(rows) == len(sides) * figures["rows"]
    old, new = EmbeddingTable.load(model(name)), EmbeddingTable.load(out)
    for row in rows:
        if row["side"] == "input" and row["source_id"]:
            i, j = int(row["id"]), int(row["source_id"])
            np.testing.assert_array_equal(new.vectors[i], old.vectors[j])
            assert old.vocab.tokens[j] == row["source_token"]
    copied = sum(v for k, v in figures.items() if k.startswith("copied_"))
    assert copied == sum(bool(r["source_id"]) for r in rows if r["side"] == "input")


def test_the_same_again_from_the_report(model, tokenizer, text, tmp_path):
    given = ["--source", model("gpt2"), "--target", tokenizer("llama"), "--rows", 300]
    run("transplant", "mean", *given, "--out", tmp_path / "a", "--eval-text", text)
    run("run", tmp_path / "a" / "report.json", "--out", tmp_path / "b")
    for name in ("model.safetensors", "config.json", "tokenizer.json", "provenance.tsv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert json.loads((tmp_path / "b" / "config.json").read_text())["vocab_size"] == 300


def test_a_donor_model_serves_both_sides(model, tokenizer, tmp_path):
    """An untied model takes the donor's input for its input and its output for its output."""
    source, donor = tmp_path / "source", model("llama")
    new_model("llama", 266).save_pretrained(source)
    wrap(make_tokenizer("gpt"), "gpt").save_pretrained(source)
    given = ["--source", source, "--donor", donor, "--target", donor, "--out", tmp_path / "out"]
    run("transplant", "omp", *given, "--k", 1, "--allow-few", "--no-validate")
    rows = [row for row in lines(tmp_path / "out") if row["from"] == "rebuilt"]
    assert {row["side"] for row in rows} == {"input", "output"}
    pairs: dict[str, list[float]] = {}
    for row in rows:
        pairs.setdefault(row["token"], []).append(float(row["residual"]))
    assert all(len(pair) == 2 for pair in pairs.values())
    assert any(a != b for a, b in pairs.values())


def test_expanding_keeps_every_old_row(model, text, tmp_path):
    bigger = tmp_path / "bigger"
    old = make_tokenizer("gpt")
    old.add_tokens([AddedToken("Ġnaivehat"), AddedToken("matcat")])
    wrap(old, "gpt").save_pretrained(bigger)
    out = tmp_path / "out"
    said = run("expand", model("gpt2"), bigger, "--out", out, "--eval-text", text)
    assert "bits per byte" in said
    before, after = EmbeddingTable.load(model("gpt2")), EmbeddingTable.load(out)
    n = len(before.vectors)
    assert len(after.vectors) == n + 2
    np.testing.assert_array_equal(after.vectors[:n], before.vectors)
    mean = before.vectors.mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(after.vectors[n:], np.stack([mean, mean]), rtol=1e-5)


def test_what_is_no_extension_is_refused_by_its_first_id(model, tokenizer, tmp_path):
    with pytest.raises(InputError, match=r"id 0 is '<\|endoftext\|>' there and '<unk>' here"):
        run("expand", model("gpt2"), tokenizer("llama"), "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert", "t5"])
def test_pruning_keeps_logits_and_split(name, model, tmp_path):
    some = tmp_path / "some.txt"
    some.write_text("the quick fox\nbrown fox\n")
    out = tmp_path / "out"
    run("prune", model(name), "--text", some, "--out", out, "--eval-text", some)
    old, new = (tf.AutoTokenizer.from_pretrained(str(f)) for f in (model(name), out))
    line = "the quick fox"
    before, after = old(line)["input_ids"], new(line)["input_ids"]
    assert old.convert_ids_to_tokens(before) == new.convert_ids_to_tokens(after)
    tables = EmbeddingTable.load(model(name)), EmbeddingTable.load(out)
    assert len(tables[1].vectors) < len(tables[0].vectors)
    np.testing.assert_array_equal(tables[0].vectors[before], tables[1].vectors[after])
    if name != "t5":
        assert report(out)["metrics"]["tokens_per_byte_before"] == pytest.approx(
            report(out)["metrics"]["tokens_per_byte_after"]
        )


def test_bad_requests_leave_nothing(model, tokenizer, tmp_path):
    out = tmp_path / "out"
    given = ["--source", model("gpt2"), "--target", tokenizer("llama"), "--out", out]
    for words, name in (
        ([*given, "--rows", 5], "rows=5"),
        ([*given, "--map", "nothing"], "--map nothing"),
        ([*given, "--map", "nothing=0"], "nothing"),
    ):
        with pytest.raises(ConfigError, match=name):
            run("transplant", "mean", *words)
        assert not out.exists()
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "tokenizer.json").write_bytes((tokenizer("llama") / "tokenizer.json").read_bytes())
    with pytest.raises(InputError, match="a tokenizer without the weights"):
        run("transplant", "omp", *given, "--donor", bare)
    out.mkdir()
    with pytest.raises(ConfigError, match="exists"):
        run("transplant", "mean", *given)
    table = tmp_path / "table"
    EmbeddingTable.load(model("gpt2")).save(table)
    with pytest.raises(ConfigError, match="--rows is about model directories"):
        run(
            "transplant",
            "mean",
            "--source",
            table,
            *given[2:4],
            "--out",
            tmp_path / "t",
            "--rows",
            9,
        )


@pytest.mark.parametrize("method", ["mean", "retok", "random"])
def test_control_tokens_of_the_target_take_the_mean_of_the_specials(method, tmp_path):
    """Five specials have counterparts, two have none: rows and biases by hand."""
    source, target = tmp_path / "source", tmp_path / "target"
    model = new_model("bert")
    with torch.no_grad():
        words = model.bert.embeddings.word_embeddings.weight
        words[:5] = torch.tensor([[1.0], [2.0], [4.0], [8.0], [100.0]])
        model.cls.predictions.bias[:5] = torch.tensor([1.0, 2.0, 4.0, 8.0, 100.0])
    model.save_pretrained(source)
    wrap(make_tokenizer("bert"), "bert").save_pretrained(source)
    tokens = make_tokenizer("bert")
    tokens.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    new = wrap(tokens, "bert")
    new.save_pretrained(target)
    given = ["--source", source, "--target", target, "--out", tmp_path / "out", "--no-validate"]
    said = run("transplant", method, *given)
    assert "without a counterpart: <|im_start|>, <|im_end|>; they take the mean row" in said
    done = tf.AutoModelForMaskedLM.from_pretrained(tmp_path / "out")
    ids = new.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    mean = (1 + 2 + 4 + 8 + 100) / 5
    rows = done.get_input_embeddings().weight[ids]
    torch.testing.assert_close(rows, torch.full_like(rows, mean))
    assert done.cls.predictions.bias[ids].tolist() == [mean, mean]
    assert report(tmp_path / "out")["metrics"]["specials_mean"] == 2
    assert [r["from"] for r in lines(tmp_path / "out") if int(r["id"]) in ids] == [
        "specials' mean",
        "specials' mean",
    ]


def test_without_any_counterpart_control_tokens_are_the_methods(tmp_path):
    """Both sides of an untied model; a single counterpart gives its row, none the mean row."""
    source, target = tmp_path / "source", tmp_path / "target"
    new_model("llama").save_pretrained(source)
    wrap(make_tokenizer("llama"), "llama").save_pretrained(source)
    plain = byte_bpe(["<|tool|>", "<|user|>"], ["the", "cat"])
    tf.PreTrainedTokenizerFast(tokenizer_object=plain).save_pretrained(target)
    given = ["--source", source, "--target", target, "--no-validate"]
    for name, hand, whose in (("none", [], None), ("one", ["--specials", "<|user|>=</s>"], "</s>")):
        run("transplant", "mean", *given, *hand, "--out", tmp_path / name)
        for side in ("input", "output"):
            old = EmbeddingTable.load(f"{source}#{side}")
            new = EmbeddingTable.load(f"{tmp_path / name}#{side}")
            row = old.vectors.mean(axis=0) if whose is None else old.vectors[old.vocab.id(whose)]
            np.testing.assert_allclose(new.vectors[new.vocab.id("<|tool|>")], row, atol=1e-6)
    kinds = {r["token"]: r["from"] for r in lines(tmp_path / "none")}
    assert kinds["<|tool|>"] == "unknown"


def test_special_tokens_by_hand_on_the_command_line(model, tokenizer, tmp_path):
    """The row goes to both sides, and ``run`` does the same again."""
    pairs = tmp_path / "pairs.json"
    pairs.write_text(json.dumps({"Ġthe": "</s>"}))
    given = ["--source", model("gpt2"), "--target", tokenizer("roberta"), "--no-validate"]
    said = run("transplant", "mean", *given, "--out", tmp_path / "without")
    assert (
        "special tokens without a counterpart: <mask>; they take the mean row of those that have"
        " one (--specials NEW=OLD names one)"
    ) in said
    said = run(
        "transplant", "mean", *given, "--specials", "<mask>=Ġthe", "--out", tmp_path / "with"
    )
    assert "without a counterpart" not in said
    given = ["--source", model("llama"), "--target", tokenizer("gpt"), "--no-validate"]
    given += ["--specials", "<|endoftext|>=</s>", "--specials", pairs]
    run("transplant", "mean", *given, "--digits", "keep-base", "--out", tmp_path / "a")
    assert report(tmp_path / "a")["recipe"]["options"]["specials"] == [
        "<|endoftext|>=</s>",
        str(pairs),
    ]
    found = [r for r in lines(tmp_path / "a") if r["token"] in ("<|endoftext|>", "Ġthe")]
    assert [(r["from"], r["source_token"]) for r in found] == [("special", "</s>")] * 4
    for side in ("input", "output"):
        old = EmbeddingTable.load(f"{model('llama')}#{side}")
        new = EmbeddingTable.load(f"{tmp_path / 'a'}#{side}")
        for token in ("<|endoftext|>", "Ġthe"):
            np.testing.assert_array_equal(
                new.vectors[new.vocab.ids[token]], old.vectors[old.vocab.ids["</s>"]]
            )
    run("run", tmp_path / "a" / "report.json", "--out", tmp_path / "b")
    for name in ("model.safetensors", "config.json", "tokenizer.json", "provenance.tsv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("<s>", "--specials <s>"),
        ("=<s>", "--specials =<s>"),
        ("Ġno=<|endoftext|>", "the new tokenizer has no token 'Ġno'"),
        ("<s>=nothing", "the model has no token 'nothing'"),
    ],
)
def test_special_tokens_that_are_not_there(words, message, model, tokenizer, tmp_path):
    given = ["--source", model("gpt2"), "--target", tokenizer("llama"), "--out", tmp_path / "out"]
    with pytest.raises(ConfigError, match=re.escape(message)):
        run("transplant", "mean", *given, "--specials", words)
    assert not (tmp_path / "out").exists()


def test_what_is_odd_about_the_vocabularies_is_said(model, tokenizer, tmp_path):
    """Rows without a token, tokens without a row, and vocabularies with no text in common."""
    given = ["--target", tokenizer("bert"), "--no-validate"]
    for rows, says in ((300, "rows without a token: 21"), (270, "tokens without a row: 9 (")):
        new_model("gpt2", rows).save_pretrained(tmp_path / f"m{rows}")
        wrap(make_tokenizer("gpt"), "gpt").save_pretrained(tmp_path / f"m{rows}")
        source = ["--source", tmp_path / f"m{rows}"]
        assert says in run("transplant", "mean", *source, *given, "--out", tmp_path / f"o{rows}")
    alien = tmp_path / "alien"
    Vocabulary.of(Tokenizer(models.WordLevel({"<unk>": 0, "qqzz": 1}, unk_token="<unk>"))).save(
        alien
    )
    words = ["--source", model("llama"), "--target", alien, "--no-validate"]
    said = run("transplant", "mean", *words, "--out", tmp_path / "o")
    assert "no token of text is in both vocabularies" in said


def test_rows_that_are_not_finite_name_their_file(model, tokenizer, tmp_path):
    source = tmp_path / "nan"
    broken = new_model("gpt2")
    with torch.no_grad():
        broken.transformer.wte.weight[5, 3] = float("nan")
    broken.save_pretrained(source)
    wrap(make_tokenizer("gpt"), "gpt").save_pretrained(source)
    given = ["--source", source, "--target", tokenizer("llama"), "--out", tmp_path / "out"]
    with pytest.raises(
        InputError, match=r"model\.safetensors: transformer\.wte\.weight: rows with"
    ):
        run("transplant", "mean", *given)
    assert not (tmp_path / "out").exists()


def test_being_told_to_end_leaves_nothing(cli, model, tokenizer, tmp_path, monkeypatch):
    from tokenspace.transplant import page

    seen = []

    def killed(*_):
        seen.extend(path.name for path in tmp_path.iterdir())
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(page, "render", killed)
    words = ["--source", model("gpt2"), "--target", tokenizer("llama"), "--out", tmp_path / "out"]
    assert cli("transplant", "mean", *words, "--no-validate").code == 143
    assert len(seen) == 1 and list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_file_of_special_tokens_is_an_object_of_tokens(model, tokenizer, tmp_path):
    given = ["--source", model("gpt2"), "--target", tokenizer("llama"), "--out", tmp_path / "out"]
    for content in ('["<s>"]', '{"<s>": 3}', "{"):
        (tmp_path / "pairs.json").write_text(content)
        with pytest.raises(FormatError, match=r"pairs\.json: not"):
            run("transplant", "mean", *given, "--specials", tmp_path / "pairs.json")


def test_a_result_that_does_not_work_is_not_left(model, tokenizer, tmp_path, monkeypatch):
    from tokenspace.nn import quality, validate

    def broken(folder, **_):
        return validate.Findings("AutoModel", 1, True, {}, ("missing keys: x",))

    monkeypatch.setattr(quality, "validate", broken)
    given = ["--source", model("gpt2"), "--target", tokenizer("llama"), "--out", tmp_path / "out"]
    with pytest.raises(FormatError, match="missing keys: x"):
        run("transplant", "mean", *given)
    assert list(tmp_path.iterdir()) == []
