"""What class each text of a corpus is of: one label a text, in the corpus's order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from .errors import InputError
from .text_files import TextFiles

__all__ = ["Labels"]


class Labels(Sequence[str]):
    """An immutable list of labels, without the white space around them.

    Raises :class:`InputError` for one that is empty or not a string.
    """

    def __init__(self, labels: Iterable[str]) -> None:
        if isinstance(labels, str):
            raise InputError("labels are not one string", hint="give one label for every text")
        found = tuple(labels)
        for index, label in enumerate(found):
            if not isinstance(label, str) or not label.strip():
                raise InputError(
                    f"label {index} is {label!r}", hint="give a name, which is not empty"
                )
        self._labels = tuple(label.strip() for label in found)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: Any) -> Any:
        return self._labels[index]

    def __iter__(self) -> Iterator[str]:
        return iter(self._labels)

    def __repr__(self) -> str:
        return f"Labels({len(self)} labels, {len(self.names)} of them different)"

    @property
    def names(self) -> tuple[str, ...]:
        """Every label once, sorted."""
        return tuple(sorted(set(self._labels)))

    @classmethod
    def load(cls, *paths: str | Path) -> Self:
        """Read files: one label a line, or the field of a table (``posts.csv#group``)."""
        return cls(TextFiles(paths))
