"""What can go wrong, and what each kind means for a caller.

::

    TokenspaceError                      exit code
    ├── ConfigError (ValueError)         2   a knob, an option or a method's name
    ├── InputError (ValueError)          3   the data that was given
    │   └── FormatError                  3   a file that is not what it claims to be
    ├── MissingEvidence (TypeError)      2   an input that the method needs and did not get
    ├── MissingExtra (ImportError)       2   an optional dependency that is not installed
    ├── SpaceBusy (RuntimeError)         3   another process is writing the same directory
    ├── NotConverged (RuntimeError)      3   a computation that did not reach its tolerance
    └── ClaimFailed (AssertionError)     1   a claim that did not hold when re-measured

Every message says what was given and what is allowed; ``hint`` says what to do about it.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "ClaimFailed",
    "ConfigError",
    "FormatError",
    "InputError",
    "MissingEvidence",
    "MissingExtra",
    "NotConverged",
    "SpaceBusy",
    "TokenspaceError",
]


class TokenspaceError(Exception):
    """Anything that Tokenspace raises on purpose; ``hint`` is the mend, in one line."""

    exit_code: ClassVar[int] = 3

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        if hint:
            self.add_note(f"hint: {hint}")


class ConfigError(TokenspaceError, ValueError):
    """A knob outside its range, an unknown option, or a method that does not exist."""

    exit_code = 2


class InputError(TokenspaceError, ValueError):
    """Data that cannot be used: empty, not finite, of the wrong shape."""


class FormatError(InputError):
    """A file that is damaged, truncated, or in a format that is not read here."""


class MissingEvidence(TokenspaceError, TypeError):
    """An input that this method needs and did not get."""

    exit_code = 2


class MissingExtra(TokenspaceError, ImportError):
    """An optional dependency is absent; the hint is the command that installs it."""

    exit_code = 2

    @classmethod
    def named(cls, extra: str, what: str) -> MissingExtra:
        """Build the error for ``what``, which needs the extra called ``extra``."""
        return cls(
            f"{what} needs the extra '{extra}', which is not installed",
            hint=f"pip install 'tokenspace[{extra}]'",
        )


class SpaceBusy(TokenspaceError, RuntimeError):
    """Another process holds the lock of the directory."""


class NotConverged(TokenspaceError, RuntimeError):
    """A computation stopped before it reached its tolerance."""


class ClaimFailed(TokenspaceError, AssertionError):
    """A recorded claim did not hold when it was measured again."""

    exit_code = 1
