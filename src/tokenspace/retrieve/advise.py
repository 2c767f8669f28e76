"""Which index? Measured on the user's own sample: bytes, recall of the exact top, and latency.

Every method of the family says in its ``advice`` which settings are worth a trial; each is built on
the sample and asked the same queries, one at a time and on one thread. It is built on half of the
sample too: a line through the two sizes tells what a collection of another size would take.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenspace import catalog
from tokenspace.arrays import Ids, Ids2d, Ragged
from tokenspace.errors import ConfigError, InputError, TokenspaceError
from tokenspace.metrics import bootstrap
from tokenspace.progress import track
from tokenspace.recipe import Recipe, evidence, make, parse
from tokenspace.report import Report, readable_bytes
from tokenspace.rng import stream

from . import Index
from ._shared import best, chamfer, cut
from .coded import CodedStore
from .pooling import pool
from .store import DocumentTokens, TokenStore

__all__ = ["Advice", "Sample", "Wish", "advise", "grid"]

ASKED, TOKENS = 100, 12  # pseudo-queries, and tokens in each
MOST_QUERIES = 1000
POOLED = ("ward:2", "ward:4")  # what may be kept of every document, beside all of it


@dataclass(frozen=True, eq=False)
class Sample:
    """Documents and queries to measure on; ``total`` is how many documents they stand for."""

    docs: Ragged
    queries: Ragged
    total: int
    notes: Sequence[str] = ()

    @classmethod
    def load(cls, path: str, queries: str | None, limit: int, seed: int = 0) -> Sample:
        """Draw at most ``limit`` documents of a space, or of a file of token vectors.

        ``queries`` is a file of token vectors or, for a space, of text with a query a line.
        Without it queries are drawn from the sample. Raises :class:`InputError` where there is
        nothing to draw from, or text is asked of a file of vectors.
        """
        is_space = (Path(path) / "manifest.json").is_file()
        tokens, space = _space(path) if is_space else (TokenStore.pack(Ragged.load(path)), None)
        real = np.flatnonzero(np.diff(tokens.offsets))
        if len(real) < 20:
            raise InputError(
                f"{path}: {len(real)} documents with tokens are too few to measure on",
                hint="give a sample of at least 20 documents, better some thousands",
            )
        chosen = real
        if len(real) > limit:
            draw = stream(seed, "advise: documents")
            chosen = np.sort(draw.choice(real, limit, replace=False))
        docs = Ragged.pack([tokens[int(i)] for i in chosen], width=tokens.width)
        notes = [f"{len(docs):,} of {len(tokens):,} documents were measured"]
        if isinstance(tokens, CodedStore):
            held = tokens.codes.nbytes / len(tokens)
            notes.append(
                f"the space itself holds its tokens as rows of one table, {held:,.0f} bytes a"
                " document, and scores them exactly: an index is for vectors that differ from place"
                " to place"
            )
        if queries is not None:
            asked = _given(queries, space, docs.width)
            notes.append(f"{len(asked):,} queries of {queries}")
        elif space is not None:
            asked = _known(space, seed)
            notes.append(
                f"no queries were given: {len(asked)} first sentences and titles of passages stand"
                " for them; real ones (--queries) may be harder"
            )
        else:
            asked = _parts(docs, seed)
            notes.append(
                f"no queries were given: {len(asked)} runs of at most {TOKENS} tokens of documents"
                " stand for them, which are easier than real ones (--queries)"
            )
        asked.check("queries", docs.width)
        if not len(asked):
            raise InputError(
                f"{queries or path}: no query holds a token that is known",
                hint="give queries in the language and words of the documents",
            )
        return cls(docs, asked, len(tokens), notes)


def _space(path: str) -> tuple[DocumentTokens, Any]:
    from tokenspace.space import Space

    space = Space.open(path)
    return space.generation.tokens, space


def _given(path: str, space: Any, width: int) -> Ragged:
    """Read queries: token vectors, or lines of text that the space encodes."""
    if Path(path).suffix in (".safetensors", ".npz"):
        found = Ragged.load(path)
        found.check(path, width)
        real = np.flatnonzero(found.heights)[:MOST_QUERIES]
        return found.take(real)
    if space is None:
        raise InputError(
            f"{path}: text cannot be asked of token vectors",
            hint="give the queries' token vectors (.safetensors, .npz), or a space as --sample",
        )
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return _encoded(space, [line for line in lines if line.strip()][:MOST_QUERIES])


def _known(space: Any, seed: int) -> Ragged:
    from tokenspace.space.measure import known_items

    items = known_items(space.generation.passages, seed, ASKED)
    return _encoded(space, [item.query for item in items])


def _encoded(space: Any, texts: Sequence[str]) -> Ragged:
    """Return the texts as the space searches for them; those without a known token are left out."""
    found = []
    for text in texts:
        try:
            found.append(space.collection.query(text).vectors)
        except InputError:
            continue
    return Ragged.pack(found, width=space.generation.tokens.width)


def _parts(docs: Ragged, seed: int) -> Ragged:
    """Draw a run of tokens from each of some documents: at most half of its tokens."""
    draw = stream(seed, "advise: queries")
    chosen = draw.choice(len(docs), min(ASKED, len(docs)), replace=False)
    runs = []
    for document in np.sort(chosen).tolist():
        rows = docs[document]
        count = min(TOKENS, max(1, len(rows) // 2))
        start = int(draw.integers(len(rows) - count + 1))
        runs.append(rows[start : start + count])
    return Ragged.pack(runs, width=docs.width)


@dataclass(frozen=True)
class Trial:
    """A setting that is tried: what is kept of every document, and the method with its knobs."""

    recipe: Recipe
    kept: str = "all"

    def __str__(self) -> str:
        knobs = ",".join(f"{name}={value}" for name, value in self.changed.items())
        text = self.recipe.name + (f":{knobs}" if knobs else "")
        return text + (f" of {self.kept}" if self.kept != "all" else "")

    @property
    def changed(self) -> dict[str, Any]:
        """The knobs that are not at their defaults; the threads are ours."""
        return {
            field.name: getattr(self.recipe, field.name)
            for field in fields(self.recipe)
            if field.name != "threads" and getattr(self.recipe, field.name) != field.default
        }

    def warm_up(self, docs: Ragged) -> None:
        """Build something small, so that compiling is no part of what is measured."""
        plain = type(self.recipe)()
        quick = {
            name: value
            for name, value in self.recipe.tiny.items()
            if getattr(self.recipe, name) == getattr(plain, name)
        }
        small = Trial(replace(self.recipe, **quick), self.kept)
        few = docs.take(np.arange(min(len(docs), 40)))
        with suppress(TokenspaceError):
            call: Any = small.recipe
            call(small.docs(few)).search(cut(few, range(1)), 1)

    def docs(self, docs: Ragged) -> Ragged:
        """Return what is indexed of the documents."""
        return docs if self.kept == "all" else pool(docs, self.kept, side="document", threads=1)

    def commands(self, docs: str) -> list[str]:
        """Return the commands that index the documents in ``docs`` this way."""
        lines = []
        if self.kept != "all":
            lines = [_command("pool", docs=docs, keep=self.kept, out="pooled.safetensors")]
            docs = "pooled.safetensors"
        return [*lines, _command(self.recipe.name, docs=docs, **self.changed, out="index")]


def _command(verb: str, **options: Any) -> str:
    words = ["tokenspace", "retrieve", verb]
    for name, value in options.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", str(value)]
    return shlex.join(words)


def grid(methods: Sequence[str] = ()) -> tuple[list[Trial], list[str]]:
    """Return what is tried, and a note for every method of the family that is not.

    ``methods`` are names, whose ``advice`` is tried, or ``NAME:knob=value,...``; without any, all
    methods of the family that need documents alone, and pooled documents with the exact one.
    Raises :class:`ConfigError` for a name that is not in the family.
    """
    trials, notes = [], []
    members = [entry.name for entry in catalog.members("retrieve")]
    for text in methods or members:
        name, _, knobs = text.partition(":")
        if name not in members:
            raise ConfigError(
                f"{name} is not a method of retrieve", hint=f"methods: {', '.join(members)}"
            )
        recipe = catalog.find(name).load()
        others = [i for i in evidence(recipe) if i.required and i.name != "docs"]
        kinds = {item.name: item.kind for item in evidence(recipe)}
        if others or kinds.get("docs") != "Ragged":
            wanted = ", ".join(item.name for item in others) or "other documents"
            notes.append(f"not tried: {name}, which needs {wanted}")
            continue
        settings = recipe.advice or (({},) if methods else ())
        if not settings:
            notes.append(f"not tried unless it is named: {name}")
        chosen = [parse(text)] if knobs else [make(name, **values) for values in settings]
        trials += [Trial(_single(one)) for one in chosen]
    if not methods:
        exact = _single(make("maxsim", codec="i8"))
        trials += [Trial(exact, kept) for kept in POOLED]
    return trials, notes


def _single(recipe: Recipe) -> Recipe:
    """Return the recipe on one thread, where it has that knob."""
    single: dict[str, Any] = {"threads": 1}
    return replace(recipe, **single) if hasattr(recipe, "threads") else recipe


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the choice must give: recall of the exact top 10 at least, milliseconds at most."""

    recall: float = 0.95
    ms: float = 100.0


@dataclass(frozen=True)
class Advice:
    """What was measured, which row is chosen and why, and the commands that do it."""

    report: Report
    chosen: str
    because: str
    commands: Sequence[str]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, ready for JSON: the report, and the choice."""
        choice = {"setting": self.chosen, "because": self.because, "commands": self.commands}
        return {**self.report.to_dict(), "choice": choice}


def advise(
    sample: Sample,
    trials: Sequence[Trial],
    *,
    documents: int = 0,
    wish: Wish | None = None,
    k: int = 10,
    seed: int = 0,
    path: str = "SAMPLE",
    notes: Sequence[str] = (),
) -> Advice:
    """Try every setting on the sample, mark the Pareto front and choose.

    ``documents`` is how many the figures are extrapolated to (0: as many as the sample stands
    for), by a line through the figures for half of the sample and for all of it. Rows are:
    ``bytes_per_document`` and ``recall`` of the exact top k on the sample with its 95 % bootstrap
    interval, ``recall_half`` on half of it, ``ms_p50``, ``ms_p95`` and ``build_seconds`` of one
    core; and for ``documents``: ``bytes``, ``ms`` and ``build``. A row is on the ``front`` where
    no other is at least as good in bytes, recall and milliseconds, and better in one.

    Raises :class:`InputError` where no setting could be built.
    """
    wish, begin = wish or Wish(), time.perf_counter()
    documents = documents or sample.total
    half = sample.docs.take(np.arange(0, len(sample.docs), 2))
    exact = [_exact(docs, sample.queries, k) for docs in (half, sample.docs)]
    rows, tried, notes = [], [], [*sample.notes, *notes]
    for trial in track(trials, "advise"):
        try:
            with _one_thread():
                trial.warm_up(half)
                small = _measure(trial, half, sample.queries, exact[0])
                whole = _measure(trial, sample.docs, sample.queries, exact[1])
        except TokenspaceError as fault:
            notes.append(f"left out: {trial}: {fault}")
            continue
        rows.append(_row(trial, small, whole, documents, seed))
        tried.append(trial)
    if not rows:
        raise InputError(f"no setting could be built: {notes[-1]}", hint="choose others: --method")
    for row, on in zip(rows, _front(rows), strict=True):
        row["front"] = bool(on)
    place, because = _choose(rows, wish, documents)
    recall = float(np.mean([row["recall"] for row in rows]))
    report = Report(
        title=f"{len(rows)} indexes on {len(sample.docs):,} documents",
        metrics={
            "documents": float(len(sample.docs)),
            "queries": float(len(sample.queries)),
            "extrapolated_to": float(documents),
            "settings": float(len(rows)),
            "mean_recall": recall,
        },
        rows=rows,
        recipe=tried[place].recipe.to_dict(),
        notes=notes,
        seconds=round(time.perf_counter() - begin, 3),
    )
    return Advice(report, str(tried[place]), because, tried[place].commands(path))


def _exact(docs: Ragged, queries: Ragged, k: int) -> Ids2d:
    """Return the exact top k of every query, (Q, min(k, N))."""
    return best(chamfer(TokenStore.pack(docs), queries), k)[0]


@dataclass(frozen=True)
class _Figures:
    """What one index of one size gave: ``recall`` and ``ms`` are one figure a query."""

    documents: int
    nbytes: int
    seconds: float
    recall: npt.NDArray[np.float64]
    ms: npt.NDArray[np.float64]


def _measure(trial: Trial, docs: Ragged, queries: Ragged, exact: Ids2d) -> _Figures:
    """Build, and ask one query at a time; the first is asked twice, and counts once.

    Time is the processor's, which other work on the machine does not lengthen.
    """
    call: Any = trial.recipe
    begin = time.process_time()
    index: Index = call(trial.docs(docs))
    seconds = time.process_time() - begin
    k = exact.shape[1]
    index.search(cut(queries, range(1)), k)
    recall, ms = [], []
    for i in range(len(queries)):
        query = cut(queries, range(i, i + 1))
        begin = time.process_time()
        found: Ids = index.search(query, k)[0][0]
        ms.append((time.process_time() - begin) * 1000)
        recall.append(len(np.intersect1d(found, exact[i])) / k)
    return _Figures(len(docs), index.nbytes, seconds, np.array(recall), np.array(ms))


def _row(
    trial: Trial, small: _Figures, whole: _Figures, documents: int, seed: int
) -> dict[str, Any]:
    low, high = bootstrap(whole.recall, seed)
    sizes = (small.documents, whole.documents)
    p50 = [float(np.median(figures.ms)) for figures in (small, whole)]
    return {
        "setting": str(trial),
        "method": trial.recipe.name,
        "kept": trial.kept,
        "bytes_per_document": whole.nbytes / whole.documents,
        "recall": float(whole.recall.mean()),
        "recall_low": low,
        "recall_high": high,
        "recall_half": float(small.recall.mean()),
        "ms_p50": p50[1],
        "ms_p95": float(np.quantile(whole.ms, 0.95)),
        "build_seconds": whole.seconds,
        "bytes": _at(documents, sizes, (small.nbytes, whole.nbytes)),
        "ms": _at(documents, sizes, (p50[0], p50[1])),
        "build": _at(documents, sizes, (small.seconds, whole.seconds)),
    }


def _at(documents: int, sizes: tuple[int, int], figures: tuple[float, float]) -> float:
    """Return a figure at another size, on the line through two; it neither falls nor is below 0."""
    slope = max(0.0, (figures[1] - figures[0]) / (sizes[1] - sizes[0]))
    slope = min(slope, figures[1] / sizes[1])  # nothing costs less than nothing at size 0
    return figures[1] + slope * (documents - sizes[1])


def _front(rows: Sequence[Mapping[str, Any]]) -> npt.NDArray[np.bool_]:
    """Mark the rows that no other row dominates, (n,)."""
    costs = np.array([[row["bytes"], row["ms"], -row["recall"]] for row in rows])
    no_worse = (costs[:, None] <= costs[None]).all(axis=2)
    better = (costs[:, None] < costs[None]).any(axis=2)
    dominated = (no_worse & better).any(axis=0)
    return np.asarray(~dominated, np.bool_)


def _choose(rows: Sequence[Mapping[str, Any]], wish: Wish, documents: int) -> tuple[int, str]:
    """Return the place of the smallest row that grants the wish, or what comes nearest, and why."""
    size = f"{documents:,} documents"
    true = [i for i, row in enumerate(rows) if row["recall"] >= wish.recall]
    quick = [i for i in true if rows[i]["ms"] <= wish.ms]
    if quick:
        place = min(quick, key=lambda i: (rows[i]["bytes"], rows[i]["ms"]))
        return place, (
            f"the smallest with recall {wish.recall:g} or more and {wish.ms:g} ms or less at"
            f" {size}: {readable_bytes(rows[place]['bytes'])}"
        )
    if true:
        place = min(true, key=lambda i: (rows[i]["ms"], rows[i]["bytes"]))
        return place, f"none takes {wish.ms:g} ms or less at {size}; this is the fastest in recall"
    place = max(range(len(rows)), key=lambda i: (rows[i]["recall"], -rows[i]["bytes"]))
    return place, f"none reaches recall {wish.recall:g}; this one comes nearest"


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep faiss to one thread, as the recipes are."""
    import faiss

    former = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(former)
