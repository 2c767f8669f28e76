"""A folder of real text that every Python carries, and a small space of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tokenspace.space import Space

QUICK: dict[str, Any] = {"vocab_size": 600, "dim": 16, "epochs": 2, "threads": 1}
TOPICS = ("class", "with", "for", "exceptions", "string-methods", "typesseq", "lambda", "import")


@pytest.fixture(scope="session")
def quick() -> dict[str, Any]:
    """Settings that make a build take about a second."""
    return QUICK


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from pydoc_data.topics import topics

    place = tmp_path_factory.mktemp("text")
    for name in TOPICS:
        (place / f"{name}.txt").write_text(topics[name], encoding="utf-8")
    return place


@pytest.fixture(scope="session")
def built(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished space that no test changes."""
    root = tmp_path_factory.mktemp("built") / "space"
    Space.build([folder], out=root, **QUICK)
    return root


@pytest.fixture
def space(built: Path) -> Iterator[Space]:
    yield Space.open(built)


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    """A copy of the space, to change or to damage."""
    import shutil

    return Path(shutil.copytree(built, tmp_path / "space"))
