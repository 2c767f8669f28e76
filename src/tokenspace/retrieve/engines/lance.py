"""The LanceDB engine: a table in a directory or in a bucket, which many may read.

Lance searches multi-vectors by cosine only, and MaxSim here is of inner products: so Lance finds
candidates by their encodings and filters them, and the exact scores are made in this process from
the tokens that it returns. Up to ``exact_below`` documents all tokens are read, batch by batch.

Columns: ``key`` (the id as JSON), ``metadata`` (JSON), ``terms`` and one ``n_FIELD`` for every
field that holds numbers (see :mod:`.filters`), ``fde`` and ``tokens``. A second small table,
``NAME.schema``, holds the schema. Whoever opened the table reads the version of that moment, and
changes of others are seen by opening it again. Compacting also builds the indexes: of keys, of
terms, and a graph over the encodings of ``INDEXED`` documents or more.

``codec`` is ``f32`` or ``f16``; encodings are float16.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np

from tokenspace.arrays import Floats2d, Ids, Ragged
from tokenspace.errors import ConfigError, InputError, MissingExtra
from tokenspace.retrieve._shared import best
from tokenspace.retrieve.store import TokenStore

from . import filters
from .engine import Document, Engine, Found, Record, Schema, json_id, merge, score
from .filters import Either, Every, Filter, Has, Not, Range

__all__ = ["LanceIndex", "sql"]

INDEXED = 50_000  # documents from which on compacting builds a graph
ROWS = 1024  # documents that are written or read at a time
KEYS = 500  # keys that one condition lists
_KINDS = {"f32": np.float32, "f16": np.float16}


class LanceIndex(Engine):
    """Documents in the table ``table`` of the database ``uri``."""

    def __init__(self, database: Any, table: Any, uri: str, schema: Schema) -> None:
        super().__init__(schema, f"lance:{uri}#{table.name}")
        self._database, self._table = database, table

    @classmethod
    def create(cls, uri: str, name: str, schema: Schema) -> Self:
        """Make an empty table. Raises :class:`InputError` where one of this name is."""
        if schema.codec not in _KINDS:
            raise ConfigError(
                f"codec={schema.codec!r} is not one of f32, f16, which Lance can hold",
                hint="choose f16, or the engine faiss:flat",
            )
        database = _connect(uri)
        if name in _names(database):
            raise InputError(
                f"lance:{uri}: there is a table {name} already",
                hint="choose another name: lance:URI#NAME",
            )
        table = database.create_table(name, schema=_columns(schema))
        made = cls(database, table, uri, schema)
        made._keep_schema()
        return made

    @classmethod
    def open(cls, uri: str, name: str) -> Self:
        """Open a table. Raises :class:`InputError` where there is none."""
        database = _connect(uri)
        if not {name, f"{name}.schema"} <= set(_names(database)):
            raise InputError(
                f"lance:{uri}: there is no index in the table {name}",
                hint=f"make one with: tokenspace index create lance:{uri} --width WIDTH",
            )
        plain = database.open_table(f"{name}.schema").to_arrow().column("schema")[0].as_py()
        schema = Schema.from_dict(json.loads(plain), f"lance:{uri}#{name}.schema")
        return cls(database, database.open_table(name), uri, schema)

    def compact(self) -> None:
        """Merge fragments, drop versions that are a week old, and build the indexes."""
        from lancedb.index import BTree, HnswSq, LabelList

        self._table.optimize()
        count = self._table.count_rows()
        if count:
            self._table.create_index("key", config=BTree(), replace=True)
            self._table.create_index("terms", config=LabelList(), replace=True)
        if count >= INDEXED:
            graph = HnswSq(distance_type="dot", num_partitions=1 + count // 1_000_000)
            self._table.create_index("fde", config=graph, replace=True)

    def info(self) -> dict[str, Any]:
        """Describe the index."""
        return {
            "engine": "lance",
            "path": self.where,
            "documents": self.count(),
            "generation": self._table.version,
            "indexes": sorted(index.name for index in self._table.list_indices()),
            "schema": self.schema.to_dict(),
        }

    def close(self) -> None:
        """Do nothing: a table holds neither locks nor connections."""

    def _keep_schema(self) -> None:
        import pyarrow as pa

        row = pa.table({"schema": [json.dumps(self.schema.to_dict())]})
        name = f"{self._table.name}.schema"
        mode = "overwrite" if name in _names(self._database) else "create"
        self._database.create_table(name, row, mode=mode)

    def _known(self, keys: Sequence[str]) -> set[str]:
        return {key for part in self._rows(keys, ["key"]) for key in part.column("key").to_pylist()}

    def _rows(self, keys: Sequence[str], columns: list[str]) -> Iterator[Any]:
        """Yield the rows of ``keys`` as record batches."""
        for start in range(0, len(keys), KEYS):
            listed = _in_keys(keys[start : start + KEYS])
            yield from self._table.search().where(listed).select(columns).to_batches()

    def _get(self, keys: Sequence[str]) -> list[Document]:
        found = {}
        for part in self._rows(keys, ["key", "metadata", "tokens"]):
            tokens = _ragged(part.column("tokens"), self.schema.width)
            for i, key in enumerate(part.column("key").to_pylist()):
                metadata = json.loads(part.column("metadata")[i].as_py())
                found[key] = Document(json_id(key), tokens[i], metadata)
        return [found[key] for key in keys]

    def _write(self, records: Sequence[Record], tokens: Ragged, known: set[str]) -> None:
        fields = {name for record in records for name in filters.numbers(record.metadata)}
        new = sorted(fields - self._numbers())
        if new:
            self._table.add_columns({f"n_{name}": "cast(NULL as double)" for name in new})
        rows = self._arrow(records, tokens)
        if known:
            replaced = self._table.merge_insert("key").when_matched_update_all()
            replaced.when_not_matched_insert_all().execute(rows)
        else:
            self._table.add(rows)

    def _numbers(self) -> set[str]:
        """Return the fields that have a column of numbers."""
        names = self._table.schema.names
        return {name.removeprefix("n_") for name in names if name.startswith("n_")}

    def _arrow(self, records: Sequence[Record], tokens: Ragged) -> Any:
        """Return documents as one table of all columns."""
        import pyarrow as pa

        def build(start: int) -> Any:
            stop = min(start + ROWS, len(records))
            some, offsets = records[start:stop], tokens.offsets[start : stop + 1]
            part = Ragged(tokens.flat[offsets[0] : offsets[-1]], offsets - offsets[0])
            columns: dict[str, Any] = {
                "key": pa.array([record.key for record in some]),
                "metadata": pa.array([json.dumps(record.metadata) for record in some]),
                "terms": pa.array(
                    [filters.terms(record.metadata) for record in some], pa.list_(pa.string())
                ),
                "fde": _fixed(encoder.encode_documents(TokenStore.pack(part), 0, len(part)), "f16"),
                "tokens": pa.ListArray.from_arrays(
                    pa.array(part.offsets.astype(np.int32)), _fixed(part.flat, self.schema.codec)
                ),
            }
            values = [filters.numbers(record.metadata) for record in some]
            for name in fields:
                row = [value.get(name) for value in values]
                columns[f"n_{name}"] = pa.array(row, pa.float64())
            return pa.table(columns)

        encoder, fields = self.schema.fde, sorted(self._numbers())
        return pa.concat_tables([build(start) for start in range(0, len(records), ROWS)])

    def _remove(self, keys: Sequence[str]) -> None:
        self._table.delete(_in_keys(keys))

    def _count(self, condition: Filter) -> int:
        return int(self._table.count_rows(sql(condition, self._numbers())))

    def _search(self, queries: Ragged, k: int, candidates: int, condition: Filter) -> list[Found]:
        if candidates:
            vectors = self.schema.fde.queries(queries)
            return [
                self._exact(
                    Ragged.pack([queries[i]]),
                    k,
                    self._near(vectors[i], candidates, condition, ["key", "tokens"]).to_batches(),
                )[0]
                for i in range(len(queries))
            ]
        asked = self._table.search().select(["key", "tokens"])
        if condition != Every(()):
            asked = asked.where(sql(condition, self._numbers()))
        return self._exact(queries, k, asked.to_batches(ROWS))

    def _exact(self, queries: Ragged, k: int, parts: Any) -> list[Found]:
        """Score every document of ``parts`` and return the best."""
        keys: list[str] = []
        held = np.full((len(queries), 1), -1, np.int64), np.zeros((len(queries), 1), np.float32)
        for part in parts:
            tokens = _ragged(part.column("tokens"), self.schema.width)
            store = TokenStore.pack(tokens, "f32")
            documents: Ids = np.arange(len(store))
            places, values = best(score(store, queries, documents, self.schema.muvera.threads), k)
            held = merge([held, (places + len(keys), values)], k)
            keys += part.column("key").to_pylist()
        found = []
        for numbers, scores in zip(*held, strict=True):
            real = numbers >= 0
            ids = [json_id(keys[number]) for number in numbers[real].tolist()]
            found.append(Found(ids, scores[real]))
        return found

    def _near(self, vector: Any, k: int, condition: Filter, columns: list[str]) -> Any:
        """Return the best ``k`` rows by encodings as an Arrow table."""
        asked = self._table.search(vector, vector_column_name="fde").distance_type("dot")
        if condition != Every(()):
            asked = asked.where(sql(condition, self._numbers()), prefilter=True)
        return asked.limit(k).select([*columns, "_distance"]).to_arrow()

    def _search_single(self, vectors: Floats2d, k: int, condition: Filter) -> list[Found]:
        found = []
        for vector in vectors:
            rows = self._near(vector, k, condition, ["key"])
            ids = [json_id(key) for key in rows.column("key").to_pylist()]
            distances = rows.column("_distance").to_numpy()
            found.append(Found(ids, (1 - distances).astype(np.float32)))  # Lance: 1 - <q, d>
        return found


def sql(condition: Filter, fields: set[str]) -> str:
    """Translate a filter into Lance's SQL; ``fields`` are those with a column of numbers."""
    if isinstance(condition, Has):
        if not condition.terms:
            return "false"
        listed = ", ".join(_quoted(term) for term in condition.terms)
        return f"coalesce(array_has_any(terms, [{listed}]), false)"
    if isinstance(condition, Range):
        if condition.field not in fields:
            return "false"
        column = f"`n_{condition.field}`"
        signs = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
        parts = [
            f"{column} {sign} {float(value)!r}"
            for name, sign in signs.items()
            if (value := getattr(condition, name)) is not None
        ]
        return f"({column} IS NOT NULL AND {' AND '.join(parts)})"
    if isinstance(condition, Not):
        return f"NOT {sql(condition.part, fields)}"
    assert isinstance(condition, (Every, Either))
    word, none = (" AND ", "true") if isinstance(condition, Every) else (" OR ", "false")
    return "(" + (word.join(sql(part, fields) for part in condition.parts) or none) + ")"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _in_keys(keys: Sequence[str]) -> str:
    return f"key IN ({', '.join(_quoted(key) for key in keys)})"


def _connect(uri: str) -> Any:
    try:
        import lancedb
    except ImportError as fault:
        raise MissingExtra.named("scale", "the Lance engine") from fault
    return lancedb.connect(uri)


def _names(database: Any) -> list[str]:
    """Return the names of all tables."""
    names: list[str] = []
    page = database.list_tables()
    names += page.tables
    while page.page_token:
        page = database.list_tables(page_token=page.page_token)
        names += page.tables
    return names


def _columns(schema: Schema) -> Any:
    import pyarrow as pa

    kind = {"f32": pa.float32(), "f16": pa.float16()}[schema.codec]
    return pa.schema(
        [
            pa.field("key", pa.string()),
            pa.field("metadata", pa.string()),
            pa.field("terms", pa.list_(pa.string())),
            pa.field("fde", pa.list_(pa.float16(), schema.fde.dim)),
            pa.field("tokens", pa.list_(pa.list_(kind, schema.width))),
        ]
    )


def _fixed(rows: Floats2d, codec: str) -> Any:
    """Return rows (n, D) as an Arrow array of n lists of D numbers."""
    import pyarrow as pa

    flat = np.ascontiguousarray(rows, _KINDS[codec]).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), rows.shape[1])


def _ragged(column: Any, width: int) -> Ragged:
    """Return the matrices of an Arrow column of lists of fixed-size lists."""
    offsets = np.asarray(column.offsets, np.int64)
    rows = column.values.slice(int(offsets[0]), int(offsets[-1] - offsets[0]))
    flat = rows.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    return Ragged(flat.reshape(-1, width), offsets - offsets[0])
