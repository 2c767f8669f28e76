"""Find candidates by the centroids of their tokens, score them from a few bits a number.

The idea
--------
Token vectors gather around a few thousand centroids. A token is stored as the number of its
centroid and, in a few bits a dimension, where it lies beside it. A query is first compared with
the centroids alone. Each of its tokens opens the lists of documents under its nearest centroids;
these documents are ordered by pretending that every token were its centroid, which needs only
look-ups, and at that first without the centroids that match no query token. The few that are left
are restored from their bits and scored token by token.

Equations
---------
With N documents of E tokens in all, and query tokens q_1 ... q_m::

    K        = 2^floor(log2(16 sqrt(E)))              centroids by k-means on a sample of
               1 + 16 sqrt(120 N) documents; 5 % of it, at most 50,000 tokens, are held out
    code(x)  = the nearest centroid                   r = x - centroid[code(x)]
    cutoff_i = quantile i / 2^nbits of all held-out r_d,      i = 1 ... 2^nbits - 1
    weight_i = quantile (i + 1/2) / 2^nbits of them,          i = 0 ... 2^nbits - 1
    x'       = centroid[code] + weight[bucket of r_d], scaled to length 1

    C        = Q centroids^T  (m, K)
    probe:     documents under the ``probes`` best centroids of any q_i
    stage 1:   Σ_i max(0, max_p C[i, code_p]) over the tokens whose centroid has
               C[i, .] >= threshold·|q_i| for some i; keep ``candidates``
    stage 2:   the same over all tokens; keep a quarter of them
    stage 3:   S(Q, P') = Σ_i max_p <q_i, x'_p>, exact for the restored rows

``probes`` and ``candidates`` are 1 and 256 for k <= 10, 2 and 1,024 for k <= 100, else 4 and
max(4 k, 4096), unless they are given.

Departures from the paper
-------------------------
The paper's threshold is a cosine that suits one encoder. Here it is set when the index is made, so
that about the best ``keep`` of the centroids (5 %) pass for a query: the mean, over 64 pseudo-
queries of 16 tokens of a document each, of that quantile of max_i C[i, .] / |q_i|. Where no
candidate has a token above it, stage 1 is left out; where fewer than k documents are under the
probed centroids, twice as many are probed. Centroid numbers take two bytes up to 65,536 centroids.
Token vectors that are not unit vectors are kept as they are: restored rows are then not scaled.
Quantiles come from a histogram. K-means sees at most 64 tokens a centroid and 2^28 numbers, and
documents in an order drawn from their content, so that the index does not depend on the order in
which they are given.

Cost
----
Building: K·D multiply-adds a token, and as many an iteration for the sample. Memory a token:
D·nbits/8 bytes and 2 for the centroid, beside up to 4 in the lists (D = 128, 2 bits: 34 instead of
512); the float32 rows are read twice, block by block, from a store on disk too. Searching: K·D
multiply-adds a query token, look-ups for every token of the candidates, and exact scores of a few
dozen restored documents.

When not to use it
------------------
Below some twenty thousand documents exact `maxsim` with int8 rows is simpler and fast enough. New
text of another kind is far from all centroids, which shows as worse scores: build again.

Reference
---------
K. Santhanam, O. Khattab, C. Potts, M. Zaharia: PLAID: An Efficient Engine for Late Interaction
Retrieval. CIKM 2022, arXiv:2205.09707, section 4. The codec: K. Santhanam et al.: ColBERTv2,
NAACL 2022, arXiv:2112.01488, section 3.3.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats1d, Floats2d, Ids, Ids2d, Ragged
from tokenspace.errors import ConfigError, FormatError, InputError
from tokenspace.io import read_tensors, replacing, save_tensors
from tokenspace.jit import spread
from tokenspace.recipe import Range, Recipe
from tokenspace.rng import derive, stream

from ._residual import (
    ResidualStore,
    approximate,
    buckets,
    flat,
    inverted,
    nearest,
    panels_of,
    reaching,
    top,
)
from ._shared import (
    align,
    batches,
    chamfer,
    chamfer_of,
    check_candidates,
    check_docs,
    check_k,
    check_queries,
    check_query,
    cut,
)
from .store import DocumentTokens, TokenStore, fixed

__all__ = ["PLAID", "PLAIDIndex"]

log = logging.getLogger(__name__)

_FORMAT = 1
_HELD_OUT = 50_000  # tokens that the buckets are made from, at most
_FEW = 1000  # at least, even if k-means has seen some
_A_CENTROID = 64  # tokens that k-means sees for each centroid
_NUMBERS = 1 << 28  # float32 numbers that k-means sees at most: 1 GiB
_PSEUDO_QUERIES, _PSEUDO_TOKENS = 64, 16
_UNIT = 0.01  # a row whose length is this near to 1 is a unit vector, rounded


@dataclass(frozen=True, kw_only=True)
class PLAID(Recipe):
    """Find candidates by the centroids of their tokens, score them from a few bits a number.

    The defaults are those of the paper (arXiv:2205.09707, section 4.5) with 2-bit residuals.
    """

    nbits: Annotated[int, Range(1, 8), "bits a number of a residual: 1, 2, 4 or 8"] = 2
    centroids: Annotated[int, Range(0, 2**24), "centroids (K); 0: 16 sqrt(tokens)"] = 0
    iterations: Annotated[int, Range(1, 1000), "iterations of k-means"] = 4
    probes: Annotated[int, Range(0, 2**24), "centroids opened a query token; 0: by k"] = 0
    candidates: Annotated[int, Range(0, 2**31), "documents kept by stage 1; 0: by k"] = 0
    keep: Annotated[float, Range(0.0, 1.0), "share of the centroids that stage 1 looks at"] = 0.05
    seed: Annotated[int, Range(0, 2**63 - 1), "seed of all random draws"] = 0
    threads: Annotated[int, Range(0, 1024), "threads of a search; 0: all cores"] = 0

    tiny: ClassVar[Mapping[str, Any]] = {"nbits": 8, "centroids": 32, "threads": 1}
    advice: ClassVar[Sequence[Mapping[str, Any]]] = (
        {"nbits": 1},
        {"nbits": 2},
        {"nbits": 2, "probes": 2, "candidates": 512},
        {"nbits": 4, "probes": 2, "candidates": 512},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if 8 % self.nbits:
            raise ConfigError(
                f"plaid: nbits={self.nbits} is not one of 1, 2, 4, 8",
                hint="choose nbits so that whole numbers fit a byte",
            )

    def __call__(self, docs: Ragged, /) -> PLAIDIndex:
        """Index N documents of width D.

        Raises :class:`~tokenspace.errors.InputError` for no documents, a document without tokens,
        and values that are not finite.
        """
        check_docs(docs, "raise")
        return self.index(TokenStore.pack(docs))

    def index(self, tokens: DocumentTokens, *, centroids: Floats2d | None = None) -> PLAIDIndex:
        """Index the documents of a store, unchecked, reading its rows block by block.

        ``centroids`` (K, D), those of another index say, are taken as they are.
        """
        order = self._order(tokens)
        formula = 1 << (isqrt(256 * int(tokens.offsets[-1])).bit_length() - 1)
        count = self.centroids or formula if centroids is None else len(centroids)
        sample = self._sample(tokens, order, count)
        held_out = min(_HELD_OUT, len(sample) // 20)
        train, rest = sample[: len(sample) - held_out], sample[-max(held_out, _FEW) :]
        if centroids is None and count > len(train):
            fewer = 1 << (len(train).bit_length() - 1)
            log.warning("%d centroids reduced to %d: %d tokens", count, fewer, len(train))
            count = fewer
        lengths = np.linalg.norm(sample, axis=1)
        unit = bool((np.abs(lengths - 1) < _UNIT).all())
        if centroids is None:
            centroids = self._centroids(train, count, unit=unit)
        codes = nearest(rest, flat(centroids))
        cutoffs, weights = buckets(rest, codes, centroids, self.nbits)
        store = ResidualStore.encode(tokens, centroids, cutoffs, weights, unit=unit)
        threshold = self._threshold([tokens[i] for i in order[:_PSEUDO_QUERIES]], centroids)
        figures = {
            "centroids": float(count),
            "unit": float(unit),
            "bytes_per_token": store.residuals.shape[1] + float(store.codes.itemsize),
        }
        lists = inverted(store.codes, store.offsets, count)
        alive = np.ones(len(store), np.bool_)
        return PLAIDIndex(self, store, lists, threshold, alive, figures)

    def _order(self, tokens: DocumentTokens) -> list[int]:
        """Return the sampled documents, in an order drawn from their content."""
        key, count = self.seed.to_bytes(8, "little"), len(tokens)
        marks = [
            hashlib.blake2b(tokens[i].tobytes(), digest_size=8, key=key).digest()
            for i in range(count)
        ]
        return sorted(range(count), key=marks.__getitem__)[: 1 + isqrt(256 * 120 * count)]

    def _sample(self, tokens: DocumentTokens, order: list[int], count: int) -> Floats2d:
        """Return the first token vectors of these documents, as many as k-means may see."""
        room = min(max(_A_CENTROID * count, 2 * _HELD_OUT), max(1, _NUMBERS // tokens.width))
        ends = np.cumsum(np.diff(np.asarray(tokens.offsets))[order])
        reach = int(np.searchsorted(ends, room)) + 1
        rows = np.concatenate([tokens[i] for i in order[:reach]])
        return np.ascontiguousarray(rows[:room])

    def _centroids(self, train: Floats2d, count: int, *, unit: bool) -> Floats2d:
        import faiss

        kmeans = faiss.Kmeans(
            train.shape[1],
            count,
            niter=self.iterations,
            seed=derive(self.seed, "centroids") % 2**31,
            min_points_per_centroid=1,
            max_points_per_centroid=len(train),
        )
        kmeans.train(train)
        centroids = np.array(kmeans.centroids, np.float32)
        if unit:
            lengths = np.linalg.norm(centroids, axis=1, keepdims=True)
            centroids /= np.where(lengths > 0, lengths, 1)
        return centroids

    def _threshold(self, queries: list[Floats2d], centroids: Floats2d) -> float:
        """Return the similarity that about ``keep`` of the centroids reach for a query."""
        reached = []
        for i, rows in enumerate(queries):
            draw = stream(self.seed, "pseudo-query", i).permutation(len(rows))[:_PSEUDO_TOKENS]
            lengths = np.linalg.norm(rows[draw], axis=1)
            best = (centroids @ (rows[draw] / np.maximum(lengths, 1e-30)[:, None]).T).max(axis=1)
            reached.append(np.quantile(best, 1 - self.keep))
        return float(np.mean(reached))


class PLAIDIndex:
    """Documents under centroids, with the residuals of their tokens.

    ``metrics`` tells how the index was made: ``centroids``, ``unit`` (1 where rows are unit
    vectors) and ``bytes_per_token``, code and residual. Document numbers never change;
    :meth:`delete` only stops them from being found.
    """

    def __init__(
        self,
        recipe: PLAID,
        store: ResidualStore,
        lists: tuple[Ids, npt.NDArray[np.uint32]],
        threshold: float,
        alive: npt.NDArray[np.bool_],
        metrics: Mapping[str, float],
    ) -> None:
        self.recipe, self.store, self.threshold = recipe, store, threshold
        self.starts, self.documents = lists
        self.alive = alive
        self.metrics = dict(metrics)

    @property
    def nbytes(self) -> int:
        """Bytes of codes, residuals, centroids, tables, offsets, lists and deletion marks."""
        lists = self.starts.nbytes + self.documents.nbytes
        return self.store.nbytes + lists + self.alive.nbytes

    @property
    def config_hash(self) -> str:
        """64 bits that tell the file of one configuration from that of another."""
        config = {"format": _FORMAT, "width": self.store.width, **self.recipe.to_dict()}
        text = json.dumps(config, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def search(self, queries: Ragged, k: int = 10) -> tuple[Ids2d, Floats2d]:
        """Return document numbers and scores, (Q, min(k, N)), best first, ties by number.

        N counts the documents that were not deleted. Scores are MaxSim with the restored rows.
        """
        check_k(k)
        check_queries(queries, self.store.width)
        k = min(k, int(self.alive.sum()))
        numbers = np.empty((len(queries), k), np.int64)
        scores = np.empty((len(queries), k), np.float32)
        for batch in batches(queries.heights):
            place = slice(batch.start, batch.stop)
            self._answer(cut(queries, batch), numbers[place], scores[place])
        return numbers, scores

    def _answer(self, queries: Ragged, numbers: Ids2d, scores: Floats2d) -> None:
        """Write the answers (Q, k) of some queries, after one product of all with the centroids."""
        similar, k = queries.flat @ self.store.centroids.T, numbers.shape[1]

        def part(first: int, last: int) -> None:
            for i in range(first, last):
                query = cut(queries, range(i, i + 1))
                rows = similar[queries.offsets[i] : queries.offsets[i + 1]]
                chosen = self._find(query.flat, rows, k)
                values = self.store.scorer(query)(chosen)[:, 0]
                order = np.argsort(-values, kind="stable")[:k]
                numbers[i], scores[i] = chosen[order], values[order]

        spread(part, len(queries), workers=self.recipe.threads)

    def find(self, query: Floats2d, k: int) -> Ids:
        """Return the sorted numbers of the documents that stage 3 scores for ``query`` (m, D).

        At least min(k, N), at most the larger of k and a quarter of ``candidates``.
        """
        return self._find(query, query @ self.store.centroids.T, k)

    def _find(self, query: Floats2d, similar: Floats2d, k: int) -> Ids:
        """Run stages 1 and 2; ``similar`` (m, K) are the products with the centroids."""
        probes, candidates = (1, 256) if k <= 10 else (2, 1024) if k <= 100 else (4, 4096)
        probes = self.recipe.probes or probes
        candidates = max(k, self.recipe.candidates or max(candidates, 4 * k if k > 100 else 0))
        found = self._probe(similar, probes, k)
        kept = np.empty(similar.shape[1], np.bool_)
        lengths = np.linalg.norm(query, axis=1)
        reaching(fixed(similar), fixed(lengths * np.float32(self.threshold)), kept)
        panels = panels_of(similar)
        if len(found) > candidates:
            scores = self._approximate(panels, kept, found, floor=True)
            if (scores > 0).any():
                found = _first(found, scores, candidates)
        rest = max(k, candidates // 4)
        if len(found) > rest:
            scores = self._approximate(panels, np.ones_like(kept), found, floor=False)
            found = _first(found, scores, rest)
        return found

    def _probe(self, similar: Floats2d, probes: int, k: int) -> Ids:
        """Return the living documents, at least k, under the best centroids of any query token."""
        count = similar.shape[1]
        while True:
            probes = min(probes, count)
            opened = np.empty((len(similar), probes), np.int64)
            top(fixed(similar), opened)
            lists = [self.documents[self.starts[c] : self.starts[c + 1]] for c in np.unique(opened)]
            found = np.unique(np.concatenate(lists)).astype(np.int64)
            found = found[self.alive[found]]
            if len(found) >= k or probes == count:
                return found
            probes *= 2

    def _approximate(
        self,
        panels: npt.NDArray[np.float32],
        kept: npt.NDArray[np.bool_],
        documents: Ids,
        *,
        floor: bool,
    ) -> Floats1d:
        scores = np.empty(len(documents), np.float32)
        codes, offsets = fixed(self.store.codes), fixed(self.store.offsets)
        approximate(fixed(panels), fixed(kept), codes, offsets, fixed(documents), floor, scores)
        return scores

    def score(self, queries: Ragged, candidates: Ids2d | None = None) -> Floats2d:
        """Return scores by the restored rows, of every document (Q, N) or of ``candidates`` (Q, C).

        -1 in ``candidates`` stands for none and scores -inf. Deleted documents have scores too.
        """
        check_queries(queries, self.store.width)
        if candidates is None:
            return chamfer(self.store, queries, self.recipe.threads)
        check_candidates(candidates, len(queries), len(self.store))
        return chamfer_of(self.store, queries, candidates, self.recipe.threads)

    def align(self, query: Floats2d, document: int) -> tuple[Ids, Floats1d]:
        """Return each query token's best token of one document (T,) and their product (T,)."""
        check_query(query, self.store.width, document, len(self.store))
        return align(self.store, query, document)

    def delete(self, documents: npt.ArrayLike) -> None:
        """Find these document numbers no more; all other numbers stay what they are.

        Raises :class:`InputError` for a number that is unknown or was deleted before, and then
        deletes none.
        """
        gone = np.unique(np.asarray(documents, np.int64).reshape(-1))
        for number in gone.tolist():
            if not 0 <= number < len(self.store) or not self.alive[number]:
                raise InputError(
                    f"document {number} is not in the index",
                    hint=f"numbers are those of the documents that it was built from, "
                    f"0 to {len(self.store) - 1}, less the deleted ones",
                )
        self.alive[gone] = False

    def save(self, path: str | Path) -> None:
        """Write the directory ``path``: ``plaid.json`` and ``plaid.safetensors``."""
        store = self.store
        described = {
            "config_hash": self.config_hash,
            "recipe": self.recipe.to_dict(),
            "threshold": self.threshold,
            "unit": store.unit,
            "metrics": self.metrics,
        }
        tensors: dict[str, npt.NDArray[Any]] = {
            "offsets": store.offsets,
            "starts": self.starts,
            "centroids": store.centroids,
            "cutoffs": store.cutoffs,
            "weights": store.weights,
            "documents": self.documents.view(np.int32),
            "codes": store.codes.view(np.int16 if store.codes.itemsize == 2 else np.int32),
            "residuals": store.residuals,
            "alive": self.alive,
            "config_hash": np.frombuffer(bytes.fromhex(self.config_hash), np.uint8),
        }
        with replacing(path) as partial:
            partial.mkdir()
            save_tensors(partial / "plaid.safetensors", tensors)
            (partial / "plaid.json").write_text(json.dumps(described, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Map what :meth:`save` wrote: codes, residuals and lists stay on disk until they are read.

        Raises :class:`~tokenspace.errors.FormatError` where a file is missing or damaged, or the
        two files are of different configurations.
        """
        path = Path(path)
        try:
            described = json.loads((path / "plaid.json").read_text(encoding="utf-8"))
            held: dict[str, Any] = read_tensors(path / "plaid.safetensors")
            codes = held["codes"]
            store = ResidualStore(
                codes.view(np.uint16 if codes.itemsize == 2 else np.uint32),
                held["residuals"],
                np.array(held["offsets"]),
                np.array(held["centroids"]),
                np.array(held["cutoffs"]),
                np.array(held["weights"]),
                bool(described["unit"]),
            )
            recipe = PLAID.from_dict(described["recipe"])
            lists = np.array(held["starts"]), held["documents"].view(np.uint32)
            alive = np.array(held["alive"], np.bool_)
            threshold = float(described["threshold"])
            index = cls(recipe, store, lists, threshold, alive, described["metrics"])
            index._check(bytes(held["config_hash"]).hex(), described["config_hash"])
        except (OSError, ValueError, KeyError, TypeError, IndexError) as fault:
            raise FormatError(
                f"{path}: not a whole PLAID index ({fault})", hint="build the index again"
            ) from fault
        return index

    def _check(self, *stamps: str) -> None:
        """Raise :class:`ValueError` unless the parts are of one configuration and one size."""
        if set(stamps) != {self.config_hash}:
            raise ValueError("the two files have different configurations")
        store = self.store
        rows, share = int(store.offsets[-1]), 8 // self.recipe.nbits
        sound = (
            store.nbits == self.recipe.nbits
            and store.codes.shape == (rows,)
            and store.residuals.shape == (rows, -(-store.width // share))
            and self.alive.shape == (len(store),)
            and self.starts.shape == (len(store.centroids) + 1,)
            and self.documents.shape == (int(self.starts[-1]),)
        )
        if not sound:
            raise ValueError("its parts are of different documents")


def _first(documents: Ids, scores: Floats1d, count: int) -> Ids:
    """Return the ``count`` best of sorted ``documents``, sorted; ties go to the lower number."""
    return np.sort(documents[np.argsort(-scores, kind="stable")[:count]])
