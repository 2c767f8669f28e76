"""What a server allows, checked before it starts."""

from __future__ import annotations

from dataclasses import dataclass, field

from tokenspace.errors import ConfigError

__all__ = ["LOOPBACK", "Settings"]

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1", "[::1]"})
_BOUNDS = {
    "rate": (0, 1e6),
    "timeout": (0.001, 3600),
    "max_body": (16, 1 << 30),
    "threads": (0, 1024),
    "queue": (1, 1_000_000),
    "reload": (0.01, 3600),
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The bounds of a server.

    ``token`` is what a client must send as ``Authorization: Bearer TOKEN`` (None: nothing).
    ``rate`` is requests a second for each client's address (0: no bound); twice as many may come
    at once. ``timeout`` is seconds that a request may take, ``max_body`` bytes that it may send.
    ``threads`` searches run at a time (0: one a core) and ``queue`` more may wait. ``hosts``
    are the names that the header ``Host`` may give (empty: any). ``reload`` is seconds between
    two looks at whether the space has changed.

    Raises :class:`~tokenspace.errors.ConfigError` for a value outside its bounds.
    """

    token: str | None = field(default=None, repr=False)
    rate: float = 100.0
    timeout: float = 10.0
    max_body: int = 1 << 20
    threads: int = 0
    queue: int = 128
    hosts: frozenset[str] = frozenset()
    reload: float = 1.0

    def __post_init__(self) -> None:
        for name, (low, high) in _BOUNDS.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(
                    f"serve: {name}={value} is outside [{low}, {high}]",
                    hint=f"choose {name} inside [{low}, {high}]",
                )
        if self.token is not None and not (
            self.token.isascii() and self.token.isprintable() and " " not in self.token
        ):
            raise ConfigError(
                "serve: the token holds what a header cannot carry",
                hint="use letters, digits and -._~+/= without spaces",
            )
        if self.token is not None and len(self.token) < 16:
            raise ConfigError(
                f"serve: a token of {len(self.token)} characters can be guessed",
                hint="use at least 16, as from: python -c 'import secrets;"
                " print(secrets.token_urlsafe())'",
            )
