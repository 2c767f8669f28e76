"""``tokenspace words evaluate``: sets by name and as files, the report, the plot, errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tokenspace import data
from tokenspace.cli import main
from tokenspace.console import short_names
from tokenspace.errors import ConfigError, InputError
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary
from tokenspace.words.evaluation import evaluate
from tokenspace.words.evaluation.page import render
from tokenspace.words.evaluation.sets import SETS, choose

WORDS = ["man", "woman", "king", "queen", "cat", "dog", "car", "bus", "runs", "sleeps"]


@pytest.fixture(autouse=True)
def no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no public set be there, and nothing be downloaded."""
    monkeypatch.setenv("TOKENSPACE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    gone = (data.Source(s.name, s.path, s.sha256, None) for s in data.sources())
    table = tuple(gone)
    monkeypatch.setattr(data, "sources", lambda: table)


@pytest.fixture
def tables(tmp_path: Path) -> list[str]:
    """Two tables of ten words; the second lacks one."""
    kinds = np.repeat(np.eye(4), [4, 2, 2, 2], axis=0)
    paths = []
    for seed, count in ((0, 10), (1, 9)):
        noise = np.random.default_rng(seed).standard_normal((10, 4))
        vectors = (kinds + 0.2 * noise)[:count].astype(np.float32)
        path = tmp_path / f"t{seed}.vec"
        EmbeddingTable(Vocabulary.words(WORDS[:count]), vectors).save(path)
        paths.append(str(path))
    return paths


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    draw = np.random.default_rng(0)
    pairs = [(a, b) for i, a in enumerate(WORDS) for b in WORDS[:i]]
    texts = {
        "similarity": "".join(f"{a}\t{b}\t{draw.random():.3f}\n" for a, b in pairs),
        "analogy": ": family\nman woman king queen\nking queen man woman\n",
        "categories": "".join(f"k{i // 4} {w}\n" for i, w in enumerate(WORDS[:8])),
        "outliers": "g man in\ng woman in\ng king in\ng car out\ng bus out\n",
        "features": "".join(f"{w} k{i // 4}\n" for i, w in enumerate(WORDS[:8])),
        "sentences": "".join(
            f"{draw.random():.3f}\t{a} runs\tThe {b}, sleeps!\n" for a, b in pairs[:12]
        ),
        "pos": "man N\nruns V\n\ncat N\nsleeps V\n\n" * 6,
        "ner": "man B-P\nruns O\n\nking B-P\nqueen I-P\n\n" * 6,
    }
    out = {}
    for task, text in texts.items():
        path = tmp_path / f"{task}.txt"
        path.write_text(text)
        out[task] = str(path)
    return out


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["words", "evaluate", *words])
    return int(caught.value.code or 0)


def test_every_task_of_two_tables(tables, files, tmp_path: Path, capsys) -> None:
    on = [f"--on={task}:{path}" for task, path in files.items()]
    plot, page, report = (tmp_path / name for name in ("p.svg", "p.html", "r.json"))
    written = ["--svg", str(plot), "--html", str(page), "--out", str(report)]
    assert run(*tables, *on, *written, "--resamples", "50") == 0
    shown = capsys.readouterr().out
    assert "2 tables on 8 sets" in shown
    for measure in ("spearman", "3cosadd", "lrcos", "purity", "accuracy", "cca", "sif+top", "f1"):
        assert measure in shown
    assert "36 / 45 of 45" in shown or "45 / 36 of 45" in shown
    found = json.loads(report.read_text())
    assert {row["task"] for row in found["rows"]} == set(files)
    assert {row["table"] for row in found["rows"]} == {"t0.vec", "t1.vec"}
    first = next(row for row in found["rows"] if row["task"] == "similarity")
    assert (first["used"], first["total"], first["unknown"]) == (45, 45, [])
    second = next(r for r in found["rows"] if r["task"] == "similarity" and r["table"] == "t1.vec")
    assert (second["used"], second["unknown"]) == (36, ["sleeps"])
    assert len(found["comparisons"]) == len(found["rows"]) / 2
    assert {item["test"] for item in found["comparisons"]} == {
        "Williams", "McNemar", "paired bootstrap",
    }  # fmt: skip
    assert found["inputs"]["t0.vec"]
    assert "NaN" not in report.read_text()
    text = page.read_text()
    assert "<svg" in text
    assert "Words that a table lacks" in text
    assert "sleeps" in text
    assert plot.read_text().startswith("<svg")
    assert "similarity" in plot.read_text()


def test_json_and_the_same_seed(tables, files, capsys) -> None:
    outputs = []
    for seed in ("0", "0", "1"):
        assert run(tables[0], "--on", files["similarity"], "--json", "--seed", seed) == 0
        outputs.append(json.loads(capsys.readouterr().out)["rows"])
    assert outputs[0] == outputs[1]
    assert outputs[0][0]["low"] != outputs[2][0]["low"]
    assert outputs[0][0]["value"] == outputs[2][0]["value"]


def test_a_figure_that_is_not_defined_says_why(make, tmp_path: Path, capsys) -> None:
    (tmp_path / "p.tsv").write_text("a\tb\t1\na\tc\t1\nb\tc\t1\n")
    make("abc").save(tmp_path / "t.vec")
    make("xyz").save(tmp_path / "u.vec")
    on = ["--on", str(tmp_path / "p.tsv")]
    assert run(str(tmp_path / "t.vec"), str(tmp_path / "u.vec"), *on, "--json") == 0
    equal, none = json.loads(capsys.readouterr().out)["rows"]
    assert (equal["value"], equal["notes"]) == (None, ["no figure: all values are equal"])
    assert (none["value"], none["notes"]) == (None, ["no item is known"])
    assert run(str(tmp_path / "t.vec"), *on, "--svg", str(tmp_path / "p.svg")) == 0
    assert "–" in capsys.readouterr().out


def test_sets_that_are_not_here_are_named(tables, files, capsys) -> None:
    assert run(tables[0], "--on", "EN-RG-65", "--on", files["similarity"]) == 0
    assert (
        "skipped EN-RG-65: wordsim/EN-RG-65.tsv is not on this machine" in capsys.readouterr().out
    )
    assert run(tables[0]) == 3
    error = capsys.readouterr().err
    assert "none of the sets is on this machine" in error
    assert "TOKENSPACE_DATA" in error


@pytest.mark.parametrize(
    ("words", "says", "code"),
    [
        (["--on", "EN-SIMLEX"], "no file (hint: did you mean 'EN-SIMLEX-999'?)", 2),
        (["--on", "similarity:nowhere.tsv"], "nowhere.tsv: no such file", 3),
        (["--on", "pos:a,b,c"], "3 files", 2),
        (["--language", "xx"], "no public set is known for language 'xx'", 2),
        (["--language", "tr", "--on", "sentences"], "no public set for sentences", 2),
        (["--oov", "drop"], "'drop' is not one of", 2),
        (["--resamples", "0"], "--resamples", 2),
    ],
)  # fmt: skip
def test_wrong_words_are_told(tables, capsys, words: list[str], says: str, code: int) -> None:
    assert run(tables[0], *words) == code
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_nothing_is_replaced_unasked(tables, files, tmp_path: Path, capsys) -> None:
    kept = tmp_path / "kept.svg"
    kept.write_text("mine")
    assert run(tables[0], "--on", files["similarity"], "--svg", str(kept)) == 2
    assert "kept.svg exists" in capsys.readouterr().err
    assert kept.read_text() == "mine"
    assert run(tables[0], "--on", files["similarity"], "--svg", str(kept), "--force") == 0
    assert kept.read_text() != "mine"
    assert run(str(tmp_path / "no.vec"), "--on", files["similarity"]) == 3


def test_sets_by_language_and_task() -> None:
    english = [item.name for item in choose(())]
    assert len(english) == sum(known.language == "en" for known in SETS.values()) == 18
    assert [item.task for item in choose(["analogy"], "tr")] == ["analogy"]
    assert [item.name for item in choose(["EN-RG-65", "EN-RG-65"])] == ["EN-RG-65"]
    for known in SETS.values():
        assert any(known.source in (source.name, source.path) for source in data.sources())


def test_two_files_of_tags_are_for_learning_and_for_testing(tmp_path: Path) -> None:
    for name, word in (("train", "man"), ("test", "king")):
        (tmp_path / name).write_text(f"{word} N\n")
    (item,) = choose([f"pos:{tmp_path / 'train'},{tmp_path / 'test'}"])
    assert item.load() == ([(("man",), ("N",))], [(("king",), ("N",))])


def test_files_are_called_by_their_names(tmp_path: Path) -> None:
    given = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.tsv").write_text("a\tb\t1\n")
        given.append(f"similarity:{tmp_path / folder / 'x.tsv'}")
    assert [item.name for item in choose([*given, given[0]])] == ["x.tsv", given[1]]


def test_short_names() -> None:
    assert short_names(["a/x.vec", "b/y.vec", "c/x.vec"]) == ["x.vec (1)", "y.vec", "x.vec (3)"]


def test_three_tables_are_compared_pair_by_pair(make, files) -> None:
    given = {name: make(WORDS, seed=seed) for seed, name in enumerate("abc")}
    found = evaluate(given, [files["similarity"]], resamples=20)
    assert [(item.first, item.second) for item in found.comparisons] == [
        ("a", "b"), ("a", "c"), ("b", "c"),
    ]  # fmt: skip
    for item in found.comparisons:
        assert item.adjusted >= item.p
    assert "a – c" in render(found)


def test_a_broken_file_of_the_user_is_no_skipped_set(make, tmp_path: Path) -> None:
    (tmp_path / "bad.tsv").write_text("a\tb\tc\td\te\n")
    with pytest.raises(InputError, match="'c' is not a number"):
        evaluate({"t": make(WORDS)}, [f"similarity:{tmp_path / 'bad.tsv'}"])
    with pytest.raises(ConfigError, match="oov"):
        evaluate({"t": make(WORDS)}, ["similarity"], oov="x")  # type: ignore[arg-type]
