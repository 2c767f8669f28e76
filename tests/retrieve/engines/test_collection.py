"""Our own engine: segments, snapshots, and what a crash or a damaged file leaves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokenspace import durable
from tokenspace.arrays import Ragged
from tokenspace.durable import lock
from tokenspace.errors import ConfigError, FormatError, InputError, SpaceBusy
from tokenspace.retrieve.engines import collection as module
from tokenspace.retrieve.engines import create_index, open_index
from tokenspace.retrieve.engines import segment as segments
from tokenspace.retrieve.engines.collection import Collection
from tokenspace.retrieve.engines.engine import Schema
from tokenspace.retrieve.muvera import MUVERA

WIDTH = 8
ENCODINGS = MUVERA(repetitions=2, k_sim=1, d_proj=4, threads=1, fill="off")


def new(path: Path, kind: str = "flat", **settings: Any) -> Collection:
    return Collection.create(path, Schema.plan(WIDTH, muvera=ENCODINGS, **settings), kind)


def some(*numbers: int) -> Ragged:
    """Return documents that only depend on their numbers."""
    draws = [np.random.default_rng(number) for number in numbers]
    return Ragged.pack([draw.standard_normal((draw.integers(1, 5), WIDTH)) for draw in draws])


def held(index: Any) -> list[Any]:
    """Return all ids, in their order."""
    return [
        part.segment.documents[i]["id"]
        for part in index._state.held
        for i in range(len(part.segment))
        if i not in part.deleted
    ]


def names(root: Path) -> set[str]:
    return {path.name for path in root.iterdir()} - {".lock"}


def test_many_small_additions_stay_few_segments_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CROWD", 4)
    with new(tmp_path / "index") as index:
        for i in range(40):
            index.add([i], some(i), [{"n": i}])
            assert len(index._state.held) < 2 * module.CROWD
        assert held(index) == list(range(40))
        for i in (0, 17, 39):
            expected = some(i)[0].astype(np.float16)
            np.testing.assert_array_equal(index.get([i])[0].tokens, expected)
        index.compact()
        assert len(index._state.held) == 1
        assert held(index) == list(range(40))
        assert index.count({"n": {"$lt": 10}}) == 10


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
@pytest.mark.parametrize("codec", ["f32", "f16", "i8"])
def test_compacting_alters_no_document_and_no_score(kind: str, codec: str, tmp_path: Path) -> None:
    queries = some(100, 101)
    with new(tmp_path / "index", kind, codec=codec) as index:
        for start in range(0, 40, 8):
            index.add(range(start, start + 8), some(*range(start, start + 8)))
        index.delete([3, 20, 21])
        index.update([5, 6], some(60, 61), [{"x": 1}, {"x": 2}])
        before = index.search(queries, 50), index.get(held(index)), held(index)
        single = index.search_single(index.encode(queries), 50)
        index.compact()
        after = index.search(queries, 50), index.get(held(index)), held(index)
        assert before[2] == after[2]
        for ours, theirs in zip(before[0], after[0], strict=True):
            assert ours.ids == theirs.ids
            np.testing.assert_array_equal(ours.scores, theirs.scores)
        for one, other in zip(before[1], after[1], strict=True):
            assert one.metadata == other.metadata
            np.testing.assert_array_equal(one.tokens, other.tokens)
        again = index.search_single(index.encode(queries), 50)
        for ours, theirs in zip(single, again, strict=True):
            np.testing.assert_allclose(ours.scores, theirs.scores, rtol=1e-5, atol=1e-5)
        generation = index.generation
        index.compact()  # there is nothing left to do
        assert index.generation == generation


def test_full_segments_are_left_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEGMENT", 10)
    with new(tmp_path / "index") as index:
        index.add(range(25), some(*range(25)))
        assert [len(part) for part in index._state.held] == [10, 10, 5]
        first, second, third = (part.segment.name for part in index._state.held)
        index.add(range(25, 32), some(*range(25, 32)))
        index.delete([12])
        index.compact()
        assert [len(part) for part in index._state.held] == [10, 10, 10, 1]
        assert index._state.held[0].segment.name == first
        assert not names(tmp_path / "index") & {second, third}
        assert held(index) == [i for i in range(32) if i != 12]
        index.delete(range(10))  # all of a segment: it is gone at once
        assert first not in names(tmp_path / "index")
        assert len(index.search(some(1), 50)[0].ids) == len(index) == 21


def test_large_files_are_mapped_and_answer_as_held_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [f"d{i}" for i in range(30)]
    with new(tmp_path / "index") as index:
        index.add(ids, some(*range(30)), [{"n": i} for i in range(30)])
        expected = index.search(some(50), 30)[0], index.search(some(50), 9, candidates=12)[0]
    monkeypatch.setattr(segments, "SMALL", 0)
    monkeypatch.setattr("tokenspace.retrieve.mapped.SMALL", 0)
    monkeypatch.setattr("tokenspace.json_lines.SMALL", 0)
    index = Collection.open(tmp_path / "index")
    shutil.rmtree(tmp_path / "index")  # as another process does: what is open stays readable
    found = index.search(some(50), 30)[0], index.search(some(50), 9, candidates=12)[0]
    for one, other in zip(found, expected, strict=True):
        assert one.ids == other.ids
        np.testing.assert_array_equal(one.scores, other.scores)
    assert index.get(["d7"])[0].metadata == {"n": 7}
    assert index.count({"n": {"$gte": 20}}) == 10


def test_a_reader_never_takes_a_new_segment_for_one_that_it_had(tmp_path: Path) -> None:
    with new(tmp_path / "index") as writer:
        writer.add(["a"], some(1))
        reader = Collection.open(tmp_path / "index")
        writer.delete(["a"])  # nothing is left, and so no name either
        writer.add(["b"], some(2))
        assert reader.search(some(9))[0].ids == ["a"]
        assert reader.refresh()
        assert reader.search(some(9))[0].ids == ["b"]
        np.testing.assert_array_equal(reader.get(["b"])[0].tokens, some(2)[0].astype(np.float16))


def test_equal_hashes_are_no_equal_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "_hash", lambda key: 7)
    with new(tmp_path / "index") as index:
        index.add(["a", "b", 1, "1"], some(0, 1, 2, 3))
        index.delete(["b", 1])
        assert held(index) == ["a", "1"]
        assert "1" in index
        assert 1 not in index
        np.testing.assert_array_equal(index.get(["1"])[0].tokens, some(3)[0].astype(np.float16))


def test_a_reader_keeps_its_generation_until_it_asks_for_the_next(tmp_path: Path) -> None:
    with new(tmp_path / "index") as writer:
        writer.add(range(6), some(*range(6)), [{"n": i} for i in range(6)])
        reader = Collection.open(tmp_path / "index")
        expected = reader.search(some(9), 6)[0]
        writer.update([0, 1], some(10, 11))
        writer.delete([2])
        writer.add([7], some(7))
        writer.compact()
        found = reader.search(some(9), 6)[0]
        assert found.ids == expected.ids
        np.testing.assert_array_equal(found.scores, expected.scores)
        assert reader.count({"n": {"$gte": 0}}) == 6
        assert reader.refresh()
        assert not reader.refresh()
        assert not writer.refresh()
        assert set(reader.search(some(9), 9)[0].ids) == {0, 1, 3, 4, 5, 7}
        with pytest.raises(InputError, match="opened for reading"):
            reader.delete([0])


def test_threads_that_add_the_same_take_turns(tmp_path: Path) -> None:
    with new(tmp_path / "index") as index:

        def add(number: int) -> bool:
            try:
                index.add(["same", number], some(1, 2), [{"by": number}] * 2)
            except InputError:
                return False
            return True

        with ThreadPoolExecutor(4) as pool:
            done = list(pool.map(add, range(8)))
        assert sum(done) == 1
        assert sorted(map(str, held(index))) == sorted(["same", str(done.index(True))])


WRITER = """
import os, sys
os.fsync = lambda file: None
import numpy as np
from tokenspace.arrays import Ragged
from tokenspace.retrieve.engines.collection import Collection
index = Collection.open(sys.argv[1], write=True)
for turn in range(1, 31):  # all documents change together, and now and then all files as well
    tokens = Ragged.pack([np.full((2, 8), turn)] * 5)
    index.update([0, 1, 2, 3, 4], tokens, [{"turn": turn}] * 5)
    if turn % 7 == 0:
        index.compact()
"""


def test_readers_in_other_processes_see_one_generation_or_another(tmp_path: Path) -> None:
    root = tmp_path / "index"
    with new(root) as index:
        index.add(range(5), Ragged.pack([np.zeros((2, WIDTH))] * 5), [{"turn": 0}] * 5)
    query = Ragged.pack([np.full((1, WIDTH), 1 / WIDTH)])
    seen = []
    writer = subprocess.Popen([sys.executable, "-c", WRITER, root])
    try:
        while writer.poll() is None or not seen or seen[-1] < 30:
            index = Collection.open(root)
            (scores,) = {tuple(one.scores.tolist()) for one in index.search(query)}
            turns = {document.metadata["turn"] for document in index.get(range(5))}
            assert len(scores) == 5
            assert {*scores} == turns
            seen += turns
    finally:
        writer.kill()
        writer.wait()
    assert writer.returncode == 0
    assert seen == sorted(seen)
    assert len(set(seen)) > 2


CHILD = """
import json, os, sys
os.fsync = lambda file: None  # the kernel outlives a killed process, and so does what it was given
import numpy as np
from tokenspace.arrays import Ragged
from tokenspace.retrieve.engines.collection import Collection
root, seed, begin = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
index = Collection.open(root, write=True)
ids = {document.id: None for document in index.get(json.loads(sys.argv[4]))}
for turn in range(begin, 100):
    draw = np.random.default_rng([seed, turn])
    kind = draw.choice(["add", "update", "delete"] if len(ids) > 3 else ["add"])
    if kind == "add":
        chosen = [f"{turn}-{i}" for i in range(draw.integers(1, 5))]
    else:
        chosen = [str(one) for one in draw.choice(sorted(ids), 3, replace=False)]
    print(json.dumps([turn, str(kind), chosen]), flush=True)
    if kind == "delete":
        index.delete(chosen)
    else:
        tokens = Ragged.pack([np.full((1 + turn % 3, 8), turn)] * len(chosen))
        getattr(index, str(kind))(chosen, tokens, [{"turn": turn}] * len(chosen))
    print("done", flush=True)
    ids = {**ids, **dict.fromkeys(chosen)} if kind != "delete" else {
        one: None for one in ids if one not in chosen}
"""


def after(state: dict[str, int], change: tuple[int, str, list[str]]) -> dict[str, int]:
    turn, kind, ids = change
    if kind == "delete":
        return {id: version for id, version in state.items() if id not in ids}
    return {**state, **dict.fromkeys(ids, turn)}


def contents(index: Any) -> dict[str, int]:
    """Return the turn of every document, and see that its tokens are those of that turn."""
    found = {}
    for document in index.get(held(index)):
        turn = document.metadata["turn"]
        np.testing.assert_array_equal(document.tokens, np.full((1 + turn % 3, WIDTH), turn))
        found[document.id] = turn
    return found


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_kill_9_loses_nothing_that_was_acknowledged_and_leaves_no_half(
    seed: int, tmp_path: Path
) -> None:
    root = tmp_path / "index"
    new(root).close()
    draw = np.random.default_rng(seed)
    state: dict[str, int] = {}
    turn = 0
    for last in (int(draw.integers(5, 40)), int(draw.integers(45, 90)), 200):
        begin = json.dumps(sorted(state))
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, root, str(seed), str(turn), begin],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        under_way: tuple[int, str, list[str]] | None = None
        with child.stdout as lines:
            for line in lines:
                if line.strip() == "done":
                    assert under_way is not None
                    state, turn, under_way = after(state, under_way), under_way[0] + 1, None
                else:
                    under_way = json.loads(line)
                    if under_way[0] == last:  # somewhere inside this very commit
                        time.sleep(float(draw.uniform(0, 0.02)))
                        child.kill()
        assert child.wait() == (-9 if last < 100 else 0)
        found = contents(Collection.open(root, verify=True))
        if under_way is not None and found != state:
            state, turn = after(state, under_way), under_way[0] + 1
        assert found == state
        with Collection.open(root, write=True) as index:
            named = {"manifest.json", *(part.segment.name for part in index._state.held)}
            named |= {
                part.entry["deleted"]["name"] for part in index._state.held if part.entry["deleted"]
            }
            assert names(root) == named
            assert contents(index) == state
    assert turn == 100


def test_everything_is_on_the_disk_before_the_manifest_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "index"
    with new(root) as index:
        index.add(range(3), some(*range(3)))
        events: list[str] = []
        sync, replacing = durable.sync, module.replacing

        def synced(path: Path) -> None:
            events.append(path.name if path == root else path.relative_to(root).as_posix())
            sync(path)

        @contextmanager
        def renamed(target: Path) -> Iterator[Path]:
            with replacing(target) as partial:
                yield partial
                events.append("written")
            events.append("renamed")

        monkeypatch.setattr(durable, "sync", synced)
        monkeypatch.setattr(module, "sync", synced)
        monkeypatch.setattr(module, "replacing", renamed)
        index.update([1, 5], some(1, 5))
        new_files = {path.relative_to(root).as_posix() for path in root.glob("s000003.0/**/*")}
        before = set(events[: events.index("written")])
        assert {*new_files, "s000003.0", "s000002.0.d000003.npy", "index"} <= before
        assert any(name.endswith("manifest.json") for name in before)
        assert events[events.index("renamed") + 1 :] == ["index"]


@pytest.mark.parametrize("where", ["tokens", "fde.faiss", "documents.jsonl", "manifest", "npy"])
def test_a_write_that_fails_leaves_the_index_as_it_was(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "index"
    with new(root) as index:
        index.add(range(4), some(*range(4)), [{"n": i} for i in range(4)])
        expected, before = index.search(some(9), 9)[0], names(root)

        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        target = {
            "tokens": "tokenspace.retrieve.store.StoreWriter.extend",
            "fde.faiss": "faiss.write_index",
            "documents.jsonl": "tokenspace.json_lines.JsonLines.write",
            "manifest": "tokenspace.retrieve.engines.collection.replacing",
            "npy": "tokenspace.retrieve.engines.collection.stamp",
        }[where]
        with monkeypatch.context() as patch:
            patch.setattr(target, full)
            with pytest.raises(OSError, match="No space left"):
                index.update([0, 7], some(20, 21))
        found = index.search(some(9), 9)[0]
        assert found.ids == expected.ids
        np.testing.assert_array_equal(found.scores, expected.scores)
        assert Collection.open(root).search(some(9), 9)[0].ids == expected.ids
        index.update([0, 7], some(20, 21))  # and goes on where there is room again
        assert len(index) == 5
        assert len(names(root)) == len(before) + 2  # a second segment, and what it replaces


def test_what_a_killed_writer_leaves_is_removed_when_the_next_one_opens(tmp_path: Path) -> None:
    root = tmp_path / "index"
    with new(root) as index:
        index.add(range(4), some(*range(4)))
        expected = names(root)
    for folder in ("s000003.0", ".manifest.json.xyz"):
        (root / folder / "tokens").mkdir(parents=True)
        (root / folder / "tokens" / "tokens.f16").write_bytes(b"half")
    (root / "s000002.0.d000009.npy").write_bytes(b"")
    (root / "notes.txt").write_text("of the user's own")
    assert len(Collection.open(root)) == 4
    assert "s000003.0" in names(root)  # whoever reads removes nothing
    with Collection.open(root, write=True) as index:
        assert names(root) == {*expected, "notes.txt"}
        index.add([9], some(9))
        assert len(index) == 5


@pytest.mark.parametrize(
    "name", ["tokens/tokens.f16", "fde.faiss", "documents/documents.jsonl", "keys.npy"]
)
def test_a_damaged_file_is_named(name: str, tmp_path: Path) -> None:
    root = tmp_path / "index"
    with new(root) as index:
        index.add(range(4), some(*range(4)))
    path = root / "s000002.0" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(FormatError, match="the checksum does not match") as caught:
        Collection.open(root)
    assert str(path) in str(caught.value)
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(FormatError, match=r"\d+ bytes where \d+ were written"):
        Collection.open(root, verify=False)
    path.unlink()
    with pytest.raises(FormatError, match="missing"):
        Collection.open(root, write=True)
    with lock(root):  # a refused opening keeps no lock
        pass


def damage(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        manifest = json.loads(path.read_text())
        change(manifest)
        path.write_text(json.dumps(manifest))

    return apply


@pytest.mark.parametrize(
    ("apply", "message"),
    [
        (lambda path: path.write_text("{"), "not a whole manifest"),
        (lambda path: path.write_text("[]"), "not a whole manifest"),
        (damage(lambda m: m.update(format=2)), "format 2 is newer than 1"),
        (damage(lambda m: m.update(generation=9)), "its checksum does not match"),
        (damage(lambda m: m.pop("checksum")), "not a whole manifest"),
    ],
)
def test_a_damaged_manifest_is_said(
    apply: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    with new(tmp_path / "index") as index:
        index.add(range(2), some(0, 1))
    apply(tmp_path / "index" / "manifest.json")
    with pytest.raises(FormatError, match=message) as caught:
        Collection.open(tmp_path / "index")
    assert caught.value.hint


def test_one_writes_at_a_time(tmp_path: Path) -> None:
    root = tmp_path / "index"
    with new(root) as index:
        index.add(range(2), some(0, 1))
        with pytest.raises(SpaceBusy, match="writing this index"):
            Collection.open(root, write=True)
        assert len(Collection.open(root)) == 2
    with Collection.open(root, write=True) as again:
        assert len(again) == 2


def test_what_is_not_an_index_is_refused(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="not an empty directory"):
        new(tmp_path / "full")
    with pytest.raises(InputError, match="not a directory"):
        new(tmp_path / "full" / "letter.txt")
    with pytest.raises(ConfigError, match="the kind is not one of flat, hnsw"):
        new(tmp_path / "index", "tree")
    new(tmp_path / "index").close()
    with pytest.raises(InputError, match="there is an index already"):
        new(tmp_path / "index")
    with pytest.raises(InputError, match="there is no index here"):
        Collection.open(tmp_path / "none")
    (tmp_path / "space").mkdir()
    (tmp_path / "space" / "manifest.json").write_text('{"generation": "g000001", "format": 2}')
    with pytest.raises(InputError, match="this is a space") as caught:
        Collection.open(tmp_path / "space")
    assert "index push" in str(caught.value.hint)


def test_product_codes_are_refused_with_the_mend(tmp_path: Path) -> None:
    for kind in ("flat", "hnsw"):
        with pytest.raises(ConfigError, match="no product codes") as refused:
            create_index(f"faiss:{kind}:pq8", tmp_path / "index", width=WIDTH)
        assert "take i8" in str(refused.value.hint)
    with pytest.raises(ConfigError, match="fde_codec='pq8' is not one of f32, f16, i8") as refused:
        Schema.plan(WIDTH, muvera=MUVERA(d_proj=8, fde_codec="pq8"))
    assert "retrieve muvera" in str(refused.value.hint)
    assert not (tmp_path / "index").exists()


def test_the_string_and_the_index_must_agree(tmp_path: Path) -> None:
    path = tmp_path / "index"
    create_index("faiss:hnsw:i8", path, width=WIDTH).close()
    index = open_index(str(path))
    assert index.schema.muvera.fde_codec == "i8"
    assert index.info()["engine"] == "faiss:hnsw"
    assert open_index("faiss:hnsw", path).schema == index.schema
    with pytest.raises(ConfigError, match="the index is faiss:hnsw, not faiss:flat"):
        open_index("faiss:flat", path)
    with pytest.raises(ConfigError, match="there is no engine 'faiss:ivf'"):
        open_index("faiss:ivf", path)
    with pytest.raises(ConfigError, match="the path is missing"):
        open_index("faiss:flat")
    with pytest.raises(ConfigError, match="the place is missing"):
        open_index("qdrant:")
