"""A model directory without a matrix: the matrix lies beside the weights, in a compressed form.

``hollow`` takes matrices out of a directory and renames its weights, so that no loader which does
not know of it starts with random rows; ``fill`` writes the plain directory again.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tokenspace.checkpoint import Checkpoint
from tokenspace.checkpoint.folder import read_json
from tokenspace.checkpoint.weights import FLOATS, New, Shard, place, rewrite
from tokenspace.errors import FormatError, InputError
from tokenspace.io import replacing

from . import Lookup
from .floats import open_rows

__all__ = ["NOTE", "Hollow", "fill", "hollow"]

NOTE = "compressed.json"
_WEIGHTS, _REST = ".safetensors", ".rest.safetensors"
_INDEX, _REST_INDEX = "model.safetensors.index.json", "model.rest.index.json"


@dataclass(frozen=True, eq=False)
class Hollow:
    """An opened directory: ``tables`` by the name of the tensor whose place they take.

    ``folder`` is where the weights lie, ``notes`` what :data:`NOTE` says of every tensor.
    """

    root: Path
    folder: Path
    tables: Mapping[str, Lookup]
    notes: Mapping[str, Mapping[str, str]]

    @classmethod
    def open(cls, root: str | Path) -> Hollow:
        """Open what :func:`hollow` left; :class:`FormatError` where it is not whole."""
        root = Path(root)
        if not (root / NOTE).is_file():
            raise FormatError(
                f"{root}: no {NOTE}", hint="give a directory that tokenspace compress wrote"
            )
        about = read_json(root / NOTE)
        try:
            notes = {
                str(name): {str(k): str(v) for k, v in note.items()}
                for name, note in about["tensors"].items()
            }
            folder = root / str(about["folder"])
            tables = {name: open_rows(_inside(root, note["file"])) for name, note in notes.items()}
            for note in notes.values():
                if not _inside(folder, note["shard"] + _REST).is_file():
                    raise FormatError(
                        f"{folder}: {note['shard']}{_REST} is missing",
                        hint="compress the model again",
                    )
                FLOATS[note["dtype"]]
        except (KeyError, TypeError, AttributeError) as fault:
            raise FormatError(
                f"{root / NOTE}: not a whole description ({fault})", hint="compress the model again"
            ) from fault
        return cls(root, folder, tables, notes)


def hollow(root: Path, tables: Mapping[str, Lookup]) -> int:
    """Take matrices out of the plain model directory ``root``, in place; return its bytes less.

    ``tables`` gives by the tensor's name what is stored instead. Every shard is renamed.
    """
    checkpoint = Checkpoint.open(root, trust_remote_code=True)
    before = sum(path.stat().st_size for path in checkpoint.folder.glob("*" + _WEIGHTS))
    aliases = {tensor.name: tensor.aliases for tensor in checkpoint.tensors}
    notes = {}
    for number, (name, table) in enumerate(sorted(tables.items())):
        file = f"compressed-{number}{_WEIGHTS}"
        table.save(root / file)
        for copy in (name, *aliases[name]):
            shard = checkpoint.part(copy).name.removesuffix(_WEIGHTS)
            notes[copy] = {"file": file, "shard": shard, "dtype": checkpoint.entry(copy).dtype}
    for part in checkpoint.parts:
        rest = checkpoint.folder / (part.name.removesuffix(_WEIGHTS) + _REST)
        if notes.keys() & part.entries.keys():
            rewrite(part, rest, {}, without=notes)
            part.path.unlink()
        else:
            os.replace(part.path, rest)
    if (checkpoint.folder / _INDEX).is_file():
        os.replace(checkpoint.folder / _INDEX, checkpoint.folder / _REST_INDEX)
    inner = str(checkpoint.folder.relative_to(root))
    text = json.dumps({"format": 1, "folder": inner, "tensors": notes}, indent=2)
    (root / NOTE).write_text(text + "\n", encoding="utf-8")
    after = sum(path.stat().st_size for path in checkpoint.folder.glob("*" + _REST))
    files = {note["file"] for note in notes.values()}
    return before - after - sum((root / file).stat().st_size for file in files)


def fill(root: str | Path, out: str | Path, *, force: bool = False) -> Hollow:
    """Write the hollow directory ``root`` to ``out`` as a plain one that transformers loads.

    Untouched files are hard links where the file system has them. Returns the opened source.
    """
    opened, out = Hollow.open(root), Path(out)
    if out.exists() and not force:
        raise InputError(f"{out}: it exists", hint="choose another name, or repeat with --force")
    own = {NOTE, *(note["file"] for note in opened.notes.values())}
    with replacing(out) as partial:
        partial.mkdir()
        for path in sorted(opened.root.rglob("*")):
            inner = path.relative_to(opened.root)
            if path.is_dir() or str(inner) in own or path.is_symlink():
                continue
            target = partial / inner
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.name == _REST_INDEX:
                shutil.copyfile(path, target.with_name(_INDEX))
            elif not path.name.endswith(_REST):
                place(path, target, link=False)
            else:
                _filled(opened, path, target.with_name(path.name.removesuffix(_REST) + _WEIGHTS))
    return opened


def _filled(opened: Hollow, path: Path, target: Path) -> None:
    """Write one shard with the matrices that were taken out of it."""
    shard = path.name.removesuffix(_REST)
    mine = {name: note for name, note in opened.notes.items() if note["shard"] == shard}
    if not mine or path.parent != opened.folder:
        place(path, target, link=True)
        return
    new = {}
    for name, note in mine.items():
        table = opened.tables[name]

        def rows(start: int, stop: int, table: Lookup = table) -> np.ndarray:
            return table.rows(np.arange(start, stop))

        new[name] = New.rows(note["dtype"], table.shape, rows)
    rewrite(Shard(path), target, new)


def _inside(folder: Path, name: str) -> Path:
    """Return a file of ``folder``; a description must not name one elsewhere."""
    if Path(name).name != name:
        raise FormatError(f"{folder}: {name!r} is no file name", hint="compress the model again")
    return folder / name
