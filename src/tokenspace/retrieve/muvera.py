"""Find candidates through one fixed-size vector a document, then score them exactly.

The idea
--------
Comparing a query with every token of every document is exact and slow; comparing one vector with
one vector is what search engines are good at. MUVERA folds a whole token matrix into one long
vector, its fixed dimensional encoding (FDE), such that the inner product of a query's and a
document's FDE estimates their Chamfer similarity. Space is cut by random hyperplanes into cells.
A query token meets the document tokens that fell into its own cell, which are likely to be near
it: the query adds its tokens up cell by cell, the document averages its own. That is repeated
with fresh hyperplanes, and every cell is narrowed by a random projection that keeps inner
products right on average. The best documents by this estimate are then scored exactly.

Equations
---------
For repetition r = 0 ... R-1 with Gaussian directions G_r (D, k_sim) and projection psi_r::

    bit_j(x)  = 1 if <G_r[:, j], x> > 0 else 0          cell(x) = bits as a number, first bit high
    q[r, c]   = Σ psi_r(q_i)   over query tokens with cell(q_i) = c,      0 for an empty cell
    p[r, c]   = mean psi_r(p_j) over document tokens with cell(p_j) = c
    fill:       an empty cell of a document takes psi_r(p*), p* being the token whose bits differ
                from c in the fewest places, the first such token
    F         = concatenation of all blocks: block (r, c) begins at (r·2^k_sim + c)·d_proj
    <F_Q, F_P> / R  estimates  S(Q, P) = Σ_i max_j <q_i, p_j>

Both sides carry a factor 1/sqrt(R), so the inner product itself is the estimate. It is biased
low, since a mean is never better than the best, so it ranks candidates and decides nothing else.

psi is either a sketch, one random sign and one random output column for each of the D numbers
(``sketch``), or a dense matrix of ±1/sqrt(d_proj) (``dense``, as in the paper); both keep inner
products on average. d_proj = 0, or d_proj = D, means no projection.

Filling helps vectors whose cosines are mostly positive, as trained late-interaction encoders
give, and harms near-orthogonal ones, as static tables give. ``fill="auto"`` tries both on a
sample of at most 500 documents with 50 pseudo-queries, some tokens of a document each, and keeps
what shares more of the exact top 10; the index reports both figures in ``metrics``.

Departures from the paper
-------------------------
Always filling is the paper's way; choosing by a sample is ours. The default projection is the
sketch of the authors' published code. Every repetition draws from a stream of its own, so
neighbouring seeds share nothing. The 1/sqrt(R) factors are ours. Final projections, product
quantisation and query clustering are left out. Sampling and sums do not depend on the order of
the documents; ties go by document number.

Cost
----
Encoding: T·D·R·k_sim multiply-adds for the cells of a document's T tokens, T·D·R additions and
R·2^k_sim·D for projecting the cells. Memory: R·2^k_sim·d_proj numbers a document (10,240 by
default: 20 kB as ``f16``), beside the token vectors. Searching: one inner product with every
FDE, then exact scores of the candidates.

When not to use it
------------------
Below some twenty thousand documents exact `maxsim` is fast enough and needs no FDE. With random
or nearly isotropic token vectors a plain mean finds candidates as well. Scores before the exact
stage are no thresholds.

Reference
---------
L. Dhulipala, M. Hadian, R. Jayaram, J. Lee, V. Mirrokni: MUVERA: Multi-Vector Retrieval via
Fixed Dimensional Encodings. NeurIPS 2024, arXiv:2405.19504, section 2.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats1d, Floats2d, Ids, Ids2d, Ragged
from tokenspace.errors import ConfigError, FormatError, InputError
from tokenspace.io import read_tensors, replacing, save_tensors
from tokenspace.jit import kernel, spread
from tokenspace.progress import track
from tokenspace.recipe import Range, Recipe
from tokenspace.rng import stream

from ._shared import (
    OnEmpty,
    align,
    best,
    chamfer,
    chamfer_of,
    check_candidates,
    check_docs,
    check_k,
    check_queries,
    check_query,
)
from .store import Codec, DocumentTokens, TokenStore, fixed

__all__ = ["FDE", "MUVERA", "MUVERAIndex", "choose_fill", "engine"]

CellOrder = Literal["binary", "gray"]
Scale = Literal["chamfer", "raw"]
_FORMAT = 1
_SCRATCH = 64 << 20  # bytes of float32 encodings that are made at a time
_BYTES = {"f32": 4, "f16": 2, "i8": 1}
_SAMPLE, _PSEUDO_QUERIES, _PSEUDO_TOKENS = 500, 50, 12
_RUNS, _RUN = 64, 64  # documents that int8 learns from


@dataclass(frozen=True, kw_only=True)
class MUVERA(Recipe):
    """Find candidates through one fixed-size vector a document, then score them exactly.

    The defaults are the paper's working size of 10,240 numbers (arXiv:2405.19504, section 3).
    Its smaller ones are (repetitions, k_sim, d_proj) = (20, 3, 8), (20, 4, 8) and (20, 5, 8).
    """

    repetitions: Annotated[int, Range(1, 4096), "how often space is cut anew (R)"] = 20
    k_sim: Annotated[int, Range(0, 16), "hyperplanes a repetition: 2^k_sim cells"] = 5
    d_proj: Annotated[int, Range(0, 65536), "numbers a cell; 0: the vectors' own width"] = 16
    fill: Annotated[Literal["auto", "on", "off"], "empty document cells take a near token"] = "auto"
    projection: Annotated[Literal["sketch", "dense"], "how a cell is narrowed"] = "sketch"
    candidates: Annotated[int, Range(0, 2**31), "scored exactly; 0: max(10 k, 100)"] = 0
    fde_codec: Annotated[Codec, "how encodings are held: float32, float16 or int8"] = "f16"
    codec: Annotated[Codec, "how token vectors are held: float32, float16 or int8"] = "f32"
    seed: Annotated[int, Range(0, 2**63 - 1), "seed of all random draws"] = 0
    threads: Annotated[int, Range(0, 1024), "threads; 0: all cores"] = 0

    tiny: ClassVar[Mapping[str, Any]] = {"repetitions": 4, "k_sim": 2, "d_proj": 4, "threads": 1}

    def __call__(self, docs: Ragged, /) -> MUVERAIndex:
        """Index N documents of width D.

        Raises :class:`~tokenspace.errors.InputError` for no documents, a document without tokens,
        values that are not finite, ``d_proj`` above D, and encodings beyond 8 GiB.
        """
        check_docs(docs, "raise")
        encoder = FDE(docs.width, self)
        encoder.check_size(len(docs), _BYTES[self.fde_codec])
        return self.index(TokenStore.pack(docs, self.codec))

    def index(self, store: TokenStore) -> MUVERAIndex:
        """Index a token store, in memory or mapped from disk, without copying it."""
        encoder = FDE(store.width, self)
        encoder.check_size(len(store), _BYTES[self.fde_codec])
        fill, metrics = choose_fill(self, store)
        encoder = FDE(store.width, self, fill=fill)
        encodings = engine(encoder, store)
        step = max(1, _SCRATCH // (4 * encoder.dim))
        for start in track(range(0, len(store), step), "encode"):
            encodings.add(encoder.encode_documents(store, start, min(start + step, len(store))))
        return MUVERAIndex(encoder, encodings, store, metrics)


class FDE:
    """Encodes token matrices of one width as vectors whose inner products estimate Chamfer.

    ``recipe`` gives R, k_sim, d_proj, the projection, the seed and the threads. ``fill`` is
    whether empty document cells are filled (by default unless the recipe says ``off``).
    ``cell_order="gray"`` orders the blocks of a repetition as the authors' C++ code does, and
    ``scale="raw"`` leaves the factor 1/sqrt(R) out, as every other implementation does.

    Raises :class:`~tokenspace.errors.ConfigError` where ``d_proj`` is above ``width``.
    """

    def __init__(
        self,
        width: int,
        recipe: MUVERA,
        *,
        fill: bool | None = None,
        cell_order: CellOrder = "binary",
        scale: Scale = "chamfer",
    ) -> None:
        if recipe.d_proj > width:
            raise ConfigError(
                f"muvera: d_proj={recipe.d_proj} is above the width {width} of the vectors",
                hint=f"choose d_proj inside [1, {width}], or 0 for no projection",
            )
        for name, value, kind in (("cell_order", cell_order, CellOrder), ("scale", scale, Scale)):
            if value not in get_args(kind):
                raise ConfigError(f"{name}={value!r} is not one of {', '.join(get_args(kind))}")
        self.width, self.recipe = width, recipe
        self.fill = recipe.fill != "off" if fill is None else fill
        self.cell_order, self.scale = cell_order, scale
        self.cells = 1 << recipe.k_sim
        self.block = recipe.d_proj or width
        seed, R = recipe.seed, recipe.repetitions
        self.directions = np.concatenate(
            [stream(seed, "simhash", r).standard_normal((width, recipe.k_sim)) for r in range(R)],
            axis=1,
        ).astype(np.float32)
        columns = np.tile(np.arange(width), (R, 1))
        signs = np.ones((R, width), np.float32)
        dense = np.zeros((0, width, self.block), np.float32)
        if self.block < width and recipe.projection == "sketch":
            draws = [stream(seed, "sketch", r) for r in range(R)]
            columns = np.array([draw.integers(0, self.block, width) for draw in draws])
            signs = np.array([draw.choice([-1.0, 1.0], width) for draw in draws], np.float32)
        elif self.block < width:
            shape = (width, self.block)
            flips = [stream(seed, "dense", r).choice([-1.0, 1.0], shape) for r in range(R)]
            dense = (np.array(flips) / np.sqrt(self.block)).astype(np.float32)
        self.columns, self.signs, self.dense = columns.astype(np.int64), signs, dense
        labels = np.arange(self.cells)
        self.bits = labels ^ (labels >> 1) if cell_order == "gray" else labels
        """The sign bits, as a number, that the cell with each label stands for: (2^k_sim,)."""

    @property
    def dim(self) -> int:
        """Length of an encoding: R · 2^k_sim · d_proj."""
        return int(self.recipe.repetitions * self.cells * self.block)

    @property
    def config(self) -> dict[str, Any]:
        """All that both sides must agree on, as plain data."""
        recipe = self.recipe
        return {
            "format": _FORMAT,
            "width": self.width,
            "repetitions": recipe.repetitions,
            "k_sim": recipe.k_sim,
            "d_proj": self.block,
            "projection": recipe.projection,
            "cell_order": self.cell_order,
            "scale": self.scale,
            "seed": recipe.seed,
        }

    @property
    def config_hash(self) -> str:
        """64 bits that tell encodings that can be compared from those that cannot."""
        text = json.dumps(self.config, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def check_size(self, items: int, number_bytes: int = 4) -> None:
        """Raise :class:`InputError` if encodings of ``items`` would take more than 8 GiB."""
        size = items * self.dim * number_bytes
        if size > 8 << 30:
            raise InputError(
                f"{items} encodings of {self.dim} numbers take {size / 2**30:.1f} GiB, over 8 GiB",
                hint="lower repetitions, k_sim or d_proj, or hold them with fde_codec='i8'",
            )

    def documents(self, docs: Ragged, *, on_empty: OnEmpty = "raise") -> Floats2d:
        """Encode documents: the mean of each cell, (N, dim) float32.

        A document without tokens is refused, or encoded as zeros with ``on_empty="zero"``.
        """
        check_docs(docs, on_empty)
        if docs.width != self.width:
            raise InputError(
                f"docs have width {docs.width}; the encoder takes {self.width}",
                hint="make an encoder of this width, or encode the text as before",
            )
        self.check_size(len(docs))
        return self._encode(docs.flat, docs.offsets, document=True)

    def queries(self, queries: Ragged) -> Floats2d:
        """Encode queries: the sum of each cell, (Q, dim) float32."""
        check_queries(queries, self.width)
        self.check_size(len(queries))
        return self._encode(queries.flat, queries.offsets, document=False)

    def encode_documents(self, tokens: DocumentTokens, start: int, stop: int) -> Floats2d:
        """Encode documents ``start`` to ``stop`` of a store, unchecked: (stop - start, dim)."""
        offsets = np.asarray(tokens.offsets[start : stop + 1])
        rows = tokens.rows(int(offsets[0]), int(offsets[-1]))
        return self._encode(rows, offsets - offsets[0], document=True)

    def labels(self, tokens: Floats2d) -> Ids2d:
        """Return the label of each token's cell in each repetition, (T, R)."""
        out = np.empty((len(tokens), self.recipe.repetitions), np.int64)
        rows = np.ascontiguousarray(tokens, np.float32)
        _cells(fixed(rows), fixed(self.directions), self.recipe.k_sim, out)
        return np.asarray(np.argsort(self.bits)[out], np.int64)

    def distances(self, tokens: Floats2d) -> Ids2d:
        """Count the sign bits in which a token differs from each label's cell, (T, R, 2^k_sim)."""
        own = self.bits[self.labels(tokens)]
        return np.asarray(np.bitwise_count(own[:, :, None] ^ self.bits), np.int64)

    def _encode(self, rows: Floats2d, offsets: Ids, *, document: bool) -> Floats2d:
        rows, offsets = fixed(np.asarray(rows, np.float32)), fixed(offsets)
        directions, columns = fixed(self.directions), fixed(self.columns)
        signs, dense = fixed(self.signs), fixed(self.dense)
        place = fixed(np.argsort(self.bits))
        scale = self.recipe.repetitions**-0.5 if self.scale == "chamfer" else 1.0
        out = np.zeros((len(offsets) - 1, self.dim), np.float32)

        def part(first: int, last: int) -> None:
            _fold(
                rows,
                offsets[first : last + 1],
                directions,
                columns,
                signs,
                dense,
                place,
                document,
                document and self.fill,
                scale,
                out[first:last],
            )

        if len(out):
            spread(part, len(out), workers=self.recipe.threads)
        return out


@kernel(fastmath={"contract"})
def _cells(tokens: Floats2d, directions: Floats2d, k_sim: int, cells: Ids2d) -> None:
    """Write the sign bits of every token (T, D) in every repetition, as numbers, (T, R).

    Four tokens share each pass over the directions; the last four may overlap. Every inner
    product is summed in one order, so a bit depends on its token alone.
    """
    width, planes = directions.shape
    dots = np.empty((4, planes), np.float32)
    last = len(tokens) - 1
    for begin in range(0, len(tokens), 4):
        a, b = tokens[begin], tokens[min(begin + 1, last)]
        c, d = tokens[min(begin + 2, last)], tokens[min(begin + 3, last)]
        dots[:] = 0.0
        for i in range(width):
            for j in range(planes):
                weight = directions[i, j]
                dots[0, j] += a[i] * weight
                dots[1, j] += b[i] * weight
                dots[2, j] += c[i] * weight
                dots[3, j] += d[i] * weight
        for t in range(begin, min(begin + 4, last + 1)):
            for r in range(cells.shape[1]):
                cell = 0
                for j in range(r * k_sim, (r + 1) * k_sim):
                    cell = 2 * cell + (dots[t - begin, j] > 0)
                cells[t, r] = cell


@kernel()
def _project(
    row: Floats1d,
    columns: Ids,
    signs: Floats1d,
    dense: Floats2d,
    factor: float,
    block: Floats1d,
) -> None:
    """Add ``factor * psi(row)`` to ``block``; ``dense`` (D, d_proj) counts where it has rows."""
    if len(dense):
        for i in range(len(row)):
            weight = row[i] * factor
            for j in range(len(block)):
                block[j] += weight * dense[i, j]
    else:
        for i in range(len(row)):
            block[columns[i]] += row[i] * signs[i] * factor


@kernel()
def _nearest(empty: int, first: Ids) -> int:
    """Return the first token of least bit distance to the cell ``empty``.

    ``first`` (2^k_sim,) is each cell's first token, -1 where it has none.
    """
    least, found = 64, -1
    for cell in range(len(first)):
        if first[cell] >= 0:
            distance, differing = 0, cell ^ empty
            while differing:
                differing &= differing - 1
                distance += 1
            if distance < least or (distance == least and first[cell] < found):
                least, found = distance, first[cell]
    return found


@kernel()
def _fold(
    flat: Floats2d,
    offsets: Ids,
    directions: Floats2d,
    columns: Ids2d,
    signs: Floats2d,
    dense: npt.NDArray[np.float32],
    place: Ids,
    document: bool,
    fill: bool,
    factor: float,
    out: Floats2d,
) -> None:
    """Write the encoding of every item: ``place`` (2^k_sim,) is the label of each cell.

    Rows are summed cell by cell at full width and each cell is projected once, since psi is
    linear: 2^k_sim projections a repetition instead of one a token.
    """
    count, width = columns.shape
    cells = len(place)
    k_sim = directions.shape[1] // count
    block = out.shape[1] // (count * cells)
    sums = np.empty((cells, width), np.float32)
    sizes = np.empty(cells, np.int64)
    first = np.empty(cells, np.int64)
    nothing = np.zeros((0, block), np.float32)
    for item in range(len(offsets) - 1):
        rows = flat[offsets[item] : offsets[item + 1]]
        if len(rows) == 0:
            continue
        cell_of = np.empty((len(rows), count), np.int64)
        _cells(rows, directions, k_sim, cell_of)
        for r in range(count):
            sums[:] = 0.0
            sizes[:] = 0
            for t in range(len(rows)):
                cell = cell_of[t, r]
                if sizes[cell] == 0:
                    first[cell] = t
                sizes[cell] += 1
                for i in range(width):
                    sums[cell, i] += rows[t, i]
            for cell in range(cells):
                if sizes[cell] == 0:
                    first[cell] = -1
            matrix = dense[r] if len(dense) else nothing
            for cell in range(cells):
                begin = (r * cells + place[cell]) * block
                target = out[item, begin : begin + block]
                if sizes[cell]:
                    share = factor / sizes[cell] if document else factor
                    _project(sums[cell], columns[r], signs[r], matrix, share, target)
                elif fill:
                    token = rows[_nearest(cell, first)]
                    _project(token, columns[r], signs[r], matrix, factor, target)


class MUVERAIndex:
    """Documents as encodings for finding candidates and as token vectors for scoring them.

    ``metrics`` tells how the index was made: ``fill`` (1 or 0), the share of the exact top 10
    with and without it where it was tried, and ``token_cosine``, the mean cosine of two tokens.
    """

    def __init__(
        self, encoder: FDE, engine: Any, store: TokenStore, metrics: Mapping[str, float]
    ) -> None:
        self.encoder, self.engine, self.store = encoder, engine, store
        self.metrics = dict(metrics)

    @property
    def nbytes(self) -> int:
        """Bytes of the encodings and of the token vectors."""
        return int(self.engine.ntotal * self.engine.code_size) + self.store.nbytes

    def find(self, queries: Ragged, count: int) -> Ids2d:
        """Return the ``count`` best documents by their encodings alone, (Q, min(count, N))."""
        check_k(count)
        encoded = self.encoder.queries(queries)
        count = min(count, len(self.store))
        if len(encoded) == 0:
            return np.zeros((0, count), np.int64)
        found: Ids2d = self.engine.search(encoded, count)[1]
        return found

    def search(self, queries: Ragged, k: int = 10) -> tuple[Ids2d, Floats2d]:
        """Return document numbers and exact scores, (Q, min(k, N)), best first, ties by number.

        At least k candidates are scored, whatever ``candidates`` says.
        """
        check_k(k)
        count = max(k, self.encoder.recipe.candidates or max(10 * k, 100))
        candidates = np.sort(self.find(queries, count), axis=1)
        scores = chamfer_of(self.store, queries, candidates, self.encoder.recipe.threads)
        places, values = best(scores, k)
        return np.take_along_axis(candidates, places, axis=1), values

    def score(self, queries: Ragged, candidates: Ids2d | None = None) -> Floats2d:
        """Return exact scores of every document (Q, N), or of ``candidates`` (Q, C), -1: none."""
        check_queries(queries, self.store.width)
        if candidates is None:
            return chamfer(self.store, queries, self.encoder.recipe.threads)
        check_candidates(candidates, len(queries), len(self.store))
        return chamfer_of(self.store, queries, candidates, self.encoder.recipe.threads)

    def align(self, query: Floats2d, document: int) -> tuple[Ids, Floats1d]:
        """Return each query token's best token of one document (T,) and their product (T,)."""
        check_query(query, self.store.width, document, len(self.store))
        return align(self.store, query, document)

    def save(self, path: str | Path) -> None:
        """Write the directory ``path``: ``muvera.json``, ``fde.safetensors`` and ``tokens/``.

        Both files carry the hash of the encoder's configuration.
        """
        import faiss

        described = {
            "config": self.encoder.config,
            "config_hash": self.encoder.config_hash,
            "recipe": self.encoder.recipe.to_dict(),
            "fill": self.encoder.fill,
            "metrics": self.metrics,
        }
        with replacing(path) as partial:
            partial.mkdir()
            self.store.save(partial / "tokens")
            stamp = np.frombuffer(bytes.fromhex(self.encoder.config_hash), np.uint8)
            engine = faiss.serialize_index(self.engine)
            save_tensors(partial / "fde.safetensors", {"engine": engine, "config_hash": stamp})
            (partial / "muvera.json").write_text(json.dumps(described, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Open what :meth:`save` wrote; token vectors stay on disk, encodings are read.

        Raises :class:`~tokenspace.errors.FormatError` where a file is missing or damaged, or the
        encodings were made by another configuration than the one that queries would use.
        """
        import faiss

        path = Path(path)
        try:
            described = json.loads((path / "muvera.json").read_text(encoding="utf-8"))
            config = described["config"]
            encoder = FDE(
                int(config["width"]),
                MUVERA.from_dict(described["recipe"]),
                fill=bool(described["fill"]),
                cell_order=config["cell_order"],
                scale=config["scale"],
            )
            tensors = read_tensors(path / "fde.safetensors")
            stamps = {described["config_hash"], bytes(tensors["config_hash"]).hex()}
            if stamps != {encoder.config_hash}:
                raise ValueError("encodings and encoder have different configurations")
            engine = faiss.deserialize_index(np.array(tensors["engine"]))
            store = TokenStore.open(path / "tokens")
            if (engine.ntotal, engine.d) != (len(store), encoder.dim):
                raise ValueError("encodings and token vectors are of different documents")
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as fault:
            raise FormatError(
                f"{path}: not a whole MUVERA index ({fault})", hint="build the index again"
            ) from fault
        return cls(encoder, engine, store, described["metrics"])


def engine(encoder: FDE, tokens: DocumentTokens) -> Any:
    """Return an empty faiss index of inner products for the encodings of ``tokens``.

    With ``fde_codec="i8"`` it learns the range of every number from up to 64 runs of 64
    documents, evenly spread: the first documents of a sorted collection are not like the rest.
    """
    import faiss

    codec = encoder.recipe.fde_codec
    if codec == "f32":
        return faiss.IndexFlatIP(encoder.dim)
    kinds = {"f16": faiss.ScalarQuantizer.QT_fp16, "i8": faiss.ScalarQuantizer.QT_8bit}
    index = faiss.IndexScalarQuantizer(encoder.dim, kinds[codec], faiss.METRIC_INNER_PRODUCT)
    if codec == "i8":
        starts = np.unique(np.linspace(0, max(0, len(tokens) - _RUN), _RUNS).astype(np.int64))
        runs = ((start, min(start + _RUN, len(tokens))) for start in starts.tolist())
        index.train(np.concatenate([encoder.encode_documents(tokens, *run) for run in runs]))
    return index


def choose_fill(recipe: MUVERA, tokens: DocumentTokens) -> tuple[bool, dict[str, float]]:
    """Decide whether empty cells are filled, and return the figures that speak for it.

    ``auto`` fills unless the exact top 10 of pseudo-queries is found better without; ``on`` and
    ``off`` try nothing. The figures are those of :attr:`MUVERAIndex.metrics`.
    """
    figures = {"token_cosine": _token_cosine(tokens)}
    fill = recipe.fill == "on"
    if recipe.fill == "auto":
        on, off = _try_fill(recipe, tokens)
        figures |= {"overlap_fill_on": on, "overlap_fill_off": off}
        fill = on >= off
    return fill, {"fill": float(fill), **figures}


def _sample(tokens: DocumentTokens, seed: int) -> Ids:
    """Choose at most 500 documents by a hash of height and first token, not by their order."""
    key = seed.to_bytes(8, "little")

    def marks() -> Iterator[tuple[bytes, int]]:
        for document, (start, stop) in enumerate(pairwise(tokens.offsets)):
            if height := int(stop - start):
                content = tokens.rows(start, start + 1).tobytes() + height.to_bytes(8, "little")
                yield hashlib.blake2b(content, digest_size=8, key=key).digest(), document

    return np.array([document for _, document in heapq.nsmallest(_SAMPLE, marks())], np.int64)


def _try_fill(recipe: MUVERA, tokens: DocumentTokens) -> tuple[float, float]:
    """Return the share of the exact top 10 that encodings find with and without filling."""
    chosen = [tokens[i] for i in _sample(tokens, recipe.seed).tolist()]
    asked = []
    for i, rows in enumerate(chosen[:_PSEUDO_QUERIES]):
        count = min(_PSEUDO_TOKENS, max(1, len(rows) // 2))
        draw = stream(recipe.seed, "pseudo-query", i)
        asked.append(rows[np.sort(draw.choice(len(rows), count, replace=False))])
    if not asked:
        return 0.0, 0.0
    docs, queries = (Ragged.pack(part, width=tokens.width) for part in (chosen, asked))
    exact, _ = best(chamfer(TokenStore.pack(docs), queries, recipe.threads), 10)
    shares = []
    for fill in (True, False):
        trial = FDE(tokens.width, recipe, fill=fill)
        found, _ = best(trial.queries(queries) @ trial.documents(docs).T, 10)
        hits = [len(np.intersect1d(a, b)) for a, b in zip(exact, found, strict=True)]
        shares.append(float(np.mean(hits)) / exact.shape[1])
    return shares[0], shares[1]


def _token_cosine(tokens: DocumentTokens) -> float:
    """Return the mean cosine of two different tokens, over at most 20,000 evenly spread ones."""
    total = int(tokens.offsets[-1])
    picked = np.linspace(0, total, min(total, 20_000), endpoint=False, dtype=np.int64).tolist()
    empty = np.zeros((0, tokens.width), np.float32)
    rows = np.concatenate([empty, *(tokens.rows(i, i + 1) for i in picked)])
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    count = len(rows)
    if count < 2:
        return 1.0
    return float((np.square(rows.sum(axis=0)).sum() - count) / (count * (count - 1)))
