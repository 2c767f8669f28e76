"""Adding and removing: as if built so, without learning again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokenspace.errors import InputError, SpaceBusy
from tokenspace.space import Space, steps
from tokenspace.space.store import Manifest, generations, lock


@pytest.fixture
def note(tmp_path: Path) -> Path:
    path = tmp_path / "note.txt"
    path.write_text("A walrus operator assigns inside an expression.\n\nIt is written := there.\n")
    return path


def vectors_of(space: Space, source: str) -> list[Any]:
    parts = space.collection
    numbers = [i for i, p in enumerate(space.generation.passages) if p.source == source]
    found: list[Any] = [parts.tokens[i] for i in numbers]
    found.append(parts.singles.rows(np.array(numbers)))
    query = parts.query("a list of strings")
    found.append(parts.fdes.search(query.vectors, len(space))[1].shape)
    return found


def test_added_text_is_found_and_the_rest_is_as_it_was(copy: Path, note: Path) -> None:
    former = Space.open(copy)
    before, count = vectors_of(former, "with.txt"), len(former)
    space = former.add([note])
    assert len(space) == count + 1
    assert space.search("walrus expression", k=1, mode="bm25")[0].source == "note.txt"
    assert "note.txt" in [hit.source for hit in space.search("assigns inside an expression", k=5)]
    for ours, theirs in zip(vectors_of(space, "with.txt")[:-1], before[:-1], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert [path.name for path in generations(copy)] == ["g000002"]
    Space.open(copy, verify=True)
    assert space.report["counts"]["passages"] == len(space)
    assert space.report["changes"] == [{"added": 1, "removed": 0}]


def test_adding_a_source_again_replaces_it(copy: Path, note: Path) -> None:
    once = Space.open(copy).add([note])
    note.write_text("The walrus was renamed to seal.\n")
    twice = once.add([note])
    assert len(twice) == len(once)
    assert [p.text for p in twice.generation.passages if p.source == "note.txt"] == [
        "The walrus was renamed to seal."
    ]


def test_add_then_remove_gives_the_former_answers(copy: Path, note: Path) -> None:
    former = Space.open(copy)
    hits = {mode: former.search("for loops", k=5, mode=mode) for mode in ("bm25", "maxsim", "fde")}
    space = former.add([note]).remove(["note.*"])
    assert len(space) == len(former.generation.passages)
    for mode, expected in hits.items():
        found = space.search("for loops", k=5, mode=mode)
        assert [hit.text for hit in found] == [hit.text for hit in expected]
        np.testing.assert_allclose([h.score for h in found], [h.score for h in expected], rtol=1e-5)


def test_removed_sources_are_gone_from_every_part(copy: Path) -> None:
    space = Space.open(copy).remove(["with.txt", "f*.txt"])
    assert {p.source for p in space.generation.passages}.isdisjoint({"with.txt", "for.txt"})
    parts = space.collection
    assert len(parts.tokens) == len(parts.passages) == parts.singles.shape[0]  # type: ignore[arg-type]
    assert sum(map(len, parts.fdes.shards)) == len(space)
    assert len(parts.lexical.scores(["class"])) == len(space)


def test_a_build_after_a_change_is_of_its_own_texts_again(
    copy: Path, folder: Path, note: Path, quick: dict[str, Any]
) -> None:
    count = len(Space.open(copy))
    assert len(Space.open(copy).add([note])) == count + 1
    assert len(Space.build([folder], out=copy, **quick)) == count


@pytest.mark.parametrize("store", ["int8", "float16"])
def test_added_batches_are_as_if_built_so(
    store: str, folder: Path, tmp_path: Path, quick: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "BATCH", 3)
    whole = Space.build([folder], out=tmp_path / "whole", store=store, **quick)
    less = Space.open(shutil.copytree(whole.root, tmp_path / "less")).remove(["with.txt"])
    again = less.add([folder / "with.txt"])
    assert len(again) == len(whole)
    for ours, theirs in zip(
        vectors_of(again, "with.txt")[:-1], vectors_of(whole, "with.txt")[:-1], strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    held = {path.name for path in again.generation.path.iterdir()}
    assert held == {path.name for path in whole.generation.path.iterdir()} - {"steps"}


def test_what_cannot_be_removed_or_added_is_said(copy: Path, tmp_path: Path) -> None:
    space = Space.open(copy)
    with pytest.raises(InputError, match="no source matches nothing"):
        space.remove(["nothing"])
    with pytest.raises(InputError, match="nothing would be left"):
        space.remove(["*"])
    blank = tmp_path / "blank.txt"
    blank.write_text("\n")
    with pytest.raises(InputError, match="text"):
        space.add([blank])
    with lock(copy), pytest.raises(SpaceBusy):
        space.add([blank])
    assert Manifest.read(copy).generation == "g000001"
    assert [path.name for path in generations(copy)] == ["g000001"]
    Space.open(copy, verify=True)


def test_a_reader_keeps_its_generation_while_another_is_committed(copy: Path, note: Path) -> None:
    reader = Space.open(copy)
    modes = ("hybrid", "maxsim", "fde", "single", "bm25")
    expected = [reader.search("context manager", k=3, mode=mode) for mode in modes]
    Space.open(copy).add([note])
    assert [reader.search("context manager", k=3, mode=mode) for mode in modes] == expected
