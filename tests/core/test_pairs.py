from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tokenspace.errors import FormatError, InputError
from tokenspace.pairs import Pairs


def test_tabs_spaces_and_lines_without_a_pair(tmp_path: Path) -> None:
    file = tmp_path / "d.tsv"
    file.write_text("cat\tKatze\nred house\trotes Haus\textra\ndog Hund\nalone\n\n\tempty\n")
    pairs = Pairs.load(file)
    assert list(pairs) == [("cat", "Katze"), ("red house", "rotes Haus"), ("dog", "Hund")]
    assert pairs.skipped == 2  # "alone", and the line whose first field is empty


def test_gzip_and_json_lines(tmp_path: Path) -> None:
    packed = tmp_path / "d.tsv.gz"
    packed.write_bytes(gzip.compress(b"a\tb\n"))
    assert list(Pairs.load(packed)) == [("a", "b")]
    lines = tmp_path / "d.jsonl"
    lines.write_text('{"en": "cat", "de": "Katze"}\n["dog", "Hund"]\n[1]\nnot json\n')
    pairs = Pairs.load(lines)
    assert list(pairs) == [("cat", "Katze"), ("dog", "Hund")]
    assert pairs.skipped == 2


def test_csv_below_a_header(tmp_path: Path) -> None:
    file = tmp_path / "d.csv"
    file.write_text(
        'query,document,note\r\n"red, or ""rouge""",rotes Haus,x\r\n\r\n'
        'dog,"a line\r\nand another"\r\nalone\r\n,empty\r\n'
    )
    pairs = Pairs.load(file)
    assert list(pairs) == [('red, or "rouge"', "rotes Haus"), ("dog", "a line\nand another")]
    assert pairs.skipped == 2  # "alone", and the row whose first cell is empty
    packed = tmp_path / "d.csv.gz"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    assert list(Pairs.load(packed)) == list(pairs)
    file.write_text("query,document\n")
    with pytest.raises(InputError, match="no pair"):
        Pairs.load(file)
    file.write_text('query,document\na,b\nc,"d" e\n')
    with pytest.raises(FormatError, match="line 3 is not CSV"):
        Pairs.load(file)


def test_two_files_are_aligned_by_line(tmp_path: Path) -> None:
    left, right, short = (tmp_path / name for name in ("en.txt", "de.txt", "short.txt"))
    left.write_text("a cat\n\na dog\n")
    right.write_text("eine Katze\nnichts\nein Hund\n")
    short.write_text("eins\n")
    pairs = Pairs.load(left, right)
    assert list(pairs) == [("a cat", "eine Katze"), ("a dog", "ein Hund")]
    assert pairs.skipped == 1
    with pytest.raises(InputError, match=r"3 lines and .* 1"):
        Pairs.load(left, short)


def test_bad_pairs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="pair 1"):
        Pairs([("a", "b"), ("c", "")])
    (tmp_path / "none.tsv").write_text("alone\n")
    with pytest.raises(InputError, match="no pair"):
        Pairs.load(tmp_path / "none.tsv")
    with pytest.raises(InputError, match="3 files"):
        Pairs.load("a", "b", "c")
