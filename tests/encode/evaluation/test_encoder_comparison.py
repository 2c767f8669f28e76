"""Encoders compared: the tests between them, the command, its page, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tokenspace.data import zipf_text
from tokenspace.encode.evaluation import choose, compare, compare_scores
from tokenspace.encode.evaluation.page import outcomes, render, scores
from tokenspace.encode.evaluation.training import course
from tokenspace.encode.static import StaticEncoder, text_vocabulary
from tokenspace.errors import ConfigError, InputError
from tokenspace.significance import signed_rank
from tokenspace.toy_encoder import ToyEncoder
from tokenspace.vocab import Vocabulary

Given = dict[str, dict[tuple[str, str], float]]


@pytest.fixture(autouse=True)
def no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENSPACE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two encoders of words as directories, and a file of every kind that can be asked about."""
    texts = zipf_text(120, 60, 3, seed=1)
    vocab = text_vocabulary(Vocabulary.words(sorted({word for t in texts for word in t.split()})))
    for seed, name in enumerate(("one", "two")):
        rows = np.random.default_rng(seed).standard_normal((len(vocab), 8)).astype(np.float32)
        StaticEncoder(vocab, rows).save(tmp_path / name)
    halves = [(" ".join(t.split()[::2]), " ".join(t.split()[1::2])) for t in texts]
    lines = {
        "scored.csv": ["a,b,score", *(f"{a},{b},{i % 5}" for i, (a, b) in enumerate(halves))],
        "binary.csv": ["a,b,score", *(f"{a},{b},{i % 2}" for i, (a, b) in enumerate(halves))],
        "labelled.csv": ["text,label", *(f"{t},{'xyz'[i % 3]}" for i, t in enumerate(texts))],
        "single.csv": ["text,label", *(f"{t},x" for t in texts)],
        "pairs.csv": ["query,answer", *(f"{a},{b}" for a, b in halves)],
        "triplets.csv": [
            "anchor,positive,negative,negative_2",
            *(f"{a},{b},{texts[i - 1]},{texts[i - 2]}" for i, (a, b) in enumerate(halves)),
        ],
        "texts.txt": texts,
    }
    for name, rows in lines.items():
        (tmp_path / name).write_text("\n".join(rows) + "\n")
    return tmp_path


def made(family: str, **columns: list[float]) -> Given:
    return {
        model: {(family, f"d{i}"): value for i, value in enumerate(values)}
        for model, values in columns.items()
    }


def test_families_are_tested_each_by_itself() -> None:
    draw = np.random.default_rng(0)
    first, second = draw.random((2, 9))
    given = made("sts", a=first.tolist(), b=second.tolist())
    for model, values in made("retrieval", a=[2.0] * 7, b=[1.0] * 7).items():
        given[model].update(values)
    found = {test.family: test for test in compare_scores(given)}
    assert found["sts"].p == found["sts"].adjusted == signed_rank(first, second).p
    assert found["sts"].difference == pytest.approx((first - second).mean())
    assert found["sts"].won + found["sts"].lost == found["sts"].sets == 9
    assert found["retrieval"].p == 2 / 128
    assert found["retrieval"].verdict == "a is better"


def test_who_is_better_is_said_by_ranks_and_not_by_the_mean() -> None:
    # b wins eight of nine sets by little, a one by much
    given = made("sts", a=[0.5] * 8 + [0.9], b=[0.51 + 0.001 * i for i in range(8)] + [0.1])
    (test,) = compare_scores(given, alpha=0.2)
    assert test.difference > 0
    assert (test.won, test.lost) == (1, 8)
    assert test.p == pytest.approx(66 / 512)  # 33 of the 512 sums of ranks are at most 9
    assert test.verdict == "b is better"


@pytest.mark.parametrize(("models", "sets"), [(2, 6), (3, 7), (4, 8)])
def test_too_few_sets_cannot_be_significant(models: int, sets: int) -> None:
    pairs = models * (models - 1) // 2
    for n in (sets - 1, sets):
        given = made("sts", **{f"m{k}": [k + 0.01 * i for i in range(n)] for k in range(models)})
        found = compare_scores(given)
        assert len(found) == pairs
        for test in found:
            if n < sets:
                assert test.verdict == f"cannot be significant: {n} sets, {sets} are needed"
                assert np.isnan(test.p)
                assert np.isnan(test.adjusted)
            else:
                assert test.verdict.endswith("is better")
                assert test.adjusted == pytest.approx(min(1, pairs * 2.0 ** (1 - n)))


def test_equal_scores_do_not_count_as_sets() -> None:
    (test,) = compare_scores(made("sts", a=[1.0] * 8, b=[1.0] * 4 + [2.0] * 4))
    assert test.verdict == "cannot be significant: 4 sets that differ, 6 are needed"
    assert (test.won, test.lost, test.sets) == (0, 4, 8)
    (same,) = compare_scores(made("sts", a=[1.0] * 8, b=[1.0] * 8))
    assert same.verdict.startswith("cannot be significant: 0 sets that differ")


def test_a_later_step_of_holm_needs_fewer_sets() -> None:
    # two pairs: the first has 7 sets (p 1/64, twice that is significant), the second 6 (p 1/32)
    given = made("sts", a=[1.0 + 0.1 * i for i in range(7)], b=[0.5] * 7, c=[0.2] * 6)
    first, second = compare_scores(given, [("a", "b"), ("a", "c")])
    assert (first.p, second.p) == (2 / 128, 2 / 64)
    assert second.adjusted == pytest.approx(2 / 64)
    assert second.verdict == "a is better"


def test_encoders_on_built_in_sets() -> None:
    models = {"one": ToyEncoder(), "two": ToyEncoder(seed=1), "three": ToyEncoder(dim=4)}
    chosen = choose(["sts", "classification", "retrieval"], built_in=True)
    found = compare(models, chosen, limit=60, resamples=200)
    assert len(found.rows) == 3 * len(chosen)
    assert len(found.differences) == len(found.tests) == 3 * len(chosen)
    for row in found.rows:
        assert 0 <= row["low"] <= row["score"] <= row["high"] <= 1 or row["family"] == "sts"
    for item in found.differences:
        by = {r["model"]: r["score"] for r in found.rows if r["family"] == item.family}
        assert item.difference == pytest.approx(by[item.first] - by[item.second])
        assert item.low <= item.difference <= item.high
    assert all("cannot be significant: 1 set" in test.verdict for test in found.tests)
    again = compare(models, chosen, limit=60, resamples=200)
    assert again.rows == found.rows
    assert again.differences == found.differences
    with_baseline = compare(models, chosen, baseline="two", limit=60, resamples=20)
    pairs = {(test.first, test.second) for test in with_baseline.tests}
    assert pairs == {("one", "two"), ("three", "two")}


def test_an_encoder_does_not_differ_from_itself() -> None:
    found = compare(
        {"one": ToyEncoder(), "same": ToyEncoder()}, choose(["sts"], built_in=True), resamples=50
    )
    (item,) = found.differences
    assert (item.difference, item.low, item.high) == (0.0, 0.0, 0.0)


def test_an_encoder_without_a_figure_is_noted_and_not_tested() -> None:
    class Same:
        dim = 2

        def encode(self, texts: list[str], *, batch_size: int = 32) -> np.ndarray:
            return np.ones((len(texts), 2), np.float32)

    chosen = choose(["sts", "retrieval"], built_in=True)
    found = compare({"same": Same(), "toy": ToyEncoder()}, chosen, limit=40, resamples=20)
    assert "same has no figure on python: all its cosines are equal" in found.notes
    assert [test.family for test in found.tests] == ["retrieval"]
    assert scores(found)[1][0][3:] == ["–", scores(found)[1][0][4], "–"]
    assert "nan" not in render(found).replace("python", "")
    assert json.loads(found.to_json())["rows"][0]["score"] is None


def test_a_handful_of_items_has_no_interval() -> None:
    models = {"one": ToyEncoder(), "two": ToyEncoder(seed=1)}
    found = compare(models, choose(["retrieval"], built_in=True), limit=40, resamples=20)
    (item,) = found.differences
    assert item.items == 8
    assert np.isnan([item.low, item.high]).all()
    assert scores(found)[1][0][-1] == f"{item.difference:+.4f} (8 items)"
    assert "<svg" in render(found)
    assert json.loads(found.to_json())["differences"][0]["low"] is None


def test_scores_from_elsewhere_are_compared_among_themselves() -> None:
    given = made("sts", a=[0.1 * i for i in range(6)], b=[0.2 * i + 1 for i in range(6)])
    found = compare({}, scores=given)
    assert [test.verdict for test in found.tests] == ["b is better"]
    assert found.differences == []
    assert len(found.rows) == 12
    both = compare({"toy": ToyEncoder()}, choose(["sts"], built_in=True), scores=given, limit=40)
    said = "toy and a have no data set in common: not compared (and 1 pairs more)"
    assert said in both.notes
    assert len(both.tests) == 1


def test_the_report_is_json_and_the_page_whole(tmp_path: Path) -> None:
    models = {"<one>": ToyEncoder(), "two": ToyEncoder(seed=1), "three": ToyEncoder(dim=4)}
    found = compare(models, choose(["sts"], built_in=True), limit=40, resamples=20)
    plain = json.loads(found.to_json())
    assert plain["tests"][0]["p"] is None
    assert plain["recipe"]["resamples"] == 20
    page = render(found)
    assert page.count("<svg") == 1 + 3
    assert "&lt;one&gt;" in page
    assert "<one>" not in page
    assert "cannot be significant" in page
    head, lines = scores(found)
    assert head == ["family", "set", "measure", "<one>", "two", "three"]
    assert len(lines) == 1
    assert len(outcomes(found)) == 3


def test_the_command(folder: Path, cli: Callable[..., object]) -> None:
    page, report = folder / "page.html", folder / "report.json"
    files = [f"--task={folder / name}" for name in ("scored.csv", "labelled.csv", "pairs.csv")]
    files += [
        f"--task=pair_classification:{folder / 'binary.csv'}",
        f"--task=clustering:{folder / 'labelled.csv'}",
        f"--task={folder / 'triplets.csv'}",
    ]
    models = ["--model", folder / "one", "--model", folder / "two"]
    done = cli("compare", "encode", *models, *files, "--html", page, "--out", report)
    assert done.code == 0, done.err
    assert "cannot be significant: 1 set, 6 are needed" in done.out
    assert "Wilcoxon" in done.out
    assert page.read_text().startswith("<!doctype html>")
    saved = json.loads(report.read_text())
    measured = [(row["family"], row["set"]) for row in saved["rows"] if row["model"] == "one"]
    assert measured == [
        ("sts", "scored.csv"),
        ("classification", "labelled.csv"),
        ("retrieval", "pairs.csv"),
        ("pair_classification", "binary.csv"),
        ("clustering", "labelled.csv"),
        ("reranking", "triplets.csv"),
    ]
    assert set(saved["inputs"]) == {"one", "two"}
    again = cli("compare", "encode", *models, files[1], "--json")
    rows = [row for row in saved["rows"] if row["family"] == "classification"]
    assert json.loads(again.out)["rows"] == rows


def test_the_command_without_data_takes_the_built_in_sets(folder: Path, cli) -> None:
    done = cli("compare", "encode", "--model", folder / "one", "--tiny", "--json")
    rows = json.loads(done.out)["rows"]
    assert [row["set"] for row in rows] == ["python"] * 6
    assert all(row["items"] <= 60 for row in rows)
    found = [(item.family, item.name) for item in choose(["sts"])]
    assert found == [("sts", "python")]


def test_the_command_reads_results(tmp_path: Path, cli) -> None:
    path = tmp_path / "scores.csv"
    rows = [f"STS{i},{0.5 + 0.01 * i},{0.4 + 0.02 * i},0.3" for i in range(8)]
    path.write_text("\n".join(["dataset,a,b,c", *rows]) + "\n")
    done = cli("compare", "encode", "--results", path, "--baseline", "c")
    assert done.code == 0, done.err
    assert "a – c" in done.out
    assert "b – c" in done.out
    assert "a – b" not in done.out
    assert "a is better" in done.out
    strict = cli("compare", "encode", "--results", path, "--baseline", "c", "--alpha", "0.001")
    assert "cannot be significant: 8 sets, 12 are needed" in strict.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "{}/one", "--task", "stz"], "'stz' is no task, no set and no file"),
        (["--model", "{}/one", "--task", "{}/gone.csv"], "is no task, no set and no file"),
        (["--model", "{}/one", "--task", "sts:{}/gone.csv"], "gone.csv: no such file"),
        (["--model", "{}/one", "--task", "sts:{}/labelled.csv"], "labelled are nothing for sts"),
        (["--model", "{}/one", "--task", "{}/texts.txt"], "texts without scores"),
        (["--model", "{}/one", "--task", "{}/single.csv"], "only one class"),
        (["--model", "{}/one", "--task", "pair_classification:{}/scored.csv"], "expected 0 and 1"),
        (["--model", "{}/gone"], "gone"),
        (["--model", "{}/one", "--baseline", "x", "--tiny"], "'x' is not compared"),
        (["--results", "{}/texts.txt"], "not JSON"),
        (["--task", "sts"], "no model to compare"),
        (["--model", "{}/one", "--method", "sif"], "methods are not compared with models"),
        (["--model", "{}/one", "--task", "cran"], "none of the sets is on this machine"),
    ],
)
def test_what_the_command_refuses(folder: Path, cli, words: list[str], said: str) -> None:
    done = cli("compare", "encode", *(word.format(folder) for word in words))
    assert done.code != 0
    assert said in done.err
    assert "(hint: " in done.err
    assert done.out == ""


def test_families_without_models_say_so(cli) -> None:
    done = cli("compare", "lm", "--model", "x")
    assert "lm compares methods, not models (hint: families that compare models: encode" in done.err


def test_scores_without_a_set_in_common_are_refused() -> None:
    given = {"a": {("sts", "x"): 1.0}, "b": {("sts", "y"): 1.0}}
    with pytest.raises(InputError, match="a and b have no data set in common"):
        compare({}, scores=given)
    with pytest.raises(ConfigError, match="no model"):
        compare({})
    with pytest.raises(ConfigError, match="a is a model and in the results"):
        compare({"a": ToyEncoder()}, scores=given)
    with pytest.raises(ConfigError, match="limit=7"):
        compare({"a": ToyEncoder()}, limit=7)
    with pytest.raises(InputError, match="pair 0 is"):
        compare_scores({"a": {("sts", "x"): float("nan")}, "b": {("sts", "x"): 1.0}})


def test_files_of_one_name_are_kept_apart(folder: Path) -> None:
    other = folder / "other" / "pairs.csv"
    other.parent.mkdir()
    other.write_text((folder / "pairs.csv").read_text())
    found = choose([str(folder / "pairs.csv"), str(other), str(other)])
    assert [item.name for item in found] == ["pairs.csv", str(other)]


def test_users_files_become_tasks(folder: Path) -> None:
    (search,) = choose([str(folder / "triplets.csv")])
    given = search.load(limit=10)
    assert len(given.queries) == 10
    for own, right in zip(given.candidates, given.relevant, strict=True):
        assert right <= set(own)
        assert len(own) == 3
    (pairs,) = choose([str(folder / "pairs.csv")])
    cut = pairs.load(limit=30)
    assert len(cut.docs) == 30
    assert len(cut.queries) == 6
    texts = dict(line.split(",") for line in (folder / "pairs.csv").read_text().splitlines()[1:])
    for query, right in zip(cut.queries, cut.relevant, strict=True):
        assert [cut.docs[i] for i in right] == [texts[query]]
    (labelled,) = choose([f"clustering:{folder / 'labelled.csv'}"])
    assert labelled.load(limit=1000).labels == ["x", "y", "z"] * 40


def test_trainings_are_drawn_where_directories_tell(folder: Path, cli) -> None:
    rows = [{"step": i, "loss": 1 / i, "note": "x"} for i in range(1, 301)]
    (folder / "one" / "report.json").write_text(json.dumps({"rows": [{"a": 1}, *rows]}))
    state = folder / "two" / "checkpoint-7" / "trainer_state.json"
    state.parent.mkdir()
    history = [{"step": 5, "loss": 0.5, "epoch": 1.0}, {"step": 5, "eval_loss": 0.6}]
    state.write_text(json.dumps({"log_history": history}))
    found = course(folder / "one")
    assert len(found) == 100
    assert found[0] == {"step": 1.0, "loss": 1.0}
    assert course(folder / "two") == [{"step": 5.0, "loss": 0.5, "epoch": 1.0, "eval_loss": 0.6}]
    assert course(folder) == []
    models = ["--model", folder / "one", "--model", folder / "two"]
    done = cli("compare", "encode", *models, "--task", "sts", "--tiny", "--html", folder / "p.html")
    assert done.code == 0, done.err
    page = (folder / "p.html").read_text()
    assert "How they learned" in page
    assert "eval loss by training step" in page
    assert "epoch by" not in page
