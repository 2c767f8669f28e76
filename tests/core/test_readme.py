"""What the README and the first page of the documentation say can be typed, works as it stands.

Commands run through the real command line in a directory that holds what they name. Some are cut
short: ``reproduce`` takes ``--smoke``, ``compare`` takes ``--tiny``, and trainings take a second.
"""

from __future__ import annotations

import re
import shlex
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/getting-started.md")
SHORTER = {"reproduce": "--smoke", "compare": "--tiny"}


def blocks(page: str, language: str) -> list[str]:
    """Return the fenced blocks of a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(page: str, program: str) -> list[list[str]]:
    """Return the words of every line of a page that calls ``program``, without its name."""
    lines = (line for block in blocks(page, "bash") for line in block.splitlines())
    words = (shlex.split(line, comments=True) for line in lines)
    return [rest for first, *rest in filter(None, words) if first == program]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with what the pages name: some of ``docs``, two files, and a novel of sorts."""
    from pydoc_data.topics import topics

    place = tmp_path_factory.mktemp("pages")
    shutil.copytree(ROOT / "docs" / "concepts", place / "docs")
    for name in ("README.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, place)
    novel = [topics[name] for name in ("class", "with", "for", "lambda", "import")]
    (place / "novels.txt").write_text("\n".join([*novel, "the house is old\n" * 9]))
    return place


def test_every_command_of_the_pages_succeeds(
    text: Path, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(text)
    lines = []
    for words in (words for page in PAGES for words in commands(page, "tokenspace")):
        shorter = SHORTER.get(words[0])
        words = ["1s" if word == "120s" else word for word in words]
        lines.append((*words, *([shorter] if shorter and shorter not in words else ())))
    assert len(lines) > 20
    for line in dict.fromkeys(lines):
        ended = cli(*line)
        assert ended.code == 0, (line, ended.err)
        assert ended.out, line


@pytest.mark.parametrize("page", PAGES)
def test_every_python_block_of_the_page_runs(
    page: str, text: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(text)
    found = blocks(page, "python")
    assert found
    for block in found:
        exec(compile(block, page, "exec"), {"__name__": "__main__"})
        assert capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES)
def test_every_target_extra_and_file_that_the_page_names_exists(page: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target, *_ in commands(page, "make"):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for words in commands(page, "pip"):
        for extra in re.findall(r"\.\[([a-z,]+)\]", " ".join(words)):
            assert set(extra.split(",")) <= set(extras["optional-dependencies"])
    text = (ROOT / page).read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert ((ROOT / page).parent / link).exists(), link
