"""The command that runs the study of Turkish again: ``tokenspace words study-turkish``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tokenspace.cli import json_option
from tokenspace.errors import ConfigError

if TYPE_CHECKING:
    from tokenspace.recipe import Recipe

__all__ = ["study_turkish_command"]

STATIC = ("sgns", "cbow", "fasttext", "ppmi_svd")
FROM_A_NETWORK = ("aggregate:contexts=0", "aggregate", "x2static")


@click.command("study-turkish")
@click.argument("methods", nargs=-1, metavar="[METHOD]...")
@click.option("--encoder", metavar="PATH", help="a network that knows Turkish, for methods of one")
@click.option(
    "--corpus",
    multiple=True,
    metavar="PATH",
    help="Turkish text to learn from  [default: film reviews and Python's manual]",
)
@click.option(
    "--min-count",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="of every METHOD that does not say otherwise: most forms of words are rare",
)
@click.option("--seeds", default="7,24,30", show_default=True, metavar="N,...", help="of vectors")
@click.option("--out", metavar="FILE", help="also write the report as JSON")
@click.option("--force", is_flag=True, help="replace what is at --out")
@json_option
def study_turkish_command(
    *,
    methods: tuple[str, ...],
    encoder: str | None,
    corpus: tuple[str, ...],
    min_count: int,
    seeds: str,
    out: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Learn Turkish word vectors with every METHOD and judge them alike.

    METHOD is a name or NAME:knob=value,...; by default four that learn from text, and with
    --encoder three that take words out of the network. Judged by similarity of words (Spearman,
    Pearson), analogies (3CosMul, mean reciprocal rank within 10; unknown words count as 0, the
    covered questions apart), parts of speech, names (F1 of entities) and reviews of films, as the
    mean over seeds with its deviation. Needs the Turkish sets (TOKENSPACE_DATA).
    """
    if out is not None and Path(out).exists() and not force:
        raise ConfigError(f"{out} exists", hint="choose another path, or add --force")
    from tokenspace.console import show_table
    from tokenspace.corpus import Corpus
    from tokenspace.io import replacing
    from tokenspace.recipe import parse
    from tokenspace.runner import load_input, located
    from tokenspace.text_encoder import TextEncoder
    from tokenspace.words import turkish

    try:
        numbers = [int(part) for part in seeds.split(",")]
    except ValueError:
        raise ConfigError(f"--seeds {seeds!r}", hint="write whole numbers: 7,24,30") from None
    chosen = methods or (*STATIC, *(FROM_A_NETWORK if encoder else ()))
    recipes = [_of_rare_words(parse(method), min_count) for method in chosen]
    text = Corpus.load(*corpus, language="tr") if corpus else turkish.texts()
    bag = {"corpus": text}
    if encoder:
        bag["encoder"] = load_input(TextEncoder, located(TextEncoder, encoder))
    found = turkish.study(recipes, bag, seeds=numbers)
    if out is not None:
        with replacing(out) as partial:
            partial.write_text(found.to_json() + "\n", encoding="utf-8")
    if as_json:
        return click.echo(found.to_json())
    figures = list(dict.fromkeys(key for row in found.rows for key in row if key != "method"))
    shown = [key for key in figures if not key.endswith("_sd")]
    lines = [[key, *(_shown(row, key) for row in found.rows)] for key in shown]
    show_table(["", *(row["method"] for row in found.rows)], lines, found.title)
    for note in found.notes:
        click.echo(note)
    return None


def _of_rare_words(recipe: Recipe, min_count: int) -> Recipe:
    """Return the recipe with another ``min_count``, where it has one and says nothing of it."""
    own = {field.name: field.default for field in fields(recipe)}
    if "min_count" not in own or getattr(recipe, "min_count") != own["min_count"]:  # noqa: B009
        return recipe
    return replace(recipe, **{"min_count": min_count})


def _shown(row: Mapping[str, object], key: str) -> str:
    value, spread = row[key], row.get(f"{key}_sd")
    if not isinstance(value, float):
        return "" if value is None else str(value)
    if key == "words":
        return f"{value:,.0f}"
    return f"{value:.3f}" + (f" ± {spread:.3f}" if isinstance(spread, float) else "")
