"""``tokenspace index`` as a user types it, and spaces sent to an index."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokenspace.arrays import Ragged
from tokenspace.errors import InputError
from tokenspace.retrieve.engines import create_index, open_index, place, spaces
from tokenspace.space import Space

Cli = Callable[..., Any]


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from pydoc_data.topics import topics

    folder = tmp_path_factory.mktemp("text")
    for name in ("with", "for", "lambda"):
        (folder / f"{name}.txt").write_text(topics[name], encoding="utf-8")
    Space.build([folder], out=folder / "space", vocab_size=400, dim=8, epochs=1, threads=1)
    return folder / "space"


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    rows = Ragged.pack([np.eye(4)[:2], np.eye(4)[2:3], -np.eye(4)[:3]])
    rows.save(tmp_path / "docs.safetensors")
    lines = [{"id": "north", "metadata": {"n": 1}}, {"id": "east"}, {"id": 7, "metadata": {"n": 3}}]
    text = "\n".join(json.dumps(line) for line in lines)
    (tmp_path / "docs.jsonl").write_text(text + "\n", encoding="utf-8")
    Ragged.pack([np.eye(4)[:1], np.eye(4)[2:]]).save(tmp_path / "queries.safetensors")
    return tmp_path / "docs.safetensors"


@pytest.mark.parametrize("engine", ["faiss:hnsw:i8", "lance", "qdrant"])
def test_an_index_from_making_it_to_compacting_it(
    engine: str, cli: Cli, tmp_path: Path, vectors: Path
) -> None:
    index: Any = tmp_path / "index"
    more: tuple[Any, ...] = ("--engine", engine)
    if engine[:5] != "faiss":
        index, more = f"{engine}:{index}", ()
    made = cli("index", "create", index, "--width", 4, "--fde", "2,1,2", *more, "--json")
    assert made.code == 0, made.err
    assert json.loads(made.out)["schema"]["fde_width"] == 8
    documents = vectors.with_suffix(".jsonl")
    added = cli("index", "add", index, vectors, "--documents", documents)
    assert (added.code, "3 documents" in added.out) == (0, True), added.err
    queries = vectors.with_name("queries.safetensors")
    asked = ("index", "search", index, "--vectors", queries)
    hits = json.loads(cli(*asked, "-k", 2, "--json").out)
    assert [[hit["id"] for hit in one] for one in hits] == [["north", "east"], ["east", "north"]]
    assert hits[0][0] == {"rank": 1, "id": "north", "score": 1.0, "metadata": {"n": 1}}
    shown = cli(*asked, "--where", '{"n": {"$gte": 2}}')
    assert "query 1" in shown.out and "1. 7  0.0000" in shown.out and "north" not in shown.out
    nothing = cli(*asked, "--where", '{"n": 9}')
    assert (nothing.code, "no document" in nothing.err) == (0, True)
    again = cli("index", "add", index, vectors)  # ids 0, 1, 2
    assert again.code == 0
    taken = cli("index", "add", index, vectors, "--documents", documents)
    assert taken.code == 3
    assert "is there already" in taken.err and "update" in taken.err
    assert cli("index", "add", index, vectors, "--update", "--documents", documents).code == 0
    assert cli("index", "delete", index, "7", "north", "0").code == 0
    gone = cli("index", "delete", index, "north")
    assert gone.code == 3
    assert 'no document with the id "north"' in gone.err
    assert "3 documents" in cli("index", "compact", index).out
    info = cli("index", "info", index)
    assert info.code == 0
    assert "documents    3" in info.out


@pytest.mark.parametrize("engine", ["", "lance:", "qdrant:"])
def test_a_space_sent_to_an_index_answers_as_the_space(
    engine: str, cli: Cli, tmp_path: Path, space: Path
) -> None:
    index = f"{engine}{tmp_path / 'index'}"
    codec = ("--codec", "f32")
    sent = cli("index", "push", space, index, *codec, "--json")
    assert sent.code == 0, sent.err
    opened = Space.open(space)
    assert json.loads(sent.out)["documents"] == len(opened)
    again = cli("index", "push", space, index)
    assert (again.code, f"{len(opened)} passages sent" in again.err) == (0, True)
    expected = opened.search("anonymous functions", k=3, mode="maxsim")
    found = cli("index", "search", index, "anonymous", "functions", "--space", space, "-k", 9)
    assert found.code == 0, found.err
    assert expected[0].source in found.out
    with open_index(index) as held:
        assert len(held) == len(opened)
        best = held.search(spaces.query(opened, "anonymous functions"), 1)[0]
        np.testing.assert_allclose(best.scores[0], expected[0].score, rtol=1e-4)
        first = held.get([f"{expected[0].source}:{expected[0].line}"])[0]
        assert first.metadata["source"] == expected[0].source


def test_the_encoder_of_a_space_outlives_additions(space: Path, tmp_path: Path) -> None:
    import shutil

    opened = Space.open(shutil.copytree(space, tmp_path / "space"))
    own = spaces.encoder_of(opened)
    (tmp_path / "more.txt").write_text("Functions are objects.\n")
    changed = opened.add([tmp_path / "more.txt"])
    assert spaces.encoder_of(changed) == own
    with create_index(str(tmp_path / "index"), width=8, encoder="another") as index:
        with pytest.raises(InputError, match="documents come from the encoder"):
            spaces.push(changed, index)
        with pytest.raises(InputError, match="queries come from the encoder"):
            index.search(spaces.query(changed, "objects"), encoder=own)


def test_passages_are_sent_in_pieces_with_ids_of_their_own(
    space: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Space.open(space)
    whole = list(spaces.passages(opened))
    monkeypatch.setattr(spaces, "ROWS", 300)
    pieces = list(spaces.passages(opened))
    assert len(whole) == 1 < len(pieces)
    ids = [id for part in pieces for id in part[0]]
    assert ids == whole[0][0]
    assert len(set(ids)) == len(ids) == len(opened)
    np.testing.assert_array_equal(np.concatenate([p[1].flat for p in pieces]), whole[0][1].flat)


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        (("create", "{new}"), "the width is missing", 2),
        (("create", "{new}", "--width", 4, "--fde", "2,x"), "three whole numbers", 2),
        (("create", "{new}", "--width", 4, "--engine", "faiss:ivf"), "there is no engine", 2),
        (("create", "lance:{new}", "--width", 4, "--engine", "faiss:flat"), "for a directory", 2),
        (("create", "lance:{new}", "--width", 4, "--codec", "i8"), "which Lance can hold", 2),
        (("create", "qdrant:{new}", "--width", 4, "--codec", "i8"), "which Qdrant can hold", 2),
        (("create", "{index}", "--width", 4), "there is an index already", 3),
        (("info", "{new}"), "there is no index here (hint: make one with", 3),
        (("info", "lance:{new}"), "there is no index in the table", 3),
        (("info", "qdrant:http://127.0.0.1:1"), "did not do collection_exists", 3),
        (("add", "{index}", "{new}"), "no such file", 3),
        (("add", "{index}", "{wide}"), "expected (tokens, 4)", 3),
        (("add", "{index}", "{docs}", "--documents", "{short}"), "1 documents, and 3", 3),
        (("add", "{index}", "{docs}", "--documents", "{docs}"), "", 3),
        (("search", "{index}"), "give either a QUERY", 2),
        (("search", "{index}", "word"), "needs an encoder", 2),
        (("search", "{index}", "--vectors", "{docs}", "--where", "lang=en"), "is not JSON", 2),
        (("search", "{index}", "--vectors", "{docs}", "--where", "[]"), "not a JSON object", 2),
        (("search", "{index}", "--vectors", "{docs}", "--where", '{{"$x": 1}}'), "'$x'", 3),
        (("search", "{index}", "--vectors", "{docs}", "--encoder", "b"), "the encoder b", 3),
        (("nothing",), "No such command 'nothing'", 2),
    ],
)
def test_refusals_are_one_line_with_the_mend(
    words: tuple[Any, ...], message: str, code: int, cli: Cli, tmp_path: Path, vectors: Path
) -> None:
    index = tmp_path / "index"
    create_index(str(index), width=4, encoder="a").close()
    Ragged.pack([np.ones((2, 5))]).save(tmp_path / "wide.safetensors")
    (tmp_path / "short.jsonl").write_text('{"id": 1}\n')
    names = {"new": tmp_path / "new", "index": index, "docs": vectors}
    names |= {"wide": tmp_path / "wide.safetensors", "short": tmp_path / "short.jsonl"}
    ended = cli("index", *(str(word).format(**names) for word in words))
    assert ended.code == code
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert "hint" in ended.err


def test_help_loads_neither_engines_nor_numpy() -> None:
    code = (
        "import io, sys\n"
        "from contextlib import redirect_stdout\n"
        "from tokenspace.cli import root\n"
        "for words in (['index'], ['index', 'search'], ['index', 'push']):\n"
        "    with redirect_stdout(io.StringIO()) as out:\n"
        "        root.main([*words, '--help'], prog_name='tokenspace', standalone_mode=False)\n"
        "heavy = {'numpy', 'faiss', 'lancedb', 'qdrant_client', 'pyarrow'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("name", "spec"), [("lancedb", "lance:{}"), ("qdrant_client", "qdrant:{}")]
)
def test_a_missing_package_is_named_with_its_extra(
    name: str, spec: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    ended = cli("index", "create", spec.format(tmp_path / "x"), "--width", 4)
    assert ended.code == 2
    assert "pip install 'tokenspace[scale]'" in ended.err


def test_places_are_read_from_their_strings() -> None:
    assert place("lance:s3://bucket/folder")[:4] == (
        "lance",
        None,
        "s3://bucket/folder",
        "documents",
    )
    assert place("lance:a/b#mine")[2:4] == ("a/b", "mine")
    assert place("qdrant:http://host:6333#mine")[2:4] == ("http://host:6333", "mine")
    assert place("qdrant::memory:")[2] == ":memory:"
    assert place("faiss:hnsw:i8", "x") == ("faiss", "hnsw", "x", "documents", "i8")
    assert place("folder/index")[:3] == ("faiss", None, "folder/index")
