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
    d_final:    F'[b(i)] += s(i)·F[i] with a random place b(i) and sign s(i) for every number of F
    <F_Q, F_P> / R  estimates  S(Q, P) = Σ_i max_j <q_i, p_j>

Both sides carry a factor 1/sqrt(R), so the inner product itself is the estimate. It is biased
low, since a mean is never better than the best. A straight line S/|Q| ≈ slope·<F_Q, F_P>/|Q| +
offset is fitted to the pairs of a sample (``metrics``), and `estimate` returns its values, which
thresholds can be put on whatever R and D are.

psi gives each of the D numbers one random sign and one random place out of d_proj. d_proj = 0, or
d_proj = D, means no projection. The paper's best recipe narrows only once: ``repetitions=40,
k_sim=6, d_proj=0, d_final=10240``; the 327,680 numbers in between are never held.

Filling helps vectors whose cosines are mostly positive, as trained late-interaction encoders
give, and harms near-orthogonal ones, as static tables give. ``fill="auto"`` tries both on a
sample of at most 500 documents with 50 pseudo-queries, some tokens of a document each, and keeps
what shares more of the exact top 10; the index reports both figures in ``metrics``.

``fde_codec="pq8"`` is the paper's PQ-256-8: every 8 consecutive numbers of an encoding become one
byte, the nearest of 256 centroids that k-means learned for them; the query stays as it is.

`carve` clusters a query before the exact stage (``search(..., tau=0.7)``): the first token takes
all tokens of cosine >= tau with it, their sum stands for them, and so on with what is left. The
score Σ_g max_j <Σ_{i in g} q_i, p_j> is at most S.

Departures from the paper
-------------------------
Always filling is the paper's way; choosing by a sample is ours. Both projections are count
sketches as in the authors' published code; the paper's dense ±1 matrices, and the order of cells
in that code, are arguments of ``tokenspace.retrieve.fde.FDE``. Every repetition draws from
a stream of its own, so neighbouring seeds share nothing. The 1/sqrt(R) factors and the fitted
line are ours. The paper searches with a graph, here all encodings are scanned. Centroids are
learned from at most 100,000 encodings, as in the paper, and at most 512 MB of them. Sums do not
depend on the order of the documents; ties go by document number.

Cost
----
Encoding: T·D·R·k_sim multiply-adds for the cells of a document's T tokens, T·D·R additions and
R·2^k_sim·D for projecting the cells; d_final adds R·2^k_sim·d_proj. Memory: R·2^k_sim·d_proj (or
d_final) numbers a document, 10,240 by default: 20 kB as ``f16``, 10 kB as ``i8``, 1.3 kB as
``pq8``, beside the token vectors. Learning ``pq8`` from n encodings costs 6,400·n multiply-adds a
number: 20 CPU seconds for 1,400 encodings of 10,240. Searching: one inner product with every
FDE, then exact scores of the candidates.

When not to use it
------------------
Below some twenty thousand documents exact `maxsim` is fast enough and needs no FDE. With random
or nearly isotropic token vectors a plain mean finds candidates as well, and so it does where the
vectors were trained for their mean: with MiniLM on Cranfield the exact first is among the first
25 by means for 99.6 % of the queries. Carving gains nothing on queries of up to 16 tokens, which
exact scoring takes in one stride anyway, and costs ranking where equal neighbours are not
synonyms (static vectors on Cranfield: nDCG@10 0.359 falls to 0.343).

Reference
---------
L. Dhulipala, M. Hadian, R. Jayaram, J. Lee, V. Mirrokni: MUVERA: Multi-Vector Retrieval via
Fixed Dimensional Encodings. NeurIPS 2024, arXiv:2405.19504, sections 2 and 3.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np

from tokenspace.arrays import Floats1d, Floats2d, Ids, Ids2d, Ragged
from tokenspace.errors import ConfigError, FormatError, InputError
from tokenspace.io import read_tensors, replacing, save_tensors
from tokenspace.progress import track
from tokenspace.recipe import Range, Recipe
from tokenspace.report import readable_bytes
from tokenspace.rng import derive, stream

from ._shared import (
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
from .fde import FDE
from .store import Codec, DocumentTokens, TokenStore

__all__ = ["FDE", "MUVERA", "MUVERAIndex", "carve", "choose_fill", "engine"]

FDECodec = Literal["f32", "f16", "i8", "pq4", "pq8", "pq16"]
log = logging.getLogger(__name__)
_SCRATCH = 64 << 20  # bytes of float32 encodings that are made at a time
_BYTES = {"f32": 4, "f16": 2, "i8": 1, "pq4": 1 / 4, "pq8": 1 / 8, "pq16": 1 / 16}
_SAMPLE, _PSEUDO_QUERIES, _PSEUDO_TOKENS = 500, 50, 12
_RUN = 64  # neighbouring documents that int8 and centroids learn from at a time
_RANGES, _CENTROIDS = 4096, 100_000  # encodings that int8 learns from, and centroids at most
_LEARNED = 512 << 20  # bytes of float32 encodings that centroids learn from at most
_MANY = 100_000  # documents beyond which two bytes a number are a lot


@dataclass(frozen=True, kw_only=True)
class MUVERA(Recipe):
    """Find candidates through one fixed-size vector a document, then score them exactly.

    The defaults are the paper's working size of 10,240 numbers (arXiv:2405.19504, section 3).
    Its smaller ones are (repetitions, k_sim, d_proj) = (20, 3, 8), (20, 4, 8) and (20, 5, 8).
    """

    repetitions: Annotated[int, Range(1, 4096), "how often space is cut anew (R)"] = 20
    k_sim: Annotated[int, Range(0, 16), "hyperplanes a repetition: 2^k_sim cells"] = 5
    d_proj: Annotated[int, Range(0, 65536), "numbers a cell; 0: the vectors' own width"] = 16
    d_final: Annotated[int, Range(0, 2**20), "numbers of the whole; 0: all cells' numbers"] = 0
    fill: Annotated[Literal["auto", "on", "off"], "empty document cells take a near token"] = "auto"
    candidates: Annotated[int, Range(0, 2**31), "scored exactly; 0: max(10 k, 100)"] = 0
    fde_codec: Annotated[
        FDECodec, "how encodings are held; pq4, pq8, pq16: a byte for so many numbers"
    ] = "f16"
    codec: Annotated[Codec, "how token vectors are held: float32, float16 or int8"] = "f32"
    seed: Annotated[int, Range(0, 2**63 - 1), "seed of all random draws"] = 0
    threads: Annotated[int, Range(0, 1024), "threads; 0: all cores"] = 0

    tiny: ClassVar[Mapping[str, Any]] = {"repetitions": 4, "k_sim": 2, "d_proj": 4, "threads": 1}
    advice: ClassVar[Sequence[Mapping[str, Any]]] = (
        {"k_sim": 3, "d_proj": 8, "fde_codec": "i8", "codec": "i8"},
        {"k_sim": 4, "d_proj": 8, "fde_codec": "i8", "codec": "i8"},
        {"k_sim": 5, "d_proj": 8, "fde_codec": "i8", "codec": "i8"},
        {"k_sim": 5, "d_proj": 16, "fde_codec": "f16", "codec": "i8"},
        {"k_sim": 5, "d_proj": 16, "fde_codec": "i8", "codec": "i8"},
        {"k_sim": 5, "d_proj": 16, "fde_codec": "pq8", "codec": "i8"},
        {"k_sim": 5, "d_proj": 16, "fde_codec": "pq16", "codec": "i8"},
    )

    def __call__(self, docs: Ragged, /) -> MUVERAIndex:
        """Index N documents of width D.

        Raises :class:`~tokenspace.errors.InputError` for no documents, a document without tokens,
        values that are not finite, encodings beyond 8 GiB, and fewer than 256 documents where
        centroids are learned; :class:`~tokenspace.errors.ConfigError` for ``d_proj`` above D,
        and lengths that ``d_final`` or ``fde_codec`` do not fit.
        """
        check_docs(docs, "raise")
        self._check(FDE(docs.width, self), len(docs))
        return self.index(TokenStore.pack(docs, self.codec))

    def index(self, store: TokenStore) -> MUVERAIndex:
        """Index a token store, in memory or mapped from disk, without copying it."""
        encoder = FDE(store.width, self)
        self._check(encoder, len(store))
        size = len(store) * encoder.dim * _BYTES[self.fde_codec]
        log.info(
            "muvera: %d encodings of %d numbers as %s take %s, beside %s of token vectors",
            *(len(store), encoder.dim, self.fde_codec),
            *(readable_bytes(size), readable_bytes(store.nbytes)),
        )
        if len(store) > _MANY and self.fde_codec in ("f32", "f16"):
            log.warning("muvera: fde_codec='i8' takes half as much, 'pq8' a sixteenth")
        fill, metrics = choose_fill(self, store)
        encoder = FDE(store.width, self, fill=fill)
        encodings = engine(encoder, store)
        step = max(1, _SCRATCH // (4 * encoder.dim))
        for start in track(range(0, len(store), step), "encode"):
            encodings.add(encoder.encode_documents(store, start, min(start + step, len(store))))
        return MUVERAIndex(encoder, encodings, store, metrics)

    def _check(self, encoder: FDE, documents: int) -> None:
        """Refuse what is too large, or cannot be held as ``fde_codec`` says."""
        encoder.check_size(documents, _BYTES[self.fde_codec])
        if self.fde_codec.startswith("pq"):
            group = int(self.fde_codec[2:])
            if encoder.dim % group:
                raise ConfigError(
                    f"muvera: fde_codec={self.fde_codec!r} does not divide {encoder.dim} numbers",
                    hint=f"choose d_proj or d_final as a multiple of {group}",
                )
            if documents < 256:
                raise InputError(
                    f"docs: fde_codec={self.fde_codec!r} learns 256 centroids and there are "
                    f"{documents} documents",
                    hint="hold them with fde_codec='i8'",
                )


class MUVERAIndex:
    """Documents as encodings for finding candidates and as token vectors for scoring them.

    ``metrics`` tells how the index was made: ``fill`` (1 or 0), the share of the exact top 10
    with and without it where it was tried, ``token_cosine``, the mean cosine of two tokens, and
    the line of :meth:`estimate` (``slope``, ``offset``) with its ``correlation`` on the sample.
    """

    def __init__(
        self, encoder: FDE, engine: Any, store: TokenStore, metrics: Mapping[str, float]
    ) -> None:
        self.encoder, self.engine, self.store = encoder, engine, store
        self.metrics = dict(metrics)

    @property
    def nbytes(self) -> int:
        """Bytes of the encodings, with the centroids of ``pq``, and of the token vectors."""
        size = int(self.engine.ntotal * self.engine.code_size) + self.store.nbytes
        return size + (4 * self.engine.pq.centroids.size() if hasattr(self.engine, "pq") else 0)

    def find(self, queries: Ragged, count: int) -> Ids2d:
        """Return the ``count`` best documents by their encodings alone, (Q, min(count, N))."""
        return self._scan(queries, count)[0]

    def estimate(self, queries: Ragged, k: int = 10) -> tuple[Ids2d, Floats2d]:
        """Return the best documents by their encodings alone, and estimates of their scores.

        (Q, min(k, N)) each, best first. The fitted line takes the bias out of the inner products
        on the whole; each estimate keeps an error of its own.
        """
        found, scores = self._scan(queries, k)
        lift = self.metrics["offset"] * queries.heights[:, None]
        return found, np.asarray(self.metrics["slope"] * scores + lift, np.float32)

    def _scan(self, queries: Ragged, count: int) -> tuple[Ids2d, Floats2d]:
        """Return the best documents by their encodings and the inner products."""
        check_k(count)
        encoded = self.encoder.queries(queries)
        count = min(count, len(self.store))
        if len(encoded) == 0:
            return np.zeros((0, count), np.int64), np.zeros((0, count), np.float32)
        scores, found = self.engine.search(encoded, count)
        return found, scores

    def search(
        self, queries: Ragged, k: int = 10, *, tau: float | None = None
    ) -> tuple[Ids2d, Floats2d]:
        """Return document numbers and exact scores, (Q, min(k, N)), best first, ties by number.

        At least k candidates are scored, whatever ``candidates`` says. With ``tau`` they are
        scored by the carved queries (:func:`carve`): quicker, and at most the exact scores.
        """
        check_k(k)
        count = max(k, self.encoder.recipe.candidates or max(10 * k, 100))
        asked = queries if tau is None else carve(queries, tau)
        candidates = np.sort(self.find(queries, count), axis=1)
        scores = chamfer_of(self.store, asked, candidates, self.encoder.recipe.threads)
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
            recipe = MUVERA.from_dict(described["recipe"])
            encoder = FDE.from_config(described["config"], recipe)
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


def carve(queries: Ragged, tau: float = 0.7) -> Ragged:
    """Cluster the tokens of every query: a group becomes one row, the sum of its rows.

    The first token that is left takes all that have an inner product of at least ``tau`` with it
    (section 3.2 of the paper, called ball carving). Above the largest product nothing changes.
    """
    queries.check("queries")
    carved = []
    for rows in queries:
        near, left, sums = rows @ rows.T >= tau, np.ones(len(rows), bool), []
        while left.any():
            first = int(left.argmax())
            group = near[first] & left
            group[first] = True
            left &= ~group
            sums.append(rows[group].sum(axis=0))
        carved.append(np.reshape(sums, (-1, queries.width)))
    return Ragged.pack(carved, queries.width)


def engine(encoder: FDE, tokens: DocumentTokens) -> Any:
    """Return an empty faiss index of inner products for the encodings of ``tokens``.

    With ``fde_codec="i8"`` it learns the range of every number, with ``"pq8"`` and its like the
    centroids, from runs of 64 documents that are evenly spread: the first documents of a sorted
    collection are not like the rest.
    """
    import faiss

    codec, dim = encoder.recipe.fde_codec, encoder.dim
    if codec == "f32":
        return faiss.IndexFlatIP(dim)
    if codec.startswith("pq"):
        index: Any = faiss.IndexPQ(dim, dim // int(codec[2:]), 8, faiss.METRIC_INNER_PRODUCT)
        rows = min(_CENTROIDS, max(256, _LEARNED // (4 * dim)), len(tokens))
        if rows < 39 * 256:  # as faiss warns, once for every group of numbers
            log.warning("muvera: 256 centroids learn from %d encodings; 9,984 are better", rows)
        settings = index.pq.cp
        settings.min_points_per_centroid, settings.max_points_per_centroid = 1, _CENTROIDS
        settings.seed = derive(encoder.recipe.seed, "centroids") % 2**31
        index.train(_spread(encoder, tokens, rows))
        return index
    kinds = {"f16": faiss.ScalarQuantizer.QT_fp16, "i8": faiss.ScalarQuantizer.QT_8bit}
    index = faiss.IndexScalarQuantizer(dim, kinds[codec], faiss.METRIC_INNER_PRODUCT)
    if codec == "i8":
        index.train(_spread(encoder, tokens, min(_RANGES, len(tokens))))
    return index


def _spread(encoder: FDE, tokens: DocumentTokens, rows: int) -> Floats2d:
    """Return up to ``rows`` encodings of documents in evenly spread runs, (n, dim)."""
    if rows == len(tokens):
        runs = [(start, min(start + _RUN, rows)) for start in range(0, rows, _RUN)]
    else:
        starts = np.linspace(0, len(tokens) - _RUN, rows // _RUN).astype(np.int64).tolist()
        runs = [(start, start + _RUN) for start in starts]
    out = np.empty((sum(stop - start for start, stop in runs), encoder.dim), np.float32)
    done = 0
    for start, stop in runs:
        out[done : done + stop - start] = encoder.encode_documents(tokens, start, stop)
        done += stop - start
    return out


def choose_fill(recipe: MUVERA, tokens: DocumentTokens) -> tuple[bool, dict[str, float]]:
    """Decide whether empty cells are filled, and return the figures of the sample.

    ``auto`` fills unless the exact top 10 of pseudo-queries is found better without; ``on`` and
    ``off`` try only that. The figures are those of :attr:`MUVERAIndex.metrics`.
    """
    sample = _Sample.draw(recipe, tokens)
    ways = {"auto": (True, False), "on": (True,), "off": (False,)}[recipe.fill]
    estimates = {fill: sample.estimates(recipe, fill) for fill in ways}
    overlaps = {fill: sample.overlap(found) for fill, found in estimates.items()}
    fill = max(ways, key=lambda way: overlaps[way])  # the first of equals: filled
    names = {True: "overlap_fill_on", False: "overlap_fill_off"}
    return fill, {
        "fill": float(fill),
        "token_cosine": _token_cosine(tokens),
        **{names[way]: overlap for way, overlap in overlaps.items()},
        **sample.line(estimates[fill]),
    }


@dataclass(frozen=True)
class _Sample:
    """Documents, pseudo-queries made of some of them, and the exact scores (Q, N) of all pairs."""

    docs: Ragged
    queries: Ragged
    exact: Floats2d

    @classmethod
    def draw(cls, recipe: MUVERA, tokens: DocumentTokens) -> Self:
        chosen = [tokens[i] for i in _chosen(tokens, recipe.seed).tolist()]
        asked = []
        for i, rows in enumerate(chosen[:_PSEUDO_QUERIES]):
            count = min(_PSEUDO_TOKENS, max(1, len(rows) // 2))
            draw = stream(recipe.seed, "pseudo-query", i)
            asked.append(rows[np.sort(draw.choice(len(rows), count, replace=False))])
        docs, queries = (Ragged.pack(part, width=tokens.width) for part in (chosen, asked))
        return cls(docs, queries, chamfer(TokenStore.pack(docs), queries, recipe.threads))

    def estimates(self, recipe: MUVERA, fill: bool) -> Floats2d:
        """Return the inner products of all pairs, (Q, N)."""
        trial = FDE(self.docs.width, recipe, fill=fill)
        if not len(self.docs):
            return self.exact
        return np.asarray(trial.queries(self.queries) @ trial.documents(self.docs).T)

    def overlap(self, estimates: Floats2d) -> float:
        """Return the share of the exact top 10 in the top 10 of ``estimates``."""
        if not len(self.queries):
            return 0.0
        truth, found = best(self.exact, 10)[0], best(estimates, 10)[0]
        hits = [len(np.intersect1d(a, b)) for a, b in zip(truth, found, strict=True)]
        return float(np.mean(hits) / truth.shape[1])

    def line(self, estimates: Floats2d) -> dict[str, float]:
        """Fit S/|Q| = slope·estimate/|Q| + offset by least squares."""
        heights = self.queries.heights[:, None]
        x, y = ((side / heights).ravel().astype(np.float64) for side in (estimates, self.exact))
        if not len(x):
            return {"slope": 1.0, "offset": 0.0, "correlation": 0.0}
        dx, dy = x - x.mean(), y - y.mean()
        spread, both = float(dx @ dx), float(dx @ dy)
        slope = both / spread if spread > 1e-12 * len(x) else 1.0
        scale = float(np.sqrt(spread * (dy @ dy)))
        return {
            "slope": slope,
            "offset": float(y.mean() - slope * x.mean()),
            "correlation": both / scale if scale > 0 else 0.0,
        }


def _chosen(tokens: DocumentTokens, seed: int) -> Ids:
    """Choose at most 500 documents by a hash of height and first token, not by their order."""
    key = seed.to_bytes(8, "little")

    def marks() -> Iterator[tuple[bytes, int]]:
        for document, (start, stop) in enumerate(pairwise(tokens.offsets)):
            if height := int(stop - start):
                content = tokens.rows(start, start + 1).tobytes() + height.to_bytes(8, "little")
                yield hashlib.blake2b(content, digest_size=8, key=key).digest(), document

    return np.array([document for _, document in heapq.nsmallest(_SAMPLE, marks())], np.int64)


def _token_cosine(tokens: DocumentTokens) -> float:
    """Return the mean cosine of two different tokens, over at most 20,000 evenly spread ones."""
    total = int(tokens.offsets[-1])
    picked = np.linspace(0, total, min(total, 20_000), endpoint=False, dtype=np.int64).tolist()
    empty = np.zeros((0, tokens.width), np.float32)
    rows = np.concatenate([empty, *(tokens.rows(i, i + 1) for i in picked)])
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if len(norms) and float(np.abs(norms - 1).max()) > 0.02:
        log.warning("muvera: token vectors are not of length 1, which its estimates assume")
    rows = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    count = len(rows)
    if count < 2:
        return 1.0
    return float((np.square(rows.sum(axis=0)).sum() - count) / (count * (count - 1)))
