"""What every engine has in common: the form of an index, checks, and the calls themselves.

An engine is a subclass of :class:`Engine` that says how documents are kept and found; what may
be given is checked here, once, so that all of them refuse the same.
"""

from __future__ import annotations

import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Self, get_args

import numpy as np

from tokenspace.arrays import Floats1d, Floats2d, Ids, Ids2d, Ragged, check_finite
from tokenspace.errors import ConfigError, FormatError, InputError
from tokenspace.jit import spread
from tokenspace.retrieve._shared import (
    OnEmpty,
    batches,
    check_docs,
    check_k,
    check_queries,
    cut,
)
from tokenspace.retrieve.muvera import FDE, MUVERA, choose_fill
from tokenspace.retrieve.store import Codec, TokenStore

from . import NO_CENTROIDS, filters
from .filters import FIELD, Filter

__all__ = [
    "Document",
    "Engine",
    "Found",
    "Id",
    "Record",
    "Schema",
    "json_id",
    "key_of",
    "merge",
    "score",
    "several",
]

Id = str | int
"""An external id: whoever adds a document chooses it, and it never changes."""

QUERIES = 64  # queries that are searched together: their scores are held at one time


class Found(NamedTuple):
    """What one query found, best first: ids and scores (n,) float32."""

    ids: list[Id]
    scores: Floats1d


class Document(NamedTuple):
    """A stored document: its id, token vectors (T, D) float32, and metadata."""

    id: Id
    tokens: Floats2d
    metadata: dict[str, Any]


class Record(NamedTuple):
    """A checked document on its way in; ``key`` is the id as text."""

    key: str
    metadata: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Schema:
    """What an index was made for; stored with it.

    ``width`` is D of every token vector, ``encoder`` the hash of the text encoder that makes
    them ("" where it is not known), ``codec`` how they are stored, ``on_empty`` whether a document
    without tokens is refused or scores zero. Up to ``exact_below`` documents (that a filter lets
    through) are scored exactly, more are found by encodings, of which ``muvera`` is the recipe;
    its ``fill="auto"`` is chosen with the first documents and then kept in ``fill``.

    Raises :class:`ConfigError` for a value that is not allowed.
    """

    width: int
    encoder: str = ""
    codec: Codec = "f16"
    on_empty: OnEmpty = "raise"
    exact_below: int = 20_000
    muvera: MUVERA
    fill: bool | None = None

    @classmethod
    def plan(cls, width: int, *, muvera: MUVERA | None = None, **others: Any) -> Self:
        """Return a schema; by default encodings have 2,560 numbers, one of the paper's sizes."""
        if not 1 <= width <= 65536:
            raise ConfigError(f"width={width} is outside [1, 65536]")
        recipe = muvera or MUVERA(repetitions=20, k_sim=4, d_proj=min(8, width), fde_codec="f16")
        fill = None if recipe.fill == "auto" else recipe.fill == "on"
        made = cls(width=width, muvera=recipe, fill=fill, **others)
        for name, value, kind in (
            ("codec", made.codec, Codec),
            ("on_empty", made.on_empty, OnEmpty),
        ):
            if value not in get_args(kind):
                raise ConfigError(f"{name}={value!r} is not one of {', '.join(get_args(kind))}")
        if recipe.fde_codec not in get_args(Codec):
            raise ConfigError(
                f"fde_codec={recipe.fde_codec!r} is not one of {', '.join(get_args(Codec))}",
                hint=NO_CENTROIDS,
            )
        if made.exact_below < 0:
            raise ConfigError(f"exact_below={made.exact_below} is outside [0, inf]")
        _ = made.fde  # refuses what it cannot encode
        return made

    @cached_property
    def fde(self) -> FDE:
        """The encoder of candidates."""
        return FDE(self.width, self.muvera, fill=bool(self.fill))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, with the hash of the encodings' configuration."""
        plain = {**asdict(self), "muvera": self.muvera.to_dict()}
        return {**plain, "fde_hash": self.fde.config_hash, "fde_width": self.fde.dim}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any], where: str) -> Self:
        """Return the schema that :meth:`to_dict` described; ``where`` names it in errors.

        Raises :class:`FormatError` where the encodings were made by other code or another
        configuration than queries would be.
        """
        try:
            values = dict(plain)
            expected = values.pop("fde_hash"), values.pop("fde_width")
            made = cls(**{**values, "muvera": MUVERA.from_dict(values["muvera"])})
            if (made.fde.config_hash, made.fde.dim) != expected:
                raise ValueError("the encodings were made by another configuration")
        except (KeyError, TypeError, ValueError) as fault:
            raise FormatError(
                f"{where}: not a readable schema ({fault})", hint="create the index again"
            ) from fault
        return made


class Engine(ABC):
    """An index of documents: token vectors, metadata, and ids that stay as they are.

    Every change is whole when the call returns, or did not happen.
    """

    def __init__(self, schema: Schema, where: str, *, writable: bool = True) -> None:
        self.schema, self.where, self.writable = schema, where, writable
        self._turn = threading.RLock()  # one change at a time, from whichever thread

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self.count()

    def __contains__(self, id: Id) -> bool:
        return bool(self._known([key_of(id)]))

    def add(
        self,
        ids: Sequence[Id],
        tokens: Ragged,
        metadata: Sequence[Mapping[str, Any]] | None = None,
        *,
        encoder: str = "",
    ) -> None:
        """Add documents: N ids, N matrices of token vectors, and metadata of each.

        ``encoder`` is the hash of what made the vectors. Raises :class:`InputError`, and adds
        nothing, for an id that is there already or twice, vectors of another width or encoder or
        with values that are not finite, a document without tokens where the schema refuses it,
        and metadata that is not plain data.
        """
        self._put(ids, tokens, metadata, encoder, new=True)

    def update(
        self,
        ids: Sequence[Id],
        tokens: Ragged,
        metadata: Sequence[Mapping[str, Any]] | None = None,
        *,
        encoder: str = "",
    ) -> None:
        """Do what :meth:`add` does, but replace documents whose ids are there."""
        self._put(ids, tokens, metadata, encoder, new=False)

    def delete(self, ids: Sequence[Id]) -> None:
        """Delete documents. Raises :class:`InputError`, and deletes none, for an unknown id."""
        self._check_writable()
        keys = _keys(ids)
        with self._turn:
            self._check_known(keys)
            if keys:
                self._remove(keys)

    def search(
        self,
        queries: Ragged,
        k: int = 10,
        *,
        candidates: int = 0,
        where: Mapping[str, Any] | None = None,
        encoder: str = "",
    ) -> list[Found]:
        """Return the best ``k`` documents of each query by exact MaxSim, best first.

        ``where`` is a filter (:mod:`~tokenspace.retrieve.engines.filters`), and ``encoder`` the
        hash of what made the queries. With ``candidates`` only so many documents, the best by
        their encodings, are scored; 0 scores all of up to ``schema.exact_below`` documents and
        max(10 k, 100) of more. Raises :class:`InputError` for a query without tokens, of another
        width or of another encoder.
        """
        check_k(k)
        if candidates < 0:
            raise InputError(f"candidates={candidates} is outside [0, inf]")
        self._check_encoder(encoder, "queries")
        condition = filters.read({} if where is None else where)
        if len(queries) == 0:
            return []
        check_queries(queries, self.schema.width)
        allowed = self._count(condition)
        if allowed == 0:
            return [Found([], np.zeros(0, np.float32)) for _ in range(len(queries))]
        exact = candidates >= allowed or (not candidates and allowed <= self.schema.exact_below)
        wanted = 0 if exact else max(k, candidates or max(10 * k, 100))
        found: list[Found] = []
        for batch in several(len(queries)):
            found += self._search(cut(queries, batch), k, wanted, condition)
        return found

    def search_single(
        self,
        vectors: Floats2d,
        k: int = 10,
        *,
        where: Mapping[str, Any] | None = None,
        encoder: str = "",
    ) -> list[Found]:
        """Return the best ``k`` documents by one vector each: their encodings alone.

        ``vectors`` is (Q, ``schema.fde.dim``), as :meth:`encode` gives; scores are inner products
        and only order. Documents that have one vector themselves need no encodings: they are
        matrices of one row, and :meth:`search` takes queries of one row.
        """
        check_k(k)
        self._check_encoder(encoder, "vectors")
        condition = filters.read({} if where is None else where)
        if len(vectors) == 0:
            return []
        width = self.schema.fde.dim
        if np.ndim(vectors) != 2 or np.shape(vectors)[1] != width:
            raise InputError(
                f"vectors: shape {np.shape(vectors)}, expected (Q, {width})",
                hint="encode token matrices with the index's encode",
            )
        vectors = np.ascontiguousarray(vectors, np.float32)
        check_finite(vectors, "vectors")
        if self._count(condition) == 0:
            return [Found([], np.zeros(0, np.float32)) for _ in range(len(vectors))]
        found: list[Found] = []
        for batch in several(len(vectors)):
            found += self._search_single(vectors[batch.start : batch.stop], k, condition)
        return found

    def encode(self, queries: Ragged) -> Floats2d:
        """Return the encodings of queries, (Q, ``schema.fde.dim``), for :meth:`search_single`."""
        return self.schema.fde.queries(queries)

    def get(self, ids: Sequence[Id]) -> list[Document]:
        """Return documents in the order of ``ids``. Raises :class:`InputError` for one unknown."""
        keys = _keys(ids, twice=True)
        self._check_known(keys)
        return self._get(keys) if keys else []

    def count(self, where: Mapping[str, Any] | None = None) -> int:
        """Return the number of documents, or of those that a filter lets through."""
        return self._count(filters.read({} if where is None else where))

    @abstractmethod
    def compact(self) -> None:
        """Take the room of deleted documents back, and make searching fast again."""

    @abstractmethod
    def info(self) -> dict[str, Any]:
        """Describe the index as plain data."""

    @abstractmethod
    def close(self) -> None:
        """Give up locks and connections."""

    @abstractmethod
    def _known(self, keys: Sequence[str]) -> set[str]:
        """Return which of ``keys`` are in the index."""

    @abstractmethod
    def _write(self, records: Sequence[Record], tokens: Ragged, known: set[str]) -> None:
        """Add the documents, in one step where the engine can; those ``known`` are replaced."""

    @abstractmethod
    def _remove(self, keys: Sequence[str]) -> None:
        """Delete documents that are there."""

    @abstractmethod
    def _search(self, queries: Ragged, k: int, candidates: int, condition: Filter) -> list[Found]:
        """Return the best by exact scores, of all documents where ``candidates`` is 0."""

    @abstractmethod
    def _search_single(self, vectors: Floats2d, k: int, condition: Filter) -> list[Found]:
        """Return the best by encodings."""

    @abstractmethod
    def _get(self, keys: Sequence[str]) -> list[Document]:
        """Return documents that are there."""

    @abstractmethod
    def _count(self, condition: Filter) -> int:
        """Return how many documents the filter lets through."""

    @abstractmethod
    def _keep_schema(self) -> None:
        """Store the schema again: ``fill`` was chosen."""

    def _put(
        self,
        ids: Sequence[Id],
        tokens: Ragged,
        metadata: Sequence[Mapping[str, Any]] | None,
        encoder: str,
        *,
        new: bool,
    ) -> None:
        self._check_writable()
        self._check_encoder(encoder, "documents")
        keys = _keys(ids)
        held = [{} for _ in keys] if metadata is None else metadata
        if not len(keys) == len(tokens) == len(held):
            raise InputError(
                f"{len(keys)} ids, {len(tokens)} token matrices and {len(held)} metadata must be "
                "of the same documents"
            )
        if not keys:
            return
        tokens.check("tokens", self.schema.width)
        check_docs(tokens, self.schema.on_empty)
        records = [Record(key, _plain(key, given)) for key, given in zip(keys, held, strict=True)]
        with self._turn:
            self._put_checked(keys, records, tokens, new=new)

    def _put_checked(
        self, keys: list[str], records: list[Record], tokens: Ragged, *, new: bool
    ) -> None:
        known = self._known(keys)
        if new and known:
            first = next(key for key in keys if key in known)
            raise InputError(
                f"{self.where}: the id {first} is there already ({len(known)} such ids)",
                hint="replace the document with update, or give another id",
            )
        if self.schema.fill is None and len(tokens.flat):
            fill, _ = choose_fill(self.schema.muvera, TokenStore.pack(tokens))
            self.schema = replace(self.schema, fill=fill)
            self._keep_schema()
        self._write(records, tokens, known)

    def _check_writable(self) -> None:
        if not self.writable:
            raise InputError(
                f"{self.where}: the index was opened for reading",
                hint="open it with write=True",
            )

    def _check_known(self, keys: Sequence[str]) -> None:
        known = self._known(keys)
        unknown = [key for key in keys if key not in known]
        if unknown:
            raise InputError(
                f"{self.where}: there is no document with the id {unknown[0]}"
                + (f" ({len(unknown)} such ids)" if len(unknown) > 1 else ""),
                hint="ids are as they were added: 7 and '7' are two",
            )

    def _check_encoder(self, given: str, what: str) -> None:
        own = self.schema.encoder
        if given and own and given != own:
            raise InputError(
                f"{self.where}: the {what} come from the encoder {given}, and the index holds "
                f"vectors of the encoder {own}",
                hint="encode both with one encoder, or create an index for this one",
            )


def several(count: int) -> list[range]:
    """Cut ``count`` queries into runs that are searched together."""
    return [range(start, min(start + QUERIES, count)) for start in range(0, count, QUERIES)]


def score(store: TokenStore, queries: Ragged, documents: Ids, threads: int = 0) -> Floats2d:
    """Score each of ``documents`` (n,) exactly for each query, (Q, n)."""
    out = np.empty((len(queries), len(documents)), np.float32)
    for batch in batches(queries.heights):
        _score(store, cut(queries, batch), documents, out[batch.start : batch.stop], threads)
    return out


def _score(store: TokenStore, queries: Ragged, documents: Ids, out: Floats2d, threads: int) -> None:
    scorer = store.scorer(queries)

    def part(first: int, last: int) -> None:
        out[:, first:last] = scorer(documents[first:last]).T

    spread(part, len(documents), workers=threads)


def merge(parts: Sequence[tuple[Ids2d, Floats2d]], k: int) -> tuple[Ids2d, Floats2d]:
    """Return the best ``k`` of several lists (numbers, scores), each (Q, n); -1 is no number.

    Equal scores are ordered by number.
    """
    numbers = np.concatenate([part[0] for part in parts], axis=1)
    values = np.concatenate([part[1] for part in parts], axis=1).astype(np.float32)
    values[numbers < 0] = -np.inf
    order = np.lexsort((numbers, -values), axis=1)[:, :k]
    return np.take_along_axis(numbers, order, axis=1), np.take_along_axis(values, order, axis=1)


def key_of(id: Any) -> str:
    """Return an id as text that tells 7 from "7". Raises :class:`InputError` for other types."""
    if isinstance(id, np.integer):
        id = int(id)
    sound = (isinstance(id, str) and 0 < len(id) <= 512) or (
        isinstance(id, int) and not isinstance(id, bool) and -(2**63) <= id < 2**63
    )
    try:
        if not sound:
            raise ValueError("neither")
        key = json.dumps(id, ensure_ascii=False)
        key.encode()
    except ValueError as fault:
        raise InputError(
            f"{id!r} is no id", hint="ids are strings of 1 to 512 characters, or whole numbers"
        ) from fault
    return key


def json_id(key: str) -> str | int:
    """Return the id that a key stands for."""
    found: str | int = json.loads(key)
    return found


def _keys(ids: Sequence[Id], *, twice: bool = False) -> list[str]:
    if isinstance(ids, str):
        raise InputError(f"ids: {ids!r} is one string", hint="give a list of ids")
    keys = [key_of(id) for id in ids]
    if not twice and len(set(keys)) < len(keys):
        seen: set[str] = set()
        double = next(key for key in keys if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise InputError(f"ids: {double} stands there twice", hint="give every id once")
    return keys


def _plain(key: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checked copy of a document's metadata."""
    hint = "metadata is a JSON object; fields have letters, digits, - and _, at most 64 of them"
    if not isinstance(metadata, Mapping):
        raise InputError(f"document {key}: metadata is {metadata!r}", hint=hint)
    for field in metadata:
        if not isinstance(field, str) or not FIELD.fullmatch(field):
            raise InputError(f"document {key}: metadata has the field {field!r}", hint=hint)
    try:
        text = json.dumps(dict(metadata), ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as fault:
        raise InputError(f"document {key}: metadata is not JSON ({fault})", hint=hint) from fault
    plain: dict[str, Any] = json.loads(text)
    return plain
