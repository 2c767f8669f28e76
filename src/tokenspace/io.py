"""Files: safe writing, tensors read lazily, and the public formats of vector tables."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import mmap
import sys
import tempfile
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .errors import FormatError, InputError

if TYPE_CHECKING:
    from .subwords import Subwords
    from .table import EmbeddingTable

__all__ = [
    "TensorEntry",
    "drop_pages",
    "load_matrix",
    "load_numbers",
    "load_ragged",
    "load_table",
    "part_of_space",
    "read_tensors",
    "replacing",
    "save_blocks",
    "save_table",
    "save_tensors",
    "sha256",
    "tensor_entries",
]

log = logging.getLogger(__name__)

TABLE_VERSION = 1

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

_BLOCK = 1 << 24  # bytes that are written at a time


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


def drop_pages(mapping: mmap.mmap) -> None:
    """Give the memory of a read-only mapping back; what is needed again is mapped again."""
    if sys.platform == "linux":
        mapping.madvise(mmap.MADV_DONTNEED)


def sha256(path: str | Path) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class TensorEntry:
    """Where one tensor lies in a ``.safetensors`` file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    nbytes: int


def tensor_entries(path: str | Path) -> dict[str, TensorEntry]:
    """Read the header of a ``.safetensors`` file, checked against the size of the file.

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
        entries: dict[str, TensorEntry] = {}
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            begin, end = entry["data_offsets"]
            width = np.dtype(_DTYPES.get(entry["dtype"], np.uint8)).itemsize
            count = math.prod(entry["shape"])
            fits = entry["dtype"] not in _DTYPES or end - begin == count * width
            if begin < 0 or not fits or 8 + length + end > size:
                raise ValueError(f"tensor {name!r}")
            shape = tuple(entry["shape"])
            entries[name] = TensorEntry(entry["dtype"], shape, 8 + length + begin, end - begin)
    except (ValueError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as fault:
        raise FormatError(
            f"{path}: not a whole safetensors file ({fault})",
            hint="the file is damaged or truncated: write or download it again",
        ) from fault
    return entries


def read_tensors(
    path: str | Path, names: Collection[str] | None = None
) -> dict[str, npt.NDArray[np.generic]]:
    """Map the tensors of a ``.safetensors`` file: nothing is read until it is indexed.

    ``names`` chooses some of them. bfloat16 tensors come as float32 copies, everything else as a
    read-only view of the file. Raises :class:`FormatError` where the header does not describe
    the file, or a tensor has a type that is not read here.
    """
    path = Path(path)
    tensors: dict[str, npt.NDArray[np.generic]] = {}
    for name, entry in tensor_entries(path).items():
        if names is not None and name not in names:
            continue
        if entry.dtype not in _DTYPES:
            raise FormatError(
                f"{path}: tensor {name!r} has type {entry.dtype}",
                hint=f"types read here: {', '.join(_DTYPES)}",
            )
        dtype = np.dtype(_DTYPES[entry.dtype])
        if math.prod(entry.shape) == 0:
            tensors[name] = np.zeros(entry.shape, dtype)
            continue
        view = np.memmap(path, dtype, "r", offset=entry.begin, shape=entry.shape)
        wide = entry.dtype == "BF16"
        tensors[name] = (view.astype(np.uint32) << 16).view(np.float32) if wide else view
    return tensors


def save_tensors(
    path: str | Path,
    tensors: Mapping[str, npt.NDArray[np.generic]],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write arrays to one ``.safetensors`` file, beside it first and then renamed.

    Equal arrays give equal bytes, which the safetensors library does not promise: it orders the
    metadata at random. Arrays are written in blocks and may be memory-mapped.
    """
    header = _header({name: (a.dtype, a.shape) for name, a in tensors.items()}, metadata or {})
    with replacing(path) as partial, partial.open("wb") as file:
        file.write(header)
        for array in tensors.values():
            rows = array.reshape(-1) if array.ndim == 0 else array
            step = max(1, _BLOCK // max(1, array.nbytes // max(1, len(rows))))
            for start in range(0, len(rows), step):
                file.write(np.ascontiguousarray(rows[start : start + step]).tobytes())


def save_blocks(
    path: str | Path,
    name: str,
    shape: tuple[int, int],
    blocks: Iterable[npt.NDArray[np.float32]],
) -> None:
    """Write one float32 matrix that comes in blocks of rows, as :func:`save_tensors` would."""
    with replacing(path) as partial, partial.open("wb") as file:
        file.write(_header({name: (np.dtype(np.float32), shape)}, {}))
        for block in blocks:
            file.write(np.ascontiguousarray(block).tobytes())


def _header(
    tensors: Mapping[str, tuple[np.dtype[np.generic], tuple[int, ...]]], metadata: Mapping[str, str]
) -> bytes:
    """Return what stands before the tensors of a ``.safetensors`` file."""
    names = {np.dtype(dtype).str: name for name, dtype in _DTYPES.items() if name != "BF16"}
    header: dict[str, object] = {"__metadata__": {"format": "pt", **metadata}}
    end = 0
    for name, (dtype, shape) in tensors.items():
        begin, end = end, end + dtype.itemsize * math.prod(shape)
        header[name] = {"dtype": names[dtype.str], "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight bytes
    return len(text).to_bytes(8, "little") + text


def part_of_space(path: Path, part: str) -> Path:
    """Return the directory of one part of a space; any other path as it is.

    A space's ``manifest.json`` names the generation whose parts count.
    """
    manifest = path / "manifest.json"
    if not manifest.is_file():
        return path
    try:
        generation = str(json.loads(manifest.read_text(encoding="utf-8"))["generation"])
    except (ValueError, KeyError, TypeError) as fault:
        raise FormatError(
            f"{manifest}: not a readable manifest ({fault})", hint="build the space again"
        ) from fault
    return path / generation / part


def load_table(path: str | Path) -> EmbeddingTable:
    """Load a table of vectors; the format is told by the content.

    Reads our own directory, a space, the input matrix of a Hugging Face model directory
    (``DIR#output`` for the output matrix, ``DIR#NAME`` for a tensor by its full name), and what
    :func:`tokenspace.table_files.read` reads. Raises :class:`InputError` or :class:`FormatError`.
    """
    from . import table_files
    from .checkpoint import model
    from .table import EmbeddingTable
    from .vocab import Vocabulary

    place, part = Path(path), ""
    if not place.exists() and "#" in place.name:
        name, _, part = str(path).rpartition("#")
        place = Path(name)
    if not place.exists():
        raise InputError(f"{place}: no such file or directory", hint="give the path of a table")
    if place.is_dir():
        place = part_of_space(place, "table")
        if (place / "table.json").is_file() or (place / "table.safetensors").is_file():
            return _load_own(place)
        return model.load(place, part or "input")
    if part:
        raise InputError(f"{path}: only a model directory has parts", hint=f"give {place}")
    if place.suffix == ".safetensors":
        raise FormatError(f"{place}: tensors without words", hint="give the directory it lies in")
    found = table_files.read(place)
    return EmbeddingTable(
        Vocabulary.words(found.words),
        found.vectors,
        found.counts,
        notes={"source": place.name},
        subwords=found.subwords,
    )


def _load_own(folder: Path) -> EmbeddingTable:
    from .table import EmbeddingTable
    from .vocab import Vocabulary

    data = folder / "table.safetensors"
    for needed in (folder / "table.json", folder / "vocabulary.json", data):
        if not needed.is_file():
            raise FormatError(f"{needed}: missing", hint="save the table again")
    try:
        about = json.loads((folder / "table.json").read_text(encoding="utf-8"))
        version, notes = int(about["version"]), dict(about["notes"])
    except (ValueError, KeyError, TypeError) as fault:
        raise FormatError(
            f"{folder / 'table.json'}: not whole ({fault})", hint="save the table again"
        ) from fault
    if version > TABLE_VERSION:
        raise FormatError(
            f"{folder}: table version {version} is newer than this library reads ({TABLE_VERSION})",
            hint="pip install --upgrade tokenspace",
        )
    tensors = read_tensors(data)
    if "vectors" not in tensors or tensors["vectors"].dtype != np.float32:
        raise FormatError(f"{data}: no float32 tensor 'vectors'", hint="save the table again")
    counts, subwords = tensors.get("counts"), None
    if "subwords" in tensors:
        subwords = _load_subwords(tensors, data)
    if "senses.first" in tensors:
        return _senses(folder, tensors, notes)
    return EmbeddingTable(
        Vocabulary.load(folder),
        np.asarray(tensors["vectors"], np.float32),
        None if counts is None else np.asarray(counts, np.int64),
        notes,
        finite=True,
        subwords=subwords,
    )


def _senses(
    folder: Path, tensors: Mapping[str, npt.NDArray[np.generic]], notes: Mapping[str, object]
) -> EmbeddingTable:
    from .senses import Gates, SenseTable
    from .vocab import Vocabulary

    try:
        return SenseTable(
            Vocabulary.load(folder),
            np.asarray(tensors["vectors"], np.float32),
            np.asarray(tensors["counts"], np.int64),
            notes,
            finite=True,
            gates=Gates.of(tensors),
        )
    except (KeyError, ValueError, InputError) as fault:
        raise FormatError(
            f"{folder}: not a whole table of senses ({fault})", hint="save the table again"
        ) from fault


def _load_subwords(tensors: Mapping[str, npt.NDArray[np.generic]], data: Path) -> Subwords:
    """Make the n-grams out of their tensors; ``lengths`` may lack buckets and hashes."""
    from .subwords import Subwords

    rows, keys = tensors["subwords"], None
    lengths = np.asarray(tensors.get("lengths", np.zeros(0)), np.int64).tolist()
    try:
        if rows.dtype != np.float32 or rows.shape[1:] != tensors["vectors"].shape[1:]:
            raise ValueError(f"rows of {rows.dtype}, shape {rows.shape}")
        if len(lengths) not in (2, 4):
            raise ValueError(f"{len(lengths)} lengths")
        if "subword_keys" in tensors:
            keys = np.asarray(tensors["subword_keys"], np.int64)
            if keys.dtype != tensors["subword_keys"].dtype or (keys[1:] <= keys[:-1]).any():
                raise ValueError("keys that do not ascend")
        minn, maxn, buckets, hashes = lengths if len(lengths) == 4 else (*lengths, None, 0)
        return Subwords(np.asarray(rows, np.float32), minn, maxn, buckets, keys, hashes)
    except (ValueError, InputError) as fault:
        raise FormatError(
            f"{data}: no whole n-grams ({fault.args[0]})", hint="save the table again"
        ) from fault


def save_table(table: EmbeddingTable, path: str | Path) -> None:
    """Write a table; the suffix chooses the format.

    No suffix: our own directory (memory-mapped when loaded). ``.vec`` or ``.txt``, maybe with
    ``.gz``: word2vec text. ``.bin``: a fastText model where the table has n-grams, else word2vec
    binary. ``.floret``: a compact table of n-grams alone, as spaCy reads it. None of these keeps
    the tokenizer, only fastText's keeps counts and n-grams beside the words, and rows without a
    token are left out.
    """
    from . import table_files

    path = Path(path)
    suffixes = path.suffixes[-2:] if path.suffix == ".gz" else path.suffixes[-1:]
    if "".join(suffixes) not in ("", ".vec", ".txt", ".vec.gz", ".txt.gz", ".bin", ".floret"):
        raise InputError(
            f"{path}: no table format has the suffix {''.join(suffixes)}",
            hint="use .vec, .txt, .vec.gz, .txt.gz, .bin, .floret, or no suffix for a directory",
        )
    if not suffixes:
        with replacing(path) as partial:
            partial.mkdir()
            _write_own(table, partial)
        return
    rows = [index for index, token in enumerate(table.vocab.tokens) if token]
    if len(rows) < len(table.vocab):
        log.warning("%s: %d rows without a token left out", path, len(table.vocab) - len(rows))
    words = [table.vocab.tokens[index] for index in rows]
    vectors = table.vectors if len(rows) == len(table.vocab) else table.vectors[rows]
    with replacing(path) as partial:
        if suffixes == [".floret"]:
            table_files.write_floret(partial, table.subwords)
        elif suffixes == [".bin"] and table.subwords is not None:
            if table.vocab.tokenizer is not None:
                raise InputError(
                    f"{path}: a fastText model has words, not the tokens of a tokenizer",
                    hint="save to a name without a suffix, or to .vec",
                )
            counts = np.ones(len(table.vocab), np.int64) if table.counts is None else table.counts
            table_files.write_fasttext(partial, words, vectors, counts[rows], table.subwords)
        elif suffixes == [".bin"]:
            table_files.write_binary(partial, words, vectors)
        else:
            table_files.write_text(partial, words, vectors, packed=suffixes[-1] == ".gz")


def _write_own(table: EmbeddingTable, folder: Path) -> None:
    from .senses import SenseTable

    tensors: dict[str, npt.NDArray[np.generic]] = {"vectors": table.vectors}
    if table.counts is not None:
        tensors["counts"] = table.counts
    if table.subwords is not None:
        tensors["subwords"] = table.subwords.rows
        grams = table.subwords
        tensors["lengths"] = np.array([grams.minn, grams.maxn, grams.buckets, grams.hashes])
        if grams.keys is not None:
            tensors["subword_keys"] = grams.keys
    if isinstance(table, SenseTable):
        tensors.update(table.gates.tensors())
    save_tensors(folder / "table.safetensors", tensors)
    table.vocab.write(folder)
    about = {"format": "tokenspace-table", "version": TABLE_VERSION, "notes": dict(table.notes)}
    text = json.dumps(about, indent=2, default=str)
    (folder / "table.json").write_text(text + "\n", encoding="utf-8")


def load_matrix(path: str | Path) -> npt.NDArray[np.float32]:
    """Load one (rows, D) float32 matrix.

    ``.npy``, a ``.safetensors`` file of ``vectors``, or any file that holds a vector table.
    """
    path = Path(path)
    if path.suffix == ".safetensors" and path.is_file():
        return _vectors(path)
    if path.suffix == ".npy":
        try:
            matrix = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as fault:
            raise FormatError(
                f"{path}: not a whole array ({fault})", hint="write it again with numpy.save"
            ) from fault
        if matrix.ndim != 2 or matrix.dtype.kind not in "fiu":
            raise InputError(
                f"{path}: {matrix.dtype} of shape {matrix.shape} is not a matrix of numbers",
                hint="give (rows, D) numbers",
            )
        return np.asarray(matrix, np.float32)
    return load_table(path).vectors


def _vectors(path: Path) -> npt.NDArray[np.float32]:
    """Return the matrix in a file that :func:`save_blocks` wrote, mapped into memory."""
    vectors = read_tensors(path).get("vectors")
    if vectors is None or vectors.ndim != 2 or vectors.dtype != np.float32:
        raise FormatError(
            f"{path}: no float32 matrix 'vectors'",
            hint="give the directory it lies in, or what encode run wrote",
        )
    return np.asarray(vectors, np.float32)


def load_numbers(path: str | Path) -> npt.NDArray[np.int64]:
    """Load whole numbers, (n,) int64: ``.npy``, text of one number a line, or a table's counts."""
    path = Path(path)
    if path.is_dir() or path.suffix == ".safetensors":
        counts = load_table(path).counts
        if counts is None:
            raise InputError(f"{path}: the table has no counts", hint="give a file of numbers")
        return np.asarray(counts, np.int64)
    try:
        if path.suffix == ".npy":
            found = np.load(path, allow_pickle=False)
        else:
            found = np.array([int(line) for line in path.read_text("utf-8").split()], np.int64)
    except (ValueError, EOFError, OverflowError) as fault:
        raise FormatError(
            f"{path}: not whole numbers ({fault})", hint="write one number a line, or a .npy"
        ) from fault
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise InputError(
            f"{path}: {found.dtype} of shape {found.shape} is not a list of whole numbers",
            hint="give (n,) whole numbers",
        )
    return np.asarray(found, np.int64)


def load_ragged(path: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Load ``flat`` and ``offsets`` of a ragged file (``.safetensors``, ``.npz``) or of a space.

    A matrix in a ``.npy`` file, or called ``vectors``, is as many matrices of one row.
    """
    if path.suffix == ".npy" or (
        path.suffix == ".safetensors" and "vectors" in tensor_entries(path)
    ):
        rows = load_matrix(path)
        return rows, np.arange(len(rows) + 1)
    if path.is_dir():
        from .retrieve.coded import CodedStore
        from .retrieve.store import TokenStore

        folder = part_of_space(path, "tokens")
        kind = CodedStore if (folder / "codes.bin").exists() else TokenStore
        store = kind.open(folder)
        return store.rows(0, int(store.offsets[-1])), store.offsets
    if path.suffix == ".npz":
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                found = {name: archive[name] for name in archive.files}
        except (ValueError, EOFError, zipfile.BadZipFile) as fault:
            raise FormatError(
                f"{path}: not a whole .npz archive ({fault})", hint="write it again"
            ) from fault
    else:
        found = read_tensors(path, ("flat", "offsets"))
    missing = {"flat", "offsets"} - found.keys()
    if missing:
        raise FormatError(
            f"{path}: no array called {sorted(missing)[0]!r}",
            hint="a ragged file holds flat (tokens, D) float32 and offsets (N + 1,) int64",
        )
    return np.asarray(found["flat"], np.float32), np.asarray(found["offsets"], np.int64)
