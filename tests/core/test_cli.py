"""The command line: exit codes, one-line errors, JSON for programs, and the verbs on methods."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokenspace import catalog, report
from tokenspace.errors import MissingExtra
from tokenspace.page import plots
from tokenspace.recipe import evidence
from tokenspace.report import Reproduction
from tokenspace.table import EmbeddingTable
from tokenspace.text_files import standard_input

Cli = Callable[..., Any]
METHOD = next(  # any that needs nothing but a table
    entry.name
    for entry in catalog.members("compress")
    if sum(item.required for item in evidence(entry.load())) == 1
)


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    bag = import_module("tokenspace.compress.trial").bag(tiny=True)
    np.save(tmp_path / "vectors.npy", bag["source"])
    return tmp_path / "vectors.npy"


def assert_refused(ended: Any, code: int, *words: str) -> None:
    """Fail unless the command ended with ``code`` and one line that says ``words`` and a hint."""
    assert ended.code == code, ended.err
    assert ended.out == ""
    (line,) = ended.err.splitlines()
    assert line.startswith("tokenspace: error: ")
    assert "(hint: " in line
    for word in words:
        assert word in line


# ------------------------------------------------------------------------------------------ text


def test_text_comes_from_standard_input_in_its_language(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    standard_input.cache_clear()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("IŞIK gel\nışık git\n".encode())))
    out = tmp_path / "vectors"
    learn = ["words", "ppmi_svd", "--min-count", "1", "--dim", "2", "--language", "tr"]
    try:
        assert cli(*learn, "--corpus", "-", "--out", str(out)).code == 0
    finally:
        standard_input().unlink()
        standard_input.cache_clear()
    assert EmbeddingTable.load(out).vocab.tokens == ("ışık", "gel", "git")
    saved = json.loads((out / "report.json").read_text())
    assert saved["recipe"]["options"] == {"language": "tr"}
    assert_refused(cli("run", f"{out}/report.json", "--out", "x"), 3, "came from standard input")
    assert cli(*learn, "--corpus", "absent", "--split", "spaces", "--out", "x").code == 2


def test_a_report_runs_again_with_the_reading_of_its_text(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,body\n1,One two-three one.\n2,Two one four\n")
    first, again = str(tmp_path / "first"), str(tmp_path / "again")
    corpus = f"{tmp_path / 'a.csv'}#body"
    learn = ["words", "ppmi_svd", "--corpus", corpus, "--min-count", "1", "--dim", "2"]
    assert cli(*learn, "--split", "whitespace", "--out", first).code == 0
    assert cli("run", f"{first}/report.json", "--out", again).code == 0
    tokens = EmbeddingTable.load(again).vocab.tokens
    assert "two-three" in tokens
    assert tokens == EmbeddingTable.load(first).vocab.tokens


# ------------------------------------------------------------------------------- usage and errors


def test_help_shows_verbs_and_families(cli: Cli) -> None:
    ended = cli("--help")
    assert ended.code == 0
    for word in ("build", "search", "reproduce", *(family.name for family in catalog.FAMILIES)):
        assert word in ended.out
    assert cli("-h") == ended
    assert "0.1.0" in cli("--version").out


@pytest.mark.parametrize("family", [family.name for family in catalog.FAMILIES])
def test_help_of_a_family_shows_its_methods(cli: Cli, family: str) -> None:
    out = cli(family, "--help").out
    assert all(entry.name in out for entry in catalog.members(family))


def test_help_of_a_method_keeps_the_lines_of_its_page(cli: Cli) -> None:
    out = cli("compress", METHOD, "--help").out
    lines = [line.strip() for line in out.splitlines()]
    assert lines[lines.index("The idea") + 1] == "--------"
    assert "--source" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["serch"], "'search'"),
        (["compres"], "'compress'"),
        (["compress", METHOD + "x"], METHOD),
        (["compress", METHOD], "--source"),
        (["compress", METHOD, "--no-such-knob", "1"], "--no-such-knob"),
        (["list", "zoo"], "zoo"),
        (["show", METHOD + "x"], METHOD),
        (["reproduce"], "--all"),
        (["reproduce", METHOD, "--all"], "--all"),
        (["reproduce", METHOD, "--smoke", "--record"], "--record"),
        (["reproduce", METHOD, "--seeds", "a"], "--seeds"),
        (["compare", "zoo"], "zoo"),
        (["compare", "compress", "--method", "nothing"], "nothing"),
        (["compare", "compress", "--method", catalog.members("words")[0].name], "compress"),
        (["compare", "compress", "--method", METHOD + ":x=1"], "x"),
        (["compare", "compress", "--on", "mars"], "mars"),
        (["compare", "transplant", "--on", "mars"], "english"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(cli: Cli, words: list[str], said: str) -> None:
    assert_refused(cli(*words), 2, said)


def test_bad_input_is_one_line_and_code_3(cli: Cli, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out")
    assert_refused(cli("compress", METHOD, "--source", "nowhere.npy", *out), 3, "nowhere.npy")
    np.save(tmp_path / "bad.npy", np.full((3, 4), np.nan, np.float32))
    assert_refused(cli("compress", METHOD, "--source", tmp_path / "bad.npy", *out), 3, "NaN")
    np.save(tmp_path / "flat.npy", np.zeros(4, np.float32))
    assert_refused(cli("compress", METHOD, "--source", tmp_path / "flat.npy", *out), 3, "flat.npy")
    assert_refused(cli("run", tmp_path / "gone.json", *out), 3, "gone.json")
    assert not (tmp_path / "out").exists()


def test_a_traceback_comes_only_when_it_is_asked_for(cli: Cli) -> None:
    assert "Traceback" not in cli("show", "zoo").err
    ended = cli("-vv", "show", "zoo")
    assert ended.code == 2
    assert "Traceback" in ended.err
    assert ended.err.splitlines()[-1].startswith("tokenspace: error: ")


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(28, "No space left on device", "x"), 3, "free some space"),
        (PermissionError(13, "Permission denied", "x"), 3, "Permission denied"),
        (MemoryError("9 GB"), 3, "out of memory"),
        (MissingExtra.named("models", "this"), 2, "pip install"),
    ],
)
def test_faults_become_codes(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, fault: BaseException, code: int, said: str
) -> None:
    def burst(name: str) -> None:
        raise fault

    monkeypatch.setattr(catalog, "find", burst)
    ended = cli("show", METHOD)
    assert ended.code == code
    assert said in ended.err
    assert len(ended.err.strip().splitlines()) == 1  # click first ends the line of ^C


def test_it_is_a_module_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tokenspace", "serch"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1


# ------------------------------------------------------------------------------- list, show, doctor


def test_list_is_an_array_with_a_fixed_shape(cli: Cli) -> None:
    rows = json.loads(cli("list", "--json").out)
    assert [row["name"] for row in rows] == [entry.name for entry in catalog.CATALOG]
    for row in rows:
        assert list(row) == [
            "family", "name", "paper", "summary", "stability", "verdict", "result",
        ]  # fmt: skip
        assert row["verdict"] in ("holds", "weak", "fails", "untested")
        assert (row["result"] is None) == (row["verdict"] == "untested")


def test_list_shows_a_table_of_one_family(cli: Cli) -> None:
    out = cli("list", "words").out
    assert all(entry.name in out for entry in catalog.members("words"))
    assert METHOD not in out


def test_plugins_are_listed_only_on_demand(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from tokenspace import verbs

    plugin = replace(catalog.CATALOG[0], name="added")

    class Point:
        name, value = "added", "elsewhere:ENTRY"

        def load(self) -> catalog.Entry:
            return plugin

    monkeypatch.setattr(verbs.metadata, "entry_points", lambda group: [Point()])
    assert "added" not in cli("list").out
    rows = json.loads(cli("list", "--plugins", "--json").out)
    assert rows[-1]["name"] == "added"
    monkeypatch.setattr(Point, "load", lambda self: None)
    assert_refused(cli("list", "--plugins"), 2, "elsewhere:ENTRY")


@pytest.mark.parametrize("name", [entry.name for entry in catalog.CATALOG])
def test_show_explains_a_method(cli: Cli, name: str) -> None:
    out = cli("show", name).out
    assert "The idea" in out
    assert "Claim: " in out
    about = json.loads(cli("show", name, "--json").out)
    assert about["synopsis"].startswith(f"tokenspace {about['family']} {name} ")
    assert about["claim"]["metric"]


def test_doctor_says_what_a_bug_report_needs(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("a")
    monkeypatch.setenv("TOKENSPACE_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    facts = json.loads(cli("doctor", "--json").out)
    assert facts["environment"]["numpy"] == np.__version__
    assert facts["threads"] == 1  # as conftest.py asks for
    assert facts["data"] == {"TOKENSPACE_DATA": str(tmp_path), "files": 1}
    assert facts["cache"] == {"path": str(tmp_path / "cache" / "tokenspace"), "writable": True}
    assert set(facts["extras"]) >= {"models", "dev", "peers"}
    assert facts["blas"]
    assert "numba_cache" in cli("doctor").out


# ------------------------------------------------------------------------------- methods and runs


def test_a_method_runs_from_paths_to_a_path(cli: Cli, vectors: Path, tmp_path: Path) -> None:
    words = ("compress", METHOD, "--source", vectors, "--out", tmp_path / "made")
    assert cli(*words).code == 0
    assert_refused(cli(*words), 2, "exists", "--force")
    done = json.loads(cli(*words, "--force", "--json").out)
    assert done["recipe"]["method"] == METHOD
    (entry,) = done["inputs"]["source"].items()
    assert entry[0] == str(vectors)
    assert len(entry[1]) == 64
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def report_of(out: Path) -> Path:
    return out / "report.json" if out.is_dir() else out.with_name(out.name + ".report.json")


def test_run_repeats_exactly_what_was_recorded(cli: Cli, vectors: Path, tmp_path: Path) -> None:
    cli("compress", METHOD, "--source", vectors, "--out", tmp_path / "made")
    saved = report_of(tmp_path / "made")
    ended = cli("run", saved, "--out", tmp_path / "again", "--json")
    assert ended.code == 0, ended.err
    first, second = json.loads(saved.read_text()), json.loads(ended.out)
    assert (second["recipe"], second["inputs"]) == (first["recipe"], first["inputs"])

    np.save(vectors, np.load(vectors) * 2)
    words = ("run", saved, "--out", tmp_path / "third")
    assert_refused(cli(*words), 3, "SHA-256", "--force")
    assert cli(*words, "--force").code == 0
    vectors.unlink()
    assert_refused(cli(*words, "--force"), 3, "gone")


@pytest.mark.parametrize("text", ["not json", "[]", '{"recipe": {}}', '{"recipe": 1}'])
def test_run_refuses_what_is_not_a_report(cli: Cli, tmp_path: Path, text: str) -> None:
    (tmp_path / "report.json").write_text(text)
    ended = cli("run", tmp_path / "report.json", "--out", tmp_path / "out")
    assert_refused(ended, 3, "not the report of a method")


def test_knobs_come_from_a_file_and_flags_win(cli: Cli, tmp_path: Path, vectors: Path) -> None:
    words = ["compress", METHOD, "--source", vectors, "--out", tmp_path / "out", "--config"]
    (tmp_path / "knobs.toml").write_text("nonsense = 1\n")
    assert_refused(cli(*words, tmp_path / "knobs.toml"), 2, "nonsense")
    (tmp_path / "knobs.toml").write_text("= broken")
    assert_refused(cli(*words, tmp_path / "knobs.toml"), 2, "knobs.toml")
    assert_refused(cli(*words, tmp_path / "absent.toml"), 2, "absent.toml")
    (tmp_path / "knobs.toml").write_text("# the defaults\n")
    assert cli(*words, tmp_path / "knobs.toml").code == 0


@pytest.mark.parametrize("family", [family.name for family in catalog.FAMILIES])
def test_compare_judges_every_method_alike(cli: Cli, family: str, tmp_path: Path) -> None:
    ended = cli("compare", family, "--tiny", "--json", "--out", tmp_path / "report.json")
    assert ended.code == 0, ended.err
    done = json.loads(ended.out)
    assert len(done["rows"]) == len(catalog.members(family))
    assert len({frozenset(row) for row in done["rows"]}) == 1
    assert json.loads((tmp_path / "report.json").read_text()) == done
    assert catalog.members(family)[0].name in cli("compare", family, "--tiny").out


def test_compare_draws_every_figure(cli: Cli, tmp_path: Path) -> None:
    ended = cli("compare", "compress", "--tiny", "--html", tmp_path / "page.html", "--json")
    page = (tmp_path / "page.html").read_text()
    rows = json.loads(ended.out)["rows"]
    figures = rows[0].keys() - {"method"}
    drawn = list(plots(import_module("tokenspace.compress.trial"), rows))
    assert drawn
    assert page.count("<svg") == len(figures) + len(drawn)
    assert all(f"{figure}, by method." in page for figure in figures)
    assert "<script" not in page


# ------------------------------------------------------------------------------- reproduce


def outcome(name: str, verdict: str) -> Reproduction:
    figures = {"method": 0.5, "baseline": 0.4, "gain": 0.1, "gain_low": 0.0, "gain_high": 0.2}
    return Reproduction(
        title=f"{name}: it helps",
        name=name,
        verdict=verdict,  # type: ignore[arg-type]
        claim={"metric": "score", "better": "higher"},
        metrics={**figures, "margin": 0.05},
        rows=[{"side": "method", "seed": 0, "score": 0.5}],
    )


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Replace the measuring: the verdict of each method is given, what was measured is kept."""
    state: dict[str, Any] = {"verdicts": {}, "measured": [], "faults": {}}

    def reproduce(entry: catalog.Entry, **settings: Any) -> Reproduction:
        if entry.name in state["faults"]:
            raise state["faults"][entry.name]
        state["measured"].append(entry.name)
        return outcome(entry.name, state["verdicts"].get(entry.name, "holds"))

    monkeypatch.setattr(report, "reproduce", reproduce)
    monkeypatch.setattr(report.resources, "files", lambda package: tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return state


def test_one_claim_is_one_object(cli: Cli, fake: dict[str, Any]) -> None:
    done = json.loads(cli("reproduce", METHOD, "--json").out)
    assert (done["name"], done["verdict"]) == (METHOD, "holds")
    assert done["rows"][0]["score"] == 0.5
    assert "holds" in cli("reproduce", METHOD).out


def test_a_failed_claim_is_code_1(cli: Cli, fake: dict[str, Any]) -> None:
    fake["verdicts"][METHOD] = "fails"
    ended = cli("reproduce", METHOD)
    assert ended.code == 1
    assert METHOD in ended.err
    assert "fails" in ended.out


def test_record_keeps_the_result(cli: Cli, fake: dict[str, Any], tmp_path: Path) -> None:
    cli("reproduce", METHOD, "--record")
    assert json.loads((tmp_path / "results" / f"{METHOD}.json").read_text())["verdict"] == "holds"


def test_all_goes_on_where_it_stopped(cli: Cli, fake: dict[str, Any]) -> None:
    names = [entry.name for entry in catalog.CATALOG]
    fake["faults"][names[3]] = KeyboardInterrupt()
    assert cli("reproduce", "--all").code == 130
    assert fake["measured"] == names[:3]
    fake["faults"].clear()
    ended = cli("reproduce", "--all", "--json")
    assert fake["measured"] == names
    assert [row["name"] for row in json.loads(ended.out)] == names
    cli("reproduce", "--all")
    assert fake["measured"] == names * 2


def test_a_missing_extra_does_not_stop_the_others(cli: Cli, fake: dict[str, Any]) -> None:
    names = [entry.name for entry in catalog.CATALOG]
    fake["faults"][names[0]] = MissingExtra.named("models", names[0])
    ended = cli("reproduce", "--all", "--json")
    assert ended.code == 2
    assert [row["name"] for row in json.loads(ended.out)] == names[1:]
