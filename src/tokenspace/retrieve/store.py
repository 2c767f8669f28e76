"""Token vectors on disk: every document's matrix, one after the other, memory-mapped.

::

    store/
      tokens.f32 | tokens.f16 | tokens.i8    all rows, row after row, without a header
      offsets.npy                            (N + 1,) int64: document i is rows o[i] to o[i + 1]
      scales.npy                             (rows,) float32: only beside tokens.i8
      store.json                             width, codec and the two counts

``f16`` halves float32; ``i8`` quarters it: each row is rounded to 127 levels of its own largest
absolute value, and the scale undoes that.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol, Self, get_args

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats1d, Floats2d, Ids, Ragged, lined
from tokenspace.errors import ConfigError, FormatError, InputError
from tokenspace.io import replacing
from tokenspace.jit import spread

from . import _amx
from ._kernel import best_f16, best_f32, best_i8, pack_lanes, sum_lanes

__all__ = [
    "Codec",
    "DocumentTokens",
    "ScoredTokens",
    "StoreWriter",
    "TokenStore",
    "fixed",
    "quantize",
]

Codec = Literal["f32", "f16", "i8"]
_DTYPES = {"f32": np.float32, "f16": np.float16, "i8": np.int8}
_BLOCK = 65536  # rows that are converted or written at a time
_GROUP = 256  # documents that are scored at a time


class DocumentTokens(Protocol):
    """Token vectors of N documents, however they are held."""

    @property
    def offsets(self) -> Ids:
        """Document i has rows ``offsets[i]`` to ``offsets[i + 1]``: (N + 1,) int64."""

    @property
    def width(self) -> int:
        """Width D of every token vector."""

    def __len__(self) -> int: ...

    def __getitem__(self, document: int) -> Floats2d: ...

    def rows(self, start: int, stop: int) -> Floats2d:
        """Return rows ``start`` to ``stop`` as float32, (stop - start, D)."""


class ScoredTokens(DocumentTokens, Protocol):
    """Token vectors in a form that MaxSim is computed from."""

    def scorer(self, queries: Ragged) -> Callable[[Ids], Floats2d]:
        """Return a function that scores documents (n,) against all ``queries``: (n, Q)."""


def fixed(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a read-only plain view, so that a kernel is compiled once for mapped and for held."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


def quantize(rows: Floats2d) -> tuple[npt.NDArray[np.int8], Floats1d]:
    """Round each row (n, D) to int8; returns the codes and the scale of every row (n,).

    ``codes * scale`` differs from the row by at most half a scale; a zero row has scale 0.
    """
    peak = np.abs(rows).max(axis=1, initial=0.0).astype(np.float32)
    scales = peak / np.float32(127)
    inverse = np.divide(np.float32(127), peak, out=np.zeros_like(peak), where=peak > 0)
    return np.rint(rows * inverse[:, None]).astype(np.int8), scales


@dataclass(frozen=True, eq=False)
class TokenStore:
    """Token vectors of N documents in one of three precisions.

    ``tokens`` is (rows, D) float32, float16 or int8 and may be memory-mapped, ``offsets``
    (N + 1,) int64, ``scales`` (rows,) float32 with int8 and empty otherwise.
    """

    tokens: npt.NDArray[np.generic]
    offsets: Ids
    scales: Floats1d

    @classmethod
    def pack(cls, docs: Ragged, codec: Codec = "f32") -> Self:
        """Hold ``docs`` in memory; with ``f32`` its array itself, not a copy."""
        _check_codec(codec)
        if codec == "f32":
            return cls(np.asarray(docs.flat, np.float32), docs.offsets, np.zeros(0, np.float32))
        tokens = lined(docs.flat.shape, _DTYPES[codec])
        scales = np.empty(len(tokens) if codec == "i8" else 0, np.float32)
        for start in range(0, len(tokens), _BLOCK):
            block = slice(start, start + _BLOCK)
            tokens[block], scales[block] = _encode(docs.flat[block], codec)
        return cls(tokens, docs.offsets, scales)

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Map a store that :meth:`save` or :class:`StoreWriter` wrote.

        Raises :class:`FormatError` where a file is missing or does not fit the others.
        """
        folder = Path(folder)
        try:
            described = json.loads((folder / "store.json").read_text(encoding="utf-8"))
            codec, width = described["codec"], int(described["width"])
            dtype = np.dtype(_DTYPES[codec])
            offsets = np.load(folder / "offsets.npy", allow_pickle=False)
            rows = int(offsets[-1])
            path = folder / f"tokens.{codec}"
            if path.stat().st_size != rows * width * dtype.itemsize:
                raise ValueError(f"{path.name} does not hold {rows} rows of {width}")
            if len(offsets) != described["documents"] + 1 or rows != described["rows"]:
                raise ValueError("offsets.npy does not fit store.json")
            tokens: npt.NDArray[np.generic] = (
                np.memmap(path, dtype, "r", shape=(rows, width))
                if rows * width
                else np.zeros((rows, width), dtype)
            )
            scales = np.zeros(0, np.float32)
            if codec == "i8":
                scales = np.load(folder / "scales.npy", mmap_mode="r", allow_pickle=False)
                if scales.shape != (rows,) or scales.dtype != np.float32:
                    raise ValueError(f"scales.npy does not hold {rows} scales")
        except (OSError, ValueError, KeyError, TypeError, IndexError) as fault:
            raise FormatError(
                f"{folder}: not a whole token store ({fault})", hint="write the store again"
            ) from fault
        return cls(tokens, offsets, scales)

    def save(self, folder: str | Path) -> None:
        """Write the store to a directory, beside it first and then renamed."""
        with StoreWriter.open(folder, self.width, self.codec) as writer:
            writer.extend(self)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def codec(self) -> Codec:
        """The precision: ``f32``, ``f16`` or ``i8``."""
        return {4: "f32", 2: "f16", 1: "i8"}[self.tokens.dtype.itemsize]  # type: ignore[return-value]

    @property
    def width(self) -> int:
        """Width D of every token vector."""
        return int(self.tokens.shape[1])

    @property
    def heights(self) -> Ids:
        """The number of tokens of every document, (N,) int64."""
        return np.diff(self.offsets)

    @property
    def nbytes(self) -> int:
        """Bytes of tokens, offsets and scales."""
        return self.tokens.nbytes + self.offsets.nbytes + self.scales.nbytes

    def rows(self, start: int, stop: int) -> Floats2d:
        """Return rows ``start`` to ``stop`` as float32, (stop - start, D)."""
        part = np.asarray(self.tokens[start:stop], np.float32)
        return part * self.scales[start:stop, None] if len(self.scales) else part

    def __getitem__(self, document: int) -> Floats2d:
        """Return the matrix of one document as float32, (T, D)."""
        return self.rows(int(self.offsets[document]), int(self.offsets[document + 1]))

    def maxsim(
        self, query: Floats2d, documents: Ids | None = None, *, threads: int = 0
    ) -> Floats1d:
        """Return the exact MaxSim score of each document (all of them by default), (n,) float32.

        ``query`` is (T, D). A document without tokens scores 0.
        """
        chosen = np.arange(len(self)) if documents is None else np.asarray(documents, np.int64)
        score = self.scorer(Ragged.pack([query], width=self.width))
        scores = np.empty(len(chosen), np.float32)

        def part(first: int, last: int) -> None:
            scores[first:last] = score(chosen[first:last])[:, 0]

        spread(part, len(chosen), workers=threads)
        return scores

    def scorer(self, queries: Ragged) -> Callable[[Ids], Floats2d]:
        """Return a function that scores documents (n,) against all ``queries``: (n, Q) float32.

        It may run on several threads. A score depends on its own query and document alone, to
        the last bit.
        """
        panels, lane_scales = pack_lanes(queries.flat, whole=self.codec == "i8")
        kernel: Any = {"f32": best_f32, "f16": best_f16, "i8": best_i8}[self.codec]
        if self.codec == "i8" and _amx.available():
            kernel, panels = _amx.best_i8, _amx.split_lanes(panels)
        bits = self.tokens.view(np.uint16) if self.codec == "f16" else self.tokens
        tokens, offsets, scales = fixed(bits), fixed(self.offsets), fixed(self.scales)
        panels, lane_scales, starts = fixed(panels), fixed(lane_scales), fixed(queries.offsets)
        heights = self.heights

        def score(documents: Ids) -> Floats2d:
            sums = np.empty((len(documents), len(queries)), np.float32)
            for low in range(0, len(documents), _GROUP):
                group = fixed(documents[low : low + _GROUP])
                found = np.full((len(group), len(lane_scales)), -np.inf, np.float32)
                found[heights[group] == 0] = 0.0
                kernel(tokens, scales, offsets, group, panels, found)
                sum_lanes(found, lane_scales, starts, sums[low : low + _GROUP])
            return sums

        return score


class StoreWriter:
    """Writes a :class:`TokenStore` piece by piece, so that the documents never fit in memory.

    ::

        with StoreWriter.open("tokens", width=128, codec="i8") as writer:
            for docs in batches:
                writer.extend(docs)
    """

    def __init__(self, file: BinaryIO, width: int, codec: Codec) -> None:
        self.width, self.codec = width, codec
        self._file = file
        self._offsets: list[int] = [0]
        self._scales: list[Floats1d] = []

    @classmethod
    @contextmanager
    def open(cls, folder: str | Path, width: int, codec: Codec = "f32") -> Iterator[Self]:
        """Write to ``folder``, which appears whole at the end of the block or not at all."""
        _check_codec(codec)
        with replacing(folder) as partial:
            partial.mkdir()
            with (partial / f"tokens.{codec}").open("wb") as file:
                writer = cls(file, width, codec)
                yield writer
            offsets = np.array(writer._offsets, np.int64)
            np.save(partial / "offsets.npy", offsets)
            if codec == "i8":
                empty = np.zeros(0, np.float32)
                np.save(partial / "scales.npy", np.concatenate([empty, *writer._scales]))
            described = {
                "codec": codec,
                "width": width,
                "documents": len(offsets) - 1,
                "rows": int(offsets[-1]),
            }
            (partial / "store.json").write_text(json.dumps(described), encoding="utf-8")

    def extend(self, docs: Ragged | TokenStore) -> None:
        """Append the documents; a store of the same codec is copied without rounding again."""
        if docs.width != self.width:
            raise InputError(
                f"token vectors have width {docs.width}; the store has {self.width}",
                hint="encode the text as that of the store was",
            )
        total = int(docs.offsets[-1])
        for start in range(0, total, _BLOCK):
            stop = min(start + _BLOCK, total)
            if isinstance(docs, TokenStore) and docs.codec == self.codec:
                rows, scales = docs.tokens[start:stop], docs.scales[start:stop]
            else:
                wide = docs.flat[start:stop] if isinstance(docs, Ragged) else docs.rows(start, stop)
                rows, scales = _encode(wide, self.codec)
            self._scales.append(np.array(scales, np.float32))
            self._file.write(np.ascontiguousarray(rows).tobytes())
        base = self._offsets[-1]
        self._offsets += [base + int(offset) for offset in docs.offsets[1:]]


def _check_codec(codec: str) -> None:
    if codec not in get_args(Codec):
        raise ConfigError(f"codec={codec!r} is not one of {', '.join(get_args(Codec))}")


def _encode(rows: Floats2d, codec: Codec) -> tuple[npt.NDArray[np.generic], Floats1d]:
    """Convert rows (n, D) to a codec; returns them and, for int8, the scale of each."""
    none = np.zeros(0, np.float32)
    if codec == "i8":
        return quantize(rows)
    if codec == "f32":
        return np.asarray(rows, np.float32), none
    if rows.size and float(np.abs(rows).max()) > 65504:
        raise InputError(
            "token vectors beyond 65504 do not fit float16",
            hint="normalise the rows, or choose codec f32 or i8",
        )
    return rows.astype(np.float16), none
