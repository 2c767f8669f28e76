"""Sets of words: pairs that span a direction, words that are left alone, lists by name."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from .errors import FormatError, InputError
from .text_files import lines

__all__ = ["WordSets"]

_MEND = 'write [["she", "he"], ...], {"name": ["word", ...], ...}, ["word", ...], or a set a line'


class WordSets(Sequence[tuple[str, ...]]):
    """An immutable list of sets of words, each in its order; the sets of a mapping have names.

    A list of single words is a list of sets of one word. Raises :class:`InputError` for a word
    that is empty or not a string.
    """

    def __init__(self, sets: Iterable[str | Iterable[str]] | Mapping[str, Iterable[str]]) -> None:
        if isinstance(sets, str):
            raise InputError("sets of words are not one string", hint='give [["she", "he"], ...]')
        self.names: tuple[str, ...] = tuple(sets) if isinstance(sets, Mapping) else ()
        found = sets.values() if isinstance(sets, Mapping) else sets
        self._sets = tuple((s,) if isinstance(s, str) else tuple(s) for s in found)
        for index, words in enumerate(self._sets):
            if not all(isinstance(word, str) and word for word in words):
                where = self.names[index] if self.names else index
                raise InputError(f"set {where} is {words!r}", hint="give words that are not empty")

    def __len__(self) -> int:
        return len(self._sets)

    def __getitem__(self, index: Any) -> Any:
        return self._sets[index]

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        return iter(self._sets)

    def __repr__(self) -> str:
        return f"WordSets({len(self)} sets, {len(self.words)} words)"

    @property
    def words(self) -> tuple[str, ...]:
        """Every word once, in the order of the first occurrence."""
        return tuple(dict.fromkeys(word for words in self._sets for word in words))

    def named(self, name: str) -> tuple[str, ...]:
        """Return the set of that name; an unknown name is refused with a near miss."""
        if name in self.names:
            return self._sets[self.names.index(name)]
        near = difflib.get_close_matches(name, self.names, n=1)
        raise InputError(
            f"there is no set called {name!r}",
            hint=f"did you mean {near[0]!r}?" if near else f"sets: {', '.join(self.names)}",
        )

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file of sets.

        JSON: an array of arrays of words (``definitional_pairs.json``), an object of such arrays
        by name (``WEAT.json``), or an array of words (``gender_specific_full.json``). Numbers
        among the words of a set, such as the scores of ``professions.json``, are left out. Any
        other file has a set a line: words apart by tabs, else by commas, else by white space.

        Raises :class:`FormatError` for what is none of these, and :class:`InputError` for a file
        without words.
        """
        content = list(lines(Path(path)))
        first = next((line.lstrip() for line in content if line.strip()), "")
        if first[:1] in ("[", "{"):
            found = cls(_from_json("\n".join(content), path))
        else:
            found = cls([_fields(line) for line in content if line.strip()])
        if not found.words:
            raise InputError(f"{path}: no words in it", hint=_MEND)
        return found


def _fields(line: str) -> list[str]:
    mark = next((mark for mark in ("\t", ",") if mark in line.strip()), None)
    return [word for field in line.split(mark) if (word := field.strip())]


def _from_json(text: str, path: str | Path) -> list[list[str]] | dict[str, list[str]]:
    try:
        content = json.loads(text)
    except ValueError as fault:
        raise FormatError(f"{path}: not valid JSON ({fault})", hint=_MEND) from fault
    items = content.values() if isinstance(content, dict) else content
    sets = []
    for item in items:
        words = [item] if isinstance(item, str) else item
        if not isinstance(words, list) or not all(isinstance(w, (str, int, float)) for w in words):
            raise FormatError(f"{path}: {str(item)[:60]} is not a set of words", hint=_MEND)
        sets.append([word for word in words if isinstance(word, str) and word])
    return dict(zip(content, sets, strict=True)) if isinstance(content, dict) else sets
