"""The catalogue is the only list of methods, and it is complete."""

from __future__ import annotations

import ast
import inspect
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
from subjects import names

import tokenspace
from tokenspace import catalog
from tokenspace.errors import ConfigError

PACKAGE = Path(tokenspace.__file__).parent
TESTS = Path(__file__).parents[1]
FAMILIES = [item.name for item in catalog.FAMILIES]


@cache
def recipe_modules() -> frozenset[tuple[str, str]]:
    """Return (family, name) of every module of a family that defines a recipe."""
    return frozenset(
        (family, path.stem)
        for family in FAMILIES
        for path in (PACKAGE / family).glob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
        and any(isinstance(base, ast.Name) and base.id == "Recipe" for base in node.bases)
    )


def test_every_recipe_module_has_one_entry_and_the_other_way_round() -> None:
    entries = [(entry.family, entry.name) for entry in catalog.CATALOG if not entry.preset]
    assert len(entries) == len(set(entries))
    assert set(entries) == recipe_modules()


def test_names_are_unique() -> None:
    assert len(names()) == len(set(names()))


def test_every_entry_has_one_claim_and_the_other_way_round() -> None:
    claims = {path.stem for path in (PACKAGE / "claims").glob("*.py") if path.stem[0] != "_"}
    assert claims == set(names())


def test_every_entry_has_a_test_file() -> None:
    missing = [
        f"{family}/test_{name}.py"
        for family, name in recipe_modules()
        if not (TESTS / family / f"test_{name}.py").is_file()
    ]
    assert missing == []


def test_entries_are_sorted_by_family_and_name() -> None:
    order = [(FAMILIES.index(entry.family), entry.name) for entry in catalog.CATALOG]
    assert order == sorted(order)


@pytest.mark.parametrize("name", names())
def test_the_entry_says_what_the_method_says(name: str) -> None:
    entry = catalog.find(name)
    recipe = entry.load()
    page = inspect.getdoc(import_module(recipe.__module__)) or ""
    summary = (inspect.getdoc(recipe) or "").partition("\n")[0]
    assert summary == entry.summary
    assert page.partition("\n")[0] == entry.summary
    assert entry.target.partition(":")[0] == f"tokenspace.{entry.family}.{entry.name}"
    assert recipe.__name__.lower() == entry.name.replace("_", "").lower()
    assert len(entry.summary) <= 90


@pytest.mark.parametrize("name", names())
def test_the_family_serves_the_recipe_lazily(name: str) -> None:
    entry = catalog.find(name)
    package = import_module(f"tokenspace.{entry.family}")
    assert getattr(package, entry.load().__name__) is entry.load()
    with pytest.raises(AttributeError):
        package.no_such_method


def test_the_core_knows_no_method_by_name() -> None:
    found = []
    core = [path for path in PACKAGE.glob("*.py") if path.stem != "catalog"]
    for path in [*core, *(PACKAGE / "nn").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and node.value in names():
                found.append(f"{path.name}:{node.lineno}: {node.value!r}")
    assert found == []


def test_a_method_imports_no_other_method_and_no_other_family() -> None:
    found = []
    for family, name in recipe_modules():
        tree = ast.parse((PACKAGE / family / f"{name}.py").read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom) or not node.module:
                continue
            parts = node.module.removeprefix("tokenspace.").split(".")
            other_family = parts[0] in FAMILIES and parts[0] != family
            other_method = (
                parts[0] == family and parts[1:] and (family, parts[1]) in (recipe_modules())
            )
            if node.level == 1:
                other_method = (family, parts[0]) in recipe_modules()
            if other_family or other_method:
                found.append(f"{family}/{name}.py:{node.lineno}: {node.module}")
    assert found == []


def test_exports_are_those_that_editors_see() -> None:
    tree = ast.parse(Path(tokenspace.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = [alias.asname for node in block.body for alias in node.names]  # type: ignore[attr-defined]
    assert seen == sorted(tokenspace.__all__, key=seen.index)
    assert sorted(seen) == sorted(tokenspace.__all__) == dir(tokenspace)
    for name in tokenspace.__all__:
        assert getattr(tokenspace, name).__name__ == name
    with pytest.raises(AttributeError):
        tokenspace.no_such_name


@pytest.mark.parametrize(
    "module", sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem[:2] != "__")
)
def test_a_module_lists_what_it_has(module: str) -> None:
    loaded = import_module(f"tokenspace.{module}")
    assert len(loaded.__all__) == len(set(loaded.__all__))  # their order is the linter's affair
    assert all(hasattr(loaded, name) for name in loaded.__all__)


def test_an_unknown_name_is_refused_with_a_near_miss() -> None:
    known = names()[0]
    with pytest.raises(ConfigError) as caught:
        catalog.find(known + "x")
    assert known in str(caught.value.hint)
    with pytest.raises(ConfigError):
        catalog.find("")
    with pytest.raises(ConfigError, match="no family"):
        catalog.members("zoo")
