"""The candidates' index of a space: fixed dimensional encodings in faiss, shard by shard.

A shard holds at most ``SHARD`` passages. Building needs the memory of one shard; searching maps
the files instead of reading them, and where they are several, gives the pages of each back.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from tokenspace.arrays import Floats1d, Floats2d, Ids, Ragged
from tokenspace.errors import ConfigError, FormatError
from tokenspace.io import replacing
from tokenspace.progress import Meter
from tokenspace.retrieve.mapped import MappedIndex
from tokenspace.retrieve.muvera import FDE, MUVERA, choose_fill, engine
from tokenspace.retrieve.store import Codec, DocumentTokens

from .jobs import Jobs

__all__ = ["FDEIndex", "Holder"]

SHARD = 50_000
BATCH = 1024  # passages that are encoded at a time


def recipe(store: str) -> MUVERA:
    """Return the recipe for a space: 2,560 numbers a passage, kept in the precision ``store``.

    That is one of the paper's sizes (20, 4, 8); with int8 it is about what the tokens take.
    """
    codecs: dict[str, Codec] = {"float32": "f32", "float16": "f16", "int8": "i8"}
    return MUVERA(repetitions=20, k_sim=4, d_proj=8, fde_codec=codecs[store])


class Holder(Protocol):
    """What holds the documents, here and where its ``jobs`` run."""

    @property
    def jobs(self) -> Jobs:
        """Where documents are encoded."""

    @property
    def tokens(self) -> DocumentTokens:
        """Token vectors of all documents."""


@dataclass(frozen=True)
class Encode:
    """The job of encoding the documents of some numbers, (n, dim) float32."""

    encoder: FDE
    work: Holder

    def __call__(self, numbers: range) -> Floats2d:
        return self.encoder.encode_documents(self.work.tokens, numbers.start, numbers.stop)


@dataclass(frozen=True)
class FDEIndex:
    """Shards of encodings, and the encoder that made them and encodes queries.

    ``figures`` tell how the filling of empty cells was chosen.
    """

    encoder: FDE
    shards: Sequence[MappedIndex]
    figures: dict[str, float]
    path: Path

    @classmethod
    def write(cls, path: Path, work: Holder, store: str) -> Self:
        """Encode all documents of ``work`` into the directory ``path`` and open it."""
        asked, tokens = recipe(store), work.tokens
        fill, figures = choose_fill(asked, tokens)
        encoder = FDE(tokens.width, asked, fill=fill)
        with replacing(path) as partial, Meter("fde", len(tokens)) as meter:
            partial.mkdir()
            shard = engine(encoder, tokens)
            borders = [*range(0, len(tokens), SHARD), len(tokens)]
            batches = [_batches(*ends) for ends in itertools.pairwise(borders)]
            parts = work.jobs.map(Encode(encoder, work), itertools.chain(*batches))
            for number, own in enumerate(batches):
                if number:
                    shard.reset()  # an int8 engine keeps the ranges that it learned
                _extend(shard, itertools.islice(parts, len(own)), meter)
                _write(shard, partial, number)
            described = {"recipe": asked.to_dict(), "width": tokens.width, "fill": fill}
            described |= {"hash": encoder.config_hash, "figures": figures}
            (partial / "encoder.json").write_text(json.dumps(described), encoding="utf-8")
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Map the shards below ``path``."""
        described = json.loads((path / "encoder.json").read_text(encoding="utf-8"))
        fault = FormatError(
            f"{path / 'encoder.json'}: the encodings were made by another configuration",
            hint="build the space again",
        )
        try:
            asked = MUVERA.from_dict(described["recipe"])
        except ConfigError:  # knobs of another version
            raise fault from None
        encoder = FDE(int(described["width"]), asked, fill=bool(described["fill"]))
        if encoder.config_hash != described["hash"]:
            raise fault
        shards = [MappedIndex(file) for file in sorted(path.glob("*.faiss"))]
        return cls(encoder, shards, described["figures"], path)

    def encode(self, query: Floats2d) -> Floats1d:
        """Return the encoding of a query (T, D)."""
        encoded: Floats1d = self.encoder.queries(Ragged.pack([query]))[0]
        return encoded

    def rows(self, documents: Ids) -> Floats2d:
        """Return the stored encodings of ``documents`` (n,), which ascend, as float32."""
        parts, base = [np.zeros((0, self.encoder.dim), np.float32)], 0
        for shard in self.shards:
            own = documents[(documents >= base) & (documents < base + len(shard))] - base
            parts.append(shard.index.reconstruct_batch(own))
            base += len(shard)
            self._rest(shard)
        return np.concatenate(parts)

    def search(self, query: Floats2d, k: int) -> tuple[Ids, Floats1d]:
        """Return the ``k`` documents whose encodings match the query (T, D) best, and scores."""
        vector = self.encode(query)[None]
        numbers, scores, base = [np.zeros(0, np.int64)], [np.zeros(0, np.float32)], 0
        for shard in self.shards:
            values, places = shard.index.search(vector, min(k, len(shard)))
            numbers.append(places[0].astype(np.int64) + base)
            scores.append(values[0].astype(np.float32))
            base += len(shard)
            self._rest(shard)
        found, values = np.concatenate(numbers), np.concatenate(scores)
        order = np.lexsort((found, -values))[:k]
        return found[order], values[order]

    def _rest(self, shard: MappedIndex) -> None:
        if len(self.shards) > 1:
            shard.rest()

    def change(self, path: Path, keep: Ids, work: Holder) -> None:
        """Write to ``path`` the encodings of the documents ``keep``, then those of new ones.

        ``work`` holds the kept documents first and then the new ones.
        """
        import faiss

        tokens = work.tokens
        with replacing(path) as partial, Meter("fde", len(tokens) - len(keep)) as meter:
            partial.mkdir()
            base, count = 0, 0
            files = sorted(self.path.glob("*.faiss"))
            for number, file in enumerate(files):
                shard = faiss.read_index(str(file))
                own = keep[(keep >= base) & (keep < base + shard.ntotal)] - base
                gone = np.setdiff1d(np.arange(shard.ntotal), own)
                base += shard.ntotal
                if len(gone):
                    shard.remove_ids(faiss.IDSelectorBatch(gone.astype(np.int64)))
                count += shard.ntotal
                if number == len(files) - 1:
                    batches = _batches(count, len(tokens))
                    _extend(shard, work.jobs.map(Encode(self.encoder, work), batches), meter)
                _write(shard, partial, number)
            described = (self.path / "encoder.json").read_text(encoding="utf-8")
            (partial / "encoder.json").write_text(described, encoding="utf-8")


def _batches(begin: int, stop: int) -> list[range]:
    """Cut the documents ``begin`` to ``stop`` into parts of at most ``BATCH``."""
    return [range(start, min(start + BATCH, stop)) for start in range(begin, stop, BATCH)]


def _extend(shard: Any, parts: Iterator[Floats2d], meter: Meter) -> None:
    for part in parts:
        shard.add(part)
        meter.add(len(part))


def _write(shard: Any, folder: Path, number: int) -> None:
    import faiss

    faiss.write_index(shard, str(folder / f"{number:04d}.faiss"))
