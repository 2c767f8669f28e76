"""A recipe is a value: checked, hashable, saved, read again, and written in one line."""

from __future__ import annotations

import inspect
import json
import math
import pickle
import re
from importlib import import_module
from typing import Any

import pytest
from subjects import names, tiny

from tokenspace import catalog
from tokenspace.cli import FamilyGroup
from tokenspace.errors import ConfigError
from tokenspace.recipe import Recipe, evidence, knobs, make, parse

SECTIONS = (
    "The idea",
    "Equations",
    "Departures from the paper",
    "Cost",
    "When not to use it",
    "Reference",
)
pytestmark = pytest.mark.parametrize("name", names())


def recipes(name: str) -> list[Recipe]:
    """Return the method with its defaults, and as the contract tests run it."""
    return [make(name), tiny(name)]


def test_it_is_a_value(name: str) -> None:
    for recipe in recipes(name):
        cls = type(recipe)
        assert recipe.name == catalog.find(name).target.partition(":")[0].rpartition(".")[2]
        assert pickle.loads(pickle.dumps(recipe)) == recipe
        assert hash(recipe) == hash(cls.from_dict(recipe.to_dict()))
        assert cls.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
        assert eval(repr(recipe), {cls.__name__: cls}) == recipe
        with pytest.raises(AttributeError):
            recipe.seed = 1  # type: ignore[attr-defined]


def test_a_composition_string_says_it_all(name: str) -> None:
    for recipe in recipes(name):
        assert parse(str(recipe)) == recipe


def test_knobs_are_few_and_explained(name: str) -> None:
    fields = knobs(catalog.find(name).load())
    assert len([knob for knob in fields if knob.name not in ("seed", "threads")]) <= 8
    for knob in fields:
        assert knob.help, knob.name
        assert knob.kinds or knob.choices, knob.name
        numeric = {int, float} & set(knob.kinds)
        assert not numeric or knob.range is not None, f"{knob.name} has no Range"


def test_names_do_not_collide_with_the_command_line(name: str) -> None:
    recipe = catalog.find(name).load()
    flags = [field.name for field in (*knobs(recipe), *evidence(recipe))]
    assert not {"out", "force", "config", "json", "help"} & set(flags)
    assert len(flags) == len(set(flags))


def test_values_outside_the_bounds_are_refused_by_name(name: str) -> None:
    recipe = catalog.find(name).load()
    for knob in knobs(recipe):
        bad: list[Any] = [object(), b"bytes"]
        if knob.range is not None:
            low, high = knob.range.low, knob.range.high
            bad += [x for x in (low - 1, high + 1) if math.isfinite(x) and x not in knob.range]
            bad += [math.nan] if float in knob.kinds else [1.5, True]
        elif knob.choices and str not in knob.kinds:
            bad.append("no such choice")
        for value in bad:
            with pytest.raises(ConfigError, match=knob.name):
                recipe(**{knob.name: value})


def test_an_unknown_knob_is_refused_with_a_near_miss(name: str) -> None:
    recipe = catalog.find(name).load()
    for knob in knobs(recipe):
        with pytest.raises(ConfigError) as caught:
            recipe.from_dict({knob.name + "z": 1})
        assert knob.name in str(caught.value.hint)
    with pytest.raises(ConfigError, match="qqqq"):
        recipe.from_dict({"qqqq": 1})


def test_inputs_are_those_of_the_family(name: str) -> None:
    entry = catalog.find(name)
    closed = import_module(f"tokenspace.{entry.family}").EVIDENCE
    asked = evidence(entry.load())
    assert {item.name: item.kind for item in asked}.items() <= closed.items()
    verb = catalog.family(entry.family).signature.partition("->")[0].strip(" ()")
    verbs = [part.strip().split(", ") for part in verb.split("|")]
    assert [item.name for item in asked if item.positional] in verbs
    assert all(item.required for item in asked if item.positional)


def test_the_call_is_documented(name: str) -> None:
    recipe = catalog.find(name).load()
    assert inspect.getdoc(recipe.__call__)


def test_the_page_has_its_sections(name: str) -> None:
    page = inspect.getdoc(import_module(catalog.find(name).load().__module__)) or ""
    found = re.findall(r"^(\S[^\n]*)\n(-{3,})$", page, re.M)
    assert tuple(title for title, _ in found) == SECTIONS
    assert all(len(title) == len(line) for title, line in found)


def test_help_renders(name: str) -> None:
    import click

    entry = catalog.find(name)
    command = FamilyGroup(entry.family).get_command(click.Context(FamilyGroup()), name)
    assert command is not None
    text = command.get_help(click.Context(command, info_name=name))
    for knob in knobs(entry.load()):
        assert "--" + knob.name.replace("_", "-") in text
    for item in evidence(entry.load()):
        assert "--" + item.name.replace("_", "-") in text
