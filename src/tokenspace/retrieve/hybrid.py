"""Documents with a vector and a few weighted words each; exact search by both at once.

The score of a query and a document is the inner product of their vectors, plus the products of the
document's words with what the query says of the same words::

    s(q, d)  =  e_q · e_d  +  Σ over i in I_d of  μ_q[i] μ_d[i]

A document keeps its strongest words I_d; a query keeps the values of all V words, which are looked
up at the document's. So it is not the inner product of two shortened lists of words, and an index
of k words costs as much as one of some more dimensions, whatever V is.
:class:`tokenspace.nn.duplex.DuplexEncoder` gives both parts.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats1d, Floats2d, Ids2d
from tokenspace.errors import FormatError, InputError
from tokenspace.io import read_tensors, replacing, save_tensors

from ._shared import best, check_k

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["HybridIndex"]

_FILE = "hybrid.safetensors"


class HybridIndex:
    """N documents: ``dense`` (N, D) float32 beside ``lexical``, sparse (N, V) float32.

    Raises :class:`~tokenspace.errors.InputError` for no documents, parts of different lengths, and
    values that are not finite.
    """

    def __init__(self, dense: Floats2d, lexical: csr_array) -> None:
        if dense.ndim != 2 or lexical.ndim != 2 or len(dense) != lexical.shape[0]:
            raise InputError(
                f"dense of shape {dense.shape} and lexical of {lexical.shape}",
                hint="give one row of each for every document",
            )
        if not len(dense):
            raise InputError("there are no documents", hint="give at least one document")
        self.dense = np.ascontiguousarray(dense, np.float32)
        self.lexical = lexical.tocsr().astype(np.float32)
        _check_finite("dense", self.dense)
        _check_finite("lexical", self.lexical.data)

    def __len__(self) -> int:
        return len(self.dense)

    @property
    def nbytes(self) -> int:
        """Bytes of the vectors, and of the words with their values."""
        parts = (self.lexical.data, self.lexical.indices, self.lexical.indptr)
        return int(self.dense.nbytes + sum(part.nbytes for part in parts))

    def search(self, dense: Floats2d, words: Floats2d, k: int = 10) -> tuple[Ids2d, Floats2d]:
        """Return document numbers and scores, (Q, min(k, N)) each, best first, ties by number.

        Queries are ``dense`` (Q, D) and the values ``words`` (Q, V) of all words.
        """
        check_k(k)
        return best(self.scores(dense, words), min(k, len(self)))

    def scores(self, dense: Floats2d, words: Floats2d) -> Floats2d:
        """Return the scores of all documents, (Q, N) float32.

        Each depends on its own query and document alone, to the last bit.
        """
        widths = self.dense.shape[1], self.lexical.shape[1]
        for name, given, width in zip(("dense", "words"), (dense, words), widths, strict=True):
            if given.ndim != 2 or given.shape[1] != width or len(given) != len(dense):
                raise InputError(
                    f"queries: {name} of shape {given.shape}, expected ({len(dense)}, {width})",
                    hint="encode queries with the encoder of the documents",
                )
            _check_finite(f"queries: {name}", given)
        found = np.empty((len(dense), len(self)), np.float32)
        for row, e, mu in zip(found, dense, words, strict=True):
            words_of: Floats1d = self.lexical @ np.asarray(mu, np.float32)
            row[:] = self.dense @ np.asarray(e, np.float32) + words_of
        return found

    def save(self, path: str | Path) -> None:
        """Write the directory ``path``."""
        tensors = {
            "dense": self.dense,
            "values": self.lexical.data,
            "words": self.lexical.indices,
            "offsets": self.lexical.indptr,
            "vocabulary": np.array([self.lexical.shape[1]], np.int64),
        }
        with replacing(path) as partial:
            partial.mkdir()
            save_tensors(partial / _FILE, tensors)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Open what :meth:`save` wrote.

        Raises :class:`~tokenspace.errors.FormatError` where it is missing or damaged.
        """
        from scipy.sparse import csr_array

        try:
            found = read_tensors(Path(path) / _FILE)
            dense = np.asarray(found["dense"], np.float32)
            shape = (len(dense), int(found["vocabulary"][0]))
            parts = tuple(np.asarray(found[name]) for name in ("values", "words", "offsets"))
            made = csr_array(parts, shape=shape)
            made.check_format(full_check=True)
            return cls(dense, made)
        except (OSError, ValueError, KeyError, IndexError, TypeError) as fault:
            raise FormatError(
                f"{path}: not a whole hybrid index ({fault})", hint="build the index again"
            ) from fault


def _check_finite(name: str, values: npt.NDArray[np.floating]) -> None:
    if not np.isfinite(values).all():
        raise InputError(f"{name}: not all values are finite", hint="look for NaN in the encoder")
