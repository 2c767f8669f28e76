"""The command that judges word vectors: ``tokenspace words evaluate TABLE...``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from tokenspace.cli import json_option
from tokenspace.errors import ConfigError

if TYPE_CHECKING:
    from tokenspace.words.evaluation.lookup import Oov

__all__ = ["evaluate_command"]


@click.command("evaluate")
@click.argument("tables", nargs=-1, required=True, metavar="TABLE...")
@click.option(
    "--on",
    multiple=True,
    metavar="SET",
    help="a set by name, a task, a file, or TASK:FILE; may be repeated  [default: every public set"
    " of the language]",
)
@click.option(
    "--oov",
    type=click.Choice(["skip", "zero", "mean"]),
    default="skip",
    show_default=True,
    help="what unknown words do: leave their items out; have the zero or the mean vector",
)
@click.option(
    "--language", default="en", show_default=True, metavar="CODE", help="language of the sets"
)
@click.option(
    "--restrict",
    type=click.IntRange(1),
    metavar="N",
    help="only the N most frequent words may answer analogies  [default: all]",
)
@click.option("--seed", default=0, show_default=True, help="seed of all that is drawn")
@click.option(
    "--resamples",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="draws behind every interval",
)
@click.option("--out", metavar="FILE", help="also write the report as JSON")
@click.option("--html", metavar="FILE", help="also write a page with the plot and all figures")
@click.option("--svg", metavar="FILE", help="also write the plot alone")
@click.option("--force", is_flag=True, help="replace what is at --out, --html and --svg")
@json_option
def evaluate_command(
    *,
    tables: tuple[str, ...],
    on: tuple[str, ...],
    oov: str,
    language: str,
    restrict: int | None,
    seed: int,
    resamples: int,
    out: str | None,
    html: str | None,
    svg: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Judge the word vectors of every TABLE on the same sets, and test their differences.

    \b
    Tasks: similarity (pairs of words with scores), analogy, categories, outliers, features,
    sentences (pairs with scores), pos and ner (tagged sentences; also TRAIN,TEST).
    Figures have 95 % bootstrap intervals and say on how many of how many items they rest. Sets
    that are not on this machine are listed as skipped.
    """  # noqa: D301
    for path in (out, html, svg):
        if path is not None and Path(path).exists() and not force:
            raise ConfigError(f"{path} exists", hint="choose another path, or add --force")
    from dataclasses import replace

    from tokenspace.console import short_names, show_table
    from tokenspace.io import replacing
    from tokenspace.runner import hashes, located
    from tokenspace.table import EmbeddingTable
    from tokenspace.words.evaluation.page import NOTE, draw_scores, head, lines, render
    from tokenspace.words.evaluation.sets import choose
    from tokenspace.words.evaluation.suite import evaluate

    chosen = choose(on, language)  # a wrong name is told before tables are loaded
    places = [located(EmbeddingTable, table) for table in tables]
    short = short_names(tables)
    loaded = {name: EmbeddingTable.load(place) for name, place in zip(short, places, strict=True)}
    found = evaluate(
        loaded, chosen, oov=cast("Oov", oov), language=language, restrict=restrict, seed=seed,
        resamples=resamples,
    )  # fmt: skip
    found = replace(
        found, inputs={name: hashes(place) for name, place in zip(short, places, strict=True)}
    )
    written: list[tuple[str | None, Callable[[], str]]] = [
        (out, lambda: found.to_json() + "\n"),
        (html, lambda: render(found)),
        (svg, lambda: draw_scores(found) + "\n"),
    ]
    for path, text in written:
        if path is not None:
            with replacing(path) as partial:
                partial.write_text(text(), encoding="utf-8")
    if as_json:
        return click.echo(found.to_json())
    show_table(head(found), lines(found), found.title)
    click.echo(NOTE)
    for note in found.notes:
        click.echo(note)
    return None
