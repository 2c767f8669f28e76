"""The common study: what a gain is, whose neighbours are of a class, and a run from end to end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tokenspace import data
from tokenspace.cli import root
from tokenspace.data import Analogy, zipf_text
from tokenspace.errors import InputError
from tokenspace.recipe import make
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary
from tokenspace.words import study, trial
from tokenspace.words.study import RANDOM, TASKS, same_class, sentiment, with_gain


def row(method: str, value: float, **more: float) -> dict[str, object]:
    return {"method": method, **dict.fromkeys(TASKS, value), **more}


def test_gain_is_0_for_random_vectors_and_1_for_the_best() -> None:
    # of seven tasks b is best in one (1.0) and half way from 0.2 to 0.6 in the others
    rows = with_gain([row("a", 0.6, men=0.2), row("b", 0.4, men=0.7), row(RANDOM, 0.2)])
    found = {str(item["method"]): item["pgr"] for item in rows}
    assert found == pytest.approx({"a": 6 / 7, "b": (6 * 0.5 + 1) / 7, RANDOM: 0})


def test_a_task_in_which_nothing_is_learned_gains_nothing() -> None:
    rows = with_gain([row("a", 0.6, men=0.1), row(RANDOM, 0.2)])
    assert rows[0]["pgr"] == pytest.approx(6 / 7)


def table(rows: dict[str, list[float]]) -> EmbeddingTable:
    return EmbeddingTable(Vocabulary.words(list(rows)), np.array(list(rows.values()), np.float32))


def test_neighbours_are_counted_among_words_with_a_class() -> None:
    # twelve words on a circle's two ends, six of a class: ten neighbours are all but one word
    angles = [*np.linspace(0, 0.1, 6), *np.linspace(3, 3.1, 6)]
    rows = {f"w{i}": [np.cos(a), np.sin(a)] for i, a in enumerate(angles)}
    rows["other"] = [1.0, 0.05]
    classes = {f"w{i}": "ab"[i // 6] for i in range(12)}
    # a word's ten nearest of eleven: five of its class, and five of the six others
    assert same_class(table(rows), classes) == pytest.approx(0.5)
    near = {f"w{i}": [np.cos(a), np.sin(a)] for i, a in enumerate(np.linspace(0, 0.3, 30))}
    ends = {f"w{i}": "ab"[i // 15] for i in range(30)}
    assert same_class(table(near), ends) > 0.7


def test_few_words_with_a_class_are_refused() -> None:
    with pytest.raises(InputError, match="2 words have a class"):
        same_class(table({"a": [1, 0], "b": [0, 1]}), {"a": "n", "b": "n"})


def test_only_knobs_at_their_defaults_are_made_alike() -> None:
    first, second = study.alike([make("sgns"), make("ppmi_svd", dim=7)])
    assert first.to_dict() | study.COMMON == first.to_dict()
    assert second.to_dict()["dim"] == 7


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put small invented sets in the place of those that the study reads."""
    lines = zipf_text(600, 60, 2)
    words = sorted({word for line in lines for word in line.split()})
    pairs = [(a, b, float(i)) for i, (a, b) in enumerate(pairwise(words))]
    asked = [Analogy("family", *words[i : i + 4]) for i in range(8)]
    asked += [Analogy("gram1", *words[i : i + 4]) for i in range(8)]
    labelled = [("pos" if i % 2 else "neg", line) for i, line in enumerate(lines[:60])]
    dictionary = ["header", *(f"{i}\t{'nv'[i % 2]}\t-\t{w}\t-\t-" for i, w in enumerate(words))]
    monkeypatch.setattr(data, "novels", lambda limit=None: lines[:limit])
    monkeypatch.setattr(data, "word_pairs", lambda name: pairs)
    monkeypatch.setattr(data, "analogies", lambda: asked)
    monkeypatch.setattr(data, "labelled", lambda name: labelled)
    monkeypatch.setattr(data, "lines", lambda name: dictionary)
    study.parts_of_speech.cache_clear()
    study._sentences.cache_clear()
    yield
    study.parts_of_speech.cache_clear()
    study._sentences.cache_clear()


def compared(tmp_path: Path, *words: str) -> list[dict[str, object]]:
    out = tmp_path / "report.json"
    done = CliRunner().invoke(root, ["compare", "words", *words, "--out", str(out)])
    assert done.exit_code == 0, done.output
    return json.loads(out.read_text())["rows"]


@pytest.mark.usefixtures("texts")
def test_methods_are_compared_on_a_text(tmp_path: Path) -> None:
    rows = compared(tmp_path, "--on", "novels", "--method", "cbow", "--method", "sgns:dim=9")
    assert [str(item["method"]).partition(":")[0] for item in rows] == ["cbow", "sgns", RANDOM]
    assert ["dim=9" in str(item["method"]) for item in rows] == [False, True, False]
    assert set(TASKS) | {"pgr"} <= rows[0].keys()
    assert rows[-1]["pgr"] == 0


@pytest.mark.usefixtures("texts")
def test_domain_and_size_are_compared(tmp_path: Path) -> None:
    (only,) = compared(tmp_path, "--on", "domain", "--method", "cbow")
    assert {"reviews", "novels", "both", "both_sd"} <= only.keys()


@pytest.mark.usefixtures("texts")
def test_the_loss_on_text_held_out_stands_beside_the_tasks(tmp_path: Path) -> None:
    rows = compared(tmp_path, "--on", "stopping", "--method", "sgns", "--method", "cbow")
    epochs = [1, 2, 5, 10, 20, 40, 80]
    assert [item["method"] for item in rows] == [
        str(make("sgns", dim=50, threads=1, epochs=count)) for count in epochs
    ]
    assert {"training", "held_out", *TASKS} <= rows[0].keys()
    assert rows[-1]["held_out"] < rows[0]["held_out"]


@pytest.mark.usefixtures("texts")
def test_a_method_is_compared_at_every_width(tmp_path: Path) -> None:
    rows = compared(tmp_path, "--on", "width", "--method", "sgns")
    assert [item["method"] for item in rows[:-1]] == [
        str(make("sgns", dim=width, threads=1)) for width in (10, 20, 50, 100, 200)
    ]
    assert rows[-1]["method"] == RANDOM


def test_a_method_without_the_knob_is_compared_as_it_is() -> None:
    assert study.subjects([make("ppmi_svd")], "stopping") == study.alike([make("ppmi_svd")])


@pytest.mark.usefixtures("texts")
def test_sentiment_is_told_if_the_vectors_tell_it(monkeypatch: pytest.MonkeyPatch) -> None:
    given = [("pos", "good film"), ("neg", "bad film"), ("pos", "unknown word")] * 20
    monkeypatch.setattr(data, "labelled", lambda name: given)
    # what is unknown is the zero vector, for which one class or the other is always guessed
    assert sentiment(table({"good": [1, 0], "bad": [0, 1], "film": [1, 1]})) == 1
    assert sentiment(table({"good": [1, 1], "bad": [1, 1], "film": [1, 1]})) < 0.7


def test_settings_are_named() -> None:
    assert trial.SETTINGS == ("invented", "novels", "reviews", "domain", "stopping", "width")
