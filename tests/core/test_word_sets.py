"""Sets of words: the public files' shapes, plain text, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tokenspace import data
from tokenspace.errors import FormatError, InputError
from tokenspace.word_sets import WordSets


def written(folder: Path, text: str, name: str = "sets.txt") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


@pytest.mark.parametrize(
    ("text", "sets"),
    [
        ('[["she", "he"],\n ["Mary", "John"]]', [("she", "he"), ("Mary", "John")]),
        ('["he", "his"]', [("he",), ("his",)]),
        ('{"career": ["office"], "family": ["home", "kin"]}', [("office",), ("home", "kin")]),
        ('[["nurse", 0.1, -0.9], ["judge", 0.0, 0.5]]', [("nurse",), ("judge",)]),
        ("she he\n\nmother\tfather in law\nson, daughter\n",
         [("she", "he"), ("mother", "father in law"), ("son", "daughter")]),
        ("he\nhis\n", [("he",), ("his",)]),
    ],
    ids=["pairs", "words", "named", "scores", "lines", "a word a line"],
)  # fmt: skip
def test_files(text: str, sets: list[tuple[str, ...]], tmp_path: Path) -> None:
    found = WordSets.load(written(tmp_path, text))
    assert list(found) == sets
    assert len(found) == len(sets)
    assert found[0] == sets[0]


def test_names_and_words() -> None:
    found = WordSets({"career": ["office", "job"], "work": ["job", "task"]})
    assert found.named("work") == ("job", "task")
    assert found.words == ("office", "job", "task")
    with pytest.raises(InputError, match="carrer") as caught:
        found.named("carrer")
    assert "career" in str(caught.value.hint)
    assert WordSets(["he", "his"]).names == ()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", InputError),
        ("[]", InputError),
        ("[[1, 2]]", InputError),
        ("[[", FormatError),
        ('[{"a": 1}]', FormatError),
        ('{"a": "b", "c": 3}', FormatError),
        ("[[null]]", FormatError),
    ],
)
def test_files_that_hold_no_sets_are_refused(
    text: str, error: type[InputError], tmp_path: Path
) -> None:
    with pytest.raises(error) as caught:
        WordSets.load(written(tmp_path, text))
    assert "sets.txt" in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("sets", ["she he", [["she", ""]], [["she", 1]], {"a": [None]}])
def test_what_is_not_words_is_refused(sets: object) -> None:
    with pytest.raises(InputError) as caught:
        WordSets(sets)  # type: ignore[arg-type]
    assert caught.value.hint


def test_a_file_that_is_not_there_and_a_list_that_is_not_known(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        WordSets.load(tmp_path / "none.json")
    with pytest.raises(InputError):
        data.word_sets("no_such_list")


def test_published_lists_are_read_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bias").mkdir()
    pairs = [
        ["woman", "man"], ["girl", "boy"], ["she", "he"], ["mother", "father"],
        ["daughter", "son"], ["gal", "guy"], ["female", "male"], ["her", "his"],
        ["herself", "himself"], ["Mary", "John"],
    ]  # fmt: skip
    monkeypatch.setenv("TOKENSPACE_DATA", str(tmp_path))
    (tmp_path / "bias" / "definitional_pairs.json").write_text(json.dumps(pairs))
    assert list(data.word_sets("definitional_pairs")) == [tuple(pair) for pair in pairs]
