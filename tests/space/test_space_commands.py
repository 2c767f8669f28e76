"""The verbs as a user types them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tokenspace.space.page import render
from tokenspace.space.space import Space

Cli = Callable[..., Any]


def test_build_prints_its_steps_and_where_the_report_lies(
    cli: Cli, folder: Path, tmp_path: Path
) -> None:
    small = ("--vocab-size", 400, "--dim", 8, "--epochs", 1)
    ended = cli("build", folder / "with.txt", "--out", tmp_path / "s", *small)
    assert ended.code == 0
    assert "passages" in ended.err and "measure" in ended.err
    assert "report.html" in ended.out
    again = cli("build", folder / "with.txt", "--out", tmp_path / "s", *small, "--json")
    assert json.loads(again.out)["counts"]["sources"] == 1


def test_search_shows_source_line_and_why(cli: Cli, built: Path) -> None:
    ended = cli("search", built, "how", "do", "I", "catch", "an", "exception", "-k", 2)
    assert ended.code == 0
    assert "1. " in ended.out and "why: " in ended.out and "→" in ended.out
    hits = json.loads(cli("search", built, "catch an exception", "-k", 2, "--json").out)
    assert [hit["rank"] for hit in hits] == [1, 2]
    assert hits[0]["alignment"][0].keys() >= {"query", "passage", "similarity"}


def test_the_prompt_asks_until_the_input_ends(built: Path) -> None:
    from click.testing import CliRunner

    from tokenspace.cli import root

    ended = CliRunner().invoke(
        root, ["search", str(built), "-k", "1"], input="lambda\n\U0001f9a9\n"
    )
    assert ended.exit_code == 0
    assert "lambda" in ended.output
    assert "no token of the query" in ended.output  # an error does not end the prompt


def test_neighbors_analogy_and_info(cli: Cli, built: Path) -> None:
    assert cli("neighbors", built, "class", "list").out.count("\n") == 2
    assert set(json.loads(cli("neighbors", built, "class", "--json").out)) == {"class"}
    assert "list - class + string" in cli("analogy", built, "list", "class", "string").out
    assert "first stage exact" in cli("info", built, "--verify").out
    assert json.loads(cli("info", built, "--json").out)["holds"]["sources"] == 8


def test_add_and_remove(cli: Cli, copy: Path, tmp_path: Path) -> None:
    (tmp_path / "new.md").write_text("# New\n\nA short note on walruses and class bodies.\n")
    assert cli("add", copy, tmp_path / "new.md").code == 0
    assert cli("search", copy, "walruses", "--mode", "bm25", "-k", 1).out.startswith("1. new.md:")
    assert cli("remove", copy, "new.md").code == 0
    ended = cli("remove", copy, "new.md")
    assert ended.code == 3
    assert ended.err.count("\n") == 1
    assert "hint" in ended.err


def test_text_that_is_piped_in_is_a_source_that_can_be_removed(built: Path, copy: Path) -> None:
    from click.testing import CliRunner

    from tokenspace.cli import root

    for text in ("Walruses and class bodies.\n", "Penguins and class bodies.\n"):
        assert CliRunner().invoke(root, ["add", str(copy), "-"], input=text).exit_code == 0
    held = [p.text.strip() for p in Space.open(copy).generation.passages if "-" in p.source]
    assert held[-1:] == ["Penguins and class bodies."]  # one source, the latter
    assert Space.open(copy).search("penguins", k=1)[0].source == "standard-input.txt"
    assert CliRunner().invoke(root, ["remove", str(copy), "standard-input.txt"]).exit_code == 0
    assert Space.open(copy).info()["holds"] == Space.open(built).info()["holds"]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["search", "nowhere", "x"], 3, "no space here"),
        (["build", "nowhere", "--out", "s"], 3, "nowhere"),
        (["search", "nowhere", "x", "--mode", "best"], 2, "best"),
        (["build", "--out", "s", "--dim", "0"], 2, "dim=0"),
    ],
)
def test_errors_are_one_line_with_their_code(
    words: list[str],
    code: int,
    says: str,
    cli: Cli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = cli(*words)
    assert ended.code == code
    assert says in ended.err
    assert ended.err.strip().count("\n") == 0


def test_text_from_files_is_escaped_in_the_report(tmp_path: Path) -> None:
    script = "<script>alert(1)</script>"
    text = "\n\n".join(
        f"{script} weather{i} was <b>fine</b> & warm. Everybody walked to the harbour{i} then, and "
        "stayed there until the evening bell of the old church rang twice."
        for i in range(30)
    )
    (tmp_path / f"{script[:8]}x.txt").write_text(text)
    space = Space.build(
        [tmp_path / f"{script[:8]}x.txt"], out=tmp_path / "s", vocab_size=400, dim=8, threads=1
    )
    page = (tmp_path / "s" / "report.html").read_text()
    assert "<script" not in page
    assert not re.findall(r"<(?:script|link|img|iframe)|(?:src|href)=.http", page)  # opens offline
    report = space.report
    report["title"] = script
    report["neighbors"] = {script: [script]}
    report["map"] = [{"token": script, "x": 0.0, "y": 0.5}, {"token": "$x$", "x": 1.0, "y": 0.0}]
    page = render(report)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 4
    assert page.count("<svg") == 3
