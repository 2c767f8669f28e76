"""A segment: documents that were added together, in files that never change.

::

    s000007.0/
      tokens/            a TokenStore: the token vectors
      fde.faiss          the encodings, as a flat faiss index or as a graph
      documents/         ids and metadata, one JSON object a line
      keys.npy           (2, N) uint64: hashes of the ids, ascending, and whose they are
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats2d, Ids, Ids2d, Ragged
from tokenspace.json_lines import JsonLines
from tokenspace.progress import track
from tokenspace.retrieve._shared import best, chamfer_of
from tokenspace.retrieve.mapped import MappedIndex
from tokenspace.retrieve.muvera import engine
from tokenspace.retrieve.store import StoreWriter, TokenStore

from .engine import Document, Record, Schema, json_id, key_of, score
from .filters import Columns, Every, Filter, mask

__all__ = ["Segment", "write"]

MEND = "restore the index from a copy, or create it again"
BATCH = 1024  # documents that are encoded at a time
SMALL = 1 << 16  # bytes up to which a file is held: a mapping keeps a file open
TRAINED = 4096  # encodings that a graph's int8 codes learn from
Mask = npt.NDArray[np.bool_]


class Segment:
    """An opened segment; its files stay readable when another process removes them."""

    def __init__(self, folder: Path, schema: Schema) -> None:
        self.name, self.schema = folder.name, schema
        store = TokenStore.open(folder / "tokens")
        if store.nbytes <= SMALL:
            store = TokenStore(np.array(store.tokens), store.offsets, np.array(store.scales))
        self.store = store
        self.fdes = MappedIndex(folder / "fde.faiss")
        self.documents = JsonLines(folder / "documents", "documents", MEND)
        path = folder / "keys.npy"
        large = path.stat().st_size > SMALL
        self._keys = np.load(path, mmap_mode="r" if large else None, allow_pickle=False)

    def __len__(self) -> int:
        return len(self.store)

    @cached_property
    def _columns(self) -> Columns:
        return Columns([record["metadata"] for record in self.documents])

    def allowed(self, condition: Filter, deleted: Ids) -> Mask:
        """Tell which documents are not deleted and pass a filter, (N,)."""
        if condition == Every(()):  # asks for no metadata, so none is read
            found = np.ones(len(self), np.bool_)
        else:
            found = mask(condition, self._columns)
        found[deleted] = False
        return found

    def places(self, keys: Sequence[str], deleted: Ids) -> dict[str, int]:
        """Return the numbers of those documents that are here and not deleted."""
        wanted = np.array([_hash(key) for key in keys], np.uint64)
        low = np.searchsorted(self._keys[0], wanted, "left")
        high = np.searchsorted(self._keys[0], wanted, "right")
        found = {}
        for i in np.flatnonzero(low < high).tolist():
            for place in self._keys[1, low[i] : high[i]].tolist():
                here = key_of(self.documents[place]["id"]) == keys[i]  # not a mere equal hash
                if here and not _holds(deleted, place):
                    found[keys[i]] = int(place)
        return found

    def document(self, place: int) -> Document:
        """Return one document."""
        record = self.documents[place]
        return Document(record["id"], self.store[place], record["metadata"])

    def exact(self, queries: Ragged, k: int, allowed: Mask) -> tuple[Ids2d, Floats2d]:
        """Return the best documents that are ``allowed``, and their exact scores, (Q, <= k)."""
        documents = np.flatnonzero(allowed)
        places, values = best(score(self.store, queries, documents, self.threads), k)
        return documents[places], values

    def near(self, vectors: Floats2d, k: int, allowed: Mask) -> tuple[Ids2d, Floats2d]:
        """Return the best by encodings among those that are ``allowed``; -1 stands for none."""
        import faiss

        count = int(allowed.sum())
        selector = None if count == len(self) else faiss.IDSelectorBatch(np.flatnonzero(allowed))
        k = min(k, count)
        library: Any = faiss  # its type hints know no parameters
        if isinstance(self.fdes.index, faiss.IndexHNSW):
            asked = library.SearchParametersHNSW(sel=selector, efSearch=max(64, 2 * k))
        else:
            asked = library.SearchParameters(sel=selector)
        values, places = self.fdes.index.search(vectors, k, params=asked)
        return places.astype(np.int64), values.astype(np.float32)

    def rescore(self, queries: Ragged, candidates: Ids2d) -> Floats2d:
        """Return exact scores of ``candidates`` (Q, C); -1 stands for none: -inf."""
        return chamfer_of(self.store, queries, candidates, self.threads)

    @property
    def threads(self) -> int:
        """Threads of the recipe."""
        return self.schema.muvera.threads

    def record(self, place: int) -> Record:
        """Return a document's key and metadata."""
        record = self.documents[place]
        return Record(key_of(record["id"]), record["metadata"])

    def stored(self, place: int) -> TokenStore:
        """Return a document's tokens as they are stored."""
        low, high = self.store.offsets[place : place + 2].tolist()
        own = np.array([0, high - low], np.int64)
        return TokenStore(self.store.tokens[low:high], own, self.store.scales[low:high])


def write(
    folder: Path,
    schema: Schema,
    graph: bool,
    records: Sequence[Record],
    tokens: Iterable[Ragged | TokenStore],
) -> None:
    """Write a segment to the directory ``folder``, which does not exist yet."""
    import faiss

    folder.mkdir()
    with StoreWriter.open(folder / "tokens", schema.width, schema.codec) as writer:
        for part in tokens:
            writer.extend(part)
    lines = ({"id": json_id(record.key), "metadata": record.metadata} for record in records)
    JsonLines.write(folder / "documents", "documents", lines)
    hashes = np.array([_hash(record.key) for record in records], np.uint64)
    order = np.argsort(hashes, kind="stable")
    np.save(folder / "keys.npy", np.stack([hashes[order], order.astype(np.uint64)]))
    store = TokenStore.open(folder / "tokens")  # as they are stored, so that compacting alters none
    encoder = schema.fde
    index = _graph(schema, store) if graph else engine(encoder, store)
    for start in track(range(0, len(store), BATCH), "encode"):
        index.add(encoder.encode_documents(store, start, min(start + BATCH, len(store))))
    faiss.write_index(index, str(folder / "fde.faiss"))


def _graph(schema: Schema, store: TokenStore) -> Any:
    """Return an empty graph for the encodings of ``store``."""
    import faiss

    encoder, codec = schema.fde, schema.muvera.fde_codec
    index: Any
    if codec == "f32":
        index = faiss.IndexHNSWFlat(encoder.dim, 32, faiss.METRIC_INNER_PRODUCT)
    else:
        kind: Any = {"f16": faiss.ScalarQuantizer.QT_fp16, "i8": faiss.ScalarQuantizer.QT_8bit}
        index = faiss.IndexHNSWSQ(encoder.dim, kind[codec], 32, faiss.METRIC_INNER_PRODUCT)
        step = max(1, len(store) // TRAINED)
        chosen = range(0, len(store), step)
        index.train(np.concatenate([encoder.encode_documents(store, i, i + 1) for i in chosen]))
    index.hnsw.efConstruction = 100
    return index


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")


def _holds(ascending: Ids, number: int) -> bool:
    place = int(np.searchsorted(ascending, number))
    return place < len(ascending) and int(ascending[place]) == number
