"""The files that tell what word vectors are judged by, of data sets and of users alike.

==========  =====================================================================
pairs       word, word, score a line, apart by tabs or else white space
analogies   four words a line; a line ``: name`` begins a section (Google's format);
            a table with a header names columns a, b, c, d and perhaps category
categories  category, word a line
outliers    group, word, ``in`` or ``out`` a line
features    word, property, and perhaps a weight a line
sentences   score, sentence, sentence apart by tabs; or a header that names columns
            sentence1, sentence2 and score
pos         CoNLL-U; or word and tag a line, an empty line after a sentence; or a
            table whose columns text and upos hold words and tags between spaces
ner         word and tag a line, an empty line after a sentence
==========  =====================================================================

A line that begins with ``#`` and a space is a remark, but not in sentences with tags. A file may be
packed (``.gz``, ``.bz2``, ``.xz``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tokenspace.data import Analogy
from tokenspace.errors import FormatError, InputError
from tokenspace.text_files import lines
from tokenspace.words.evaluation.categories import Outlier
from tokenspace.words.evaluation.features import Features
from tokenspace.words.evaluation.tagging import Sentence

__all__ = ["READERS", "guess", "read"]


_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_PAIR_NAMES = ("score", "simlex", "human", "rating", "word1", "word 1")


class Line(NamedTuple):
    """A line of a file that is not empty: where it stands, and its fields."""

    place: str
    fields: list[str]


def _lines(path: Path) -> Iterator[Line]:
    """Yield the fields of every line: apart by tabs, or by white space where it has no tab."""
    for number, text in enumerate(lines(path), 1):
        if text.strip() and not text.startswith(("# ", "#\t")):
            fields = text.split("\t") if "\t" in text else text.split()
            yield Line(f"{path}: line {number}", [field.strip() for field in fields])


def _fault(line: Line, wanted: str) -> FormatError:
    shown = "\t".join(line.fields)
    return FormatError(
        f"{line.place}: {shown[:60]!r} has {len(line.fields)} fields", hint=f"expected {wanted}"
    )


def _number(line: Line, text: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise FormatError(
            f"{line.place}: {text!r} is not a number", hint="write a number such as 7.35"
        )
    return float(text)


def _header(line: Line, names: Sequence[str]) -> dict[str, int] | None:
    """Return the columns of a header that names all of ``names``, else None."""
    columns = {name.lower(): index for index, name in enumerate(line.fields)}
    return columns if all(name in columns for name in names) else None


def _is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None


def pairs(path: Path) -> list[tuple[str, str, float]]:
    """Read pairs of words with scores."""
    wanted = "word, word, score; or a header that names word1, word2 and the score's column"
    found: list[tuple[str, str, float]] = []
    columns = [0, 1, 2]
    for place, line in enumerate(_lines(path)):
        if place == 0 and _names_pairs(line):
            columns = _pair_columns(line)
            continue
        if len(line.fields) <= max(columns):
            raise _fault(line, wanted)
        first, second, score = (line.fields[column] for column in columns)
        found.append((first, second, _number(line, score)))
    return found


def _names_pairs(line: Line) -> bool:
    """Tell whether a first line names columns: it has no number, and a word that headers have."""
    known = any(part in name.lower() for name in line.fields for part in _PAIR_NAMES)
    return known and not any(map(_is_number, line.fields))


def _pair_columns(line: Line) -> list[int]:
    """Return the columns of both words and the score; SimLex-999 has ten, the score in the 4th."""
    names = [name.lower() for name in line.fields]
    scores = [i for i, name in enumerate(names) if name in ("score", "simlex999", "mean")]
    scores += [i for i, name in enumerate(names) if "human" in name or "score" in name]
    if len(names) < 3 or (len(names) > 3 and not scores):
        raise _fault(line, "word, word, score, or one column of a header called score")
    return [0, 1, scores[0] if scores else 2]


def analogies(path: Path) -> list[Analogy]:
    """Read questions of four words."""
    found: list[Analogy] = []
    category, columns = "", [0, 1, 2, 3]
    section: int | None = None
    for place, line in enumerate(_lines(path)):
        if line.fields[0].startswith(":"):
            category = " ".join(line.fields)[1:].strip()
            continue
        named = _header(line, "abcd") if place == 0 else None
        if named:
            columns, section = [named[letter] for letter in "abcd"], named.get("category")
            continue
        if len(line.fields) < 4 or (section is None and len(line.fields) > 4):
            raise _fault(line, "four words, or ': section'")
        if section is not None:
            category = line.fields[section]
        a, b, c, d = (line.fields[column] for column in columns)
        found.append(Analogy(category, a, b, c, d))
    return found


def categories(path: Path) -> dict[str, list[str]]:
    """Read the words of every category."""
    found: dict[str, list[str]] = {}
    for line in _lines(path):
        if len(line.fields) != 2:
            raise _fault(line, "category, word")
        members = found.setdefault(line.fields[0], [])
        if line.fields[1] not in members:
            members.append(line.fields[1])
    if len(found) == 1:
        raise InputError(f"{path}: one category only", hint="give words of at least two")
    return found


def outliers(path: Path) -> list[Outlier]:
    """Read groups of words and the words that do not belong to them."""
    found: dict[str, dict[str, list[str]]] = {}
    for line in _lines(path):
        if len(line.fields) != 3 or line.fields[2] not in ("in", "out"):
            raise _fault(line, "group, word, and 'in' or 'out'")
        group, word, side = line.fields
        found.setdefault(group, {"in": [], "out": []})[side].append(word)
    for group, sides in found.items():
        if len(sides["in"]) < 2 or not sides["out"]:
            raise InputError(
                f"{path}: group {group!r} has {len(sides['in'])} words and"
                f" {len(sides['out'])} outliers",
                hint="a group has at least two words and one outlier",
            )
    return [(group, tuple(sides["in"]), tuple(sides["out"])) for group, sides in found.items()]


def features(path: Path) -> Features:
    """Read the properties of words."""
    found: dict[str, dict[str, float]] = {}
    for line in _lines(path):
        if len(line.fields) not in (2, 3):
            raise _fault(line, "word, property, and perhaps a weight")
        weight = _number(line, line.fields[2]) if len(line.fields) == 3 else 1.0
        if weight < 0:
            raise FormatError(f"{line.place}: weight {weight}", hint="weights are not negative")
        found.setdefault(line.fields[0], {})[line.fields[1]] = weight
    return Features.of(found)


def sentences(path: Path) -> list[tuple[str, str, float]]:
    """Read pairs of sentences with scores."""
    found: list[tuple[str, str, float]] = []
    columns: list[int] | None = None
    for place, line in enumerate(_lines(path)):
        if place == 0:
            for names in (
                ("sentence1", "sentence2", "score"),
                ("sentence_a", "sentence_b", "relatedness_score"),
            ):
                header = _header(line, names)
                columns = [header[name] for name in names] if header else columns
            if columns:
                continue
        if len(line.fields) <= max(columns or [2]):
            raise _fault(line, "score, sentence, sentence apart by tabs, or a header")
        if columns is None:  # in a file without a header the score is the first or the last
            columns = [1, 2, 0] if _is_number(line.fields[0]) else [0, 1, 2]
        first, second, score = (line.fields[column] for column in columns)
        found.append((first, second, _number(line, score)))
    return found


def tagged(path: Path) -> list[Sentence]:
    """Read sentences of words with tags."""
    first = next((line for line in lines(path) if line.strip()), "")
    if {"text", "upos"} <= set(first.split("\t")) or "words_hans" in first:
        return _tagged_table(path)
    conllu = ".conllu" in path.suffixes
    found: list[Sentence] = []
    words: list[str] = []
    tags: list[str] = []
    for number, text in enumerate([*lines(path), ""], 1):
        if not text.strip():
            if words:
                found.append((tuple(words), tuple(tags)))
                words, tags = [], []
            continue
        fields = text.split("\t") if "\t" in text else text.split()
        line = Line(f"{path}: line {number}", fields)
        if conllu:
            if text.startswith("#"):
                continue
            if len(fields) != 10:
                raise _fault(line, "the ten columns of CoNLL-U")
            if fields[0].isdecimal():  # not 3-4, a written form of two words, and not 5.1
                words.append(fields[1])
                tags.append(fields[3])
        elif len(fields) < 2:
            raise _fault(line, "word and tag")
        elif fields[0] != "-DOCSTART-":
            words.append(fields[0])
            tags.append(fields[-1])
    return found


def _tagged_table(path: Path) -> list[Sentence]:
    """Read a table with a sentence a row, its words and tags between spaces."""
    found: list[Sentence] = []
    columns: tuple[int, int] | None = None
    for line in _lines(path):
        if columns is None:
            names = line.fields
            simplified = "words_hans" in names
            text, tags = ("words_hans", "upos_hans") if simplified else ("text", "upos")
            columns = names.index(text), names.index(tags)
            continue
        words, own = (tuple(line.fields[column].split()) for column in columns)
        if len(words) != len(own):
            raise FormatError(
                f"{line.place}: {len(words)} words and {len(own)} tags",
                hint="one tag a word, both apart by spaces",
            )
        found.append((words, own))
    return found


READERS: dict[str, Callable[[Path], Any]] = {
    "similarity": pairs,
    "analogy": analogies,
    "categories": categories,
    "outliers": outliers,
    "features": features,
    "sentences": sentences,
    "pos": tagged,
    "ner": tagged,
}


def read(task: str, path: Path) -> Any:
    """Read a file of one task; an empty one is refused."""
    found = READERS[task](path)
    if not (found.words if isinstance(found, Features) else found):
        raise InputError(f"{path}: nothing in it", hint=f"give a file for {task}")
    return found


def guess(path: Path) -> str:
    """Tell by the first lines what a file is for, where that is plain; see :data:`READERS`."""
    if ".conllu" in path.suffixes:
        return "pos"
    head = [line for line, _ in zip(_lines(path), range(5), strict=False)]
    fields = head[-1].fields if head else []
    if head and head[0].fields[0].startswith(":"):
        return "analogy"
    if len(fields) == 4 and not any(map(_is_number, fields)):
        return "analogy"
    if len(fields) >= 3 and _is_number(fields[2]) and not re.search(r"\s", fields[0]):
        return "similarity"
    raise InputError(
        f"{path}: cannot tell what it is for",
        hint=f"write TASK:{path} with a task out of {', '.join(READERS)}",
    )
