"""Run one method from paths to a path: load the inputs, call the recipe, save, report."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .arrays import Floats2d
from .catalog import Entry
from .errors import ConfigError, InputError
from .io import load_matrix, replacing, sha256
from .recipe import apply, evidence, make
from .report import Report

__all__ = ["hashes", "load_input", "run_method"]

Given = str | Sequence[str]


def load_input(kind: Any, given: Given) -> Any:
    """Load one input of a method by its type; a corpus may be several paths."""
    paths = [given] if isinstance(given, str) else list(given)
    for path in paths:
        if not Path(path).exists():
            raise InputError(f"{path}: no such file or directory", hint="check the path")
    if kind == Floats2d:
        return load_matrix(paths[0])
    return kind.load(*paths)


def run_method(
    entry: Entry, values: Mapping[str, Any], given: Mapping[str, Given], out: str, force: bool
) -> Report:
    """Run ``entry`` with the knobs ``values`` on the inputs ``given`` and save to ``out``.

    The report is written beside a file (``OUT.report.json``) or into a directory
    (``OUT/report.json``). Raises :class:`ConfigError` where ``out`` exists and ``force`` is off.
    """
    target = Path(out)
    if target.exists() and not force:
        raise ConfigError(f"{out} exists", hint="choose another --out, or add --force")
    recipe = make(entry.name, **{k: v for k, v in values.items() if k != "method"})
    kinds = {item.name: item.type for item in evidence(type(recipe))}
    bag = {name: load_input(kinds[name], paths) for name, paths in given.items()}
    begin = time.perf_counter()
    result = apply(recipe, bag)
    report = Report(
        title=str(recipe),
        metrics=dict(getattr(result, "metrics", {})),
        recipe=recipe.to_dict(),
        inputs={name: hashes(paths) for name, paths in given.items()},
        seconds=round(time.perf_counter() - begin, 3),
    )
    with replacing(target) as partial:
        result.save(partial)
        if partial.is_dir():
            (partial / "report.json").write_text(report.to_json(), encoding="utf-8")
    if target.is_file():
        with replacing(target.with_name(target.name + ".report.json")) as partial:
            partial.write_text(report.to_json(), encoding="utf-8")
    return report


def hashes(given: Given) -> dict[str, str]:
    """Return the SHA-256 of every path; of a directory, of its files' names and hashes."""
    found = {}
    for path in [given] if isinstance(given, str) else given:
        place = Path(path)
        if place.is_file():
            found[path] = sha256(place)
            continue
        files = sorted(file for file in place.rglob("*") if file.is_file())
        listing = "".join(f"{file.relative_to(place)} {sha256(file)}\n" for file in files)
        found[path] = hashlib.sha256(listing.encode()).hexdigest()
    return found
