"""Where an index lives: one set of calls, and three engines behind it, chosen by a string.

=====================  ==============================================  ========================
string                 where documents are                             what searches
=====================  ==============================================  ========================
``faiss:flat``         a directory of this machine                     this process: faiss
``faiss:hnsw``         the same, with a graph over the encodings       this process: faiss
``lance:URI``          a LanceDB table: a directory, or a bucket       this process
                       (``lance:s3://bucket/folder``)
``qdrant:URL``         a Qdrant server (``qdrant:http://host:6333``)   the server
``qdrant:PATH``        qdrant-client's local mode, for trying out;     this process: NumPy
                       ``qdrant::memory:`` keeps nothing
=====================  ==============================================  ========================

``faiss:flat:i8`` and ``faiss:hnsw:i8`` hold encodings as int8; product codes (``pq8``), which must
be learned from many documents first, are refused. ``#NAME`` behind a lance or qdrant string names
the table or the collection, ``documents`` by default. Lance and Qdrant need the extra ``scale``.

>>> import tempfile
>>> import numpy as np
>>> from tokenspace.arrays import Ragged
>>> with tempfile.TemporaryDirectory() as folder:
...     index = create_index("faiss:flat", f"{folder}/index", width=2)
...     docs = Ragged.pack([[[0, 1]], [[1, 0], [1, 1]]])
...     index.add(["north", "east"], docs, [{"n": 1}, {"n": 2}])
...     found = index.search(Ragged.pack([[[1, 0]]]), k=1, where={"n": {"$gte": 2}})
...     index.close()
>>> found[0].ids
['east']
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from tokenspace.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from .engine import Document, Engine, Found, Id, Schema

__all__ = ["Document", "Engine", "Found", "Id", "Schema", "create_index", "open_index", "place"]

TABLE = "documents"
NO_CENTROIDS = (
    "take i8: a few documents may be added at a time, and no centroids can be learned of them; "
    "for all documents at once, tokenspace retrieve muvera takes fde_codec=pq8"
)


def __getattr__(name: str) -> Any:
    if name in ("Document", "Engine", "Found", "Id", "Schema"):
        from . import engine

        return getattr(engine, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class Place(NamedTuple):
    """What a string says: the engine, how it searches, where, and the name of the table."""

    engine: str
    kind: str | None
    where: str
    table: str
    codec: Any = None


def place(spec: str, path: str | Path | None = None) -> Place:
    """Read the string that chooses an engine.

    Anything that begins with no engine's name is the path of an index of our own. Raises
    :class:`ConfigError` for an engine that does not exist and for a place that is missing.
    """
    engine, _, rest = str(spec).partition(":")
    if engine == "faiss":
        kind, _, codec = rest.partition(":")
        if codec.startswith("pq"):
            raise ConfigError(f"{spec}: an engine holds no product codes", hint=NO_CENTROIDS)
        if kind not in ("flat", "hnsw") or codec not in ("", "f32", "f16", "i8"):
            raise ConfigError(
                f"there is no engine {spec!r}",
                hint="faiss:flat or faiss:hnsw, maybe with :f32, :f16 or :i8 behind it",
            )
        if path is None:
            raise ConfigError(f"{spec}: the path is missing", hint="say where the index lies")
        return Place("faiss", kind, str(path), TABLE, codec or None)
    if engine in ("lance", "qdrant") and rest:
        where, mark, table = rest.rpartition("#")
        return Place(engine, None, where if mark else rest, table if mark else TABLE)
    if engine in ("lance", "qdrant"):
        raise ConfigError(
            f"{spec!r}: the place is missing", hint="lance:PATH, lance:s3://…, qdrant:http://…"
        )
    return Place("faiss", None, str(spec if path is None else path), TABLE)


def create_index(
    spec: str,
    path: str | Path | None = None,
    *,
    width: int,
    encoder: str = "",
    **settings: Any,
) -> Engine:
    """Make an empty index for token vectors of ``width`` numbers, and open it for writing.

    ``encoder`` is the hash of the encoder that makes them; where it is given, vectors of another
    are refused. ``settings`` are those of :class:`~tokenspace.retrieve.engines.engine.Schema`.
    Raises :class:`~tokenspace.errors.InputError` where an index is there already,
    :class:`ConfigError` for a setting that is not allowed, and
    :class:`~tokenspace.errors.MissingExtra` where the engine's package is not installed.
    """
    from dataclasses import replace

    from .engine import Schema

    at = place(spec, path)
    schema = Schema.plan(width, encoder=encoder, **settings)
    if at.engine == "lance":
        from .lance import LanceIndex

        return LanceIndex.create(at.where, at.table, schema)
    if at.engine == "qdrant":
        from .qdrant import QdrantIndex

        return QdrantIndex.create(at.where, at.table, schema)
    from .collection import Collection

    if at.codec:
        schema = replace(schema, muvera=replace(schema.muvera, fde_codec=at.codec))
    return Collection.create(at.where, schema, at.kind or "flat")


def open_index(spec: str, path: str | Path | None = None, *, write: bool = False) -> Engine:
    """Open an index; ``write`` is needed for changing one of our own, and others ignore it.

    Raises :class:`~tokenspace.errors.InputError` where there is none,
    :class:`~tokenspace.errors.FormatError` where it is damaged, and
    :class:`~tokenspace.errors.SpaceBusy` while another process writes it.
    """
    at = place(spec, path)
    if at.engine == "lance":
        from .lance import LanceIndex

        return LanceIndex.open(at.where, at.table)
    if at.engine == "qdrant":
        from .qdrant import QdrantIndex

        return QdrantIndex.open(at.where, at.table)
    from .collection import Collection

    return Collection.open(at.where, at.kind, write=write)
