"""The verb on tokenizers: compare two, on the terminal, as JSON, and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from . import page
from .cli import echo_json, json_option
from .errors import ConfigError
from .tokenizer_comparison import LONGEST, Comparison, Side

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.text import Text

__all__ = ["compare_tokenizers_command", "facts", "render"]

COLOURS = ("on blue", "on magenta", "on green", "on red")
TINTS = ("#cfe3ff", "#f3d3ee", "#d5efcf", "#ffdcc9")
VISIBLE = str.maketrans({"\n": "⏎", "\t": "→", "\r": "↵"})


@click.command("compare-tokenizers")
@click.argument("a")
@click.argument("b")
@click.option("--text", "texts", multiple=True, metavar="FILE", help="text to compare on")
@click.option("--html", metavar="FILE", help="also write a page with tables and plots")
@click.option("--force", is_flag=True, help="replace what is at --html")
@json_option
def compare_tokenizers_command(
    a: str, b: str, texts: tuple[str, ...], html: str | None, force: bool, as_json: bool
) -> None:
    """Show what the tokenizers A and B share, and what a text costs in each.

    A and B are files (tokenizer.json, vocab.txt, .tiktoken), directories, model directories or hub
    ids. Without --text the text is a sample of Python's language reference. A token's partner is
    found by its bytes; each further level counts only what those before it left.
    """
    from .corpus import Corpus
    from .io import replacing
    from .tokenizer_comparison import compare, default_text, open_vocabulary

    if html is not None and Path(html).exists() and not force:
        raise ConfigError(f"{html} exists", hint="choose another --html, or add --force")
    corpus = Corpus.load(*texts) if texts else default_text()
    first, second = open_vocabulary(a), open_vocabulary(b)
    found = compare(first, second, corpus, names=_names(a, b))
    if html is not None:
        with replacing(html) as partial:
            partial.write_text(render(found), encoding="utf-8")
    if as_json:
        echo_json(asdict(found))
    else:
        _show(found)
        if html is not None:
            click.echo(f"page: {html}")


def _names(a: str, b: str) -> tuple[str, str]:
    """Return short names of two paths: their last parts, or all of them where those agree."""
    short = Path(a).name, Path(b).name
    return short if short[0] != short[1] and all(short) else (f"A ({a})", f"B ({b})")


def facts(found: Comparison) -> list[tuple[str, str, str]]:
    """Return the rows that stand side by side: what, in A, in B."""

    def row(side: Side) -> list[str]:
        trip, cost = side.round_trip, side.cost
        return [
            side.kind,
            f"{side.tokens:,} of {side.ids:,} ids",
            f"{side.specials:,} special, {side.holes:,} holes, {side.ghosts:,} ghosts",
            f"{cost.tokens:,}",
            f"{cost.fertility:.3f}",
            f"{cost.bytes_per_token:.3f}",
            f"{cost.tokens_per_byte:.4f}",
            f"{cost.unknown:,}",
            f"{side.numerals} ({' '.join(side.numerals.example)})",
            f"{trip.restored} of {trip.texts} texts"
            + (f", {trip.spaced} with a space before" if trip.spaced else "")
            + (f"; normalisers: {', '.join(trip.normalizers)}" if trip.normalizers else ""),
        ]

    names = (
        "kind",
        "tokens",
        "",
        "tokens of the text",
        "tokens a word (fertility)",
        "bytes a token",
        "tokens a byte",
        "unknown tokens",
        "numbers",
        "text that comes back",
    )
    return list(zip(names, row(found.a), row(found.b), strict=True))


def _level_rows(found: Comparison) -> list[list[str]]:
    return [
        [
            level.level,
            f"{level.count:,}",
            f"{level.total:,}",
            f"{100 * level.total / found.a.tokens:.1f} %",
            f"{level.reverse_total:,}",
            f"{100 * level.reverse_total / found.b.tokens:.1f} %",
            "  ".join(f'"{x}"' if x == y else f'"{x}"="{y}"' for x, y in level.examples),
        ]
        for level in found.levels
    ]


LEVEL_HEAD = ("level", "new", "A in B", "of A", "B in A", "of B", "examples (A=B)")


def _raw(found: Comparison) -> str:
    return (
        f"By token strings instead of bytes: {found.raw['strings']:,} agree, "
        f"{found.raw['marked']:,} with Ġ taken for ▁; by bytes {found.levels[0].total:,}."
    )


def _lead(found: Comparison) -> str:
    text = found.text
    return f"{text['texts']:,} texts, {text['words']:,} words, {text['bytes']:,} bytes"


# The terminal


def _show(found: Comparison) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    console.width = console.width if console.is_terminal else 160  # a pipe has no width

    def table(head: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> None:
        grid = Table(*head, title=title, title_justify="left", box=box.SIMPLE_HEAD)
        for row in rows:
            grid.add_row(*(Text(cell) for cell in row))
        console.print(grid)

    for warning in found.warnings:
        console.print(Text(f"WARNING: {warning}", "bold yellow"))
    table(("", found.a.name, found.b.name), facts(found), _lead(found))
    table(LEVEL_HEAD, _level_rows(found), "Shared tokens, by level")
    console.print(Text(_raw(found)))
    for sample in found.samples:
        console.print()
        for side, tokens in ((found.a, sample.a), (found.b, sample.b)):
            head = (f"{side.name[:20]:<20} {len(tokens):>3}  ", "dim")
            console.print(Text.assemble(head, _coloured(tokens, plain=not console.color_system)))


def _coloured(tokens: Sequence[str], *, plain: bool) -> Text:
    """Return the tokens in turning colours, or divided by bars where there are no colours."""
    from rich.text import Text

    shown = [token.translate(VISIBLE) for token in tokens]
    if plain:
        return Text("|".join(shown))
    return Text.assemble(
        *((token, COLOURS[index % len(COLOURS)]) for index, token in enumerate(shown))
    )


# The page


def render(found: Comparison) -> str:
    """Return the comparison as an HTML page that needs nothing else."""
    from html import escape

    def tinted(tokens: Sequence[str]) -> str:
        spans = (
            f"<span style='background:{TINTS[i % len(TINTS)]};color:#111;white-space:pre-wrap'>"
            f"{escape(token.translate(VISIBLE))}</span>"
            for i, token in enumerate(tokens)
        )
        return "<code>" + "".join(spans) + f"</code> ({len(tokens)})"

    names = [escape(side.name) for side in (found.a, found.b)]
    samples = "".join(
        f"<p>{names[0]}: {tinted(sample.a)}<br>{names[1]}: {tinted(sample.b)}</p>"
        for sample in found.samples
    )
    warnings = "".join(f"<p><strong>Warning:</strong> {escape(w)}</p>" for w in found.warnings)
    parts = [
        warnings,
        page.table(["", found.a.name, found.b.name], facts(found)),
        page.heading("Shared tokens, by level", _raw(found)),
        page.table(LEVEL_HEAD, _level_rows(found)),
        page.figure(
            page.draw(lambda axes: _draw_levels(axes, found), 3.0),
            "Share of the tokens that have a partner, level after level.",
        ),
        page.heading("Bytes a token"),
        page.figure(
            page.draw(lambda axes: _draw_bytes(axes, found), 3.0),
            f"Share of the text's tokens by their bytes; the last column is {LONGEST} and more.",
        ),
        page.heading("The same lines as tokens"),
        samples,
    ]
    return page.page(f"{found.a.name} and {found.b.name}", _lead(found), parts)


def _draw_levels(axes: Axes, found: Comparison) -> None:
    places = range(len(found.levels))
    ours = [100 * level.total / found.a.tokens for level in found.levels]
    theirs = [100 * level.reverse_total / found.b.tokens for level in found.levels]
    axes.bar([x - 0.2 for x in places], ours, 0.4, label=f"{found.a.name} in {found.b.name}")
    axes.bar([x + 0.2 for x in places], theirs, 0.4, label=f"{found.b.name} in {found.a.name}")
    axes.set_xticks(list(places), [level.level for level in found.levels])
    axes.set(ylabel="% of tokens", ylim=(0, 100))
    axes.legend(frameon=False)


def _draw_bytes(axes: Axes, found: Comparison) -> None:
    for side in (found.a, found.b):
        total = max(1, sum(side.cost.histogram))
        shares = [100 * count / total for count in side.cost.histogram]
        edges = [x + 0.5 for x in range(LONGEST + 1)]
        axes.stairs(shares, edges, label=side.name, fill=True, alpha=0.5)
    axes.set(xlabel="bytes of a token", ylabel="% of tokens")
    axes.legend(frameon=False)
