"""`make new`: the skeleton of a method is valid, in its place, and says what to fill in."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tokenspace import catalog
from tokenspace.errors import ConfigError

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def new() -> ModuleType:
    spec = importlib.util.spec_from_file_location("new", REPOSITORY / "scripts" / "new.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("family", [family.name for family in catalog.FAMILIES])
@pytest.mark.parametrize("name", ["aaa", "zzz_method"])
def test_the_skeleton_is_sound_and_the_catalogue_stays_sorted(
    new: ModuleType, family: str, name: str
) -> None:
    texts = new.skeleton(family, name)
    for path, text in texts.items():
        ast.parse(text)
        ruff = [sys.executable, "-m", "ruff", "check", "--quiet", "--fix", "--stdin-filename"]
        done = subprocess.run(
            [*ruff, str(path), "-"], input=text, capture_output=True, text=True, check=False,
            cwd=REPOSITORY,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert not re.search("TODO|FIXME|XXX", text)
    space: dict[str, object] = {"__name__": "tokenspace.catalog", "__package__": "tokenspace"}
    exec(texts[new.PACKAGE / "catalog.py"], space)
    order = [item.name for item in catalog.FAMILIES]
    places = [(order.index(e.family), e.name) for e in space["CATALOG"]]  # type: ignore[attr-defined]
    assert (order.index(family), name) in places
    assert places == sorted(places)
    assert len(places) == len(catalog.CATALOG) + 1


def test_bad_names_are_refused(new: ModuleType) -> None:
    for family, name in (("zoo", "x"), ("words", "Not-a-name"), ("words", "")):
        with pytest.raises(ConfigError):
            new.skeleton(family, name)
    with pytest.raises(ConfigError, match="already"):
        new.skeleton("words", catalog.members("words")[0].name)
