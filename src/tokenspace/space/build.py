"""Build a space: eight steps, each finished on disk before the next begins.

The generation's directory holds ``plan.json`` (every setting and a fingerprint of the input) and
``steps/NAME.json`` for each finished step. A run that finds an unfinished generation with the
same plan goes on after its last finished step; what a killed step left is written anew.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tokenspace import __version__
from tokenspace.errors import ConfigError, FormatError, InputError, MissingExtra
from tokenspace.io import replacing
from tokenspace.report import environment

from .jobs import HERE, Jobs
from .measure import measure
from .page import render
from .plan import Plan
from .sources import STDIN
from .steps import STEPS, Generation
from .store import REPORTS, Manifest, commit, generations, lock, next_generation

__all__ = ["Step", "build", "finish"]

EXACT_BELOW = {"learned": 10_000, "pretrained": 4_000}
"""Passages up to which exact MaxSim is about as fast as candidates by encodings, scored exactly.

Measured with the default text on two cores; every report holds the milliseconds of both.
"""


@dataclass(frozen=True)
class Step:
    """A finished step: its wall seconds, the bytes that it wrote, and what it did in words."""

    name: str
    seconds: float
    bytes: int
    says: str
    figures: Mapping[str, Any] = field(default_factory=dict)


def build(
    root: Path,
    texts: Sequence[str],
    plan: Plan,
    on_step: Callable[[Step], object],
    jobs: Jobs = HERE,
) -> None:
    """Make ``root`` the space of ``texts``; go on with an interrupted build of the same plan.

    ``jobs`` runs the passes over passages. A space that stands there is replaced at the very end,
    in one rename. Raises :class:`InputError` where ``root`` holds something else.
    """
    if root.exists() and not root.is_dir():
        raise InputError(f"{root}: not a directory", hint="choose another --out")
    ours = {root / name for name in (".lock", *STDIN)} | {*generations(root)}
    if root.is_dir() and not (root / "manifest.json").exists() and set(root.iterdir()) - ours:
        raise InputError(
            f"{root}: a directory with other files", hint="choose a new directory for --out"
        )
    try:
        with lock(root):
            tidy(root)
            texts = keep_standard_input(root / STDIN[plan.text_field is not None], texts)
            asked = {
                "plan": asdict(plan),
                "texts": fingerprint(texts),
                "tokenspace": __version__,
            }
            if is_current(root, asked):
                return
            work = Generation(resume(root, asked), plan, jobs)
            work.check()
            for name, run in STEPS.items():
                done = finished(work.path, name)
                on_step(done or perform(work, name, partial(run, work, texts)))
            finish(root, work, asked, on_step)
    except (ConfigError, InputError, MissingExtra):
        leave_no_trace(root)
        raise


def leave_no_trace(root: Path) -> None:
    """Remove a directory in which a build was refused before its first step was finished."""
    if not (root / "manifest.json").exists() and not list(root.glob("g*/steps/*.json")):
        shutil.rmtree(root, ignore_errors=True)


def perform(work: Generation, name: str, run: Callable[[], tuple[str, dict[str, Any]]]) -> Step:
    """Run one step, note what it took, and mark it as finished."""
    begin, before = time.perf_counter(), tree_bytes(work.path)
    says, figures = run()
    step = Step(
        name=name,
        seconds=round(time.perf_counter() - begin, 2),
        bytes=max(0, tree_bytes(work.path) - before),
        says=says,
        figures=figures,
    )
    target = work.path / "steps" / f"{name}.json"
    with replacing(target) as fresh:
        fresh.write_text(json.dumps(asdict(step)), encoding="utf-8")
    return step


def finished(generation: Path, name: str) -> Step | None:
    """Return the step if an earlier run finished it."""
    path = generation / "steps" / f"{name}.json"
    return Step(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def finish(
    root: Path, work: Generation, asked: dict[str, Any], on_step: Callable[[Step], object]
) -> None:
    """Measure the generation, write its report and make it the space."""
    (work.path / "singles.f32").unlink(missing_ok=True)
    steps = [step for name in STEPS if (step := finished(work.path, name))]
    counts: dict[str, Any] = {}
    for step in steps:
        counts |= step.figures
    exact = counts["passages"] <= EXACT_BELOW[work.kind]
    space = work.collection("exact" if exact else "fde")
    sizes = {
        part: tree_bytes(work.path / place)
        for part, place in (
            ("passages", "passages"),
            ("table", "table"),
            ("tokens", "tokens"),
            ("singles", "singles.safetensors"),
            ("fde", "fde"),
            ("bm25", "bm25"),
        )
    }
    figures: dict[str, Any] = {}

    def run() -> tuple[str, dict[str, Any]]:
        figures.update(measure(space, work.table, sizes, work.plan.seed))
        best = max(figures["known_item"]["modes"], key=lambda row: row["mrr10"], default=None)
        return (f"best: {best['mode']}, MRR@10 {best['mrr10']:.3f}" if best else "no items"), {}

    measured = perform(work, "measure", run)
    on_step(measured)
    report = {
        "title": f"Space {root.name}",
        "config": asked["plan"] | {"first stage": space.first_stage},
        "counts": counts,
        "bytes": {**sizes, "total": tree_bytes(work.path)},
        "steps": [asdict(step) for step in (*steps, measured)],
        **figures,
        "environment": environment(),
    }
    (work.path / "report.json").write_text(
        json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8"
    )
    (work.path / "report.html").write_text(render(report), encoding="utf-8")
    commit(root, work.path, asked, {**counts, "first_stage": space.first_stage})


def tidy(root: Path) -> None:
    """Remove what a killed writer left beside the files that it was replacing."""
    beside = (f".{name}.*" for name in ("manifest.json", *REPORTS, *STDIN))
    leftovers = [path for pattern in beside for path in root.glob(pattern)]
    leftovers += [path for generation in generations(root) for path in generation.glob("**/.*")]
    for path in leftovers:
        if path.is_dir():
            shutil.rmtree(path)


def is_current(root: Path, asked: Mapping[str, Any]) -> bool:
    """Say whether the finished space is what is asked for, file for file."""
    manifest = Manifest.find(root)
    if manifest is None or manifest.config != asked:
        return False
    try:
        manifest.check(root, contents=True)
    except FormatError:  # a damaged space is built again
        return False
    return True


def resume(root: Path, asked: Mapping[str, Any]) -> Path:
    """Return the unfinished generation of this very plan, or begin a new one.

    Where the manifest is damaged, a generation that was finished may be so as well.
    """
    manifest = Manifest.find(root)
    damaged = manifest is None and (root / "manifest.json").exists()
    for generation in generations(root):
        if manifest is not None and generation.name == manifest.generation:
            continue
        if damaged and finished(generation, "measure"):
            continue
        if json.loads((generation / "plan.json").read_text(encoding="utf-8")) == asked:
            return generation
        shutil.rmtree(generation)
    return next_generation(root, asked)


def keep_standard_input(path: Path, texts: Sequence[str]) -> list[str]:
    """Copy standard input to ``path`` in the space, so that an interrupted build can go on."""
    kept = []
    for text in texts:
        if text == "-":
            with replacing(path) as fresh, fresh.open("wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
        kept.append(str(path) if text == "-" else text)
    return kept


def fingerprint(texts: Sequence[str]) -> list[list[Any]]:
    """Return name, size and time of every input file; for the default text, Python's version."""
    if not texts:
        return [["python", sys.version, 0]]
    found: list[list[Any]] = []
    for text in texts:
        path = Path(text)
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file():
                status = file.stat()
                found.append([str(file), status.st_size, status.st_mtime_ns])
    if len(found) > 1000:  # keep the manifest small
        return [["files", len(found), hashlib.sha256(json.dumps(found).encode()).hexdigest()]]
    return found


def tree_bytes(path: Path) -> int:
    """Return the bytes of a file, or of all files below a directory."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
