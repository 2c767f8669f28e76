"""The command that joins words that belong together: ``tokenspace words phrases``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from tokenspace.cli import echo_json, json_option
from tokenspace.errors import ConfigError

if TYPE_CHECKING:
    from tokenspace.lexicon import Split
    from tokenspace.words.phrases import Score

__all__ = ["phrases_command"]

SHOWN = 10  # of the best phrases


@click.command("phrases")
@click.option(
    "--corpus", "paths", required=True, multiple=True, metavar="FILE", help="text, one a line"
)
@click.option(
    "--threshold",
    "thresholds",
    type=float,
    multiple=True,
    metavar="FLOAT",
    help="score above which a pair is joined; once more for a further pass  [default: 100, or 0.5"
    " for npmi]",
)
@click.option(
    "--score",
    type=click.Choice(["count", "npmi"]),
    default="count",
    show_default=True,
    help="as word2phrase scores; or normalised mutual information, in [-1, 1]",
)
@click.option(
    "--min-count",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="pairs that meet less often are no phrases",
)
@click.option(
    "--split",
    type=click.Choice(["words", "whitespace", "spacy"]),
    default="words",
    show_default=True,
    help="how words are found in the text",
)
@click.option("--language", default="", metavar="CODE", help="language of the text, e.g. tr")
@click.option("--out", required=True, metavar="FILE", help="where the joined text goes")
@click.option("--phrases", "listed", metavar="FILE", help="also write the phrases as JSON")
@click.option("--force", is_flag=True, help="replace what is at --out and --phrases")
@json_option
def phrases_command(
    *,
    paths: tuple[str, ...],
    thresholds: tuple[float, ...],
    score: str,
    min_count: int,
    split: str,
    language: str,
    out: str,
    listed: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Join words that follow each other far more often than chance: new york becomes new_york.

    The text at --out has a line for every one of --corpus, its words between spaces; train on it
    with --split whitespace.
    """
    from tokenspace.corpus import Corpus
    from tokenspace.io import replacing
    from tokenspace.words.phrases import Phrases

    for path in filter(None, (out, listed)):
        if Path(path).exists() and not force:
            raise ConfigError(f"{path} exists", hint="choose another name, or add --force")
    corpus = Corpus.load(*paths, split=cast("Split", split), language=language)
    wanted = thresholds or ((100.0,) if score == "count" else (0.5,))
    found = Phrases.learn(
        corpus, thresholds=wanted, score=cast("Score", score), min_count=min_count
    )
    with replacing(out) as partial, partial.open("w", encoding="utf-8") as file:
        file.writelines(f"{text}\n" for text in found.join(corpus))
    if listed is not None:
        found.save(listed)
    if as_json:
        passes = [[phrase._asdict() for phrase in each] for each in found.passes]
        echo_json({"phrases": len(found), "passes": passes, "out": out})
        return
    for number, each in enumerate(found.passes, 1):
        best = " ".join(phrase.left + found.joiner + phrase.right for phrase in each[:SHOWN])
        click.echo(f"pass {number}: {len(each):,} phrases{': ' if each else ''}{best}")
    click.echo(f"text: {out}")
