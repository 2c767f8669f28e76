"""The Qdrant engine: a collection on a server that shards, replicates and searches it.

A point has two named vectors: ``fde``, the encoding, in a graph with int8 codes in memory; and
``tokens``, the multi-vector that Qdrant scores by MaxSim of inner products, without a graph of
its own. A search is one call: candidates by ``fde`` are prefetched and scored by ``tokens``; of
few documents (``exact_below``) all are scored. The payload holds ``id``, ``metadata``, and what
filters ask for, ``terms`` and ``numbers`` (see :mod:`.filters`). Points are named by a hash of
the id. The schema is kept in the collection's own metadata (Qdrant 1.16 and later).

A document without tokens is one row of zeros there, which scores zero. One request carries at
most ``FLOATS`` numbers, so a large addition that is cut off may be there in part; adding it
again with ``update`` makes it whole. ``codec`` is ``f32`` or ``f16``.

The same calls run in the client's local mode (a path, or ``:memory:``), which compares with every
point in NumPy: for tests and trials of some thousand documents. A server's key is read from the
environment variable QDRANT_API_KEY.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np

from tokenspace.arrays import Floats1d, Floats2d, Ragged
from tokenspace.errors import ConfigError, InputError, MissingExtra, SpaceBusy
from tokenspace.retrieve.store import TokenStore

from . import filters
from .engine import Document, Engine, Found, Record, Schema, json_id
from .filters import Either, Every, Filter, Has, Not, Range

__all__ = ["QdrantIndex", "translate"]

FLOATS = 500_000  # numbers of one request: some ten megabytes as JSON
POINTS = 256  # points of one request at most
SPACE = uuid.UUID("b7f0a0a4-6f0e-5c3b-9f59-2f3d3a0c9a11")  # of the points' names


class QdrantIndex(Engine):
    """Documents in the collection ``name`` of a server, or of the client's local mode."""

    def __init__(self, client: Any, where: str, name: str, schema: Schema, local: bool) -> None:
        super().__init__(schema, f"qdrant:{where}#{name}")
        self._client, self._name, self._local = client, name, local
        self._fields: set[str] = set()

    @classmethod
    def create(cls, where: str, name: str, schema: Schema) -> Self:
        """Make an empty collection. Raises :class:`InputError` where one of this name is."""
        if schema.codec not in ("f32", "f16"):
            raise ConfigError(
                f"codec={schema.codec!r} is not one of f32, f16, which Qdrant can hold",
                hint="choose f16, or the engine faiss:flat",
            )
        client, local = _connect(where)
        from qdrant_client import models

        if client.collection_exists(name):
            client.close()
            raise InputError(
                f"qdrant:{where}: there is a collection {name} already",
                hint="choose another name: qdrant:URL#NAME",
            )
        kind = {"f32": models.Datatype.FLOAT32, "f16": models.Datatype.FLOAT16}[schema.codec]
        codes = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=True)
        client.create_collection(
            name,
            vectors_config={
                "fde": models.VectorParams(
                    size=schema.fde.dim,
                    distance=models.Distance.DOT,
                    on_disk=True,
                    datatype=models.Datatype.FLOAT16,
                    quantization_config=models.ScalarQuantization(scalar=codes),
                ),
                "tokens": models.VectorParams(
                    size=schema.width,
                    distance=models.Distance.DOT,
                    on_disk=True,
                    datatype=kind,
                    hnsw_config=models.HnswConfigDiff(m=0),
                    multivector_config=models.MultiVectorConfig(
                        comparator=models.MultiVectorComparator.MAX_SIM
                    ),
                ),
            },
            metadata={"tokenspace": schema.to_dict()},
        )
        made = cls(client, where, name, schema, local)
        made._index("terms", models.PayloadSchemaType.KEYWORD)
        return made

    @classmethod
    def open(cls, where: str, name: str) -> Self:
        """Open a collection. Raises :class:`InputError` where there is none of ours."""
        client, local = _connect(where)
        plain = None
        if client.collection_exists(name):
            plain = (client.get_collection(name).config.metadata or {}).get("tokenspace")
        if plain is None:
            client.close()
            raise InputError(
                f"qdrant:{where}: there is no index in the collection {name}",
                hint=f"make one with: tokenspace index create qdrant:{where} --width WIDTH",
            )
        schema = Schema.from_dict(plain, f"qdrant:{where}#{name}")
        return cls(client, where, name, schema, local)

    def compact(self) -> None:
        """Do nothing: the server merges its segments by itself."""

    def info(self) -> dict[str, Any]:
        """Describe the index."""
        described = self._client.get_collection(self._name)
        return {
            "engine": "qdrant",
            "path": self.where,
            "documents": self.count(),
            "segments": described.segments_count,
            "status": str(getattr(described.status, "value", described.status)),
            "schema": self.schema.to_dict(),
        }

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _keep_schema(self) -> None:
        plain = {"tokenspace": self.schema.to_dict()}
        self._client.update_collection(self._name, metadata=plain)

    def _index(self, field: str, kind: Any) -> None:
        """Have the server index a payload field; the local mode has no such indexes."""
        if not self._local:
            self._client.create_payload_index(self._name, field, field_schema=kind)

    def _points(self, keys: Sequence[str], **wanted: Any) -> Iterator[Any]:
        for start in range(0, len(keys), POINTS):
            names = [_name(key) for key in keys[start : start + POINTS]]
            yield from self._client.retrieve(self._name, ids=names, **wanted)

    def _known(self, keys: Sequence[str]) -> set[str]:
        names = {_name(key): key for key in keys}
        return {names[str(point.id)] for point in self._points(keys, with_payload=False)}

    def _get(self, keys: Sequence[str]) -> list[Document]:
        found = {}
        for point in self._points(keys, with_payload=True, with_vectors=["tokens"]):
            rows = np.asarray(point.vector["tokens"], np.float32)
            rows = rows[: point.payload["rows"]].reshape(-1, self.schema.width)
            payload = point.payload
            found[str(point.id)] = Document(json_id(payload["key"]), rows, payload["metadata"])
        return [found[_name(key)] for key in keys]

    def _write(self, records: Sequence[Record], tokens: Ragged, known: set[str]) -> None:
        from qdrant_client import models

        fields = {name for record in records for name in filters.numbers(record.metadata)}
        for name in sorted(fields - self._fields):
            self._index(f"numbers.{name}", models.PayloadSchemaType.FLOAT)
        self._fields |= fields
        store = TokenStore.pack(tokens)
        step = max(1, min(POINTS, FLOATS // self.schema.fde.dim))
        points: list[Any] = []
        size = 0
        for start in range(0, len(records), step):
            stop = min(start + step, len(records))
            encoded = self.schema.fde.encode_documents(store, start, stop)
            for record, vector, i in zip(
                records[start:stop], encoded, range(start, stop), strict=True
            ):
                points.append(self._point(models, record, vector, tokens[i]))
                size += vector.size + tokens[i].size
                if size >= FLOATS or len(points) >= POINTS:
                    self._client.upsert(self._name, points=points, wait=True)
                    points, size = [], 0
        if points:
            self._client.upsert(self._name, points=points, wait=True)

    def _point(self, models: Any, record: Record, vector: Floats1d, rows: Floats2d) -> Any:
        held = rows if len(rows) else np.zeros((1, self.schema.width), np.float32)
        return models.PointStruct(
            id=_name(record.key),
            vector={"fde": vector.tolist(), "tokens": held.tolist()},
            payload={
                "key": record.key,
                "metadata": record.metadata,
                "rows": len(rows),
                "terms": filters.terms(record.metadata),
                "numbers": filters.numbers(record.metadata),
            },
        )

    def _remove(self, keys: Sequence[str]) -> None:
        from qdrant_client import models

        for start in range(0, len(keys), POINTS):
            names: list[Any] = [_name(key) for key in keys[start : start + POINTS]]
            chosen = models.PointIdsList(points=names)
            self._client.delete(self._name, points_selector=chosen, wait=True)

    def _count(self, condition: Filter) -> int:
        asked = None if condition == Every(()) else translate(condition)
        return int(self._client.count(self._name, count_filter=asked, exact=True).count)

    def _search(self, queries: Ragged, k: int, candidates: int, condition: Filter) -> list[Found]:
        from qdrant_client import models

        asked = None if condition == Every(()) else translate(condition)
        vectors = self.schema.fde.queries(queries) if candidates else None
        found = []
        for i in range(len(queries)):
            prefetch = None
            if vectors is not None:
                prefetch = models.Prefetch(
                    query=vectors[i].tolist(), using="fde", limit=candidates, filter=asked
                )
            answer = self._client.query_points(
                self._name,
                query=queries[i].tolist(),
                using="tokens",
                prefetch=prefetch,
                query_filter=None if prefetch else asked,
                limit=k,
                with_payload=["key"],
            )
            found.append(_found(answer))
        return found

    def _search_single(self, vectors: Floats2d, k: int, condition: Filter) -> list[Found]:
        from qdrant_client import models

        asked = None if condition == Every(()) else translate(condition)
        whole = models.QuantizationSearchParams(rescore=True, oversampling=2.0)
        return [
            _found(
                self._client.query_points(
                    self._name,
                    query=vector.tolist(),
                    using="fde",
                    query_filter=asked,
                    search_params=None if self._local else models.SearchParams(quantization=whole),
                    limit=k,
                    with_payload=["key"],
                )
            )
            for vector in vectors
        ]


def translate(condition: Filter) -> Any:
    """Translate a filter into Qdrant's."""
    from qdrant_client import models

    if isinstance(condition, Has):
        if not condition.terms:
            return translate(Either(()))
        found = models.FieldCondition(key="terms", match=models.MatchAny(any=list(condition.terms)))
        return models.Filter(must=[found])
    if isinstance(condition, Range):
        bounds = models.Range(
            gt=condition.gt, gte=condition.gte, lt=condition.lt, lte=condition.lte
        )
        key = f"numbers.{condition.field}"
        return models.Filter(must=[models.FieldCondition(key=key, range=bounds)])
    if isinstance(condition, Not):
        return models.Filter(must_not=[translate(condition.part)])
    assert isinstance(condition, (Every, Either))
    parts = [translate(part) for part in condition.parts]
    if isinstance(condition, Every):
        return models.Filter(must=parts)
    if not parts:  # no point is named so
        return models.Filter(must=[models.HasIdCondition(has_id=[])])
    return models.Filter(should=parts)


def _found(answer: Any) -> Found:
    ids = [json_id(point.payload["key"]) for point in answer.points]
    return Found(ids, np.array([point.score for point in answer.points], np.float32))


def _name(key: str) -> str:
    """Return the name of a point: Qdrant takes UUIDs and whole numbers only."""
    return str(uuid.uuid5(SPACE, key))


class _Client:
    """A client whose failures say what to do."""

    def __init__(self, client: Any, where: str) -> None:
        self._client, self._where = client, where

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)

        def asked(*given: Any, **named: Any) -> Any:
            from qdrant_client.http import exceptions as http

            try:
                return call(*given, **named)
            except (http.ResponseHandlingException, http.UnexpectedResponse) as fault:
                raise InputError(
                    f"{self._where}: the Qdrant server did not do {name} ({fault})",
                    hint="see that it runs there, and set QDRANT_API_KEY where it asks for a key",
                ) from fault

        return asked


def _connect(where: str) -> tuple[Any, bool]:
    """Return a client, and whether it is of the local mode."""
    try:
        from qdrant_client import QdrantClient
    except ImportError as fault:
        raise MissingExtra.named("scale", "the Qdrant engine") from fault
    if "://" in where:
        key = os.environ.get("QDRANT_API_KEY")
        return _Client(
            QdrantClient(url=where, api_key=key, timeout=60, check_compatibility=False), where
        ), False
    if where == ":memory:":
        return _Client(QdrantClient(where), where), True
    try:
        return _Client(QdrantClient(path=where), where), True
    except RuntimeError as fault:
        raise SpaceBusy(
            f"{where}: another process has this Qdrant directory open",
            hint="wait until it has finished, or use a server: qdrant:http://HOST:6333",
        ) from fault
