"""Errors: each is also the builtin that a caller expects, and carries its mend."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from tokenspace import errors


@pytest.mark.parametrize(
    ("kind", "builtin", "code"),
    [
        (errors.ConfigError, ValueError, 2),
        (errors.InputError, ValueError, 3),
        (errors.FormatError, errors.InputError, 3),
        (errors.MissingEvidence, TypeError, 2),
        (errors.MissingExtra, ImportError, 2),
        (errors.SpaceBusy, RuntimeError, 3),
        (errors.NotConverged, RuntimeError, 3),
        (errors.ClaimFailed, AssertionError, 1),
    ],
)
def test_kinds(kind: type[errors.TokenspaceError], builtin: type[Exception], code: int) -> None:
    fault = kind("what", hint="mend")
    assert isinstance(fault, (errors.TokenspaceError, builtin))
    assert issubclass(kind, builtin)
    assert fault.exit_code == code
    assert fault.hint == "mend"
    assert str(fault) == "what"
    assert fault.__notes__ == ["hint: mend"]


def test_the_drawn_tree_is_the_tree() -> None:
    kinds = [
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.TokenspaceError)
    ]
    assert sorted(kinds) == sorted(errors.__all__)
    assert all(name in (errors.__doc__ or "") for name in kinds)


def test_a_missing_extra_says_what_to_type() -> None:
    fault = errors.MissingExtra.named("models", "a pretrained encoder")
    assert "pip install 'tokenspace[models]'" in str(fault.hint)
    assert "a pretrained encoder" in str(fault)


def test_no_hint_no_note() -> None:
    assert not hasattr(errors.InputError("what"), "__notes__")


def test_what_refuses_data_says_the_mend() -> None:
    """Either by a hint, or since the message names what is allowed."""
    allowed = ("is outside [", "is below 1", "must", "at least", "needed", "whole number")
    shapes = ("of shape", "of shapes", "wide and", "rows with NaN", "rows of shape")  # of arguments
    silent = []
    for path in sorted(Path(errors.__file__).parent.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        for call in ast.walk(ast.parse(text)):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") in {
                "FormatError",
                "InputError",
            }:
                said = ast.get_source_segment(text, call) or ""
                hinted = any(given.arg == "hint" for given in call.keywords)
                if not hinted and not any(part in said for part in (*allowed, *shapes)):
                    silent.append(f"{path.name}:{call.lineno} {said}")
    assert silent == []
