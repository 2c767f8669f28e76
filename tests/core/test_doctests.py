"""Every example in a docstring gives what it shows."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import tokenspace

PACKAGE = Path(tokenspace.__file__).parent
MODULES = [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")  # so that nothing is imported for nothing
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_hold(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    failed, attempted = doctest.testmod(import_module(name))
    assert attempted
    assert not failed, capsys.readouterr().out
