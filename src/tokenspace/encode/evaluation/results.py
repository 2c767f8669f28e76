"""Scores that were measured elsewhere: MTEB's result files, and tables of scores.

MTEB 2 and 1.12 or later write one JSON a task, ``MODEL/REVISION/TASK.json`` beside a
``model_meta.json``, or one for a whole model with ``task_results``. A task of several splits or
languages counts as one data set: the mean of the main scores of those that all models have which
have the task at all, as MTEB itself averages.

A table (``.csv``, ``.tsv``) has a line of names: the data set, if wanted its ``family``, and a
column for every model.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tokenspace.errors import FormatError, InputError

__all__ = ["Results", "Scores", "read_results"]

Key = tuple[str, str]
Scores = Mapping[str, Mapping[Key, float]]
"""The score of every model on every (family, data set) that it has one for."""

_META = "model_meta.json"
_HINT = "give a file or a folder that mteb wrote, or a .csv with a column for every model"
_WORDS = {
    "pairclassification": "pair_classification", "classification": "classification",
    "clustering": "clustering", "reranking": "reranking", "retrieval": "retrieval",
    "bitext": "bitext_mining", "summ": "summarization", "sts": "sts", "sick-r": "sts",
    "biosses": "sts",
}  # fmt: skip
_PAIRS = re.compile(r"duplicate|twitter|pawsx|xnli")


class Results(NamedTuple):
    """Scores, and what is to be said of how they were read."""

    scores: Scores
    notes: tuple[str, ...]


def read_results(paths: Sequence[str | Path]) -> Results:
    """Read scores of models out of files and folders.

    Raises :class:`InputError` where a path is missing or holds no result, a score is missing or
    not finite, or a model has two scores for one data set; :class:`FormatError` for a damaged file.
    """
    cells: dict[str, dict[Key, dict[str, float]]] = {}
    sources: dict[tuple[str, Key, str], Path] = {}
    for path in map(Path, paths):
        for file in _files(path):
            for model, key, cell, score in _read(file):
                if not math.isfinite(score):
                    raise InputError(
                        f"{file}: the score of {model} on {key[1]} is {score}",
                        hint="leave that data set out of all models, or measure it again",
                    )
                if cell in cells.get(model, {}).get(key, {}):
                    raise InputError(
                        f"{file}: {model} has two scores for {key[1]}, the other in"
                        f" {sources[model, key, cell]}",
                        hint="give each once, and of one revision: its folder",
                    )
                sources[model, key, cell] = file
                cells.setdefault(model, {}).setdefault(key, {})[cell] = score
    return _averaged(cells)


def _averaged(cells: Mapping[str, Mapping[Key, Mapping[str, float]]]) -> Results:
    """Average every task over the cells that all models have which have the task."""
    shared: dict[Key, set[str]] = {}
    whole: dict[Key, set[str]] = {}
    for tasks in cells.values():
        for key, parts in tasks.items():
            shared[key] = shared.get(key, set(parts)) & set(parts)
            whole[key] = whole.get(key, set()) | set(parts)
    notes = [
        f"{key[1]}: {len(shared[key])} of {len(parts)} splits and languages, those of all models"
        for key, parts in whole.items()
        if shared[key] != parts
    ]
    scores = {
        model: {
            key: math.fsum(parts[cell] for cell in sorted(shared[key])) / len(shared[key])
            for key, parts in tasks.items()
            if shared[key]
        }
        for model, tasks in cells.items()
    }
    return Results(scores, tuple(notes))


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise InputError(f"{path}: no such file or folder", hint="check the path")
    if path.is_file():
        return [path]
    found = sorted(file for file in path.rglob("*.json") if file.name != _META)
    if not found:
        raise InputError(f"{path}: no result of mteb in it", hint=_HINT)
    return found


def _read(file: Path) -> Iterator[tuple[str, Key, str, float]]:
    """Yield (model, (family, data set), split and language, score)."""
    if file.suffix in (".csv", ".tsv"):
        yield from _table(file)
        return
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise FormatError(f"{file}: not JSON ({fault})", hint=_HINT) from fault
    if isinstance(found, Mapping) and isinstance(found.get("task_results"), list):
        name = str(found.get("model_name") or file.stem)
        for task in found["task_results"]:
            yield from _task(task, name, file)
    else:
        yield from _task(found, _model(file), file)


def _model(file: Path) -> str:
    """Return the model's name from the ``model_meta.json`` beside a file, or from its folder."""
    meta = file.with_name(_META)
    try:
        name = json.loads(meta.read_text(encoding="utf-8"))["name"] if meta.is_file() else None
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise FormatError(
            f"{meta}: no name of a model ({fault})", hint="copy the folder that mteb wrote again"
        ) from fault
    return str(name or file.resolve().parent.name)


def _task(found: Any, model: str, file: Path) -> Iterator[tuple[str, Key, str, float]]:
    try:
        name, splits = str(found["task_name"]), dict(found["scores"])
        rows = [
            (split, str(part["hf_subset"]), part, float(part["main_score"]))
            for split, parts in splits.items()
            for part in parts
        ]
        family = _family(name, [part for _, _, part, _ in rows])
    except (KeyError, TypeError, ValueError) as fault:
        old = isinstance(found, Mapping) and "mteb_dataset_name" in found
        raise InputError(
            f"{file}: no result of mteb ({'of a version before 1.12' if old else fault!r})",
            hint="measure it with a newer mteb, or write a .csv" if old else _HINT,
        ) from fault
    if not rows:
        raise InputError(f"{file}: {name} has no score", hint="measure it again")
    for split, subset, _, score in rows:
        yield model, (family, name), f"{split}/{subset}", score


def _family(name: str, parts: Sequence[Mapping[str, Any]] = ()) -> str:
    """Guess the family of a task by its name, then by what was measured."""
    low = name.casefold()
    for word, family in _WORDS.items():
        if word in low:
            return family
    keys = {key for part in parts for key in part}
    if _PAIRS.search(low) or keys & {"cosine_ap", "max_ap", "similarity_ap"}:
        return "pair_classification"
    if keys & {"cosine_spearman", "spearman"}:
        return "sts"
    if keys & {"ndcg_at_10", "map"}:  # a search, of all documents or of candidates
        judged = all(part.get("ndcg_at_10") == part["main_score"] for part in parts)
        return "retrieval" if judged else "reranking"
    if "v_measure" in keys:
        return "clustering"
    return "classification" if {"accuracy", "f1"} <= keys else "other"


def _table(file: Path) -> Iterator[tuple[str, Key, str, float]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.reader(stream, delimiter="\t" if file.suffix == ".tsv" else ","))
    except (OSError, ValueError, csv.Error) as fault:
        raise FormatError(f"{file}: not a table of text ({fault})", hint=_HINT) from fault
    head = [name.strip() for name in rows[0]] if rows else []
    families = [i for i, name in enumerate(head) if name.casefold() in ("family", "type")]
    models = [i for i in range(1, len(head)) if i not in families]
    if families[:1] == [0] or not models:
        raise InputError(
            f"{file}: no scores: its columns are {', '.join(head) or 'none'}",
            hint="begin with a line of names: dataset,family,MODEL,MODEL,...",
        )
    for number, row in enumerate(rows[1:], 2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(head):
            raise InputError(
                f"{file}, line {number}: {len(row)} cells, and {len(head)} names above",
                hint="give every model a score for every data set, or leave the data set out",
            )
        name = row[0].strip()
        family = row[families[0]].strip() if families else _family(name)
        family = re.sub(r"(?<=[a-z])(?=[A-Z])|[ -]+", "_", family).casefold()
        for place in models:
            try:
                score = float(row[place])
            except ValueError:
                raise InputError(
                    f"{file}, line {number}: {head[place]} has {row[place]!r}, not a number",
                    hint="give every model a score for every data set, or leave the data set out",
                ) from None
            yield head[place], (family, name), "", score
