"""A table of senses: its rows, what its gate answers, how it is saved, and how it is judged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tokenspace import data
from tokenspace.cli import root
from tokenspace.errors import FormatError, InputError
from tokenspace.io import read_tensors, save_tensors
from tokenspace.metrics import adjusted_rand
from tokenspace.senses import Gates, SenseTable, induction, row_name
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary
from tokenspace.words.evaluation import word_similarity

ROWS = ["bank", "bank#2", "river", "money", "sand"]


@pytest.fixture
def table() -> SenseTable:
    """``bank`` is about money, ``bank#2`` about rivers; the gate sees them on two axes."""
    W = np.array([[9, 9], [0, 2], [2, 0], [0, 1]], np.float32)  # bank river money sand
    gates = Gates(
        first=np.array([0, 2, 3, 4, 5]),
        U=np.array([[1, 0], [0, 1], [0, 0], [0, 0], [0, 0]], np.float32),
        c=np.zeros(5, np.float32),
        prior=np.array([0.75, 0.25, 1, 1, 1], np.float32),
        W=W,
        b=np.zeros(4, np.float32),
    )
    vectors = np.array([[2, 0.5], [0, 1], [0, 2], [1, 0], [0.5, 2]], np.float32)
    counts = np.array([30, 10, 20, 15, 5])
    return SenseTable(Vocabulary.words(ROWS), vectors, counts, {"split": "words"}, gates=gates)


def test_rows_are_named_by_word_and_number() -> None:
    assert [row_name("bank", s) for s in range(3)] == ["bank", "bank#2", "bank#3"]


def test_a_word_finds_its_most_frequent_sense(table: SenseTable) -> None:
    assert table.id("bank") == table.id("bank#1") == 0
    assert table.id("bank#2") == 1
    assert table.senses("bank") == [("bank", 0.75), ("bank#2", 0.25)]
    assert table.senses("river") == [("river", 1.0)]
    assert table.nearest("bank", 1)[0][0] == "money"
    assert table.nearest("bank#2", 1)[0][0] == "river"
    with pytest.raises(InputError, match="rivr"):
        table.id("rivr")
    score = word_similarity(
        table, [("bank", "money", 9), ("bank", "river", 2), ("sand", "bank", 1)]
    )
    assert score.used == 3


def test_the_gate_by_hand(table: SenseTable) -> None:
    # "Sand, river: bank!": h of bank = (W_sand + W_river) / 2 = (0, 1.5), logits (0, 1.5).
    found = table.disambiguate("Sand, river: bank!")
    assert [reading.word for reading in found] == ["sand", "river", "bank"]
    assert found[2].sense == "bank#2"
    assert found[2].probability == pytest.approx(1 / (1 + np.exp(-1.5)), rel=1e-5)
    assert found[0] == ("sand", "sand", 1.0)
    # with a window of one word, only river counts
    near = table.disambiguate("money sand river bank", window=1)[3]
    assert near.probability == pytest.approx(1 / (1 + np.exp(-2.0)), rel=1e-5)


def test_a_word_does_not_choose_its_own_sense(table: SenseTable) -> None:
    # both occurrences see money and the other bank: (9 + 2) / 2 and 9 / 2
    both = table.disambiguate("bank money bank")
    expected = 1 / (1 + np.exp(-(11 / 2 - 9 / 2)))
    assert both[0].probability == pytest.approx(expected, rel=1e-5)
    assert table.gate("bank", ["money"])[0, 0] == pytest.approx(1 / (1 + np.exp(-2.0)), rel=1e-5)


@pytest.mark.parametrize("text", ["bank", "the bank shall not", "unknown bank words"])
def test_without_a_known_word_the_priors_answer(table: SenseTable, text: str) -> None:
    reading = table.disambiguate(text)[0]
    assert reading == ("bank", "bank", 0.75)


def test_a_text_without_a_known_word_and_no_text(table: SenseTable) -> None:
    assert table.disambiguate("") == table.disambiguate("nothing here") == []
    np.testing.assert_array_equal(table.gate("bank", ["", "money"])[0], [0.75, 0.25])
    assert table.gate("bank", []).shape == (0, 2)


def test_texts_are_split_as_the_corpus_was(table: SenseTable) -> None:
    spaced = replace(table, notes={"split": "whitespace"})
    assert [reading.word for reading in spaced.disambiguate("Bank river, money")] == ["money"]


def test_wrong_arguments_are_refused(table: SenseTable) -> None:
    with pytest.raises(InputError, match="one text, not list"):
        table.disambiguate(["bank"])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="window=0"):
        table.disambiguate("bank", window=0)
    with pytest.raises(InputError, match="bnak"):
        table.gate("bnak", ["money"])
    with pytest.raises(InputError, match="do not agree in their shapes"):
        replace(table.gates, c=np.zeros(3, np.float32))
    with pytest.raises(InputError, match="gates of 5 rows"):
        SenseTable(Vocabulary.words(["a"]), np.ones((1, 2)), gates=table.gates)


def test_saved_and_loaded_it_answers_alike(table: SenseTable, tmp_path: Path) -> None:
    table.save(tmp_path / "senses")
    again = EmbeddingTable.load(tmp_path / "senses")
    assert isinstance(again, SenseTable)
    assert again.vocab.tokens == table.vocab.tokens
    assert again.disambiguate("sand bank") == table.disambiguate("sand bank")
    for name in ("first", "U", "c", "prior", "W", "b"):
        np.testing.assert_array_equal(getattr(again.gates, name), getattr(table.gates, name))
    table.save(tmp_path / "senses.vec")
    plain = EmbeddingTable.load(tmp_path / "senses.vec")
    assert type(plain) is EmbeddingTable
    assert plain.vocab.tokens == table.vocab.tokens


@pytest.mark.parametrize("lost", ["counts", "senses.U", "senses.prior"])
def test_a_table_that_is_not_whole_is_refused(table: SenseTable, tmp_path: Path, lost: str) -> None:
    table.save(tmp_path / "senses")
    path = tmp_path / "senses" / "table.safetensors"
    tensors = {name: np.array(array) for name, array in read_tensors(path).items()}
    save_tensors(path, {name: array for name, array in tensors.items() if name != lost})
    with pytest.raises(FormatError, match="not a whole table of senses"):
        EmbeddingTable.load(tmp_path / "senses")


def test_other_vectors_keep_the_senses_and_another_vocabulary_does_not(table: SenseTable) -> None:
    wider = table.replace(vectors=np.ones((5, 7), np.float32))
    assert isinstance(wider, SenseTable)
    assert wider.disambiguate("sand bank") == table.disambiguate("sand bank")
    plain = table.replace(vectors=np.ones((1, 7), np.float32), vocab=Vocabulary.words(["a"]))
    assert type(plain) is EmbeddingTable


def test_adjusted_rand_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import adjusted_rand_score

    draw = np.random.default_rng(0)
    for n, classes, clusters in [(1, 1, 1), (2, 2, 2), (30, 3, 4), (500, 7, 2), (40, 1, 3)]:
        gold = [str(i) for i in draw.integers(classes, size=n)]
        found = draw.integers(clusters, size=n).tolist()
        ours = adjusted_rand(gold, found)
        assert ours == pytest.approx(adjusted_rand_score(gold, found), abs=1e-12)
    assert adjusted_rand(["a", "a", "b"], [1, 1, 0]) == 1
    assert adjusted_rand(["a", "b", "b"], [0, 0, 0]) == 0
    assert np.isnan(adjusted_rand([], []))
    with pytest.raises(InputError, match="2 labels and 1 clusters"):
        adjusted_rand(["a", "b"], [0])


def test_induction_is_the_mean_over_words_the_last_one_too(table: SenseTable) -> None:
    bank = [("bank", "money", "$"), ("bank", "money money", "$"), ("bank", "sand", "~")]
    last = [("money", "bank", "x"), ("money", "river", "y")]  # one sense: 0
    found = induction(table, [("lake", "sand", "z"), *bank, ("bank", "unheard of", "$"), *last])
    assert found.ari == {"bank": 1.0, "money": 0.0}
    assert found.mean == 0.5
    assert found.unknown == ["lake"]
    assert found.empty == 1
    assert np.isnan(induction(table, []).mean)


def test_the_command_shows_senses_and_writes_json(table: SenseTable, tmp_path: Path) -> None:
    table.save(tmp_path / "senses")
    words = ["words", "disambiguate", str(tmp_path / "senses")]
    shown = CliRunner().invoke(root, [*words, "sand on the bank"]).output
    assert shown.split()[:2] == ["bank#2", "0.73"]
    assert "river" in shown
    ended = CliRunner().invoke(root, [*words, "--json"], input="sand bank\nmoney\n")
    out = ended.stdout
    assert ended.exception is None, ended.output
    first, second = json.loads(out)
    assert first["text"] == "sand bank"
    assert [word["sense"] for word in first["words"]] == ["sand", "bank#2"]
    assert second["words"] == [{"word": "money", "sense": "money", "probability": 1.0}]
    assert "no word of several senses" in CliRunner().invoke(root, [*words, "money"]).output


def test_the_command_refuses_a_table_without_senses(tmp_path: Path) -> None:
    EmbeddingTable(Vocabulary.words(["a", "b"]), np.eye(2, dtype=np.float32)).save(tmp_path / "t")
    ended = CliRunner().invoke(root, ["words", "disambiguate", str(tmp_path / "t"), "a"])
    assert isinstance(ended.exception, InputError)
    assert "without senses" in str(ended.exception)


def test_contexts_of_ambiguous_words_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = {"id": "hard-a.x_1", "senses": ["H1"], "target": 1, "text": "a harder chair"}
    files = {
        "semeval2010_task14_contexts": "access.n 2\nby the\tto sea\n\tat the end\nair.n 1\nin\t\n",
        "semeval2010_task14_key": "access.n access.n.2 s2&&s3\nair.n air.n.1 s1\n"
        "access.n access.n.1 s1\n",
        "senseval_hard": json.dumps(item) + "\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(data, "find", lambda name: tmp_path / name)
    assert data.wsi("semeval2010") == [
        ("access.n", "by the", "to sea", ("s1",)),
        ("access.n", "", "at the end", ("s2", "s3")),
        ("air.n", "in", "", ("s1",)),
    ]
    assert data.wsi("hard") == [("hard.a", "a", "chair", ("H1",))]
