"""Apply an edit to a whole model directory: its token matrix with other rows, measured, reported.

The recipe is called on the input matrix, on the output matrix, or on each of them. Of a tied model
the two are one, so that the output changes with the input, unless it is untied: then the output
keeps the rows that it had. The result is an ordinary directory that loads in transformers.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from tokenspace import model_options
from tokenspace.catalog import Entry
from tokenspace.checkpoint import Checkpoint, Target, Written, write
from tokenspace.corpus import Corpus
from tokenspace.errors import ConfigError
from tokenspace.metrics import cosine
from tokenspace.recipe import Recipe, apply
from tokenspace.report import Report
from tokenspace.runner import Given, hashes, models_extra, opened, said_of
from tokenspace.table import EmbeddingTable

from .page import render

__all__ = ["FILES", "edit_model", "options", "run"]

FILES = ("config.json", "modules.json")


def options() -> list[click.Option]:
    """Return the options that model directories have beside those of the method."""
    return [
        model_options.matrix(),
        click.Option(
            ["--untie"],
            is_flag=True,
            help="give a tied model an output matrix, which keeps the rows as they were",
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
    eval_text: str | None = None,
    trust_remote_code: bool = False,
    **settings: Any,
) -> Report:
    """Run one method of the family from paths to a directory (:func:`edit_model`)."""
    recipe, source, bag = opened(entry, values, given, trust_remote_code=trust_remote_code)
    chosen = {name: value for name, value in settings.items() if value is not None}
    again = {**chosen, "eval_text": eval_text}
    return edit_model(
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


def edit_model(
    recipe: Recipe,
    source: Checkpoint | str | Path,
    out: str | Path,
    *,
    bag: Mapping[str, Any] | None = None,
    matrix: str = "input",
    untie: bool = False,
    eval_texts: Sequence[str] | None = None,
    eval_sts: str | None = None,
    no_validate: bool = False,
    force: bool = False,
    inputs: Mapping[str, Mapping[str, str]] | None = None,
    again: Mapping[str, Any] | None = None,
) -> Report:
    """Write the model ``source`` with its token matrix edited to the directory ``out``.

    Parameters
    ----------
    recipe
        A method of this family.
    source
        The model, opened or as a path, package or hub id.
    bag
        Further inputs of the recipe by name, such as ``definitional``.
    matrix
        ``input``, ``output`` or ``both``; each is edited by itself. Of a tied model they are one.
    untie
        Give a tied model an output matrix of its own, with the rows that it had.
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
        Where ``matrix`` names what the model does not have, where the recipe changes the width,
        or where a model is not tied and shall be untied.
    """
    begin = time.perf_counter()
    source = source if isinstance(source, Checkpoint) else Checkpoint.open(source)
    sides = _sides(source, matrix)
    before = {side: source.table(side) for side in _matrices(source)}
    after = {side: _edited(recipe, before[side], bag or {}, side) for side in sides}
    target = Target.of(source, source.vocab)
    tokens = len(target.vocab)  # rows beyond the last token are nobody's
    now = {side: after.get(side, table).vectors[:tokens] for side, table in before.items()}
    if untie:
        now["output"] = before["input"].vectors[:tokens]
    made: list[Report] = []

    def finish(partial: Path, written: Written) -> None:
        found = {}
        if not no_validate:
            with models_extra("loading the result"):
                from tokenspace.nn.quality import compared
            found = compared(source.root, partial, eval_texts, eval_sts)
        lines = [line for side in sides for line in _lines(recipe, after[side], side, sides)]
        report = Report(
            title=f"{recipe}: {source.name}",
            metrics={**said_of(recipe, after[sides[0]]).get("metrics", {}), **found},
            rows=[_row(side, before[side], after[side], recipe) for side in sides],
            recipe={**recipe.to_dict(), "options": dict(again or {})},
            inputs=dict(inputs or {}),
            notes=[*written.notes, *lines, *_ties(source, sides, untie)],
            seconds=round(time.perf_counter() - begin, 3),
        )
        (partial / "report.json").write_text(report.to_json() + "\n", encoding="utf-8")
        pairs = {side: (before[side].vectors, after[side].vectors) for side in sides}
        (partial / "report.html").write_text(render(report, pairs), encoding="utf-8")
        made.append(report)

    write(
        source,
        out,
        target,
        input=now["input"],
        output=now.get("output"),
        untie=untie,
        force=force,
        finish=finish,
    )
    return made[0]


def _matrices(source: Checkpoint) -> list[str]:
    return ["input"] if source.tied else ["input", "output"]


def _sides(source: Checkpoint, matrix: str) -> list[str]:
    """Return the matrices that are edited, by their roles; of a tied model the input alone."""
    if source.tied and source.headed:
        return ["input"]
    sides = ["input", "output"] if matrix == "both" else [matrix]
    for side in sides:
        if side not in _matrices(source):
            raise ConfigError(
                f"{source.name} has no {side} matrix of its own", hint="leave --matrix out"
            )
    return sides


def _edited(
    recipe: Recipe, table: EmbeddingTable, bag: Mapping[str, Any], side: str
) -> EmbeddingTable:
    result: EmbeddingTable = apply(recipe, {**bag, "source": table})
    if result.shape != table.shape:
        raise ConfigError(
            f"{recipe} makes the {side} matrix {result.shape[1]} wide; the model needs"
            f" {table.shape[1]}",
            hint="keep the width, or edit its table alone: --source DIR#input",
        )
    return result


def _row(
    side: str, before: EmbeddingTable, after: EmbeddingTable, recipe: Recipe
) -> dict[str, Any]:
    changed = (before.vectors != after.vectors).any(axis=1)
    return {
        "matrix": side,
        "tensor": before.notes["tensor"],
        "dtype": before.notes["dtype"],
        "rows": len(changed),
        "width": before.shape[1],
        "rows_changed": int(changed.sum()),
        "mean_cosine": float(cosine(before.vectors[changed], after.vectors[changed]).mean())
        if changed.any()
        else 1.0,
        **said_of(recipe, after).get("metrics", {}),
    }


def _lines(recipe: Recipe, table: EmbeddingTable, side: str, sides: Sequence[str]) -> list[str]:
    """Return what the recipe says, with the matrix that it is about where there are two."""
    lines = said_of(recipe, table).get("notes", ())
    return [f"{side}: {line}" if len(sides) > 1 else line for line in lines]


def _ties(source: Checkpoint, sides: Sequence[str], untie: bool) -> list[str]:
    """Say what became of the matrix that predicts tokens."""
    if not source.headed:
        return []
    if untie:
        return ["the model is untied: its output matrix has the rows as they were"]
    if source.tied:
        return ["the model is tied: its output matrix has changed with the input (see --untie)"]
    if len(sides) == 1:
        other = "output" if sides == ["input"] else "input"
        return [f"the {other} matrix is as it was (see --matrix)"]
    return []
