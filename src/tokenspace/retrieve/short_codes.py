"""Find the nearest vectors by short codes, and order the best by the vectors themselves.

The idea
--------
Documents are vectors, and the best for a query are those of the largest inner product, the largest
cosine or the least distance. Reading every number of every vector takes time and memory, so a
vector is kept as a short code that products are estimated from. What the estimate finds, some ten
times as much as is asked for, is then scored by the vectors, kept as bytes: the coarse code
decides who is looked at, not who wins.

A document is a matrix with a row for each of its vectors; the usual one of a single row is a
document of height 1, and N vectors are ``Ragged.single(matrix)``. Documents of several rows are
compared as in late interaction, which for one row is the plain product.

Equations
---------
With query rows q_i and document rows p_j of width D::

    <q, p>:        inner product (``ip``), of rows scaled to length 1 (``cosine``), or
                   -|q - p|² (``l2``)
    S(Q, P)        = Σ_i max_j <q_i, p_j>                     what re-ranking computes
    candidates     = the rerank·k documents with the best rows by their codes

``code`` says how rows are searched; bytes are those of a row:

    f32, f16, i8   the numbers themselves (4 D, 2 D), or 256 levels between the least and the
                   largest number of each dimension (D)
    pq             ``parts`` groups of dimensions, each by the nearest of 256 centroids (parts)
    opq            pq after the rotation that suits it best, learned with it (parts)
    pq-fast-scan   groups of 16 centroids, summed in vector registers (parts / 2)
    rabitq         the signs after a random rotation (D / 8, and 12 of factors)

``parts`` = 0 means a group of eight dimensions for pq and opq, of four for pq-fast-scan: D/8 bytes
a row in both. RaBitQ knows an interval for each estimate; ``rerank="bound"`` then scores the
documents whose upper end reaches the k-th best lower end, instead of a fixed number of them.

Departures from the paper
-------------------------
faiss makes and scans all codes but RaBitQ, which it offers without rotation and without bounds;
ours always rotates. ShortCodes are centred on one mean. Codes are learned from at most 65,536 rows,
chosen by a hash of their content, so an index does not depend on the order of the documents. Where
a document has several rows, a query row that found none of them counts its worst found row, before
re-ranking. A width that ``parts`` does not divide is filled up with zeros. pq is trained without
faiss's reordering of centroids for Hamming distances, which takes most of its time and serves
nothing here.

Cost
----
Memory: the code and, unless ``rerank`` is 0, ``rows`` of 1 to 4 bytes a number for re-ranking,
which may be mapped from disk. Searching reads every code. Learning is a second or two, with opq
ten times as much.

When not to use it
------------------
Below some ten thousand vectors one product with all of them is as fast. Without re-ranking no code
below 8 bits keeps the order of near neighbours.

Reference
---------
H. Jégou, M. Douze, C. Schmid: Product Quantization for Nearest Neighbor Search. TPAMI 2011. OPQ:
T. Ge et al., CVPR 2013. J. Gao, C. Long: RaBitQ. SIGMOD 2024, arXiv:2405.12497.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np

from tokenspace.arrays import Floats1d, Floats2d, Ids, Ids2d, Ragged
from tokenspace.errors import ConfigError, FormatError, InputError
from tokenspace.io import read_tensors, replacing, save_tensors
from tokenspace.jit import spread
from tokenspace.recipe import Range, Recipe
from tokenspace.rng import derive

from ._rabitq import RaBitQ
from ._shared import check_docs, check_k, check_queries, sample_rows
from .store import Codec, DocumentTokens, TokenStore

__all__ = ["ShortCodes", "ShortCodesIndex"]

log = logging.getLogger(__name__)

Code = Literal["f32", "f16", "i8", "pq", "opq", "pq-fast-scan", "rabitq"]
Metric = Literal["ip", "cosine", "l2"]
_SAMPLE = 65536  # rows that codes are learned from
_POINTS = 39  # rows a centroid, below which centroids follow single rows
_BLOCK = 65536  # rows that are added at a time


@dataclass(frozen=True, kw_only=True)
class ShortCodes(Recipe):
    """Find the nearest vectors by short codes, and order the best by the vectors themselves.

    The default is 4-bit product quantisation (TPAMI 2011, section 3) and int8 rows.
    """

    code: Annotated[Code, "what is searched: numbers, or a code of fewer bytes"] = "pq-fast-scan"
    parts: Annotated[int, Range(0, 65536), "groups of dimensions of pq; 0: by the width"] = 0
    metric: Annotated[Metric, "inner product, cosine, or squared distance"] = "ip"
    rerank: Annotated[
        int | Literal["bound"], Range(0, 10**6), "re-ranked for each of the k; 0: none"
    ] = 10
    rows: Annotated[Codec, "vectors kept for re-ranking: float32, float16 or int8"] = "i8"
    seed: Annotated[int, Range(0, 2**63 - 1), "seed of all random draws"] = 0
    threads: Annotated[int, Range(0, 1024), "threads of re-ranking; 0: all cores"] = 0

    tiny: ClassVar[Mapping[str, Any]] = {"threads": 1}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rerank == "bound" and self.code != "rabitq":
            raise ConfigError(
                f"short_codes: rerank='bound' with code={self.code!r}",
                hint="only code='rabitq' has bounds; give a number",
            )

    def __call__(self, docs: Ragged, /) -> ShortCodesIndex:
        """Index N documents of width D, each of one vector or of several.

        Raises :class:`~tokenspace.errors.InputError` for no documents, a document without a row,
        values that are not finite, and fewer rows than a code has centroids.
        """
        check_docs(docs, "raise")
        if self.metric == "cosine":
            docs = Ragged(_unit(docs.flat), docs.offsets)
        tokens = TokenStore.pack(docs)
        offsets = np.array(docs.offsets)
        engine: Engine
        if self.code == "rabitq":
            held = RaBitQ.encode(tokens, self.seed, squared=self.metric == "l2")
            engine = SignEngine(held, offsets)
        else:
            engine = FaissEngine(_trained(self, tokens), offsets)
            for start in range(0, len(docs.flat), _BLOCK):
                rows = tokens.rows(start, min(start + _BLOCK, len(docs.flat)))
                engine.index.add(np.ascontiguousarray(rows))
        store = TokenStore.pack(docs, self.rows) if self.rerank else None
        return ShortCodesIndex(self, engine, store, docs.width)


def _unit(rows: Floats2d) -> Floats2d:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1), np.float32)


def _trained(recipe: ShortCodes, tokens: DocumentTokens) -> Any:
    """Return an empty faiss index that has learned its code."""
    import faiss

    width = tokens.width
    metric = faiss.METRIC_L2 if recipe.metric == "l2" else faiss.METRIC_INNER_PRODUCT
    dimensions = 4 if recipe.code == "pq-fast-scan" else 8
    parts = recipe.parts or max(1, width // dimensions)
    if parts > width:
        raise ConfigError(
            f"short_codes: parts={parts} is above the width {width} of the vectors",
            hint=f"choose parts inside [1, {width}], or 0",
        )
    centroids = {"pq": 256, "opq": 256, "pq-fast-scan": 16}.get(recipe.code, 0)
    index: Any
    turn = None
    if centroids:
        padded = -(-width // parts) * parts
        kind = faiss.IndexPQFastScan if centroids == 16 else faiss.IndexPQ
        index = kind(padded, parts, centroids.bit_length() - 1, metric)
        index.pq.cp.seed = derive(recipe.seed, "centroids") % 2**31
        index.pq.cp.min_points_per_centroid = 1  # the warning below is ours
        if recipe.code == "opq":
            turn = faiss.OPQMatrix(padded, parts, padded)
            turn.pq = quantizer = faiss.ProductQuantizer(padded, parts, 8)
            quantizer.cp.seed, quantizer.cp.min_points_per_centroid = index.pq.cp.seed, 1
            index = faiss.IndexPreTransform(turn, index)
        if padded > width:
            fill = faiss.RemapDimensionsTransform(width, padded, False)  # type: ignore[arg-type]
            index = faiss.IndexPreTransform(fill, index)
    else:
        factory = {"f32": "Flat", "f16": "SQfp16", "i8": "SQ8"}[recipe.code]
        index = faiss.index_factory(width, factory, metric)
    rows = sample_rows(tokens, _SAMPLE, recipe.seed)
    if len(rows) < centroids:
        raise InputError(
            f"docs: {len(rows)} rows for {centroids} centroids of code {recipe.code!r}",
            hint="take code='i8' for a collection this small",
        )
    if len(rows) < _POINTS * centroids:
        log.warning(
            "%d rows for %d centroids: below %d rows the code follows single rows",
            len(rows),
            centroids,
            _POINTS * centroids,
        )
    index.train(rows)
    if turn is not None:
        turn.pq = None  # lives no longer than this call
    return index


class FaissEngine:
    """Rows in a faiss index, found one by one and gathered into documents."""

    def __init__(self, index: Any, offsets: Ids) -> None:
        self.index, self.offsets = index, offsets

    @property
    def count(self) -> int:
        """How many rows there are."""
        return int(self.index.ntotal)

    @property
    def nbytes(self) -> int:
        """Bytes of the codes, their tables and the offsets."""
        import faiss

        return len(faiss.serialize_index(self.index)) + self.offsets.nbytes

    def tensors(self) -> dict[str, Any]:
        """Return what is saved."""
        import faiss

        return {"engine": faiss.serialize_index(self.index), "offsets": self.offsets}

    def find(self, queries: Ragged, count: int) -> list[tuple[Ids, Floats1d]]:
        """Return, for every query, documents and their scores by code, best first."""
        step = min(count, self.count)
        if len(queries) == 0:
            return []
        scores, rows = self._search(queries.flat, step)
        found = []
        for i in range(len(queries)):
            part = slice(int(queries.offsets[i]), int(queries.offsets[i + 1]))
            gathered = self._gather(rows[part], scores[part], count)
            wider = step
            while len(gathered[0]) < count and wider < self.count:
                wider = min(4 * wider, self.count)
                more, numbers = self._search(queries.flat[part], wider)
                gathered = self._gather(numbers, more, count)
            found.append(gathered)
        return found

    def _search(self, rows: Floats2d, count: int) -> tuple[Floats2d, Ids2d]:
        import faiss

        scores, numbers = self.index.search(np.ascontiguousarray(rows, np.float32), count)
        return (-scores if self.index.metric_type == faiss.METRIC_L2 else scores), numbers

    def _gather(self, rows: Ids2d, scores: Floats2d, count: int) -> tuple[Ids, Floats1d]:
        """Sum, over query rows, each document's best found score, or the row's worst found.

        A fast scan may leave places empty (-1). After a search for all rows, documents that were
        found nowhere stand at the end.
        """
        found = rows >= 0
        worst = np.where(found, scores, np.inf).min(axis=1, keepdims=True)
        owners = np.searchsorted(self.offsets, np.maximum(rows, 0), side="right") - 1
        documents = np.unique(owners[found])
        if rows.shape[1] == self.count and len(documents) < count:
            documents = np.arange(len(self.offsets) - 1)
        best = np.repeat(worst.astype(np.float32), len(documents), axis=1)
        for i in range(len(rows)):
            place = np.searchsorted(documents, owners[i, found[i]])
            np.maximum.at(best[i], place, scores[i, found[i]])
        totals = best.sum(axis=0, dtype=np.float32)
        order = np.argsort(-totals, kind="stable")[:count]
        return documents[order], totals[order]


class SignEngine:
    """Rows as RaBitQ codes, with bounds of every document's score."""

    def __init__(self, held: RaBitQ, offsets: Ids) -> None:
        self.held, self.offsets = held, offsets

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self.held.codes)

    @property
    def nbytes(self) -> int:
        """Bytes of the codes, their factors and the offsets."""
        return self.held.nbytes + self.offsets.nbytes

    def tensors(self) -> dict[str, Any]:
        """Return what is saved."""
        held = self.held
        return {
            "codes": held.codes,
            "factors": held.factors,
            "centre": held.centre,
            "rotation": held.rotation,
            "offsets": self.offsets,
        }

    def _documents(self, scores: Floats2d) -> Floats1d:
        """Sum, over query rows, the best row of every document: (N,)."""
        if len(self.offsets) < scores.shape[1] + 1:
            scores = np.maximum.reduceat(scores, self.offsets[:-1], axis=1)
        return np.asarray(scores.sum(axis=0), np.float32)

    def find(self, queries: Ragged, count: int) -> list[tuple[Ids, Floats1d]]:
        """Return, for every query, documents and their estimated scores, best first."""
        found = []
        for query in queries:
            totals = self._documents(self.held.estimate(query)[0])
            order = _largest(totals, count)
            found.append((order, totals[order]))
        return found

    def within(self, queries: Ragged, k: int) -> list[tuple[Ids, Floats1d]]:
        """Return, for every query, the documents that may be among the best k by their bounds."""
        found = []
        for query in queries:
            middle, half = self.held.estimate(query)
            lower, upper = self._documents(middle - half), self._documents(middle + half)
            bar = np.partition(lower, len(lower) - k)[len(lower) - k]
            documents = np.flatnonzero(upper >= bar).astype(np.int64)
            found.append((documents, upper[documents]))
        return found


Engine = FaissEngine | SignEngine


def _opened(recipe: ShortCodes, held: Mapping[str, Any]) -> Engine:
    """Return the engine of saved tensors."""
    import faiss

    offsets = np.array(held["offsets"])
    if recipe.code == "rabitq":
        centre, rotation = np.array(held["centre"]), np.array(held["rotation"])
        squared = recipe.metric == "l2"
        signs = RaBitQ(held["codes"], held["factors"], centre, rotation, squared)
        return SignEngine(signs, offsets)
    return FaissEngine(faiss.deserialize_index(np.array(held["engine"])), offsets)


def _largest(scores: Floats1d, count: int) -> Ids:
    """Return where the ``count`` largest scores are, best first, ties by place."""
    count = min(count, len(scores))
    bar = np.partition(scores, len(scores) - count)[len(scores) - count]
    reach = np.flatnonzero(scores >= bar)
    return reach[np.argsort(-scores[reach], kind="stable")[:count]].astype(np.int64)


class ShortCodesIndex:
    """Documents as codes, and as rows where they are re-ranked."""

    def __init__(
        self, recipe: ShortCodes, engine: Engine, store: TokenStore | None, width: int
    ) -> None:
        self.recipe, self.engine, self.store, self.width = recipe, engine, store, width

    def __len__(self) -> int:
        return len(self.engine.offsets) - 1

    @property
    def nbytes(self) -> int:
        """Bytes of the codes with their tables and offsets, and of the kept rows."""
        return self.engine.nbytes + (self.store.nbytes if self.store else 0)

    @property
    def config_hash(self) -> str:
        """64 bits that tell the file of one configuration from that of another."""
        text = json.dumps({"width": self.width, **self.recipe.to_dict()}, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def find(self, queries: Ragged, k: int) -> list[tuple[Ids, Floats1d]]:
        """Return, for every query, the candidates for its best k and their scores by code.

        Best first: ``rerank``·k documents, k without re-ranking, or those within the bounds.
        """
        check_k(k)
        check_queries(queries, self.width)
        if self.recipe.metric == "cosine":
            queries = Ragged(_unit(queries.flat), queries.offsets)
        k, rerank = min(k, len(self)), self.recipe.rerank
        if isinstance(rerank, str):
            assert isinstance(self.engine, SignEngine)
            return self.engine.within(queries, k)
        return self.engine.find(queries, min(k * max(1, rerank), len(self)))

    def search(self, queries: Ragged, k: int = 10) -> tuple[Ids2d, Floats2d]:
        """Return document numbers and scores, (Q, min(k, N)), best first, ties by number.

        Scores are S(Q, P) of the kept rows, or what the codes say where none are kept.
        """
        candidates = self.find(queries, k)
        k = min(k, len(self))
        numbers = np.empty((len(queries), k), np.int64)
        scores = np.empty((len(queries), k), np.float32)

        def part(first: int, last: int) -> None:
            for i in range(first, last):
                documents, values = candidates[i]
                if self.store is not None:
                    documents = np.sort(documents)
                    values = self._exact(queries[i], documents)
                order = _largest(values, k)
                numbers[i], scores[i] = documents[order], values[order]

        if len(queries):
            spread(part, len(queries), workers=self.recipe.threads)
        return numbers, scores

    def _exact(self, query: Floats2d, documents: Ids) -> Floats1d:
        """Return S(Q, P) of the kept rows of ``documents``, (n,)."""
        store = self.store
        assert store is not None
        starts, ends = store.offsets[documents], store.offsets[documents + 1]
        firsts = np.concatenate([np.zeros(1, np.int64), np.cumsum(ends - starts)])
        places = np.arange(firsts[-1]) + np.repeat(starts - firsts[:-1], ends - starts)
        rows = np.asarray(store.tokens[places], np.float32)
        if len(store.scales):
            rows *= store.scales[places, None]
        if self.recipe.metric == "cosine":
            query = _unit(query)
        similar = query @ rows.T
        if self.recipe.metric == "l2":
            squares = np.square(query).sum(axis=1)[:, None] + np.square(rows).sum(axis=1)
            similar = 2 * similar - squares
        best = np.maximum.reduceat(similar, firsts[:-1], axis=1)
        return np.asarray(best.sum(axis=0), np.float32)

    def save(self, path: str | Path) -> None:
        """Write the directory ``path``: a ``.json``, a ``.safetensors`` and ``rows/``."""
        described = {
            "config_hash": self.config_hash,
            "recipe": self.recipe.to_dict(),
            "width": self.width,
        }
        stamp = np.frombuffer(bytes.fromhex(self.config_hash), np.uint8)
        with replacing(path) as partial:
            partial.mkdir()
            tensors = {**self.engine.tensors(), "config_hash": stamp}
            save_tensors(partial / "short_codes.safetensors", tensors)
            if self.store:
                self.store.save(partial / "rows")
            text = json.dumps(described, indent=1)
            (partial / "short_codes.json").write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Open what :meth:`save` wrote; kept rows stay on disk.

        Raises :class:`~tokenspace.errors.FormatError` where a file is missing or damaged, or the
        files are of different configurations.
        """
        path = Path(path)
        try:
            described = json.loads((path / "short_codes.json").read_text(encoding="utf-8"))
            recipe, width = ShortCodes.from_dict(described["recipe"]), int(described["width"])
            held: dict[str, Any] = read_tensors(path / "short_codes.safetensors")
            engine = _opened(recipe, held)
            store = TokenStore.open(path / "rows") if recipe.rerank else None
            found = cls(recipe, engine, store, width)
            stamps = {described["config_hash"], bytes(held["config_hash"]).hex()}
            if stamps != {found.config_hash}:
                raise ValueError("the files have different configurations")
            if engine.count != int(engine.offsets[-1]) or (
                store is not None and len(store) != len(found)
            ):
                raise ValueError("its parts are of different documents")
        except (OSError, ValueError, KeyError, TypeError, IndexError, RuntimeError) as fault:
            raise FormatError(
                f"{path}: not a whole index of vectors ({fault})", hint="build the index again"
            ) from fault
        return found
