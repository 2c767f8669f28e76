"""Token vectors that are rows of a table: a document is a list of row numbers.

Vectors learned from text alone are the same wherever a token occurs, so a collection is stored as
two or four bytes a token beside one table, and exact MaxSim needs one product of the table with
the query: what remains for each document token is a look-up.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats1d, Floats2d, Ids
from tokenspace.errors import FormatError, InputError
from tokenspace.io import read_tensors, replacing, save_tensors
from tokenspace.jit import kernel, spread

from ._kernel import _best_sum
from .store import fixed

__all__ = ["CodedStore"]

LANES = 8  # query tokens that are scored together
FEW = 2000  # documents that are scored sooner than a second thread is started


@dataclass(frozen=True, eq=False)
class CodedStore:
    """N documents as numbers of table rows.

    ``codes`` is (rows,) uint16 or uint32 and may be memory-mapped, ``offsets`` (N + 1,) int64,
    ``table`` (V, D) float32.
    """

    codes: npt.NDArray[Any]
    offsets: Ids
    table: Floats2d

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Map a store that :meth:`write` wrote; :class:`FormatError` where it is not whole."""
        folder = Path(folder)
        try:
            described = json.loads((folder / "store.json").read_text(encoding="utf-8"))
            dtype = np.dtype(described["dtype"])
            offsets = np.load(folder / "offsets.npy", allow_pickle=False)
            path = folder / "codes.bin"
            rows = int(offsets[-1])
            if path.stat().st_size != rows * dtype.itemsize:
                raise ValueError(f"{path.name} does not hold {rows} codes")
            codes = np.memmap(path, dtype, "r", shape=(rows,)) if rows else np.zeros(0, dtype)
            table = np.asarray(read_tensors(folder / "table.safetensors")["table"], np.float32)
        except (OSError, ValueError, KeyError, TypeError) as fault:
            raise FormatError(
                f"{folder}: not a whole token store ({fault})", hint="write the store again"
            ) from fault
        return cls(codes, offsets, table)

    @classmethod
    def write(cls, folder: str | Path, table: Floats2d, documents: Iterable[npt.ArrayLike]) -> Self:
        """Write documents, each a sequence of row numbers, one after the other; then open them.

        Raises :class:`InputError` for a row number outside the table.
        """
        dtype = np.dtype(np.uint16 if len(table) <= 65536 else np.uint32)
        offsets = array("q", [0])
        with replacing(folder) as partial:
            partial.mkdir()
            with (partial / "codes.bin").open("wb") as file:
                for number, document in enumerate(documents):
                    codes = np.asarray(document, np.int64)
                    if codes.size and not 0 <= codes.min() <= codes.max() < len(table):
                        raise InputError(
                            f"document {number}: a token outside the table of {len(table)} rows",
                            hint="tokenize the documents with the tokenizer of the table",
                        )
                    file.write(codes.astype(dtype).tobytes())
                    offsets.append(offsets[-1] + len(codes))
            np.save(partial / "offsets.npy", np.frombuffer(offsets, np.int64))
            save_tensors(partial / "table.safetensors", {"table": table})
            described = json.dumps({"dtype": dtype.name, "documents": len(offsets) - 1})
            (partial / "store.json").write_text(described, encoding="utf-8")
        return cls.open(folder)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def width(self) -> int:
        """Width D of every token vector."""
        return int(self.table.shape[1])

    @property
    def nbytes(self) -> int:
        """Bytes of codes, offsets and table."""
        return int(self.codes.nbytes + self.offsets.nbytes + self.table.nbytes)

    def rows(self, start: int, stop: int) -> Floats2d:
        """Return token vectors ``start`` to ``stop``, (stop - start, D) float32."""
        return np.asarray(self.table[self.codes[start:stop]], np.float32)

    def __getitem__(self, document: int) -> Floats2d:
        """Return the matrix of one document, (T, D) float32."""
        return self.rows(int(self.offsets[document]), int(self.offsets[document + 1]))

    def maxsim(self, query: Floats2d, documents: Ids | None = None) -> Floats1d:
        """Return the exact MaxSim score of each document (all of them by default), (n,) float32.

        ``query`` is (T, D). A document without tokens scores 0.
        """
        lanes = -(-len(query) // LANES) * LANES
        padded = np.zeros((lanes, self.width), np.float32)
        padded[: len(query)] = query
        similar = (self.table @ padded.T).reshape(len(self.table), -1, LANES)
        panels = np.ascontiguousarray(similar.transpose(1, 0, 2))  # (P, V, LANES)
        chosen = np.arange(len(self)) if documents is None else np.asarray(documents, np.int64)
        scores = np.zeros(len(chosen), np.float32)

        panels, codes, offsets = fixed(panels), fixed(self.codes), fixed(self.offsets)

        def part(first: int, last: int) -> None:
            _sum_of_best(panels, codes, offsets, chosen, first, last, scores)

        spread(part, len(chosen), workers=0 if len(chosen) > FEW else 1)
        return scores


@kernel(fastmath={"nnan", "nsz"})
def _sum_of_best(
    panels: npt.NDArray[np.float32],
    codes: npt.NDArray[Any],
    offsets: Ids,
    documents: Ids,
    first: int,
    last: int,
    scores: Floats1d,
) -> None:
    """Sum, over query tokens, the best similarity among the codes of documents first to last.

    Padded query tokens are zero and add nothing.
    """
    least = np.float32(-np.inf)
    for i in range(first, last):
        start, stop = offsets[documents[i]], offsets[documents[i] + 1]
        if start == stop:
            continue
        total = np.float32(0)
        for number in range(len(panels)):
            total += _best_sum(panels, number, codes, start, stop, least)
        scores[i] = total
