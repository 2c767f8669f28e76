"""Files: safe writing, tensors read lazily, and the public formats of vector tables."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .errors import FormatError, InputError

__all__ = [
    "load_matrix",
    "load_ragged",
    "read_tensors",
    "replacing",
    "save_tensors",
    "sha256",
]

_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
    "BF16": np.uint16,  # numpy has no bfloat16: widened by `widen`
}


@contextmanager
def replacing(target: str | Path) -> Iterator[Path]:
    """Give a path beside ``target`` to write to (file or directory), and rename it at the end.

    If the block raises, what was written is removed and ``target`` is as it was.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
        partial = Path(folder) / target.name
        yield partial
        if target.is_dir() and partial.is_dir():
            target.rename(Path(folder) / "former")
        partial.replace(target)


def sha256(path: str | Path) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_tensors(path: str | Path) -> dict[str, npt.NDArray[np.generic]]:
    """Map the tensors of a ``.safetensors`` file: nothing is read until it is indexed.

    bfloat16 tensors come as float32 copies, everything else as a read-only view of the file.
    Raises :class:`FormatError` where the header does not describe the file.
    """
    path = Path(path)
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= size - 8:
                raise ValueError("header length")
            header = json.loads(file.read(length))
        tensors: dict[str, npt.NDArray[np.generic]] = {}
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            begin, end = entry["data_offsets"]
            dtype = np.dtype(_DTYPES[entry["dtype"]])
            count = int(np.prod(entry["shape"], dtype=np.int64))
            if end - begin != count * dtype.itemsize or 8 + length + end > size:
                raise ValueError(f"tensor {name!r}")
            if count == 0:
                tensors[name] = np.zeros(entry["shape"], dtype)
                continue
            view = np.memmap(
                path, dtype, "r", offset=8 + length + begin, shape=tuple(entry["shape"])
            )
            wide = entry["dtype"] == "BF16"
            tensors[name] = (view.astype(np.uint32) << 16).view(np.float32) if wide else view
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as fault:
        raise FormatError(
            f"{path}: not a whole safetensors file ({fault})",
            hint="the file is damaged or truncated: write or download it again",
        ) from fault
    return tensors


def save_tensors(
    path: str | Path,
    tensors: Mapping[str, npt.NDArray[np.generic]],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write arrays to one ``.safetensors`` file, beside it first and then renamed."""
    from safetensors.numpy import save_file

    with replacing(path) as partial:
        whole = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
        save_file(whole, partial, metadata={"format": "pt", **(metadata or {})})


def load_matrix(path: str | Path) -> npt.NDArray[np.float32]:
    """Load one (rows, D) float32 matrix: ``.npy``, or any file that holds a vector table."""
    from .table import EmbeddingTable

    path = Path(path)
    if path.suffix == ".npy":
        matrix = np.load(path, mmap_mode="r", allow_pickle=False)
        if matrix.ndim != 2:
            raise InputError(f"{path}: shape {matrix.shape} is not a matrix")
        return np.asarray(matrix, np.float32)
    return EmbeddingTable.load(path).vectors


def load_ragged(path: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Load the ``flat`` and ``offsets`` arrays of a ragged file (``.safetensors`` or ``.npz``)."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
    else:
        found = dict(read_tensors(path))
    missing = {"flat", "offsets"} - found.keys()
    if missing:
        raise FormatError(
            f"{path}: no array called {sorted(missing)[0]!r}",
            hint="a ragged file holds flat (tokens, D) float32 and offsets (N + 1,) int64",
        )
    return np.asarray(found["flat"], np.float32), np.asarray(found["offsets"], np.int64)
