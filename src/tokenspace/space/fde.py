"""The candidates' index of a space: fixed dimensional encodings in faiss, shard by shard.

A shard holds at most ``SHARD`` passages, so that building needs the memory of one shard, and
searching maps the files instead of reading them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from tokenspace.arrays import Floats1d, Floats2d, Ids, Ragged
from tokenspace.errors import FormatError
from tokenspace.io import replacing
from tokenspace.progress import Meter
from tokenspace.retrieve.muvera import FDE, MUVERA, choose_fill, engine
from tokenspace.retrieve.store import Codec, DocumentTokens

__all__ = ["FDEIndex"]

SHARD = 50_000
BATCH = 1024  # passages that are encoded at a time


def recipe(store: str) -> MUVERA:
    """Return the recipe for a space: 2,560 numbers a passage, kept in the precision ``store``.

    That is one of the paper's sizes (20, 4, 8); with int8 it is about what the tokens take.
    """
    codecs: dict[str, Codec] = {"float32": "f32", "float16": "f16", "int8": "i8"}
    return MUVERA(repetitions=20, k_sim=4, d_proj=8, fde_codec=codecs[store])


@dataclass(frozen=True)
class FDEIndex:
    """Shards of encodings, and the encoder that made them and encodes queries.

    ``figures`` tell how the filling of empty cells was chosen.
    """

    encoder: FDE
    shards: Sequence[Any]
    figures: dict[str, float]
    path: Path

    @classmethod
    def write(cls, path: Path, tokens: DocumentTokens, store: str) -> Self:
        """Encode all documents of ``tokens`` into the directory ``path`` and open it."""
        asked = recipe(store)
        fill, figures = choose_fill(asked, tokens)
        encoder = FDE(tokens.width, asked, fill=fill)
        with replacing(path) as partial, Meter("fde", len(tokens)) as meter:
            partial.mkdir()
            shard = engine(encoder)
            if not shard.is_trained:
                shard.train(_spread_sample(encoder, tokens))
            for number, begin in enumerate(range(0, len(tokens), SHARD)):
                if number:
                    shard.reset()  # an int8 engine keeps the ranges that it learned
                stop = min(begin + SHARD, len(tokens))
                _extend(shard, encoder, tokens, begin, stop, meter)
                _write(shard, partial, number)
            described = {"recipe": asked.to_dict(), "width": tokens.width, "fill": fill}
            described |= {"hash": encoder.config_hash, "figures": figures}
            (partial / "encoder.json").write_text(json.dumps(described), encoding="utf-8")
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Map the shards below ``path``."""
        import faiss

        described = json.loads((path / "encoder.json").read_text(encoding="utf-8"))
        encoder = FDE(
            int(described["width"]),
            MUVERA.from_dict(described["recipe"]),
            fill=bool(described["fill"]),
        )
        if encoder.config_hash != described["hash"]:
            raise FormatError(
                f"{path / 'encoder.json'}: the encodings were made by another configuration",
                hint="build the space again",
            )
        files = sorted(path.glob("*.faiss"))
        shards = [faiss.read_index(str(file), faiss.IO_FLAG_MMAP) for file in files]
        return cls(encoder, shards, described["figures"], path)

    def search(self, query: Floats2d, k: int) -> tuple[Ids, Floats1d]:
        """Return the ``k`` documents whose encodings match the query (T, D) best, and scores."""
        vector = self.encoder.queries(Ragged.pack([query]))
        numbers, scores, base = [np.zeros(0, np.int64)], [np.zeros(0, np.float32)], 0
        for shard in self.shards:
            values, places = shard.search(vector, min(k, shard.ntotal))
            numbers.append(places[0].astype(np.int64) + base)
            scores.append(values[0].astype(np.float32))
            base += shard.ntotal
        found, values = np.concatenate(numbers), np.concatenate(scores)
        order = np.lexsort((found, -values))[:k]
        return found[order], values[order]

    def change(self, path: Path, keep: Ids, tokens: DocumentTokens) -> None:
        """Write to ``path`` the encodings of the documents ``keep``, then those of new ones.

        ``tokens`` holds the kept documents first and then the new ones.
        """
        import faiss

        with replacing(path) as partial, Meter("fde", len(tokens) - len(keep)) as meter:
            partial.mkdir()
            base, count = 0, 0
            for number, mapped in enumerate(self.shards):
                shard = faiss.clone_index(mapped)
                own = keep[(keep >= base) & (keep < base + shard.ntotal)] - base
                gone = np.setdiff1d(np.arange(shard.ntotal), own)
                base += shard.ntotal
                if len(gone):
                    shard.remove_ids(faiss.IDSelectorBatch(gone.astype(np.int64)))
                count += shard.ntotal
                if number == len(self.shards) - 1:
                    _extend(shard, self.encoder, tokens, count, len(tokens), meter)
                _write(shard, partial, number)
            described = (self.path / "encoder.json").read_text(encoding="utf-8")
            (partial / "encoder.json").write_text(described, encoding="utf-8")


def _extend(
    shard: Any, encoder: FDE, tokens: DocumentTokens, begin: int, stop: int, meter: Meter
) -> None:
    """Encode documents ``begin`` to ``stop`` into the shard."""
    for start in range(begin, stop, BATCH):
        part = encoder.encode_documents(tokens, start, min(start + BATCH, stop))
        shard.add(part)
        meter.add(len(part))


def _spread_sample(encoder: FDE, tokens: DocumentTokens) -> Floats2d:
    """Encode up to 64 runs of 64 documents, evenly spread: what int8 learns its ranges from."""
    run = 64
    starts = np.unique(np.linspace(0, max(0, len(tokens) - run), 64).astype(int)).tolist()
    parts = [encoder.encode_documents(tokens, i, min(i + run, len(tokens))) for i in starts]
    return np.concatenate(parts)


def _write(shard: Any, folder: Path, number: int) -> None:
    import faiss

    faiss.write_index(shard, str(folder / f"{number:04d}.faiss"))
