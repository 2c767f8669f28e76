"""The directory: what counts is the manifest, and what it names is checked."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest

from tokenspace.errors import FormatError, InputError, SpaceBusy
from tokenspace.space import Space
from tokenspace.space.store import FORMAT, Manifest, generations, lock, next_generation


def test_the_manifest_names_every_file_with_its_size(built: Path) -> None:
    manifest = Manifest.read(built)
    below = built / manifest.generation
    found = {p.relative_to(below).as_posix() for p in below.rglob("*") if p.is_file()}
    assert found == set(manifest.files)
    assert manifest.nbytes == sum((below / name).stat().st_size for name in found)
    assert generations(built) == [below]


@pytest.mark.parametrize(
    "name", ["passages/passages.jsonl", "tokens/codes.bin", "singles.safetensors", "weights.npy"]
)
def test_a_changed_byte_is_found_and_the_file_named(copy: Path, name: str) -> None:
    path = copy / Manifest.read(copy).generation / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(FormatError, match=name.rpartition("/")[2]) as refused:
        Space.open(copy)
    assert "checksum" in str(refused.value)


def test_a_truncated_file_and_a_missing_one_are_named(copy: Path) -> None:
    path = copy / Manifest.read(copy).generation / "tokens" / "codes.bin"
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(FormatError, match=r"codes\.bin: \d+ bytes where \d+ were written"):
        Space.open(copy, verify=False)
    path.unlink()
    with pytest.raises(FormatError, match=r"codes\.bin: missing"):
        Space.open(copy, verify=False)


def test_a_newer_format_is_refused_with_the_mend(copy: Path) -> None:
    path = copy / "manifest.json"
    raw = json.loads(path.read_text())
    path.write_text(json.dumps({**raw, "format": FORMAT + 1, "unheard": 1}))
    with pytest.raises(FormatError, match=f"format {FORMAT + 1} is newer") as refused:
        Space.open(copy)
    assert "upgrade" in str(refused.value.hint)


def test_an_older_format_is_refused_with_the_mend_and_built_again(
    copy: Path, folder: Path, quick: dict[str, Any]
) -> None:
    path = copy / "manifest.json"
    raw = json.loads(path.read_text())
    path.write_text(json.dumps({**raw, "format": FORMAT - 1}))
    with pytest.raises(FormatError, match=f"format {FORMAT - 1} is older") as refused:
        Space.open(copy)
    assert "build the space again" in str(refused.value.hint)
    assert Space.build([folder], out=copy, **quick).manifest.format == FORMAT


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "x"}', f'{{"format": {FORMAT}}}'])
def test_a_damaged_manifest_is_refused(copy: Path, text: str) -> None:
    (copy / "manifest.json").write_text(text)
    with pytest.raises(FormatError, match=r"manifest\.json"):
        Space.open(copy)


def test_where_there_is_no_space_the_error_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no space here") as refused:
        Space.open(tmp_path)
    assert "tokenspace build" in str(refused.value.hint)


def _hold(root: Path, held: multiprocessing.synchronize.Event, free: object) -> None:
    with lock(root):
        held.set()
        free.wait(30)  # type: ignore[attr-defined]


def test_a_second_writer_is_refused_and_the_lock_dies_with_its_process(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held, free = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path, held, free))
    other.start()
    assert held.wait(30)
    with pytest.raises(SpaceBusy, match="another process"), lock(tmp_path):
        pass
    other.kill()
    other.join()
    with lock(tmp_path):
        assert next_generation(tmp_path, {}).name == "g000001"
        (tmp_path / "g000007").mkdir()  # somebody else's: it holds no plan
        assert [path.name for path in generations(tmp_path)] == ["g000001"]
