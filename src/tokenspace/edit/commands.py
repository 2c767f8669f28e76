"""What the family does beside its methods: ``tokenspace edit bias`` and ``specific``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tokenspace.cli import echo_json, json_option
from tokenspace.errors import ConfigError

if TYPE_CHECKING:
    from tokenspace.table import EmbeddingTable
    from tokenspace.word_sets import WordSets

    from .bias import BiasReport


@click.command("bias")
@click.argument("source", metavar="TABLE|MODEL")
@click.option("--definitional", metavar="FILE", help="sets of words that differ in what is sought")
@click.option("--neutral", metavar="FILE", help="words that should not lie along the direction")
@click.option("--specific", metavar="FILE", help="words that may lie along it")
@click.option("--queries", metavar="FILE", help="targets and attributes: JSON")
@click.option("--after", metavar="TABLE", help="the same table, edited: what is left in it")
@click.option(
    "--lost",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.2,
    show_default=True,
    help="largest share of a set's words that may be missing",
)
@click.option("--seed", default=0, show_default=True, help="seed of what is drawn")
@click.option("--out", metavar="FILE", help="also write the report to FILE, as JSON")
@click.option("--html", metavar="FILE", help="also write a page with drawings to FILE")
@click.option("--force", is_flag=True, help="replace what is at --out and --html")
@json_option
def bias_command(
    *,
    source: str,
    definitional: str | None,
    neutral: str | None,
    specific: str | None,
    queries: str | None,
    after: str | None,
    lost: float,
    seed: int,
    out: str | None,
    html: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Measure the bias of a table of vectors, or of a model's input embeddings.

    Without files it is that of gender in English: the direction of the pairs of Bolukbasi et al.
    (2016), how far professions lie along it, the association tests of Caliskan et al. (2017) with
    their p-values, and whether the bias can be recovered once the direction is removed, beside the
    same for random directions. QUERIES look like {"name": {"targets": {"a": ["word", ...], "b":
    [...]}, "attributes": {...}}}.
    """
    for path in filter(None, (out, html)):
        if Path(path).exists() and not force:
            raise ConfigError(f"{path} exists", hint="choose another name, or add --force")
    from dataclasses import replace

    from tokenspace.io import replacing
    from tokenspace.runner import hashes

    from .bias import bias_report, load_queries

    lists = {"definitional": definitional, "neutral": neutral, "specific": specific}
    found = bias_report(
        _table(source),
        source=source,
        **{name: _sets(path) for name, path in lists.items()},
        queries=load_queries(queries) if queries else None,
        after=_table(after) if after else None,
        lost=lost,
        seed=seed,
    )
    given = {"source": source, **lists, "queries": queries, "after": after}
    found = replace(found, inputs={name: hashes(path) for name, path in given.items() if path})
    if out:
        with replacing(out) as partial:
            text = json.dumps(found.to_dict(), indent=2, ensure_ascii=False)
            partial.write_text(text + "\n", encoding="utf-8")
    if html:
        from .bias_page import render

        with replacing(html) as partial:
            partial.write_text(render(found), encoding="utf-8")
    if as_json:
        return echo_json(found.to_dict())
    _show(found)


def _table(path: str) -> EmbeddingTable:
    from tokenspace.runner import load_input, located
    from tokenspace.table import EmbeddingTable

    table: EmbeddingTable = load_input(EmbeddingTable, located(EmbeddingTable, path))
    return table


def _sets(path: str | None) -> WordSets | None:
    from tokenspace.runner import located
    from tokenspace.word_sets import WordSets

    return WordSets.load(located(WordSets, path)) if path else None


def _show(found: BiasReport) -> None:
    from tokenspace.console import show_table

    shares = found.direction["shares"]
    click.echo(
        f"direction: {len(found.direction['sets'])} sets; the first direction holds "
        f"{shares[0]:.2f} of their variance (of random sets {found.direction['random_mean']:.2f}, "
        f"at most {found.direction['random_max']:.2f})"
    )
    click.echo(
        f"direct bias: {found.direct['bias']:.4f} over {found.direct['words']} neutral words "
        f"(a random direction: {found.direct['chance']:.4f})"
    )
    first, second, *_ = found.direction["sets"][0]
    show_table(
        (f"toward {first}", "", f"toward {second}", ""),
        [(*a, *b) for a, b in zip(found.words[:8], found.words[:-9:-1], strict=True)],
        title="neutral words that lie furthest to either side",
    )
    if found.indirect:
        show_table(("word", "word", "cosine", "share"), found.indirect, title="indirect bias")
    asked = [query for query in found.queries if "left_out" not in query]
    if asked:
        columns = ("query", "targets", "effect", "difference", "p", "rnsb", "mac", "ect")
        cells = [{**query, "targets": " / ".join(query["targets"])} for query in asked]
        show_table(
            columns,
            [[row[column] for column in columns] for row in cells],
            title="queries (p: permutation test, one-sided)",
        )
    for query in found.queries:
        if "left_out" in query:
            click.echo(f"{query['query']} left out: {query['left_out']}")
        elif query["missing"]:
            gone = "; ".join(f"{k}: {', '.join(v)}" for k, v in query["missing"].items())
            click.echo(f"{query['query']} without {gone}")
    if "measures" in found.residual:
        figures = ("measure", "found", "control_mean", "control_low", "control_high")
        show_table(
            ("measure", "found", "random directions", "lowest", "highest"),
            [[measure[key] for key in figures] for measure in found.residual["measures"]],
            title=f"what is left of it in {found.residual['words']} words ({found.residual['of']})",
        )
    for name, words in found.missing.items():
        more = f" and {len(words) - 12} more" if len(words) > 12 else ""
        click.echo(f"{name}: not in the table: {', '.join(words[:12])}{more}")


@click.command("specific")
@click.argument("source", metavar="TABLE|MODEL")
@click.option("--seeds", metavar="FILE", help="words that may lie along the direction")
@click.option(
    "--most",
    type=click.IntRange(100),
    default=50_000,
    show_default=True,
    help="words of the table, from the first, that the classifier is trained on",
)
@click.option("--balanced", is_flag=True, help="weigh seeds and other words alike")
@click.option("--seed", default=0, show_default=True, help="seed of the folds")
@click.option("--out", required=True, metavar="FILE", help="where the words go, as JSON")
@click.option("--force", is_flag=True, help="replace what is at --out")
@json_option
def specific_command(
    *,
    source: str,
    seeds: str | None,
    most: int,
    balanced: bool,
    seed: int,
    out: str,
    force: bool,
    as_json: bool,
) -> None:
    """Find all words of a table that may lie along a direction, from some that may.

    A linear support vector machine learns the seeds from other words. By default the seeds are the
    218 of Bolukbasi et al. (2016) for gender in English. FILE is what `hard_debias --specific`
    reads.
    """
    if Path(out).exists() and not force:
        raise ConfigError(f"{out} exists", hint="choose another --out, or add --force")
    from tokenspace import data
    from tokenspace.io import replacing

    from .specific import specific_words

    given = _sets(seeds) or data.word_sets("gender_specific_seed")
    found = specific_words(_table(source), given, most=most, balanced=balanced, seed=seed)
    with replacing(out) as partial:
        text = json.dumps(found.words, indent=0, ensure_ascii=False)
        partial.write_text(text + "\n", encoding="utf-8")
    if as_json:
        return echo_json(found._asdict())
    click.echo(
        f"{out}: {len(found.words):,} words from {found.seeds} seeds; on words that it did not "
        f"see the classifier has F1 {found.f1:.3f}, balanced accuracy {found.balanced_accuracy:.3f}"
    )
    if found.missing:
        click.echo(f"not in the table: {', '.join(found.missing)}")
