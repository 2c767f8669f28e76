"""Apply a method to a whole model directory: its token matrix in fewer bytes, measured, reported.

The result holds the compressed matrix beside the weights without it, and is loaded by
:func:`tokenspace.nn.compressed.load_compressed`. With ``plain`` the rows are read back into an
ordinary matrix, which saves nothing on disk and loads in transformers alone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from tokenspace import model_options
from tokenspace.arrays import Floats2d
from tokenspace.catalog import Entry
from tokenspace.checkpoint import Checkpoint, Target, Written, write
from tokenspace.corpus import Corpus
from tokenspace.errors import ConfigError
from tokenspace.recipe import Recipe, apply
from tokenspace.report import Report
from tokenspace.runner import Given, hashes, models_extra, opened

from . import Lookup
from .hollow import hollow
from .page import render
from .table import errors_of

__all__ = ["FILES", "compress_model", "options", "run"]

FILES = ("config.json", "modules.json")


def options() -> list[click.Option]:
    """Return the options that model directories have beside those of the method."""
    return [
        model_options.matrix(),
        click.Option(
            ["--plain"], is_flag=True, help="write an ordinary matrix that transformers loads"
        ),
        click.Option(
            ["--counts-text"],
            metavar="FILE",
            help="text that says how frequent each token of the model is, in place of --counts",
        ),
        model_options.eval_text(),
        model_options.eval_sts(),
        model_options.no_validate(),
    ]


def run(
    entry: Entry,
    values: Mapping[str, Any],
    given: Mapping[str, Given],
    out: str,
    force: bool,
    *,
    counts_text: str | None = None,
    eval_text: str | None = None,
    trust_remote_code: bool = False,
    **settings: Any,
) -> Report:
    """Run one method of the family from paths to a directory (:func:`compress_model`)."""
    recipe, source, bag = opened(entry, values, given, trust_remote_code=trust_remote_code)
    if counts_text is not None:
        if "counts" in bag:
            raise ConfigError("--counts and --counts-text", hint="give one of them")
        bag["counts"] = source.vocab.count(Corpus.load(counts_text))
    chosen = {name: value for name, value in settings.items() if value is not None}
    again = {**chosen, "counts_text": counts_text, "eval_text": eval_text}
    return compress_model(
        recipe,
        source,
        out,
        bag=bag,
        eval_texts=None if eval_text is None else list(Corpus.load(eval_text)),
        force=force,
        inputs={name: hashes(paths) for name, paths in given.items()},
        again={name: value for name, value in again.items() if value},
        **chosen,
    )


def compress_model(
    recipe: Recipe,
    source: Checkpoint | str | Path,
    out: str | Path,
    *,
    bag: Mapping[str, Any] | None = None,
    matrix: str = "input",
    plain: bool = False,
    eval_texts: Sequence[str] | None = None,
    eval_sts: str | None = None,
    no_validate: bool = False,
    force: bool = False,
    inputs: Mapping[str, Mapping[str, str]] | None = None,
    again: Mapping[str, Any] | None = None,
) -> Report:
    """Write the model ``source`` with its token matrix compressed to the directory ``out``.

    Parameters
    ----------
    recipe
        A method of this family.
    source
        The model, opened or as a path, package or hub id.
    bag
        Further inputs of the recipe by name: ``counts`` and ``fields`` of the tokens.
    matrix
        ``input``, ``output`` or ``both``; of a tied model they are one.
    plain
        Write the rows that the compressed form gives as an ordinary matrix.
    eval_texts, eval_sts
        What both models are measured on: texts (by default a sample of Python's documentation),
        and a set of rated pairs of sentences (:func:`tokenspace.data.sts`).
    no_validate
        Only write: do not load the result, and measure nothing.
    inputs, again
        What the report says of the inputs, and the options with which ``tokenspace run`` does the
        same again.

    Returns
    -------
    Report
        Also written as ``report.json`` and ``report.html`` into ``out``.

    Raises
    ------
    ConfigError
        Where the budget cannot be reached, or ``matrix`` names what the model does not have.
    """
    begin = time.perf_counter()
    source = source if isinstance(source, Checkpoint) else Checkpoint.open(source)
    sides = ["input", "output"] if matrix == "both" else [matrix]
    if source.tied and "output" in sides:
        sides = ["input"]  # they are one
    names = {t.role: t.name for t in source.tensors}
    for side in sides:
        if side not in names:
            raise ConfigError(
                f"{source.name} has no {side} matrix of its own", hint="leave --matrix out"
            )
    tables: dict[str, Lookup] = {}
    rows, read = {}, {}
    for side in sides:
        vectors = source.table(side).vectors
        table: Lookup = apply(recipe, {**(bag or {}), "source": vectors})
        read[side] = table.rows(np.arange(table.shape[0]))
        rows[side] = _row(side, names[side], source, table, errors_of(table, vectors))
        tables[names[side]] = table
    made: list[Report] = []

    def finish(partial: Path, written: Written) -> None:
        found = {}
        if not no_validate:
            with models_extra("loading the result"):
                from tokenspace.nn.quality import compared
            found = compared(source.root, partial, eval_texts, eval_sts)
        saved = 0 if plain else hollow(partial, tables)
        report = Report(
            title=f"{recipe}: {source.name}",
            metrics={
                "bytes_before": float(sum(row["bytes_before"] for row in rows.values())),
                "bytes_after": float(sum(table.nbytes for table in tables.values())),
                "bytes_saved_on_disk": float(saved),
                **found,
            },
            rows=list(rows.values()),
            recipe={**recipe.to_dict(), "options": dict(again or {})},
            inputs=dict(inputs or {}),
            notes=[*written.notes, *_notes(source, sides, plain)],
            seconds=round(time.perf_counter() - begin, 3),
        )
        (partial / "report.json").write_text(report.to_json() + "\n", encoding="utf-8")
        pairs = {side: (source.table(side).vectors, read[side]) for side in sides}
        (partial / "report.html").write_text(render(report, pairs), encoding="utf-8")
        made.append(report)

    target = Target.of(source, source.vocab)
    tokens = len(target.vocab)  # rows beyond the last token are nobody's
    now: dict[str, Floats2d] = {}
    for side in {"input", "output"} & names.keys():
        now[side] = (read[side] if side in read else source.table(side).vectors)[:tokens]
    write(
        source,
        out,
        target,
        input=now["input"],
        output=now.get("output"),
        force=force,
        finish=finish,
    )
    return made[0]


def _row(
    side: str, name: str, source: Checkpoint, table: Lookup, errors: Mapping[str, float]
) -> dict[str, Any]:
    entry = source.entry(name)
    height, width = table.shape
    return {
        "matrix": side,
        "tensor": name,
        "dtype": entry.dtype,
        "rows": height,
        "width": width,
        "bytes_before": entry.nbytes,
        "bytes_after": table.nbytes,
        "share_of_float32": table.nbytes / (4 * height * width),
        **errors,
    }


def _notes(source: Checkpoint, sides: Sequence[str], plain: bool) -> list[str]:
    """Say how the result is loaded, and what of it takes memory all the same."""
    if plain:
        return ["the rows are an ordinary matrix: it loads in transformers and is no smaller"]
    said = [
        "load it with tokenspace.nn.compressed.load_compressed(DIR), or write a directory that"
        " transformers loads: tokenspace decompress DIR --out OUT"
    ]
    if source.headed and (source.tied or "output" in sides):
        said.append("the output is a product with every row: in memory the matrix is whole there")
    return said
