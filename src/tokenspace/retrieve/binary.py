"""Keep one bit for each of some directions of a vector, and compare bits before numbers.

The idea
--------
A vector is reduced to signs: on which side of some hyperplanes it lies. Vectors that point the
same way have most signs in common, so counting the bits in which two codes differ ranks them, at
a few bytes a vector and one instruction for 64 bits. The hyperplanes may be random, or turned so
that the signs say as much as they can about the vectors at hand (iterative quantisation). The best
by their codes are then ordered by the vectors themselves.

A document is a matrix with a row for each of its vectors; the usual one of a single row is a
document of height 1. More rows than one are compared as in late interaction.

Equations
---------
With directions W (D, b), b bits, and offset mu (D,)::

    code(x)  = [ <W[:, j], x - mu> > 0 for j = 1 ... b ]
    h(q, p)  = number of bits in which code(q) and code(p) differ
    s(Q, P)  = Σ_i max_j (b - 2 h(q_i, p_j)),  the inner product of codes of -1 and +1

``random``: mu = 0 and W has orthonormal columns, in groups of D where b > D; then P(bit differs) =
angle / pi. ``none``: mu = 0 and W = I, the signs of the first b numbers as they are, for vectors
that are codes already, such as those of `binary_pv`. ``itq``: mu is the mean, V (D, b) the first
principal directions, Z = (x - mu) V of at most 65,536 rows, and R (b, b), a random rotation at
first, is improved ``iterations`` times::

    B = sign(Z R),      U S Wᵀ = BᵀZ by SVD,      R = W Uᵀ;           finally W = V R

With ``rerank`` = r > 0 the vectors are kept as ``codec`` says, and of the r·k nearest by code those
of the highest S(Q, P) = Σ_i max_j <q_i, p_j> are returned; with 0 the score is s. N vectors, one a
document, are given as ``Ragged.single(matrix)``.

Departures from the paper
-------------------------
Equal distances are frequent; they go by document number, and
:func:`tokenspace.metrics.expected_average_precision` judges codes without favour to any order.
Re-ranking is ours. Rows that a rotation is learned from are chosen by their content, so the codes
do not depend on the order of the documents.

Cost
----
b·D multiply-adds a vector, b/8 bytes in words of 64 bits. A search reads all codes once: 1 million
codes of 128 bits in a few milliseconds on one core. Codes of at most 32 bits also have
:meth:`BinaryIndex.near`, which looks up the documents within a radius in a table of buckets.

When not to use it
------------------
The codes alone lose much of the order among near vectors: without re-ranking use them for rough
lists only. Where a byte or half a byte a number can be afforded, `short_codes` finds more.

Reference
---------
Y. Gong, S. Lazebnik: Iterative Quantization: A Procrustean Approach to Learning Binary Codes. CVPR
2011. Random hyperplanes: M. Charikar: Similarity Estimation Techniques from Rounding Algorithms.
STOC 2002.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats1d, Floats2d, Ids, Ids2d, Ragged
from tokenspace.errors import ConfigError, FormatError
from tokenspace.io import read_tensors, replacing, save_tensors
from tokenspace.jit import spread
from tokenspace.recipe import Range, Recipe
from tokenspace.rng import stream

from ._shared import best, chamfer_of, check_docs, check_k, check_queries, sample_rows
from .hamming import Buckets, Codes, nearest_of, pack_bits
from .store import Codec, TokenStore

__all__ = ["Binary", "BinaryIndex"]

_SAMPLE = 65536  # rows that a rotation is learned from
_BLOCK = 65536  # rows that are encoded at a time


@dataclass(frozen=True, kw_only=True)
class Binary(Recipe):
    """Keep one bit for each of some directions of a vector, and compare bits before numbers.

    The defaults are those of iterative quantisation (CVPR 2011, section 3.2), with re-ranking.
    """

    bits: Annotated[int, Range(0, 65536), "bits a vector, a multiple of 8; 0: its width"] = 0
    rotation: Annotated[
        Literal["itq", "random", "none"], "learned hyperplanes, random ones, or signs as they are"
    ] = "itq"
    iterations: Annotated[int, Range(1, 10_000), "iterations of itq"] = 50
    rerank: Annotated[int, Range(0, 10**6), "re-ranked for each of the k; 0: codes alone"] = 10
    codec: Annotated[Codec, "how vectors are kept for re-ranking: float32, float16, int8"] = "i8"
    seed: Annotated[int, Range(0, 2**63 - 1), "seed of all random draws"] = 0
    threads: Annotated[int, Range(0, 1024), "threads; 0: all cores"] = 0

    tiny: ClassVar[Mapping[str, Any]] = {"iterations": 5, "threads": 1}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bits % 8:
            raise ConfigError(
                f"binary: bits={self.bits} is not a multiple of 8",
                hint=f"choose bits={self.bits + 7 - (self.bits + 7) % 8}",
            )

    def __call__(self, docs: Ragged, /) -> BinaryIndex:
        """Index N documents of width D, each of one vector or of several.

        Raises :class:`~tokenspace.errors.InputError` for no documents, a document without a row,
        and values that are not finite, and :class:`~tokenspace.errors.ConfigError` for more bits
        than D, unless hyperplanes are random.
        """
        check_docs(docs, "raise")
        bits = self.bits or docs.width
        if self.rotation != "random" and bits > docs.width:
            raise ConfigError(
                f"binary: bits={bits} is above the width {docs.width} of the vectors",
                hint=f"choose at most {docs.width} bits, or rotation='random'",
            )
        tokens = TokenStore.pack(docs)
        mean = np.zeros(docs.width, np.float32)
        if self.rotation == "none":
            directions = np.eye(docs.width, bits, dtype=np.float32)
        elif self.rotation == "random":
            directions = self._random(docs.width, bits)
        else:
            mean, directions = self._learned(sample_rows(tokens, _SAMPLE, self.seed), bits)
        rows = int(docs.offsets[-1])
        codes = np.concatenate(
            [
                _encode(tokens.rows(start, min(start + _BLOCK, rows)), mean, directions)
                for start in range(0, rows, _BLOCK)
            ]
        )
        store = TokenStore.pack(docs, self.codec) if self.rerank else None
        return BinaryIndex(self, mean, directions, codes, np.array(docs.offsets), store)

    def _random(self, width: int, bits: int) -> Floats2d:
        """Return orthonormal directions in groups of ``width``, (width, bits)."""
        draw = stream(self.seed, "hyperplanes")
        groups = [
            np.linalg.qr(draw.standard_normal((width, width)))[0] for _ in range(0, bits, width)
        ]
        return np.ascontiguousarray(np.concatenate(groups, axis=1)[:, :bits], np.float32)

    def _learned(self, rows: Floats2d, bits: int) -> tuple[Floats1d, Floats2d]:
        """Return the mean (D,) and the directions V R (D, bits) of iterative quantisation."""
        mean = rows.mean(axis=0, dtype=np.float64)
        centred = rows - mean
        V = np.linalg.eigh(centred.T @ centred)[1][:, : -bits - 1 : -1]
        Z = centred @ V
        R = np.linalg.qr(stream(self.seed, "rotation").standard_normal((bits, bits)))[0]
        for _ in range(self.iterations):
            B = np.where(Z @ R > 0, 1.0, -1.0)
            U, _, Wt = np.linalg.svd(B.T @ Z)
            R = Wt.T @ U.T
        return mean.astype(np.float32), np.ascontiguousarray(V @ R, np.float32)


def _encode(rows: Floats2d, mean: Floats1d, directions: Floats2d) -> Codes:
    return pack_bits((rows - mean) @ directions > 0)


class BinaryIndex:
    """Documents as codes of bits, and as vectors where they are re-ranked.

    ``codes`` is (rows, ceil(bits / 64)) uint64; document i has the rows ``offsets[i]`` to
    ``offsets[i + 1]``.
    """

    def __init__(
        self,
        recipe: Binary,
        mean: Floats1d,
        directions: Floats2d,
        codes: Codes,
        offsets: Ids,
        store: TokenStore | None,
    ) -> None:
        self.recipe, self.mean, self.directions = recipe, mean, directions
        self.codes, self.offsets, self.store = codes, offsets, store

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return int(self.directions.shape[1])

    @property
    def nbytes(self) -> int:
        """Bytes of codes, offsets and directions, of kept vectors, and of buckets if made."""
        held = self.codes.nbytes + self.offsets.nbytes + self.mean.nbytes + self.directions.nbytes
        buckets = self.buckets.nbytes if "buckets" in self.__dict__ else 0
        return held + (self.store.nbytes if self.store else 0) + buckets

    @property
    def config_hash(self) -> str:
        """64 bits that tell the file of one configuration from that of another."""
        config = {"width": len(self.mean), "bits": self.bits, **self.recipe.to_dict()}
        text = json.dumps(config, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    @cached_property
    def buckets(self) -> Buckets:
        """The table of buckets of codes of at most 32 bits, made when it is first asked for."""
        return Buckets.of(self.codes, self.bits)

    def encode(self, rows: Floats2d) -> Codes:
        """Return the codes of vectors (n, D): (n, words) uint64."""
        return _encode(rows, self.mean, self.directions)

    def find(self, queries: Ragged, count: int) -> tuple[Ids2d, Ids2d]:
        """Return the nearest documents by their codes and the distances, (Q, min(count, N)).

        The distance is Σ_i min_j h(q_i, p_j). Nearest first; equal distances by number.
        """
        check_k(count)
        check_queries(queries, len(self.mean))
        shape = len(queries), min(count, len(self.offsets) - 1)
        numbers, distances = np.empty((2, *shape), np.int64)
        codes, offsets = self.encode(queries.flat), queries.offsets

        def part(first: int, last: int) -> None:
            for i in range(first, last):
                query = codes[offsets[i] : offsets[i + 1]]
                found = nearest_of(self.codes, query, self.bits, count, self.offsets)
                numbers[i], distances[i] = found

        if len(queries):
            spread(part, len(queries), workers=self.recipe.threads)
        return numbers, distances

    def search(self, queries: Ragged, k: int = 10) -> tuple[Ids2d, Floats2d]:
        """Return document numbers and scores, (Q, min(k, N)), best first, ties by number.

        Scores are MaxSim of the kept vectors, or Σ_i max_j (bits - 2 h) where none are kept.
        """
        check_k(k)
        numbers, distances = self.find(queries, k * max(1, self.recipe.rerank))
        if self.store is None:
            most = self.bits * queries.heights[:, None]
            return numbers, np.asarray(most - 2 * distances, np.float32)
        candidates = np.sort(numbers, axis=1)
        scores = chamfer_of(self.store, queries, candidates, self.recipe.threads)
        places, values = best(scores, k)
        return np.take_along_axis(candidates, places, axis=1), values

    def near(self, query: Floats2d, radius: int) -> tuple[Ids, Ids]:
        """Return the documents with a code within ``radius`` bits of one of ``query`` (m, D).

        Sorted by distance, then number, with the least distance of each. Codes of at most 32 bits;
        raises :class:`~tokenspace.errors.InputError` for longer ones.
        """
        check_queries(Ragged.pack([query]), len(self.mean))
        found = [self.buckets.within(code, radius) for code in self.encode(query)]
        rows, distances = (np.concatenate(part) for part in zip(*found, strict=True))
        documents = np.searchsorted(self.offsets, rows, side="right") - 1
        order = np.lexsort((documents, distances))
        _, first = np.unique(documents[order], return_index=True)
        kept = order[np.sort(first)]
        return documents[kept], distances[kept]

    def save(self, path: str | Path) -> None:
        """Write the directory ``path``: ``binary.json``, ``binary.safetensors``, ``tokens/``."""
        described = {"config_hash": self.config_hash, "recipe": self.recipe.to_dict()}
        with replacing(path) as partial:
            partial.mkdir()
            tensors: dict[str, npt.NDArray[Any]] = {
                "codes": self.codes.view(np.int64),
                "offsets": self.offsets,
                "mean": self.mean,
                "directions": self.directions,
                "config_hash": np.frombuffer(bytes.fromhex(self.config_hash), np.uint8),
            }
            save_tensors(partial / "binary.safetensors", tensors)
            if self.store:
                self.store.save(partial / "tokens")
            (partial / "binary.json").write_text(json.dumps(described, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Map what :meth:`save` wrote.

        Raises :class:`~tokenspace.errors.FormatError` where a file is missing or damaged, or the
        files are of different configurations.
        """
        path = Path(path)
        try:
            described = json.loads((path / "binary.json").read_text(encoding="utf-8"))
            recipe = Binary.from_dict(described["recipe"])
            held: dict[str, Any] = read_tensors(path / "binary.safetensors")
            store = TokenStore.open(path / "tokens") if recipe.rerank else None
            index = cls(
                recipe,
                np.array(held["mean"]),
                np.array(held["directions"]),
                held["codes"].view(np.uint64),
                np.array(held["offsets"]),
                store,
            )
            stamps = {described["config_hash"], bytes(held["config_hash"]).hex()}
            if stamps != {index.config_hash}:
                raise ValueError("the files have different configurations")
            documents = len(index.offsets) - 1
            if index.codes.shape != (int(index.offsets[-1]), -(-index.bits // 64)) or (
                store is not None and len(store) != documents
            ):
                raise ValueError("its parts are of different documents")
        except (OSError, ValueError, KeyError, TypeError, IndexError) as fault:
            raise FormatError(
                f"{path}: not a whole index of codes ({fault})", hint="build the index again"
            ) from fault
        return index
