"""The verb on tables of senses: disambiguate."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import click

from tokenspace.cli import echo_json, json_option
from tokenspace.errors import InputError
from tokenspace.senses import Reading, SenseTable

NEAR = 5  # rows that explain a sense


@click.command("disambiguate")
@click.argument("table")
@click.argument("text", required=False)
@click.option("--window", type=click.IntRange(1), help="known words to each side that count [all]")
@json_option
def disambiguate_command(table: str, text: str | None, window: int | None, as_json: bool) -> None:
    """Show in which sense each word of TEXT is used, by a TABLE that words dsg made.

    Without TEXT, lines are read from standard input, each a text of its own. Shown are the words
    of several senses: the sense, how probable it is, and the rows nearest to it. Words that the
    table does not know are left out; --json also has those of a single sense.
    """
    opened = SenseTable.load(table)
    if not isinstance(opened, SenseTable):
        raise InputError(
            f"{table}: a table without senses", hint="make one with tokenspace words dsg"
        )
    lines: Iterable[str] = sys.stdin if text is None else [text]
    if as_json:
        return echo_json(list(_records(opened, lines, window)))
    for line in lines:
        found = opened.disambiguate(line, window=window)
        _print(opened, [reading for reading in found if len(opened.senses(reading.word)) > 1])
    return None


def _records(
    table: SenseTable, lines: Iterable[str], window: int | None
) -> Iterable[dict[str, object]]:
    for line in lines:
        words = [reading._asdict() for reading in table.disambiguate(line, window=window)]
        yield {"text": line.rstrip("\n"), "words": words}


def _print(table: SenseTable, found: list[Reading]) -> None:
    if not found:
        click.echo("no word of several senses")
        return
    wide = max(len(reading.sense) for reading in found)
    for reading in found:
        own = {name for name, _ in table.senses(reading.word)}
        near = [name for name, _ in table.nearest(reading.sense, NEAR + len(own))]
        shown = " ".join([name for name in near if name not in own][:NEAR])
        click.echo(f"{reading.sense:<{wide}}  {reading.probability:.2f}  {shown}")
