"""The documentation is whole: a page for every method, and only commands that exist."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType

import click
import pytest
from subjects import names

from tokenspace import catalog
from tokenspace.cli import root

REPOSITORY = Path(__file__).parents[2]
PAGES = sorted(
    path
    for path in [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")]
    if not {"methods", "reference"} & set(path.relative_to(REPOSITORY).parts)
)


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_build", REPOSITORY / "docs" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_method_has_a_page(build: ModuleType, tmp_path: Path) -> None:
    written = {path.relative_to(tmp_path).as_posix() for path in build.build(tmp_path)}
    assert {f"methods/{name}.md" for name in names()} <= written
    for name in names():
        text = (tmp_path / "methods" / f"{name}.md").read_text(encoding="utf-8")
        entry = catalog.find(name)
        assert text.startswith(f"# {entry.load().__name__}\n")
        assert entry.summary in text
        for heading in ("## Knobs", "## Inputs", "## How to call it", "## The claim"):
            assert heading in text
        assert not re.search(r":(class|func|meth|mod|data):`", text)


def test_every_family_has_a_page_that_names_its_methods() -> None:
    for family in catalog.FAMILIES:
        text = (REPOSITORY / "docs" / "families" / f"{family.name}.md").read_text(encoding="utf-8")
        for entry in catalog.members(family.name):
            assert f"({'../methods/' + entry.name}.md)" in text, entry.name


def commands(page: Path) -> list[list[str]]:
    """Return the words of every command in the page's shell blocks."""
    blocks = re.findall(r"```(?:bash|sh|console)\n(.*?)```", page.read_text("utf-8"), re.S)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line and line[0] not in " #"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_every_command_in_the_text_exists(page: Path) -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.M))
    for words in commands(page):
        if words and words[0] == "make":
            assert all(word in targets for word in words[1:] if "=" not in word), words
        elif words and words[0] == "tokenspace":
            check(words[1:])


def check(words: list[str]) -> None:
    """Fail unless the words name a command and options that it has."""
    command: click.Command = root
    context = click.Context(root, info_name="tokenspace")
    while isinstance(command, click.Group):
        words = words[1:] if words[0].startswith("-") else words
        inner = command.get_command(context, words[0])
        assert inner is not None, f"there is no command {words[0]!r}"
        command, words = inner, words[1:]
    options = {text for p in command.params for text in (*p.opts, *p.secondary_opts)} | {"--help"}
    for word in words:
        if re.match(r"--?[a-z]", word):
            assert word.partition("=")[0] in options, f"{command.name} has no option {word}"


def test_the_readme_is_short_and_complete() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 150
    assert {"demo", "test"} <= {
        words[1] for words in commands(REPOSITORY / "README.md") if words[0] == "make"
    }
    for name in names():
        assert f"`{name}`" in text
