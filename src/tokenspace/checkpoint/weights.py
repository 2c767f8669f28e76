"""Files of weights, read and written in blocks: no tensor is ever held whole to be copied.

A :class:`Shard` is one ``.safetensors`` file. :func:`rewrite` writes a new file of the same tensors
in the same order, where some have new rows; everything else passes through a buffer of 16 MiB. The
header is laid out as the safetensors library does it, so that a file in which nothing changed comes
out byte for byte.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats2d
from tokenspace.errors import FormatError, InputError
from tokenspace.io import TensorEntry, read_tensors, tensor_entries

__all__ = [
    "FLOATS",
    "New",
    "Part",
    "Shard",
    "find_parts",
    "floats",
    "narrow",
    "place",
    "read_rows",
    "rewrite",
]

FLOATS = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}
"""Types that a vocabulary tensor may have; bfloat16 is the upper half of a float32."""

_BLOCK = 1 << 24


class Part(Protocol):
    """One file of weights: its tensors, and the bytes of each."""

    @property
    def path(self) -> Path:
        """Where it lies."""

    @property
    def name(self) -> str:
        """What the file is called when it is written as safetensors."""

    @property
    def intact(self) -> bool:
        """Whether the file itself can be passed on, byte for byte."""

    @property
    def entries(self) -> Mapping[str, TensorEntry]:
        """Its tensors by name."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """The free-form entries of its header."""

    def read(self, name: str, begin: int, end: int) -> bytes:
        """Return bytes ``begin`` to ``end`` of a tensor in C order."""


@dataclass(frozen=True)
class Shard:
    """A ``.safetensors`` file."""

    path: Path

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.path.name

    @property
    def intact(self) -> bool:
        """True: it is what is written."""
        return True

    @cached_property
    def entries(self) -> Mapping[str, TensorEntry]:
        """Its tensors by name, from the header."""
        return tensor_entries(self.path)

    @cached_property
    def metadata(self) -> Mapping[str, str]:
        """``__metadata__`` of the header."""
        with self.path.open("rb") as file:
            found = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        kept = found.get("__metadata__") or {}
        return {str(key): str(value) for key, value in kept.items()}

    def read(self, name: str, begin: int, end: int) -> bytes:
        """Return bytes ``begin`` to ``end`` of a tensor."""
        with self.path.open("rb") as file:
            file.seek(self.entries[name].begin + begin)
            return file.read(end - begin)


def find_parts(folder: Path) -> list[Path]:
    """Return the safetensors files of the model in ``folder``, all shards of it."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            shards = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as fault:
            raise FormatError(f"{index}: not whole ({fault})", hint="get it again") from fault
        for shard in shards:
            if Path(shard).name != shard or not (folder / shard).is_file():
                raise FormatError(f"{folder / shard}: missing", hint="get all shards of the model")
        return [folder / shard for shard in shards]
    found = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*/model.safetensors"))
    found = [file for file in found if not file.name.startswith("adapter_")]
    whole = [file for file in found if file.name == "model.safetensors"]
    if len(whole) == 1:
        return whole
    if found:
        return found
    if any(folder.glob("adapter_model.*")):
        raise FormatError(f"{folder}: an adapter without its model", hint="merge the adapter first")
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")) or any(folder.glob("*.pth")):
        raise FormatError(
            f"{folder}: weights only as a pickle, which could run code",
            hint="convert it once: MODEL.save_pretrained(DIR) writes model.safetensors",
        )
    if any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json", "vocab.txt")):
        raise FormatError(
            f"{folder}: a tokenizer without the weights of a model",
            hint="give a model directory; the transplant method retok needs no second model",
        )
    raise FormatError(
        f"{folder}: neither table.json nor model.safetensors in it",
        hint="give a table, a model directory, or a file of word vectors",
    )


def floats(part: Part, name: str) -> Floats2d:
    """Return a tensor as float32: mapped from the file if it is that, else widened in blocks."""
    entry = part.entries[name]
    if entry.dtype == "F32" and isinstance(part, Shard):
        return np.asarray(read_tensors(part.path, (name,))[name], np.float32)
    values = np.empty(math.prod(entry.shape), np.float32)
    width = np.dtype(FLOATS[entry.dtype]).itemsize
    step = _BLOCK // width
    for start in range(0, len(values), step):
        stop = min(start + step, len(values))
        raw = part.read(name, start * width, stop * width)
        values[start:stop] = _widen(raw, entry.dtype)
    return values.reshape(entry.shape)


def read_rows(part: Part, name: str, start: int, stop: int) -> npt.NDArray[np.float32]:
    """Return rows ``start`` to ``stop`` of a tensor as float32, a copy."""
    entry = part.entries[name]
    size = math.prod(entry.shape[1:]) * np.dtype(FLOATS[entry.dtype]).itemsize
    block = _widen(part.read(name, start * size, stop * size), entry.dtype)
    return np.array(block).reshape(stop - start, *entry.shape[1:])


def _widen(raw: bytes, dtype: str) -> npt.NDArray[np.float32]:
    values = np.frombuffer(raw, np.dtype(FLOATS[dtype]).newbyteorder("<"))
    if dtype == "BF16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def narrow(values: npt.NDArray[np.float32], dtype: str) -> npt.NDArray[np.generic]:
    """Round float32 to a tensor type, to nearest and ties to even.

    bfloat16 comes as its uint16 bits. Raises :class:`InputError` where a finite value overflows.
    """
    values = np.ascontiguousarray(values, np.float32)
    if dtype in ("F32", "F64"):
        return values.astype(FLOATS[dtype], copy=False)
    if dtype == "F16":
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        finite = bool(np.isfinite(half).all())
        made: npt.NDArray[np.generic] = half
    else:
        bits = values.view(np.uint32)
        rounded = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16
        finite = bool(((rounded & 0x7F80) != 0x7F80).all())
        made = rounded.astype(np.uint16)
    if not finite:
        raise InputError(
            f"rows: a value is not finite as {dtype} (largest {np.abs(values).max():.3g})",
            hint="scale the rows, or give a checkpoint in float32",
        )
    return made


@dataclass(frozen=True)
class New:
    """A tensor with new content: its shape, and its bytes block after block."""

    dtype: str
    shape: tuple[int, ...]
    blocks: Callable[[], Iterator[bytes]]

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return math.prod(self.shape) * np.dtype(FLOATS[self.dtype]).itemsize

    @classmethod
    def rows(
        cls, dtype: str, shape: tuple[int, ...], rows: Callable[[int, int], npt.NDArray[np.float32]]
    ) -> New:
        """Make one from a function that gives rows ``start`` to ``stop`` in float32."""
        width = max(1, math.prod(shape[1:]))
        step = max(1, _BLOCK // (4 * width))

        def blocks() -> Iterator[bytes]:
            for start in range(0, shape[0], step):
                yield narrow(rows(start, min(start + step, shape[0])), dtype).tobytes()

        return cls(dtype, shape, blocks)


def rewrite(
    part: Part, path: Path, changes: Mapping[str, New], without: Collection[str] = ()
) -> int:
    """Write ``part`` to ``path`` with ``changes``; return the bytes of all its tensors.

    ``changes`` may name tensors that the part does not have: they come last. Wide types come
    first, as in every file of the safetensors library, so that all tensors stay aligned.
    Tensors of ``without`` are left out.
    """
    entries = {name: entry for name, entry in part.entries.items() if name not in without}
    kept = sorted(entries.items(), key=lambda item: item[1].begin)
    plan: dict[str, TensorEntry | New] = {name: changes.get(name, entry) for name, entry in kept}
    plan |= {name: new for name, new in changes.items() if name not in plan}
    order = sorted(plan, key=lambda name: -_width(plan[name].dtype))
    header: dict[str, object] = {"__metadata__": {**part.metadata, "format": "pt"}}
    end = 0
    for name in order:
        entry = plan[name]
        begin, end = end, end + entry.nbytes
        header[name] = {
            "dtype": entry.dtype,
            "shape": list(entry.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            entry = plan[name]
            if isinstance(entry, New):
                for block in entry.blocks():
                    file.write(block)
                continue
            for start in range(0, entry.nbytes, _BLOCK):
                file.write(part.read(name, start, min(start + _BLOCK, entry.nbytes)))
        written = file.tell()
    if written != 8 + len(text) + end:
        raise FormatError(
            f"{part.path}: it ended while it was copied", hint="do not change it meanwhile"
        )
    return end


def _width(dtype: str) -> int:
    """Bytes of one number, by the digits in the type's name."""
    digits = "".join(c for c in dtype.partition("_")[0] if c.isdigit())
    return int(digits or 8) // 8


def place(source: Path, target: Path, *, link: bool) -> bool:
    """Put a file at ``target`` as a hard link, or as a copy; tell whether it is a link."""
    source = source.resolve()  # a snapshot of the Hub is made of symbolic links
    if link:
        try:
            os.link(source, target)
        except OSError:  # another file system, or one without links
            pass
        else:
            return True
    shutil.copyfile(source, target)
    return False
