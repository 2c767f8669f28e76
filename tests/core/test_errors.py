"""Errors: each is also the builtin that a caller expects, and carries its mend."""

from __future__ import annotations

import inspect

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
