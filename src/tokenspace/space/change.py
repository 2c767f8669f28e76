"""Add and remove passages: a new generation that shares every learned part with the former.

The vocabulary, the vectors and the encoder are linked, the vectors of kept passages are copied as
they are stored, and only new passages are encoded; BM25 is counted again.
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

from tokenspace.arrays import Ids, Ragged
from tokenspace.compress.floats import FloatTable, open_rows
from tokenspace.compress.int8 import Int8, QuantizedTable
from tokenspace.errors import InputError
from tokenspace.retrieve.coded import CodedStore
from tokenspace.retrieve.store import StoreWriter, TokenStore

from .build import EXACT_BELOW, tree_bytes
from .fde import FDEIndex
from .lexical import Lexical
from .page import render
from .passage_file import PassageFile
from .passages import Passage
from .search import indexed_text, unit_rows
from .steps import Generation, write_weights
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

    The sources of ``added`` replace passages of the same sources. The caller holds the lock.
    Raises :class:`InputError` where ``added`` was meant to hold text and holds none.
    """
    new = list(added)
    if not new and not drop:
        raise InputError("no readable text was found", hint="give files that hold words")
    gone = {*drop, *(passage.source for passage in new)}
    keep = np.array(
        [i for i, passage in enumerate(former.passages) if passage.source not in gone], np.int64
    )
    for leftover in generations(root):  # an interrupted build would not know of this change
        if leftover != former.path:
            shutil.rmtree(leftover)
    work = Generation(next_generation(root, {"change of": former.path.name}), former.plan)
    for name in LEARNED:
        if (former.path / name).exists():
            carry(name, former.path, work.path)
    kept = (former.passages[int(i)] for i in keep)
    PassageFile.write(work.path / "passages", (p for part in (kept, new) for p in part))
    texts = [indexed_text(passage) for passage in new]
    singles, matrices = former.encoder.encode_both(texts)
    if isinstance(former.tokens, CodedStore):
        _change_codes(former.tokens, work, keep, texts)
    else:
        _change_tokens(former.tokens, work, keep, matrices)
    _change_singles(former, work, keep, unit_rows(singles))
    write_weights(work)
    FDEIndex.open(former.path / "fde").change(work.path / "fde", keep, work.tokens)
    Lexical.write(work.path / "bm25", iter(work.texts))
    figures = _figures(work, manifest, len(new))
    _report(root, former, work, figures, len(new), len(former.passages) - len(keep))
    commit(root, work.path, manifest.config, figures)


def _change_codes(store: CodedStore, work: Generation, keep: Ids, texts: list[str]) -> None:
    kept = (store.codes[store.offsets[i] : store.offsets[i + 1]] for i in keep)
    new = work.table.vocab.encode_batch(texts)
    CodedStore.write(work.path / "tokens", store.table, itertools.chain(kept, new))


def _change_tokens(store: TokenStore, work: Generation, keep: Ids, matrices: Ragged) -> None:
    with StoreWriter.open(work.path / "tokens", store.width, store.codec) as writer:
        for i in keep.tolist():
            start, stop = int(store.offsets[i]), int(store.offsets[i + 1])
            writer.extend(
                TokenStore(
                    store.tokens[start:stop],
                    np.array([0, stop - start], np.int64),
                    store.scales[start:stop],
                )
            )
        if len(matrices):
            writer.extend(matrices)


def _change_singles(former: Generation, work: Generation, keep: Ids, singles: Any) -> None:
    held = open_rows(former.path / "singles.safetensors")
    target = work.path / "singles.safetensors"
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
