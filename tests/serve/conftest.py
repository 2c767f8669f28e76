"""A small space, and clients of servers over it that run inside this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tokenspace.serve import Settings, create_app
from tokenspace.space import Space

QUICK: dict[str, Any] = {"vocab_size": 600, "dim": 16, "epochs": 2, "threads": 1}
TOPICS = ("class", "with", "for", "exceptions")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished space that no test changes."""
    from pydoc_data.topics import topics

    text = tmp_path_factory.mktemp("text")
    for name in TOPICS:
        (text / f"{name}.txt").write_text(topics[name], encoding="utf-8")
    root = tmp_path_factory.mktemp("built") / "space"
    Space.build([text], out=root, **QUICK)
    return root


@pytest.fixture
def serve(built: Path) -> Iterator[Callable[..., TestClient]]:
    """Serve the space, or that at ``root``, with these settings, and return a client."""
    with ExitStack() as stack:

        def start(root: Path = built, **settings: Any) -> TestClient:
            app = create_app(root, Settings(**{"rate": 0, **settings}))
            return stack.enter_context(TestClient(app, raise_server_exceptions=False))

        yield start
