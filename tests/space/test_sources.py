import io
import json
import tracemalloc

import pyarrow
import pyarrow.parquet
import pytest

from tokenspace.errors import ConfigError, FormatError, InputError
from tokenspace.space.passages import split
from tokenspace.space.sources import read
from tokenspace.stdlib_text import documents


def texts(*paths, **options):
    return [(d.source, d.title, d.text.strip(), d.line) for d in read(list(paths), **options)]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "b.txt").write_text("second")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "z.md").write_text("# first\r\n\r\nbody")
    (tmp_path / ".hidden.txt").write_text("no")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.txt").write_text("no")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\0")
    return tmp_path


def test_folder_is_sorted_hidden_files_and_other_kinds_are_skipped(folder):
    assert texts(folder) == [
        ("a/z.md", "", "# first\n\nbody", 1),
        ("b.txt", "", "second", 1),
    ]
    assert texts(folder / "b.txt") == [("b.txt", "", "second", 1)]


def test_links_in_circles_end(folder):
    (folder / "a" / "up").symlink_to(folder)
    (folder / "same.txt").symlink_to(folder / "b.txt")
    assert sorted(t[2] for t in texts(folder)) == ["# first\n\nbody", "second"]


def test_two_folders_with_equal_names(tmp_path):
    for name in "xy":
        (tmp_path / name).mkdir()
        (tmp_path / name / "t.txt").write_text(name)
    sources = [source for source, *_ in texts(tmp_path / "x", tmp_path / "y")]
    assert sources[0] == "t.txt" and sources[1].endswith("y/t.txt")


def test_nothing_to_read(tmp_path):
    with pytest.raises(InputError, match="it is empty"):
        read([tmp_path])
    (tmp_path / "x.jsonl").write_text('{"text": "a"}')
    with pytest.raises(InputError, match="no readable text") as caught:
        read([tmp_path])
    assert "--text-field" in caught.value.hint
    (tmp_path / "blank.txt").write_text(" \n")
    with pytest.raises(InputError, match="without a word"):
        texts(tmp_path)
    with pytest.raises(InputError, match="no such file or folder"):
        read([tmp_path / "absent"])
    with pytest.raises(InputError, match="no text was given"):
        read([])


def test_invalid_bytes_are_named_by_file_and_offset(tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes(b"ab" * (1 << 20) + b"caf\xe9 !")
    with pytest.raises(InputError, match=r"latin\.txt: byte 2097155 is not valid utf-8") as caught:
        texts(path)
    assert "--encoding" in caught.value.hint and "--errors replace" in caught.value.hint
    assert texts(path, encoding="latin-1")[-1][2].endswith("café !")
    assert texts(path, errors="replace")[-1][2].endswith("caf\ufffd !")
    path.write_bytes("\ufeffé".encode())
    assert texts(path) == [("latin.txt", "", "é", 1)]
    path.write_bytes(b"a\0b")
    with pytest.raises(FormatError, match="zero bytes"):
        texts(path)


def test_a_character_across_two_blocks(tmp_path):
    path = tmp_path / "t.txt"
    path.write_bytes(b"a" * ((1 << 20) - 1) + "é".encode() + b"\xff")
    with pytest.raises(InputError, match=f"byte {(1 << 20) + 1} "):
        texts(path)


def test_options_are_checked():
    with pytest.raises(ConfigError, match="encoding='klingon'"):
        read(["-"], encoding="klingon")
    with pytest.raises(ConfigError, match="errors='loud'"):
        read(["-"], errors="loud")


def test_html(tmp_path):
    (tmp_path / "p.html").write_text(
        "<html><head><title>T</title><style>x</style></head>\n<body><h1>Big <i>A</i></h1>\n"
        "<p>one\n<b>two</b> &amp; three</p><script>evil()</script>\n<h2>Small</h2>"
        "<ul><li>x<li>y</ul>\n<pre>code\n  more</pre></body></html>"
    )
    found = [p for d in read([tmp_path]) for p in split(d)]
    assert [(p.title, p.line) for p in found] == [("Big A", 3), ("Big A > Small", 5)]
    assert found[0].text == "one two & three"
    assert found[1].text == "- x\n\n- y\n\n    code\n      more"


def test_python_by_its_definitions(tmp_path):
    (tmp_path / "m.py").write_text(
        '"""Doc."""\n\n# note\nimport os\n\n\nclass A:\n    """Of A."""\n\n'
        "    @property\n    def f(self):\n        def g(): ...\n        return 1\n"
    )
    found = [p for d in read([tmp_path]) for p in split(d)]
    assert [(p.title, p.line) for p in found] == [("", 1), ("A", 7), ("A.f", 10)]
    assert found[2].text.startswith("@property\ndef f(self):")
    (tmp_path / "m.py").write_text("def broken(:\n")
    assert texts(tmp_path)[0][2] == "def broken(:"


def test_jsonl(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"body": "one", "title": " T "}\n\n{"body": null}\n{"body": "two"}\n')
    assert texts(path, text_field="body") == [
        ("rows.jsonl", "T", "one", 1),
        ("rows.jsonl", "", "two", 4),
    ]
    with pytest.raises(InputError, match="which field") as caught:
        read([path])
    assert "--text-field" in caught.value.hint
    with pytest.raises(InputError, match="line 1: no field 'text'; it has: body, title"):
        texts(path, text_field="text")
    path.write_text('{"body": "x"}\n{"body": "on\\none line"}\n')
    *_, row = read([path], text_field="body")
    assert [row.line_of(i) for i in range(2)] == [2, 2]
    for bad, says in (("{", "line 1 is not JSON"), ("[1]", "not an object")):
        path.write_text(bad)
        with pytest.raises(FormatError, match=says):
            texts(path, text_field="body")
    path.write_text('{"body": 3}')
    with pytest.raises(InputError, match="is int, not text"):
        texts(path, text_field="body")


def test_csv_and_tsv(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(f'id,text\n1,"a\nb"\n2,{"x" * 200_000}\n')
    found = texts(path, text_field="text")
    assert found[0] == ("t.csv", "", "a\nb", 2) and found[1][3] == 4
    with pytest.raises(InputError, match="no field 'body'; it has: id, text"):
        texts(path, text_field="body")
    (tmp_path / "t.tsv").write_text("id\ttext\n1\ta, b\n")
    assert texts(tmp_path / "t.tsv", text_field="text")[0][2] == "a, b"


def test_parquet(tmp_path):
    path = tmp_path / "t.parquet"
    table = pyarrow.table({"n": [1, 2], "text": ["one", "two"], "title": ["A", None]})
    pyarrow.parquet.write_table(table, path)
    assert texts(path, text_field="text") == [
        ("t.parquet", "A", "one", 1),
        ("t.parquet", "", "two", 2),
    ]
    with pytest.raises(InputError, match="no field 'body'; it has: n, text, title"):
        texts(path, text_field="body")
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(FormatError, match="not a whole parquet file"):
        texts(path, text_field="text")


def test_standard_input(monkeypatch):
    class Stdin:
        buffer = io.BytesIO(b"hello")

    monkeypatch.setattr("sys.stdin", Stdin)
    assert texts("-") == [("standard-input.txt", "", "hello", 1)]
    Stdin.buffer = io.BytesIO(json.dumps({"t": "row"}).encode())
    assert texts("-", text_field="t") == [("standard-input.jsonl", "", "row", 1)]


def test_standard_input_beside_a_file_that_has_its_name(monkeypatch, tmp_path):
    class Stdin:
        buffer = io.BytesIO(b"piped")

    file = tmp_path / "standard-input.txt"
    file.write_text("filed")
    monkeypatch.setattr("sys.stdin", Stdin)
    found = [(d.source, d.text) for d in read([str(file), "-", "-"])]
    assert found == [("standard-input.txt", "filed"), ("-", "piped")]


@pytest.mark.parametrize("unit", ["A line of words.\n\n", "no line ends at all "])
def test_a_large_file_is_streamed(tmp_path, unit):
    path = tmp_path / "large.txt"
    path.write_text(unit * (24_000_000 // len(unit)))
    tracemalloc.start()
    length = sum(len(document.text) for document in read([path]))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert length == path.stat().st_size
    assert peak < 12_000_000


def test_pieces_keep_their_lines(tmp_path):
    path = tmp_path / "large.txt"
    path.write_text("".join(f"line {i} of this file\n\n" for i in range(100_000)))
    rows = path.read_text().split("\n")
    pieces = list(read([path]))
    assert len(pieces) > 1
    assert all(rows[piece.line - 1] == piece.text.split("\n")[0] for piece in pieces)


@pytest.fixture(scope="module")
def default():
    return list(documents())


def test_default_text_has_the_pages_that_people_look_for(default):
    pages = {document.source: document for document in default}
    assert "topics/with" in pages and pages["topics/with"].title == "The with statement"
    wanted = (
        "threading threading.Thread.join threading.Lock builtins.str.split builtins.sorted os.walk"
        " os.mkdir os.path.join math.sqrt collections.deque collections.Counter itertools.islice"
        " asyncio.gather concurrent.futures.Executor json.dumps random.randint csv"
        " shutil.rmtree sqlite3.connect zlib.compress functools.lru_cache select.select"
    )
    assert [name for name in wanted.split() if name not in pages] == []
    assert pages["csv"].text and pages["threading.Thread.join"].text.startswith("Wait until")


def test_default_text_is_clean(default):
    keys = {(d.source.rpartition(".")[2], d.text) for d in default if "/" not in d.source}
    assert len(keys) == sum("/" not in d.source for d in default)
    assert all(d.text.strip() and d.line >= 1 for d in default)
    names = {d.source.split(".")[0] for d in default}
    assert not names & {"antigravity", "this", "test", "idlelib", "lib2to3"}
    assert not any(".." in d.source or d.source.startswith("_co") for d in default)
