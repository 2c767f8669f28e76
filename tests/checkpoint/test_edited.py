"""Edited model directories: what transformers loads, tied and untied, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import transformers as tf
from safetensors.torch import load_file
from tiny_models import KINDS, content

from tokenspace.checkpoint import Checkpoint
from tokenspace.edit import HardDebias
from tokenspace.edit._subspace import direct_bias, subspace, unit
from tokenspace.edit._words import find
from tokenspace.edit.directory import edit_model
from tokenspace.errors import ConfigError, InputError
from tokenspace.nn.validate import loader_of
from tokenspace.word_sets import WordSets

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

PAIRS = WordSets([["cat", "fox"], ["quick", "brown"]])
BAG = {"definitional": PAIRS}
KNOWING = [name for name, (kind, _, _) in KINDS.items() if kind in ("gpt", "t5", "bert")]
"""Models whose tokenizer has the words of the pairs as tokens."""


def bias(checkpoint: Checkpoint, side: str, ids: np.ndarray) -> float:
    table = checkpoint.table(side)
    pairs = [[find(table.vocab, word) for word in words] for words in PAIRS]
    return direct_bias(
        table.vectors[ids], subspace([unit(table.vectors[pair]) for pair in pairs]).basis
    )


@pytest.mark.parametrize("name", KNOWING)
def test_a_result_is_an_ordinary_model_without_the_bias(name, model, tmp_path):
    source = model(name)
    before, opened = content(source), Checkpoint.open(source)
    report = edit_model(HardDebias(), source, tmp_path / "out", bag=BAG, no_validate=True)
    assert content(source) == before
    made = Checkpoint.open(tmp_path / "out")
    loader = getattr(tf, loader_of(opened))
    _, info = loader.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert tf.AutoTokenizer.from_pretrained(tmp_path / "out").get_vocab()
    old, new = opened.table(), made.table()
    lengths = [np.linalg.norm(table.vectors, axis=1) for table in (old, new)]
    np.testing.assert_allclose(lengths[1], lengths[0], rtol=1e-5)
    same = (old.vectors == new.vectors).all(axis=1)
    assert same[list(opened.vocab.specials)].all()
    assert not same[find(opened.vocab, "sat")]
    assert report.rows[0]["rows_changed"] == int((~same).sum())
    assert report.metrics["direct_bias_after"] < 1e-6 < report.metrics["direct_bias_before"]
    for key, values in load_file(source / "model.safetensors").items():
        if key != opened.tensors[0].name:
            assert torch.equal(load_file(tmp_path / "out" / "model.safetensors")[key], values)


def test_a_tied_output_changes_with_the_input_unless_it_is_untied(model, tmp_path):
    source = Checkpoint.open(model("gpt2"))
    assert source.tied
    tied = edit_model(HardDebias(), source, tmp_path / "tied", bag=BAG, no_validate=True)
    assert any("tied: its output matrix has changed" in note for note in tied.notes)
    assert Checkpoint.open(tmp_path / "tied").tied
    free = edit_model(HardDebias(), source, tmp_path / "free", bag=BAG, untie=True)
    assert any("untied: its output matrix has the rows as they were" in n for n in free.notes)
    network = tf.GPT2LMHeadModel.from_pretrained(tmp_path / "free")
    inner, outer = network.get_input_embeddings().weight, network.get_output_embeddings().weight
    vectors = torch.tensor(source.table().vectors)
    assert torch.equal(outer.detach(), vectors)
    assert not torch.equal(inner.detach(), vectors)
    assert {"bits_per_byte_before", "bits_per_byte_after"} <= free.metrics.keys()


def test_either_matrix_of_a_model_that_is_not_tied(model, tmp_path):
    source = Checkpoint.open(model("llama"))
    pairs = {"definitional": WordSets([["cat", "fox"], ["brown", "hat"]])}
    for matrix in ("input", "output", "both"):
        report = edit_model(
            HardDebias(), source, tmp_path / matrix, bag=pairs, matrix=matrix, no_validate=True
        )
        made = Checkpoint.open(tmp_path / matrix)
        changed = {
            side
            for side in ("input", "output")
            if not np.array_equal(made.table(side).vectors, source.table(side).vectors)
        }
        assert changed == ({"input", "output"} if matrix == "both" else {matrix})
        assert [row["matrix"] for row in report.rows] == sorted(changed)
        if matrix != "both":
            other = "output" if matrix == "input" else "input"
            assert f"the {other} matrix is as it was (see --matrix)" in report.notes
    with pytest.raises(ConfigError, match="not tied"):
        edit_model(HardDebias(), source, tmp_path / "new", bag=pairs, untie=True)


def test_words_of_several_pieces_are_missing_and_named(model, tmp_path):
    with pytest.raises(InputError, match="woman, man"):
        edit_model(
            HardDebias(), model("bert"), tmp_path / "out",
            bag={"definitional": WordSets([["woman", "man"], ["cat", "fox"]])},
        )  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_the_command_writes_the_directory_and_can_be_run_again(model, tmp_path, cli):
    (tmp_path / "pairs.json").write_text(json.dumps([*PAIRS, ["she", "he"]]))
    (tmp_path / "text.txt").write_text("the quick brown fox sat on the mat\n")
    done = cli(
        "edit", "hard_debias", "--source", model("gpt2"), "--out", tmp_path / "out",
        "--definitional", tmp_path / "pairs.json", "--eval-text", tmp_path / "text.txt",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "definitional: not in the table: she, he" in done.out
    assert "<svg" in (tmp_path / "out" / "report.html").read_text()
    again = cli("run", tmp_path / "out" / "report.json", "--out", tmp_path / "again")
    assert again.code == 0, again.err
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("out", "again"))
    assert all(torch.equal(one[key], two[key]) for key in one)
