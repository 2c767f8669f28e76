"""Examples: what a file's columns say, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tokenspace.errors import ConfigError, FormatError, InputError, TokenspaceError
from tokenspace.examples import Examples


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "kind", "columns"),
    [
        ("anchor,positive\na,b\n", "pairs", {"anchor": ("a",), "positive": ("b",)}),
        ("Question,Answer,id\na,b,1\n", "pairs", {"anchor": ("a",), "positive": ("b",)}),
        (
            "query,positive,negative\na,b,c\n",
            "triplets",
            {"anchor": ("a",), "positive": ("b",), "negative": ("c",)},
        ),
        ("sentence1,sentence2,score\na,b,4.5\n", "scored", {"anchor": ("a",), "positive": ("b",)}),
        ("text,label\na,x\n", "labelled", {"text": ("a",), "label": ("x",)}),
        ("text\na\n", "texts", {"text": ("a",)}),
    ],
)
def test_the_columns_of_a_file_tell_its_kind(
    tmp_path: Path, text: str, kind: str, columns: dict[str, tuple[str, ...]]
) -> None:
    found = Examples.load(write(tmp_path, "f.csv", text))
    assert (found.kind, found.columns) == (kind, columns)
    assert found.scores == ((4.5,) if kind == "scored" else None)


def test_lines_of_text_are_texts(tmp_path: Path) -> None:
    found = Examples.load(write(tmp_path, "f.txt", "one\n\ntwo\n"))
    assert found.columns == {"text": ("one", "two")}


def test_columns_may_be_named(tmp_path: Path) -> None:
    path = write(tmp_path, "f.tsv", "title\tbody\nA\tB\n")
    assert Examples.load(f"{path}#anchor=title,positive=body").columns["positive"] == ("B",)
    with pytest.raises(ConfigError, match="which column is which"):
        Examples.load(f"{path}#title")
    with pytest.raises(InputError, match="no column 'head'"):
        Examples.load(f"{path}#anchor=head,positive=body")


def test_rows_may_have_fewer_negatives(tmp_path: Path) -> None:
    rows = [
        {"anchor": "a", "positive": "b", "negative": "c", "negative_2": "d"},
        {"anchor": "e", "positive": "f", "negative": "g"},
    ]
    path = write(tmp_path, "f.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    found = Examples.load(path)
    assert found.negative_columns == (("c", "g"), ("d", ""))
    assert found.texts == ("a", "b", "c", "d", "e", "f", "g")


def test_several_files_are_one_table(tmp_path: Path) -> None:
    one = write(tmp_path, "1.csv", "anchor,positive\na,b\n")
    two = write(tmp_path, "2.csv", "query,answer\nc,d\n")
    assert Examples.load(one, two).columns == {"anchor": ("a", "c"), "positive": ("b", "d")}
    other = write(tmp_path, "3.csv", "text\na\n")
    with pytest.raises(InputError, match=r"1\.csv: no column 'text', which another file has"):
        Examples.load(one, other)


def test_what_is_held_out_shares_no_anchor() -> None:
    anchors = [f"a{i % 7}" for i in range(40)]
    whole = Examples({"anchor": anchors, "positive": [f"b{i}" for i in range(40)]})
    first, second = whole.divided(0.3, seed=1)
    assert len(first) + len(second) == 40
    assert not set(first.columns["anchor"]) & set(second.columns["anchor"])
    assert whole.divided(0.3, seed=1)[1].columns == second.columns
    assert whole.divided(0.3, seed=2)[1].columns != second.columns
    with pytest.raises(ConfigError, match="share"):
        whole.divided(1.0)
    with pytest.raises(InputError, match="divided"):
        whole.take([0, 7]).divided(0.5)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("f.csv", "title,body\na,b\n", "no column for the text; it has: title, body"),
        ("f.csv", "question,body\na,b\n", "no column for the positive"),
        ("f.csv", "answer,body\na,b\n", "no column for the anchor"),
        ("f.csv", "anchor,positive\n", "no row"),
        ("f.csv", "anchor,positive\na,\n", "row 0: positive is ''"),
        ("f.csv", "anchor,positive\na\n", "positive is missing"),
        ("f.csv", "anchor,positive,negative\na,b,b\n", "positive is also a negative"),
        ("f.csv", "anchor,positive,score\na,b,high\n", "'high', not a number"),
        ("f.csv", "anchor,positive,score\na,b,nan\n", "the score is nan"),
        ("f.csv", "sentence1,sentence2,label\na,b,contradiction\n", "pairs with a label"),
        ("f.jsonl", '{"anchor": 3, "positive": "b"}\n', "anchor is int, not text"),
        ("f.txt", "\n  \n", "no text"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, name: str, text: str, says: str) -> None:
    path = write(tmp_path, name, text)
    with pytest.raises((InputError, FormatError), match=says) as caught:
        Examples.load(path)
    assert str(tmp_path) in str(caught.value)
    assert isinstance(caught.value, TokenspaceError)
    assert caught.value.hint


def test_bad_columns_are_refused() -> None:
    with pytest.raises(InputError, match=r"different|rows"):
        Examples({"anchor": ["a"], "positive": ["b", "c"]})
    with pytest.raises(InputError, match="no example"):
        Examples({"text": []})
    with pytest.raises(InputError, match="are no examples"):
        Examples({"anchor": ["a"]})
