"""A run of many texts as files: shards that stay when it is killed, and the one they become."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tokenspace import __version__, durable
from tokenspace.arrays import Floats2d
from tokenspace.corpus import Corpus
from tokenspace.errors import ConfigError, FormatError, InputError, MissingExtra
from tokenspace.io import read_tensors, replacing, save_blocks, save_tensors
from tokenspace.runner import hashes
from tokenspace.text_encoder import check_texts

__all__ = ["FORMATS", "Item", "Parts", "Shard", "Survey", "check_target", "groups", "join"]

log = logging.getLogger(__name__)

FORMATS = (".safetensors", ".parquet", ".npy")
TEXTS = 8192  # of a shard at most
CHARACTERS = 1 << 20  # of a shard at most, but for its last text: a minute or two of one core


class Shard(NamedTuple):
    """The vectors of consecutive texts, and what was counted, as in ``Tally``."""

    vectors: Floats2d
    tokens: int
    cut: int
    beyond: int = 0


class Item(NamedTuple):
    """What one shard is made from: its number, the number of its first text, and its texts."""

    shard: int
    first: int
    texts: list[str]


def groups(corpus: Corpus) -> Iterator[list[str]]:
    """Yield the texts of one shard after the other."""
    group: list[str] = []
    size = 0
    for text in corpus:
        group.append(text)
        size += len(text)
        if len(group) == TEXTS or size >= CHARACTERS:
            yield group
            group, size = [], 0
    if group:
        yield group


@dataclass(frozen=True)
class Survey:
    """A first reading: the texts in each shard, how many are empty; all of them can be encoded."""

    sizes: tuple[int, ...]
    empty: int

    @classmethod
    def of(cls, corpus: Corpus) -> Survey:
        """Read a corpus. Raises :class:`InputError` for no text, and for one of bad Unicode."""
        sizes: list[int] = []
        read = empty = 0
        for group in groups(corpus):
            check_texts(group, first=read)
            sizes.append(len(group))
            read += len(group)
            empty += sum(not text.strip() for text in group)
        if not read:
            raise InputError("there is no text", hint="give a file with a text a line")
        return cls(tuple(sizes), empty)

    @property
    def texts(self) -> int:
        """How many texts there are."""
        return sum(self.sizes)

    def sample(self, corpus: Corpus, size: int) -> list[str]:
        """Return at most ``size`` texts, evenly spread."""
        return list(islice(corpus, 0, None, -(-self.texts // size)))

    def items(self, corpus: Corpus, wanted: set[int]) -> Iterator[Item]:
        """Yield the shards of these numbers."""
        starts = accumulate(self.sizes, initial=0)
        for number, (first, group) in enumerate(zip(starts, groups(corpus), strict=False)):
            if number in wanted:
                yield Item(number, first, group)


@dataclass(frozen=True)
class Parts:
    """The directory of finished shards, of so many texts each."""

    folder: Path
    sizes: tuple[int, ...]

    @classmethod
    def beside(cls, target: Path, survey: Survey) -> Parts:
        """Return that of a file that is to be written."""
        return cls(target.with_name(f"{target.name}.parts").absolute(), survey.sizes)

    def path(self, number: int) -> Path:
        """Return the file of a shard."""
        return self.folder / f"{number:08d}.safetensors"

    def plan(self, model: str | None, corpus: Corpus, how: Mapping[str, Any]) -> dict[str, Any]:
        """Return all that the shards depend on; of a model without a path, something unique."""
        return {
            "tokenspace": __version__,
            "model": list(hashes(model).values()) if model else os.urandom(16).hex(),
            "texts": corpus.fingerprint,
            "shards": [TEXTS, CHARACTERS],
            **how,
        }

    def follows(self, plan: Mapping[str, Any]) -> bool:
        """Tell whether the shards that are there are of this plan."""
        try:
            return bool(json.loads((self.folder / "plan.json").read_text("utf-8")) == plan)
        except (OSError, ValueError):
            return False

    def begin(self, plan: Mapping[str, Any]) -> None:
        """Keep what was made by the same plan, and remove everything else."""
        if self.follows(plan):
            return
        former = [p for p in self.folder.iterdir() if p.name not in (".lock", "plan.json")]
        if former:
            log.warning("%s: of other texts or settings: begun anew", self.folder)
        for path in former:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        with replacing(self.folder / "plan.json") as partial:
            partial.write_text(json.dumps(plan, indent=2) + "\n", encoding="utf-8")

    def tidy(self) -> None:
        """Leave no directory behind in which nothing is finished."""
        if not any(self.folder.glob("*.safetensors")):
            shutil.rmtree(self.folder, ignore_errors=True)

    def finished(self, dim: int) -> set[int]:
        """Return the shards that are there and whole; what is damaged is made again."""
        found = set()
        for number, size in enumerate(self.sizes):
            if self.path(number).is_file():
                try:
                    whole = self.read(number).vectors.shape == (size, dim)
                except (FormatError, KeyError, ValueError):
                    whole = False
                if whole:
                    found.add(number)
        return found

    def texts(self, shards: Iterable[int]) -> int:
        """Return how many texts these shards have together."""
        return sum(self.sizes[number] for number in shards)

    def read(self, number: int) -> Shard:
        """Return a shard, mapped into memory."""
        tensors = read_tensors(self.path(number))
        return Shard(np.asarray(tensors["vectors"], np.float32), *tensors["counts"].tolist())

    def write(self, number: int, shard: Shard) -> None:
        """Keep a shard: whole or not at all, whatever happens."""
        counts = np.array(shard[1:], np.int64)
        save_tensors(self.path(number), {"vectors": shard.vectors, "counts": counts})
        durable.sync(self.path(number))

    def finish(self, target: Path, dim: int, corpus: Corpus) -> None:
        """Write all shards as one file, and remove them."""
        numbers = range(len(self.sizes))
        blocks = (self.read(number).vectors for number in numbers)
        join(target, (self.texts(numbers), dim), blocks, groups(corpus))
        for number in numbers:
            self.path(number).unlink()


def check_target(target: Path, *, force: bool) -> None:
    """Raise :class:`ConfigError` where nothing can or may be written."""
    if target.suffix not in FORMATS:
        raise ConfigError(
            f"{target}: no format has the suffix {target.suffix!r}",
            hint=f"use one of {', '.join(FORMATS)}",
        )
    if target.exists() and not force:
        raise ConfigError(f"{target} exists", hint="choose another --out, or add --force")
    if target.suffix == ".parquet":
        _pyarrow(target)


def join(
    target: Path,
    shape: tuple[int, int],
    blocks: Iterable[Floats2d],
    texts: Iterable[list[str]],
) -> None:
    """Write the matrix that comes in blocks of rows, in the format of the target's suffix.

    Parquet alone holds the ``texts``, which come in blocks of the same sizes.
    """
    if target.suffix == ".safetensors":
        return save_blocks(target, "vectors", shape, blocks)
    if target.suffix == ".npy":
        described = {"descr": "<f4", "fortran_order": False, "shape": shape}
        with replacing(target) as partial, partial.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, described)
            for block in blocks:
                file.write(np.ascontiguousarray(block, "<f4").tobytes())
        return None
    arrow, parquet = _pyarrow(target)
    vector = arrow.list_(arrow.float32(), shape[1])
    schema = arrow.schema([("text", arrow.string()), ("vector", vector)])
    with replacing(target) as partial, parquet.ParquetWriter(partial, schema) as writer:
        for block, group in zip(blocks, texts, strict=True):
            flat: npt.NDArray[np.float32] = np.ascontiguousarray(block).reshape(-1)
            rows = arrow.FixedSizeListArray.from_arrays(arrow.array(flat), type=vector)
            writer.write_table(arrow.table([arrow.array(group), rows], schema=schema))
    return None


def _pyarrow(target: Path) -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtra.named("parquet", f"writing {target.name}") from None
    return pyarrow, parquet
