"""Dictionaries: every way that they are written, and what is refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tokenspace.corpus import Corpus
from tokenspace.definitions import SEPARATOR, Definitions
from tokenspace.errors import ConfigError, InputError

HOT = ("hot", ("of high temperature", "stolen"))


def test_entries_come_together_and_nothing_is_said_twice() -> None:
    rows = [("hot", "of high temperature"), ("cold", "not hot"), (" hot ", "stolen")]
    found = Definitions([*rows, ("hot", " stolen ")])
    assert list(found) == [HOT, ("cold", ("not hot",))]
    assert (len(found), found.skipped) == (2, 0)
    assert repr(found) == "Definitions(2 entries, 3 definitions)"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("suffix", [".tsv", ".txt"])
def test_lines_of_an_entry_and_its_definitions(tmp_path: Path, encoding: str, suffix: str) -> None:
    text = f"hot\tof high temperature{SEPARATOR}stolen\r\n\r\nfür\t😀 ß\r\nnone\t \r\n"
    path = tmp_path / f"words{suffix}"
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    path.write_bytes((mark + text).encode(encoding))
    found = Definitions.load(path)
    assert list(found) == [HOT, ("für", ("😀 ß",))]
    assert found.skipped == 1


def test_utf_16_in_blocks_and_packed(tmp_path: Path) -> None:
    lines = [f"entry {i}\t{'é😀' * (i % 50)} {i}" for i in range(40_000)]
    path = tmp_path / "many.tsv.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode("utf-16")))
    assert len("\n".join(lines)) > 1 << 20  # more than a block
    found = Definitions.load(path)
    assert list(found)[39_999] == ("entry 39999", ("é😀" * 49 + " 39999",))
    assert len(found) == 40_000
    plain = tmp_path / "plain.txt"
    plain.write_bytes("first é\nsecond".encode("utf-16"))
    assert list(Corpus.load(plain)) == ["first é", "second"]


def test_tables(tmp_path: Path) -> None:
    tsv = tmp_path / "a.tsv"
    tsv.write_text(
        "id\tmembers\tdefinition\n1\thot | warm\tof high temperature\n2\thot\tstolen\n3\tx\t\n",
        encoding="utf-8",
    )
    found = Definitions.load(tsv)
    assert list(found) == [HOT, ("warm", ("of high temperature",))]
    assert found.skipped == 1
    table = tmp_path / "b.csv"
    table.write_text(f'Word,Gloss\nhot,"of high temperature{SEPARATOR}stolen"\n', encoding="utf-8")
    assert list(Definitions.load(table)) == [HOT]
    rows = tmp_path / "c.jsonl"
    rows.write_text('{"l": "hot", "s": "stolen"}\n{"l": "a | b", "s": "c"}\n', encoding="utf-8")
    found = Definitions.load(f"{rows}#entry=l,definition=s", table)
    assert list(found) == [("hot", ("stolen", "of high temperature")), ("a | b", ("c",))]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.tsv", "hot stolen\n", "line 1: no entry"),
        ("a.tsv", "hot\tstolen\n\tnothing\n", "line 2: no entry"),
        ("a.tsv", "hot\tstolen\tgoods\n", "line 1: a second tab"),
        ("a.txt", "hot\t\n", "no definition"),
        (
            "a.csv",
            "entry,sense\nhot,stolen\n",
            "no column for the definition; it has: entry, sense",
        ),
        ("a.csv", "entry,definition\n ,stolen\n", "line 2: no entry"),
        ("a.jsonl", '{"entry": "hot", "definition": 7}\n', "definition is int"),
    ],
)
def test_what_is_no_dictionary(tmp_path: Path, name: str, text: str, says: str) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=says) as fault:
        Definitions.load(path)
    assert fault.value.hint


def test_what_is_refused(tmp_path: Path) -> None:
    for rows, says in (
        ([], "no definition"),
        ([("hot", "stolen"), ("", "x")], "row 1: the entry"),
        ([("hot", " ")], "row 0: the definition"),
        ([("hot", f"a{SEPARATOR}b")], "row 0: the definition of 'hot' holds"),
    ):
        with pytest.raises(InputError, match=says) as fault:
            Definitions(rows)
        assert fault.value.hint
    table = tmp_path / "a.csv"
    table.write_text("entry,definition\nhot,stolen\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="does not say which"):
        Definitions.load(f"{table}#word")
    with pytest.raises(InputError, match="no column 'lemma'; it has: entry, definition"):
        Definitions.load(f"{table}#entry=lemma")
    with pytest.raises(InputError, match="no such file"):
        Definitions.load(tmp_path / "absent.tsv")
    with pytest.raises(InputError, match="no definition"):
        Definitions.load()
    torn = tmp_path / "torn.tsv"
    torn.write_bytes("a\tb\n".encode("utf-16") + b"\x00\xd8\x00\xd8")
    with pytest.raises(InputError, match="UTF-16"):
        Definitions.load(torn)
