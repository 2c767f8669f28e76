"""Our own engine: a directory of immutable segments, searched in this process.

::

    index/
      manifest.json          which segments count, with the checksum of each of their files
      s000002.0/             documents that the second change added (:mod:`.segment`)
      s000002.0.d000005.npy  those of them that the fifth deleted, or a former, by number
      .lock                  held by the one process that writes

A change writes new segments and new lists of deleted documents beside the old ones, flushes them
to the disk, and then renames a new manifest over the old one: that rename is the only moment at
which the index changes, so a process that is killed leaves the state before it or after it. What
no manifest names is removed when the index is next opened for writing.

Whoever reads keeps the segments that the manifest named when the index was opened, and holds
their files open: later changes and compactions do not disturb it (:meth:`Collection.refresh`
takes them up). Many small additions are merged as they come, so that their number grows with the
logarithm of the collection; :meth:`Collection.compact` merges all and drops what is deleted.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate, count
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tokenspace import __version__
from tokenspace.arrays import Floats2d, Ids, Ids2d, Ragged
from tokenspace.durable import check, lock, seal, stamp, sync
from tokenspace.errors import ConfigError, FormatError, InputError
from tokenspace.io import replacing
from tokenspace.progress import track
from tokenspace.retrieve._shared import best

from .engine import Document, Engine, Found, Record, Schema, merge
from .filters import Every, Filter
from .segment import MEND, Segment, write

__all__ = ["KINDS", "Collection"]

FORMAT = 1
KINDS = ("flat", "hnsw")
SEGMENT = 50_000  # documents of a segment at most: building needs the memory of one
CROWD = 16  # small segments that are merged
VERIFY_BELOW = 1 << 30  # bytes up to which opening compares checksums: about a second
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Held:
    """A segment, what is deleted of it (ascending), and its entry in the manifest."""

    segment: Segment
    deleted: Ids
    entry: dict[str, Any]

    def __len__(self) -> int:
        return len(self.segment) - len(self.deleted)


@dataclass(frozen=True)
class State:
    """A generation: never changed, only replaced."""

    generation: int
    held: tuple[Held, ...]

    @property
    def bases(self) -> list[int]:
        """The number of the first document of each segment."""
        return [0, *accumulate(len(part.segment) for part in self.held)][:-1]


class Collection(Engine):
    """Documents in a directory; candidates from faiss, exact scores from mapped tokens.

    ``kind`` is how encodings are searched: ``flat`` compares with every one, ``hnsw`` walks a
    graph.
    """

    def __init__(
        self,
        root: Path,
        schema: Schema,
        kind: str,
        state: State,
        writer: ExitStack | None = None,
    ) -> None:
        super().__init__(schema, str(root), writable=writer is not None)
        self.root, self.kind = root, kind
        self._state, self._writer = state, writer
        self._passing: tuple[State, Filter, list[Mask]] | None = None

    @classmethod
    def create(cls, path: str | Path, schema: Schema, kind: str = "flat") -> Self:
        """Make an empty index in a directory that is new or empty, opened for writing.

        Raises :class:`InputError` where something is there, :class:`ConfigError` for a ``kind``
        that does not exist, :class:`~tokenspace.errors.SpaceBusy` while another process writes.
        """
        root = Path(path)
        if kind not in KINDS:
            raise ConfigError(f"faiss:{kind}: the kind is not one of {', '.join(KINDS)}")
        if root.exists() and not root.is_dir():
            raise InputError(f"{root}: not a directory", hint="choose another path")
        if root.is_dir() and {path.name for path in root.iterdir()} - {".lock"}:
            there = (root / "manifest.json").exists()
            raise InputError(
                f"{root}: " + ("there is an index already" if there else "not an empty directory"),
                hint="choose another path, or delete what is there",
            )
        with ExitStack() as stack:
            stack.enter_context(lock(root, "index"))
            made = cls(root, schema, kind, State(0, ()), stack.pop_all())
            made._commit([])
        return made

    @classmethod
    def open(
        cls,
        path: str | Path,
        kind: str | None = None,
        *,
        write: bool = False,
        verify: bool | None = None,
    ) -> Self:
        """Open an index for reading, or as the one process that writes.

        Opening for writing removes what a killed writer left. ``verify`` compares every file with
        its checksum, by default where all are below 1 GB; sizes are always compared. Raises
        :class:`InputError` where there is no index, :class:`FormatError` naming a file that is
        damaged, and :class:`~tokenspace.errors.SpaceBusy` while another process writes.
        """
        root = Path(path)
        manifest = _read(root)
        own = manifest["engine"].partition(":")[2]
        if kind is not None and kind != own:
            raise ConfigError(
                f"{root}: the index is faiss:{own}, not faiss:{kind}",
                hint=f"open it as faiss:{own}, or create another",
            )
        with ExitStack() as stack:
            if write:
                stack.enter_context(lock(root, "index"))
                manifest = _read(root)
                _sweep(root, manifest)
            manifest, schema, state = _open(root, manifest, verify)
            kept = stack.pop_all()
        return cls(root, schema, own, state, kept if write else None)

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return sum(
            int(file["bytes"])
            for part in self._state.held
            for file in [*part.entry["files"].values(), *filter(None, [part.entry["deleted"]])]
        )

    @property
    def generation(self) -> int:
        """How many changes the index has seen."""
        return self._state.generation

    def refresh(self) -> bool:
        """Take up what others have committed since; say whether there was anything."""
        if self.writable:
            return False
        manifest = _read(self.root)
        if manifest["generation"] == self._state.generation:
            return False
        former = {part.segment.name: part.segment for part in self._state.held}
        _, self.schema, self._state = _open(self.root, manifest, False, former)
        return True

    def compact(self) -> None:
        """Merge segments into full ones without what is deleted; ids and order stay."""
        self._check_writable()
        with self._turn:
            runs: list[list[Held]] = [[]]
            done: list[Held] = []
            for part in self._state.held:
                if len(part.deleted) == 0 and len(part) == SEGMENT:
                    done += [*self._merged(runs.pop()), part]
                    runs.append([])
                else:
                    runs[-1].append(part)
            done += self._merged(runs.pop())
            if done != list(self._state.held):
                self._commit(done)

    def info(self) -> dict[str, Any]:
        """Describe the index."""
        state, documents = self._state, self.count()
        exact = documents <= self.schema.exact_below
        return {
            "engine": f"faiss:{self.kind}",
            "path": str(self.root),
            "documents": documents,
            "deleted": sum(len(part.deleted) for part in state.held),
            "tokens": sum(int(part.segment.store.offsets[-1]) for part in state.held),
            "segments": len(state.held),
            "generation": state.generation,
            "first stage": "none: all are scored" if exact else f"encodings, {self.kind}",
            "bytes": self.nbytes,
            "schema": self.schema.to_dict(),
        }

    def close(self) -> None:
        """Let others write."""
        self.writable = False
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _known(self, keys: Sequence[str]) -> set[str]:
        found: set[str] = set()
        for part in self._state.held:
            found |= part.segment.places(keys, part.deleted).keys()
        return found

    def _get(self, keys: Sequence[str]) -> list[Document]:
        found: dict[str, Document] = {}
        for part in self._state.held:
            for key, place in part.segment.places(keys, part.deleted).items():
                found[key] = part.segment.document(place)
        return [found[key] for key in keys]

    def _count(self, condition: Filter) -> int:
        if condition == Every(()):
            return sum(map(len, self._state.held))
        return int(sum(mask.sum() for mask in self._masks(self._state, condition)))

    def _masks(self, state: State, condition: Filter) -> list[Mask]:
        """Tell which documents of each segment may be found; the last answer is kept."""
        last = self._passing
        if last is None or last[0] is not state or last[1] != condition:
            masks = [part.segment.allowed(condition, part.deleted) for part in state.held]
            self._passing = last = (state, condition, masks)
        return last[2]

    def _search(self, queries: Ragged, k: int, candidates: int, condition: Filter) -> list[Found]:
        state = self._state
        if candidates:
            vectors = self.schema.fde.queries(queries)
            chosen, _ = self._near(state, vectors, candidates, condition)
            return self._best_of(state, queries, np.sort(chosen, axis=1), k)
        masks = self._masks(state, condition)
        parts = []
        for part, base, mask in zip(state.held, state.bases, masks, strict=True):
            if mask.any():
                documents, values = part.segment.exact(queries, k, mask)
                parts.append((documents + base, values))
        return _found(state, *merge(parts, k)) if parts else _nothing(len(queries))

    def _search_single(self, vectors: Floats2d, k: int, condition: Filter) -> list[Found]:
        return _found(self._state, *self._near(self._state, vectors, k, condition))

    def _near(
        self, state: State, vectors: Floats2d, k: int, condition: Filter
    ) -> tuple[Ids2d, Floats2d]:
        """Return the best ``k`` numbers by encodings, (Q, <= k); -1 stands for none."""
        none = np.full((len(vectors), 1), -1, np.int64)
        parts = [(none, np.zeros(none.shape, np.float32))]
        masks = self._masks(state, condition)
        for part, base, mask in zip(state.held, state.bases, masks, strict=True):
            if mask.any():
                places, values = part.segment.near(vectors, k, mask)
                parts.append((np.where(places < 0, -1, places + base), values))
                if len(state.held) > 1:
                    part.segment.fdes.rest()
        return merge(parts, k)

    def _best_of(self, state: State, queries: Ragged, numbers: Ids2d, k: int) -> list[Found]:
        """Score candidates (Q, C) exactly and return the best."""
        scores = np.full(numbers.shape, -np.inf, np.float32)
        for part, base in zip(state.held, state.bases, strict=True):
            local = numbers - base
            local[(local < 0) | (local >= len(part.segment)) | (numbers < 0)] = -1
            scores = np.maximum(scores, part.segment.rescore(queries, local))
        places, values = best(scores, k)
        return _found(state, np.take_along_axis(numbers, places, axis=1), values)

    def _keep_schema(self) -> None:
        """Do nothing: the next manifest holds it."""

    def _write(self, records: Sequence[Record], tokens: Ragged, known: set[str]) -> None:
        held = self._buried(known)
        for start in range(0, len(records), SEGMENT):
            stop = min(start + SEGMENT, len(records))
            offsets = tokens.offsets[start : stop + 1]
            part = Ragged(tokens.flat[offsets[0] : offsets[-1]], offsets - offsets[0])
            held.append(self._segment(records[start:stop], [part]))
        crowd = _crowd(held)
        if crowd < len(held):
            held = [*held[:crowd], *self._merged(held[crowd:])]
        self._commit(held)

    def _remove(self, keys: Sequence[str]) -> None:
        self._commit(self._buried(keys))

    def _buried(self, keys: Iterable[str]) -> list[Held]:
        """Return the segments with ``keys`` deleted, without those of which nothing is left."""
        wanted, held = list(keys), []
        for part in self._state.held:
            places = part.segment.places(wanted, part.deleted) if wanted else {}
            if places:
                gone = np.union1d(part.deleted, list(places.values())).astype(np.int64)
                path = self.root / f"{part.segment.name}.d{self._state.generation + 1:06d}.npy"
                np.save(path, gone)
                entry = {**part.entry, "deleted": {"name": path.name, **stamp(path)}}
                part = Held(part.segment, gone, entry)  # noqa: PLW2901
            if len(part):
                held.append(part)
        return held

    def _segment(self, records: Sequence[Record], tokens: Iterable[Any]) -> Held:
        """Write and flush a segment that no manifest names yet."""
        name = f"s{self._state.generation + 1:06d}"  # never of two segments: readers keep theirs
        folders = (self.root / f"{name}.{number}" for number in count())
        folder = next(folder for folder in folders if not folder.exists())
        write(folder, self.schema, self.kind == "hnsw", records, tokens)
        entry = {"name": folder.name, "documents": len(records), "files": seal(folder)}
        segment = Segment(folder, self.schema)
        return Held(segment, np.zeros(0, np.int64), {**entry, "deleted": None})

    def _merged(self, run: Sequence[Held]) -> list[Held]:
        """Return what is left of a run of segments in as few as possible."""
        if not run or (len(run) == 1 and len(run[0].deleted) == 0):
            return list(run)
        places = [
            (part.segment, int(place))
            for part in run
            for place in np.setdiff1d(np.arange(len(part.segment)), part.deleted)
        ]
        merged: list[Held] = []
        for start in range(0, len(places), SEGMENT):
            chosen = places[start : start + SEGMENT]
            records = [segment.record(place) for segment, place in chosen]
            tokens = (segment.stored(place) for segment, place in track(chosen, "merge"))
            merged.append(self._segment(records, tokens))
        return merged

    def _commit(self, held: Sequence[Held]) -> None:
        """Make ``held`` the index, in one rename, and remove what it no longer names."""
        manifest = {
            "format": FORMAT,
            "tokenspace": __version__,
            "engine": f"faiss:{self.kind}",
            "generation": self._state.generation + 1,
            "schema": self.schema.to_dict(),
            "segments": [part.entry for part in held],
        }
        text = json.dumps({**manifest, "checksum": _checksum(manifest)}, indent=1)
        sync(self.root)
        with replacing(self.root / "manifest.json") as partial:
            partial.write_text(text, encoding="utf-8")
            sync(partial)
        sync(self.root)
        self._state = State(self._state.generation + 1, tuple(held))
        _sweep(self.root, manifest)


def _open(
    root: Path,
    manifest: dict[str, Any],
    verify: bool | None,
    former: dict[str, Segment] | None = None,
) -> tuple[dict[str, Any], Schema, State]:
    """Open the segments of a manifest, or of a newer one if another process removes them now."""
    while True:
        try:
            schema = Schema.from_dict(manifest["schema"], str(root / "manifest.json"))
            return manifest, schema, _opened(root, manifest, schema, verify, former or {})
        except (OSError, FormatError):
            newer = _read(root)
            if newer["generation"] == manifest["generation"]:
                raise
            manifest = newer


def _opened(
    root: Path,
    manifest: dict[str, Any],
    schema: Schema,
    verify: bool | None,
    former: dict[str, Segment],
) -> State:
    entries = manifest["segments"]
    if verify is None:
        sizes = (file["bytes"] for entry in entries for file in entry["files"].values())
        verify = sum(sizes) < VERIFY_BELOW
    held = []
    for entry in entries:
        segment = former.get(entry["name"])
        if segment is None:
            check(root / entry["name"], entry["files"], MEND, contents=verify)
            segment = Segment(root / entry["name"], schema)
        deleted = np.zeros(0, np.int64)
        if entry["deleted"]:
            name = entry["deleted"]["name"]
            check(root, {name: entry["deleted"]}, MEND)
            deleted = np.load(root / name, allow_pickle=False)
        held.append(Held(segment, deleted, entry))
    return State(manifest["generation"], tuple(held))


def _read(root: Path) -> dict[str, Any]:
    """Read and check a manifest."""
    path = root / "manifest.json"
    if not path.is_file():
        raise InputError(
            f"{root}: there is no index here",
            hint=f"make one with: tokenspace index create {root} --width WIDTH",
        )
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if "generation" in manifest and "segments" not in manifest:
            raise InputError(
                f"{root}: this is a space, not an index",
                hint=f"send its passages to an index with: tokenspace index push {root} INDEX",
            )
        version = int(manifest["format"])
        if version > FORMAT:
            raise FormatError(
                f"{path}: format {version} is newer than {FORMAT}, the newest that is read here",
                hint="upgrade tokenspace: pip install --upgrade tokenspace",
            )
        if manifest.pop("checksum") != _checksum(manifest):
            raise ValueError("its checksum does not match")
    except (KeyError, TypeError, AttributeError, ValueError) as fault:
        if isinstance(fault, InputError):
            raise
        raise FormatError(f"{path}: not a whole manifest ({fault})", hint=MEND) from fault
    return manifest


def _checksum(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _sweep(root: Path, manifest: dict[str, Any]) -> None:
    """Remove what the manifest does not name: former generations, and what a kill left."""
    named = {entry["name"] for entry in manifest["segments"]}
    named |= {entry["deleted"]["name"] for entry in manifest["segments"] if entry["deleted"]}
    for path in root.iterdir():
        ours = re.fullmatch(r"s\d{6,}\.\d+(\.d\d{6,}\.npy)?|\.manifest\.json\..+", path.name)
        if ours and path.name not in named:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _crowd(held: Sequence[Held]) -> int:
    """Return from which segment on all are to be merged; ``len(held)`` for none.

    The last ones are, where they are many and together twice the largest: so a document is
    copied a logarithmic number of times.
    """
    begin, total, largest = len(held), 0, 0
    for i in reversed(range(len(held))):
        total += len(held[i])
        largest = max(largest, len(held[i]))
        if total > SEGMENT:
            break
        if len(held) - i >= CROWD and total >= 2 * largest:
            begin = i
    return begin


def _found(state: State, numbers: Ids2d, scores: Floats2d) -> list[Found]:
    """Replace numbers by ids; -1 and -inf are left out."""
    bases, found = state.bases, []
    for row, values in zip(numbers, scores, strict=True):
        real = (row >= 0) & np.isfinite(values)
        ids = []
        for number in row[real].tolist():
            at = bisect_right(bases, number) - 1
            ids.append(state.held[at].segment.documents[number - bases[at]]["id"])
        found.append(Found(ids, values[real]))
    return found


def _nothing(queries: int) -> list[Found]:
    return [Found([], np.zeros(0, np.float32)) for _ in range(queries)]
