"""Add and remove passages: a new generation that shares every learned part with the former.

The vocabulary, the vectors and the encoder are linked, the vectors of kept passages are copied as
they are stored, and only new passages are encoded, a batch at a time; BM25 is counted again.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Collection as Names
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tokenspace.arrays import Ids
from tokenspace.compress.floats import FloatTable, open_rows
from tokenspace.compress.int8 import Int8, QuantizedTable
from tokenspace.errors import InputError
from tokenspace.retrieve.coded import CodedStore
from tokenspace.retrieve.store import TokenStore

from .build import EXACT_BELOW, tree_bytes
from .fde import FDEIndex
from .lexical import Lexical
from .page import render
from .passage_file import PassageFile
from .passages import Passage
from .steps import Generation, IndexedTexts, write_vectors, write_weights
from .store import Manifest, carry, commit, generations, next_generation

__all__ = ["change"]

LEARNED = ("vocabulary", "table", "encoder")


def change(
    root: Path,
    manifest: Manifest,
    former: Generation,
    *,
    drop: Names[str],
    added: Iterator[Passage],
) -> None:
    """Commit a generation without the sources ``drop``, and with ``added`` at its end.

    The sources of ``added`` replace passages of the same sources. The jobs of ``former`` do the
    work. The caller holds the lock.
    Raises :class:`InputError` where ``added`` was meant to hold text and holds none.
    """
    unfinished = next_generation(root, {"change of": former.path.name})
    work = Generation(unfinished, former.plan, former.jobs)
    try:
        new = PassageFile.write(work.path / "new", added)
        if not len(new) and not drop:
            raise InputError("no readable text was found", hint="give files that hold words")
    except InputError:
        shutil.rmtree(work.path)
        raise
    gone = {*drop, *(passage.source for passage in new)}
    keep = np.array(
        [i for i, passage in enumerate(former.passages) if passage.source not in gone], np.int64
    )
    for leftover in generations(root):  # an interrupted build would not know of this change
        if leftover not in (former.path, work.path):
            shutil.rmtree(leftover)
    for name in LEARNED:
        if (former.path / name).exists():
            carry(name, former.path, work.path)
    kept = (former.passages[int(i)] for i in keep)
    PassageFile.write(work.path / "passages", itertools.chain(kept, new))
    shutil.rmtree(work.path / "new")
    texts = IndexedTexts(work.passages, range(len(keep), len(work.passages)))
    write_vectors(work, texts, _stored(former.tokens, keep))
    _change_singles(former, work, keep)
    write_weights(work)
    FDEIndex.open(former.path / "fde").change(work.path / "fde", keep, work)
    Lexical.write(work.path / "bm25", iter(work.texts))
    figures = _figures(work, manifest, len(new))
    _report(root, former, work, figures, len(new), len(former.passages) - len(keep))
    config = {**manifest.config, "changed": True}  # no longer what a build of its texts gives
    commit(root, work.path, config, figures)


def _stored(store: TokenStore | CodedStore, keep: Ids) -> Iterator[Any]:
    """Yield the documents ``keep`` as they are stored."""
    for i in keep.tolist():
        start, stop = store.offsets[i : i + 2].tolist()
        if isinstance(store, CodedStore):
            yield store.codes[start:stop]
        else:
            own = np.array([0, stop - start], np.int64)
            yield TokenStore(store.tokens[start:stop], own, store.scales[start:stop])


def _change_singles(former: Generation, work: Generation, keep: Ids) -> None:
    """Write the kept text vectors as they are stored, then those of ``singles.f32``."""
    held = open_rows(former.path / "singles.safetensors")
    path, target = work.path / "singles.f32", work.path / "singles.safetensors"
    new = np.memmap(path, np.float32, "r") if path.stat().st_size else np.zeros(0, np.float32)
    singles = new.reshape(-1, held.shape[1])
    if isinstance(held, QuantizedTable):
        codes, scales = [held.codes[keep]], [held.scales[keep]]
        if len(singles):
            fresh = Int8()(singles)
            codes.append(fresh.codes)
            scales.append(fresh.scales)
        QuantizedTable(np.concatenate(codes), np.concatenate(scales), held.metrics).save(target)
    else:
        assert isinstance(held, FloatTable)
        rows = np.concatenate([held.vectors[keep], singles.astype(held.vectors.dtype)])
        FloatTable(rows).save(target)
    path.unlink()


def _figures(work: Generation, manifest: Manifest, added: int) -> dict[str, Any]:
    words, sources = 0, set()
    for passage in work.passages:
        words += len(passage.text.split())
        sources.add(passage.source)
    count = len(work.passages)
    return {
        **manifest.figures,
        "passages": count,
        "words": words,
        "sources": len(sources),
        "tokens": int(work.tokens.offsets[-1]),
        "first_stage": "exact" if count <= EXACT_BELOW[work.kind] else "fde",
    }


def _report(
    root: Path,
    former: Generation,
    work: Generation,
    figures: dict[str, Any],
    added: int,
    removed: int,
) -> None:
    """Carry the report over with the new sizes; its measurements are those of the last build."""
    report = json.loads((former.path / "report.json").read_text(encoding="utf-8"))
    report["counts"] |= {name: figures[name] for name in report["counts"] if name in figures}
    report.setdefault("changes", []).append({"added": added, "removed": removed})
    places = {**{name: name for name in report["bytes"]}, "singles": "singles.safetensors"}
    for part, place in places.items():
        if part != "total":
            report["bytes"][part] = tree_bytes(work.path / place)
    report["bytes"]["total"] = tree_bytes(work.path)
    (work.path / "report.json").write_text(
        json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8"
    )
    (work.path / "report.html").write_text(render(report), encoding="utf-8")
