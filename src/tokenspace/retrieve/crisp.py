"""Train token vectors to be clustered, and store a few centroids a document.

The idea
--------
A late-interaction index is large because every token is a vector. Clustering the vectors of a
finished encoder keeps fewer, but nothing ever told the encoder that its vectors would be merged.
Here it is told: queries and documents are clustered inside the forward pass, the score is that of
the centroids, and the encoder learns to put into few groups what a query will ask for. What is
trained is a small head over the token vectors that are given, or a whole encoder (``tokenspace
retrieve finetune``). ``variant`` names what is kept, as in the paper: ``C8x32`` clusters a query
into 8 and a document into 32 centroids, ``C25%`` keeps a quarter of either, ``Tail4x8`` the last
tokens, ``K2`` every second one; ``Even4x8`` evenly spaced ones and ``full`` all, to compare.

Equations
---------
Of an item's tokens X (T, D), given, and the head h, one or more transformer layers without
positions that begin as the identity::

    x_i = h(X)_i / ‖h(X)_i‖                                  i = 1 ... T
    A_1 ... A_k = k-means of the detached x_i                k-means++, 10 rounds, float32
    c_j = m_j / ‖m_j‖,  m_j = (1/|A_j|) Σ_{i in A_j} x_i     with gradient

    s(q, d) = (1/|C_q|) Σ_{u in C_q} max_{v in C_d} <u, v>
    loss    = mean_i -ln softmax_j(s(q_i, d_j) / tau)_i

over all documents j of the batch, hard negatives (``train_negatives``) among them. The first
``unpruned`` of the steps keep every token. Nothing flows through the assignment, so a token gets
1/|A_j| of its centroid's gradient. An item with no more tokens than clusters keeps them all.

Stored are the centroids of 20 rounds of k-means, whose draws come from a hash of the item's
content; equal centroids of a document once. A search clusters the query in the same way and sums
over its centroids, exactly (:mod:`tokenspace.retrieve.maxsim`).

Departures from the paper
-------------------------
- The paper trains a language model of two billion parameters; the head learns in a minute on one
  core, over vectors that stay as they are. ``tokenspace retrieve finetune`` trains the encoder.
- The paper's schedule is not known: here AdamW, a warm-up over a tenth of the steps, then a linear
  fall, and a fifth of the steps without clustering.
- Centroids are scaled to length 1, and the score is divided by the query's centroids in training.
  The loss thus asks where a centroid points, not how near its tokens are, and training need not
  bring them nearer.
- Special tokens are left out, as they are everywhere in this library.
- Without pairs, spans of 5 to 11 tokens are cut from the documents themselves.

Cost
----
A step takes 24 D² + 4 T D flops a token and layer, forward and backward, and k-means T k D a round,
which is little beside it: 500 steps of 48 pairs of 64 tokens at D = 64 take a minute of one core.
Encoding passes the items one by one, some thousands a second. An index holds k vectors a document
and searches T / k times faster than all tokens. Memory in training: the similarities of a batch,
(B k)² floats, and (B T)² while nothing is pruned.

When not to use it
------------------
Where clustering a finished encoder's vectors (``tokenspace retrieve pool``) is enough: it needs no
training and keeps half of the tokens at little loss. At 4 vectors a query and 8 a document, with a
head of one layer over static vectors, what training adds to k-means of a head trained with every
token is little, and nothing that we could show in the claim below, which fails: .385 against .391
in nDCG@10, and the seeds differ by more. The training does what its equations say (its gradient
equals finite differences), so we know of no fault to mend. Both are far ahead of evenly spaced
(.326) and last tokens (.273), and behind all tokens (.478).
Without pairs that resemble what users ask.
Where the last point of quality counts and memory does not (`maxsim`). A model trained for one size
gains nothing at another: train for the size that is stored.

Reference
---------
J. Veneroso et al.: CRISP: Clustering Multi-Vector Representations for Denoising and Pruning. 2025,
arXiv:2505.11471.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np

from tokenspace.arrays import Floats2d, Ids2d, Ragged
from tokenspace.errors import FormatError, InputError, MissingEvidence, MissingExtra
from tokenspace.io import read_tensors, replacing, save_tensors
from tokenspace.recipe import Range, Recipe

from ._shared import batches, best, chamfer, check_docs, check_k, check_queries, cut
from .pooling import Side, pool, sides, token_cosine
from .store import TokenStore

if TYPE_CHECKING:
    from tokenspace.nn.encoder import ModelEncoder

__all__ = ["CRISP", "CRISPEncoder", "CRISPIndex", "CRISPTexts", "trained_sides"]

log = logging.getLogger(__name__)

_CONFIG = "crisp.json"


@dataclass(frozen=True, kw_only=True)
class CRISP(Recipe):
    """Train token vectors to be clustered, and store a few centroids a document.

    Default is the paper's main variant, 8 centroids a query and 32 a document.
    """

    variant: Annotated[
        str, "what is kept of queries and documents: C8x32, C25%, Tail4x8, Even4x8, K2 or full"
    ] = "C8x32"
    steps: Annotated[int, Range(1, 10**7), "steps of training"] = 500
    lr: Annotated[float, Range(1e-7, 1.0), "highest learning rate; 1e-5 for a large encoder"] = 2e-3
    batch: Annotated[int, Range(1, 4096), "pairs in a step; each is a negative of the others"] = 48
    tau: Annotated[float, Range(1e-3, 10.0), "temperature of the loss"] = 0.05
    unpruned: Annotated[float, Range(0.0, 1.0), "share of the steps that keep every token"] = 0.2
    layers: Annotated[int, Range(1, 12), "layers of the head"] = 1
    longest: Annotated[int, Range(1, 8192), "tokens of a text that training sees"] = 64
    seed: Annotated[int, Range(0, 2**63 - 1), "seed of weights, batches and clusters"] = 0
    threads: Annotated[
        int, Range(0, 1024), "threads; 0: as many as torch takes; 1: the same bytes every time"
    ] = 0

    tiny: ClassVar[Mapping[str, Any]] = {"variant": "C4x8", "steps": 4, "batch": 8}
    advice: ClassVar[Sequence[Mapping[str, Any]]] = ()  # it trains, and so ranks anew

    def __post_init__(self) -> None:
        super().__post_init__()
        sides(self.variant)

    def train(
        self,
        train_queries: Ragged,
        train_docs: Ragged,
        train_negatives: Ragged | None = None,
    ) -> CRISPEncoder:
        """Train a head on pairs: item i of ``train_docs`` answers item i of ``train_queries``.

        Raises :class:`InputError` where the sides do not fit together, a value is not finite, or
        an item has no tokens.
        """
        _check_pairs(train_queries, train_docs, train_negatives)
        net = _net(self.name)
        trained = net.train(self, train_queries, train_docs, train_negatives)
        return CRISPEncoder(self, train_queries.width, trained.weights, trained.metrics)

    def __call__(
        self,
        docs: Ragged,
        /,
        *,
        train_queries: Ragged | None = None,
        train_docs: Ragged | None = None,
        train_negatives: Ragged | None = None,
    ) -> CRISPIndex:
        """Train a head, and index N documents of width D by their centroids.

        ``train_queries`` and ``train_docs`` are the pairs to learn from, one item of either a
        pair, and ``train_negatives`` a document for each that does not answer it. Without them,
        spans of ``docs`` have to find the rest of their document.

        Raises :class:`~tokenspace.errors.InputError` for no documents, a document without tokens,
        widths that differ and values that are not finite, and
        :class:`~tokenspace.errors.MissingEvidence` for one side of the pairs alone.
        """
        check_docs(docs, "raise")
        if (train_queries is None) != (train_docs is None):
            raise MissingEvidence(
                f"{self.name} needs both train_queries and train_docs, or neither",
                hint="give --train-queries and --train-docs",
            )
        if train_queries is None or train_docs is None:
            train_queries, train_docs = _net(self.name).spans(docs, seed=self.seed)
        if train_queries.width != docs.width:
            raise InputError(
                f"train_queries: width {train_queries.width}, and docs have {docs.width}",
                hint="encode all of them with one encoder",
            )
        return self.train(train_queries, train_docs, train_negatives).index(docs)

    def finetune(
        self,
        model: str,
        pairs: Sequence[tuple[str, str]],
        out: str | Path,
        *,
        negatives: Sequence[str] | None = None,
        **options: Any,
    ) -> dict[str, float]:
        """Train the encoder ``model`` on (query, document) texts and write it to ``out``.

        ``negatives`` are texts that do not answer, one a pair. ``layers`` and ``longest`` are of a
        head: an encoder has its own. The directory is one of sentence-transformers with
        ``crisp.json`` beside it, which :meth:`CRISPTexts.load` reads. ``options`` go to
        :func:`tokenspace.nn.encoder.load_encoder`. Returns the figures of the training.

        Raises :class:`InputError` without pairs, and for a text that gives no token.
        """
        if not pairs:
            raise InputError("pairs: there are none", hint="give at least one pair of texts")
        if negatives is not None and len(negatives) != len(pairs):
            raise InputError(
                f"negatives: {len(negatives)} texts, and there are {len(pairs)} pairs",
                hint="give one text a pair",
            )
        net = _net(self.name)
        from tokenspace.nn.encoder import load_encoder

        encoder = load_encoder(model, **options)
        figures: dict[str, float] = net.finetune(self, encoder, pairs, negatives)
        described = {"recipe": self.to_dict(), "metrics": figures}
        with replacing(out) as partial:
            encoder.save(partial)
            (partial / _CONFIG).write_text(json.dumps(described, indent=1), encoding="utf-8")
        return figures


def _net(name: str) -> ModuleType:
    try:
        from . import crisp_net
    except ImportError as fault:
        raise MissingExtra.named("models", name) from fault
    return crisp_net


def _check_pairs(queries: Ragged, docs: Ragged, negatives: Ragged | None) -> None:
    named = {"train_queries": queries, "train_docs": docs}
    named |= {"train_negatives": negatives} if negatives is not None else {}
    for name, part in named.items():
        part.check(name, queries.width)
        empty = np.flatnonzero(part.heights == 0)
        if len(empty):
            raise InputError(
                f"{name}: item {int(empty[0])} has no tokens", hint="leave such pairs out"
            )
        if len(part) != len(queries) or len(part) == 0:
            raise InputError(
                f"{name}: {len(part)} items, and train_queries has {len(queries)}",
                hint="give one item of each side a pair, one pair at least",
            )


class CRISPEncoder:
    """A trained head: token vectors in, centroids out, of queries and of documents.

    ``weights`` are the head's, by name; ``metrics`` the figures of its training.
    """

    def __init__(
        self,
        recipe: CRISP,
        width: int,
        weights: Mapping[str, Floats2d],
        metrics: Mapping[str, float],
    ) -> None:
        self.recipe, self.width = recipe, width
        self.weights, self.metrics = dict(weights), dict(metrics)

    @property
    def config_hash(self) -> str:
        """16 hexadecimal digits of the variant, the head's shape and its weights."""
        state = hashlib.blake2b(digest_size=8)
        state.update(f"{self.recipe.variant} {self.width} {self.recipe.layers}".encode())
        for name in sorted(self.weights):
            state.update(name.encode() + self.weights[name].tobytes())
        return state.hexdigest()

    @property
    def nbytes(self) -> int:
        """Bytes of the weights."""
        return sum(array.nbytes for array in self.weights.values())

    def tokens(self, items: Ragged) -> Ragged:
        """Return the head's vectors of all tokens of every item, (T_i, D), at length 1.

        Raises :class:`InputError` for another width, and for values that are not finite.
        """
        items.check("items", self.width)
        made: Ragged = _net(self.recipe.name).encode(self.recipe, self.weights, items)
        return made

    def queries(self, items: Ragged) -> Ragged:
        """Return what is kept of queries: (K_i, D) at length 1."""
        check_queries(items, self.width)
        return self._pooled(items, "query")

    def documents(self, items: Ragged) -> Ragged:
        """Return what is kept of documents: (K_i, D) at length 1, equal vectors once."""
        return self._pooled(items, "document")

    def _pooled(self, items: Ragged, side: Side) -> Ragged:
        how = sides(self.recipe.variant)[side == "document"]
        return pool(self.tokens(items), how, side=side, threads=self.recipe.threads)

    def index(self, docs: Ragged) -> CRISPIndex:
        """Index other documents with the same head, without training again.

        ``metrics`` of the index: those of the head, ``kept``, the share of the token vectors that
        is stored, and ``token_cosine``, a token's mean cosine with the nearest stored vector of
        its document (of at most 512 documents).
        """
        check_docs(docs, "raise")
        tokens = self.tokens(docs)
        how = sides(self.recipe.variant)[1]
        kept = pool(tokens, how, side="document", threads=self.recipe.threads)
        figures = {
            **self.metrics,
            "kept": len(kept.flat) / len(tokens.flat),
            "token_cosine": token_cosine(tokens, kept),
        }
        return CRISPIndex(self, TokenStore.pack(kept), figures)


class CRISPIndex:
    """Documents as centroids, with the head that encodes queries as the documents were.

    ``metrics`` are those that :meth:`CRISPEncoder.index` describes.
    """

    def __init__(
        self, encoder: CRISPEncoder, store: TokenStore, metrics: Mapping[str, float]
    ) -> None:
        self.encoder, self.store, self.metrics = encoder, store, dict(metrics)

    @property
    def nbytes(self) -> int:
        """Bytes of the centroids with their offsets, and of the head."""
        return self.store.nbytes + self.encoder.nbytes

    def encode_queries(self, queries: Ragged) -> Ragged:
        """Return the centroids that queries are scored by, (K_i, D) each."""
        return self.encoder.queries(queries)

    def encode_documents(self, docs: Ragged) -> Ragged:
        """Return the centroids that documents are stored as, (K_i, D) each."""
        return self.encoder.documents(docs)

    def search(self, queries: Ragged, k: int = 10) -> tuple[Ids2d, Floats2d]:
        """Return document numbers and scores, (Q, min(k, N)) each, best first, ties by number.

        ``queries`` are token vectors as those of the documents were before the head. A score is
        the sum over the query's centroids of the best inner product with a stored one.
        """
        check_k(k)
        encoded = self.encode_queries(queries)
        k = min(k, len(self.store))
        numbers = np.zeros((len(encoded), k), np.int64)
        scores = np.zeros((len(encoded), k), np.float32)
        for batch in batches(encoded.heights):
            found = chamfer(self.store, cut(encoded, batch), self.encoder.recipe.threads)
            numbers[batch.start : batch.stop], scores[batch.start : batch.stop] = best(found, k)
        return numbers, scores

    def save(self, path: str | Path) -> None:
        """Write the directory ``path``: ``crisp.json``, ``head.safetensors`` and ``tokens/``.

        The first two carry a hash of the head.
        """
        stamp = self.encoder.config_hash
        described = {
            "recipe": self.encoder.recipe.to_dict(),
            "width": self.encoder.width,
            "config_hash": stamp,
            "training": self.encoder.metrics,
            "metrics": self.metrics,
        }
        with replacing(path) as partial:
            partial.mkdir()
            self.store.save(partial / "tokens")
            save_tensors(partial / "head.safetensors", self.encoder.weights)
            (partial / _CONFIG).write_text(json.dumps(described, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Open what :meth:`save` wrote; the centroids stay on disk.

        Raises :class:`~tokenspace.errors.FormatError` where a file is missing or damaged, or the
        head is not the one that the documents were encoded by.
        """
        path = Path(path)
        try:
            described = json.loads((path / _CONFIG).read_text(encoding="utf-8"))
            recipe = CRISP.from_dict(described["recipe"])
            weights = {
                name: np.array(value, np.float32)
                for name, value in read_tensors(path / "head.safetensors").items()
            }
            encoder = CRISPEncoder(
                recipe, int(described["width"]), weights, dict(described["training"])
            )
            if encoder.config_hash != described["config_hash"]:
                raise ValueError("the head is not the one that encoded the documents")
            store = TokenStore.open(path / "tokens")
            if store.width != encoder.width:
                raise ValueError("head and centroids have different widths")
            metrics = dict(described["metrics"])
        except (OSError, ValueError, KeyError, TypeError) as fault:
            raise FormatError(
                f"{path}: not a whole CRISP index ({fault})", hint="build the index again"
            ) from fault
        return cls(encoder, store, metrics)


class CRISPTexts:
    """A fine-tuned encoder with the variant that it was trained for: texts to kept vectors."""

    def __init__(self, encoder: ModelEncoder, variant: str) -> None:
        self.encoder, self.variant = encoder, variant

    @classmethod
    def load(cls, path: str | Path, **options: Any) -> Self:
        """Open what :meth:`CRISP.finetune` wrote; ``options`` are those of ``load_encoder``."""
        variant = _trained_variant(path)
        if variant is None:
            raise FormatError(
                f"{path}: no {_CONFIG}: not an encoder that was trained to be clustered",
                hint="make one with tokenspace retrieve finetune",
            )
        _net("finetuned encoders")
        from tokenspace.nn.encoder import load_encoder

        return cls(load_encoder(str(path), **options), variant)

    def queries(self, texts: Sequence[str], *, how: str | None = None) -> Ragged:
        """Return what is kept of queries, (K_i, H) each.

        Another ``how`` than that of the training is said in a warning.
        """
        return self._side(texts, "query", how)

    def documents(self, texts: Sequence[str], *, how: str | None = None) -> Ragged:
        """Return what is kept of documents, (K_i, H) each, equal vectors once."""
        return self._side(texts, "document", how)

    def _side(self, texts: Sequence[str], side: Side, how: str | None) -> Ragged:
        trained = sides(self.variant)[side == "document"]
        if how is not None and how != trained:
            log.warning("%s kept as %s by an encoder trained for %s", side, how, self.variant)
        return pool(self.encoder.prompted(side).encode_tokens(texts), how or trained, side=side)


def trained_sides(path: str | Path) -> tuple[str, str] | None:
    """Return what an encoder's directory was trained to keep of queries and of documents.

    None for one that was not. Raises :class:`~tokenspace.errors.FormatError` for a damaged file.
    """
    variant = _trained_variant(path)
    return None if variant is None else sides(variant)


def _trained_variant(path: str | Path) -> str | None:
    file = Path(path) / _CONFIG
    if not file.is_file():
        return None
    try:
        described = json.loads(file.read_text(encoding="utf-8"))
        return CRISP.from_dict(described["recipe"]).variant
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise FormatError(f"{file}: damaged ({fault})", hint="train the encoder again") from fault
