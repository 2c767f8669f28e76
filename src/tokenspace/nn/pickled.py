"""Weights that exist only as ``pytorch_model*.bin``, read without running what a pickle may hold.

``torch.load(weights_only=True, mmap=True)`` accepts tensors and nothing else, and leaves them on
disk until they are read. They are written out as safetensors.
"""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from tokenspace.errors import FormatError
from tokenspace.io import TensorEntry

__all__ = ["Pickle", "open_pickles"]

_TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@dataclass(frozen=True)
class Pickle:
    """One ``.bin`` file of weights; satisfies :class:`tokenspace.checkpoint.weights.Part`."""

    path: Path
    entries: Mapping[str, TensorEntry]
    tensors: Mapping[str, torch.Tensor] = field(repr=False)
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the safetensors file that takes its place."""
        return self.path.name.replace("pytorch_model", "model").replace(".bin", ".safetensors")

    @property
    def intact(self) -> bool:
        """False: it is written as safetensors."""
        return False

    def read(self, name: str, begin: int, end: int) -> bytes:
        """Return bytes ``begin`` to ``end`` of a tensor in C order."""
        flat = self.tensors[name].contiguous().reshape(-1).view(torch.uint8)
        return flat[begin:end].numpy().tobytes()


def open_pickles(folder: Path) -> tuple[Pickle, ...]:
    """Open all ``.bin`` files of a model.

    Raises :class:`FormatError` for a file that needs more than tensors, or an incomplete set.
    """
    index = folder / "pytorch_model.bin.index.json"
    names = ["pytorch_model.bin"]
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as fault:
            raise FormatError(f"{index}: not whole ({fault})", hint="get it again") from fault
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise FormatError(f"{folder / name}: missing", hint="get all files of the model")
    return tuple(_open(folder / name) for name in names)


def _open(path: Path) -> Pickle:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError) as fault:
        reason = str(fault).strip().partition("\n")[0]
        raise FormatError(
            f"{path}: it cannot be read as tensors alone ({reason})",
            hint="load it once where you trust it, and write it again with "
            "save_pretrained(..., safe_serialization=True)",
        ) from fault
    tensors = {name: value for name, value in _items(found) if isinstance(value, torch.Tensor)}
    entries: dict[str, TensorEntry] = {}
    for name, tensor in tensors.items():
        if tensor.dtype not in _TYPES:
            raise FormatError(
                f"{path}: tensor {name!r} has type {tensor.dtype}",
                hint="write it again with weights of a type that safetensors has",
            )
        shape = tuple(tensor.shape)
        nbytes = math.prod(shape) * tensor.element_size()
        entries[name] = TensorEntry(_TYPES[tensor.dtype], shape, len(entries), nbytes)
    if not entries:
        raise FormatError(f"{path}: no tensor in it", hint="give the weights of a model")
    return Pickle(path, entries, tensors)


def _items(found: object) -> list[tuple[str, object]]:
    return [(str(k), v) for k, v in found.items()] if isinstance(found, Mapping) else []
