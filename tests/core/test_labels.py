"""Labels: read from files, and refused where they are not names."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenspace.errors import InputError
from tokenspace.labels import Labels


def test_labels_of_files(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("spam \nham\nspam\n")
    (tmp_path / "posts.csv").write_text("group,body\nspam,buy this\nham,hello\n")
    assert list(Labels.load(tmp_path / "labels.txt")) == ["spam", "ham", "spam"]
    assert Labels.load(f"{tmp_path / 'posts.csv'}#group").names == ("ham", "spam")
    (tmp_path / "gap.txt").write_text("spam\n\nham\n")
    with pytest.raises(InputError, match="label 1 is ''"):
        Labels.load(tmp_path / "gap.txt")


def test_what_is_no_name_is_refused() -> None:
    with pytest.raises(InputError, match="not one string"):
        Labels("spam")
    with pytest.raises(InputError, match="label 0 is 3"):
        Labels([3])  # type: ignore[list-item]
