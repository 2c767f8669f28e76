"""The verbs on a space: build, search, neighbors, analogy, info, add, remove."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from tokenspace.cli import echo_json, json_option
from tokenspace.errors import TokenspaceError
from tokenspace.report import readable_bytes

from .jobs import ENGINES

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from .build import Step
    from .search import Hit
    from .space import Space

MODES = ("hybrid", "maxsim", "fde", "single", "bm25")


def _reading_options(function: Any) -> Any:
    """Add the options that say how text is read."""
    for option in (
        click.option(
            "--errors",
            type=click.Choice(["strict", "replace"]),
            default="strict",
            help="what to do with bytes that are not in the encoding  [default: strict]",
        ),
        click.option("--encoding", default="utf-8", help="encoding of the text  [default: utf-8]"),
        click.option("--text-field", metavar="NAME", help="field of .jsonl, .csv and .parquet"),
    ):
        function = option(function)
    return function


def _engine_option(function: Any) -> Any:
    """Add the option that says where passages are split and encoded."""
    return click.option(
        "--engine",
        type=click.Choice(ENGINES),
        default="local",
        show_default=True,
        help="who splits and encodes passages; ray: the workers of RAY_ADDRESS, or of this machine",
    )(function)


@click.command("build")
@click.argument("texts", metavar="[TEXT]...", nargs=-1)
@click.option(
    "--out", default="space", metavar="DIR", help="the space's directory  [default: space]"
)
@_reading_options
@click.option(
    "--encoder", metavar="PATH|ID", help="a pretrained encoder instead of learned vectors"
)
@click.option("--tokenizer", metavar="PATH|ID", help="a ready tokenizer instead of a learned one")
@click.option("--vocab-size", type=int, default=8000, show_default=True, help="tokens to learn")
@click.option("--dim", type=int, default=128, show_default=True, help="width of learned vectors")
@click.option("--epochs", type=int, default=10, show_default=True, help="passes over the text")
@click.option("--passage-words", type=int, default=120, show_default=True, help="words a passage")
@click.option(
    "--store",
    type=click.Choice(["float32", "float16", "int8"]),
    default="int8",
    show_default=True,
    help="how vectors are stored",
)
@click.option("--seed", type=int, default=0, show_default=True, help="seed of every random choice")
@click.option(
    "--threads",
    type=int,
    default=0,
    show_default=True,
    help="0: all cores; 1: the same bytes at every run",
)
@click.option("--trust-remote-code", is_flag=True, help="run code out of the encoder's directory")
@_engine_option
@json_option
def build_command(texts: tuple[str, ...], out: str, as_json: bool, **settings: Any) -> None:
    """Make a searchable space out of text.

    TEXT is a file or a folder (.txt .md .rst .html .py), a .jsonl, .csv or .parquet file with
    --text-field, or - for standard input. Without TEXT it is the documentation that your Python
    carries. A build that was interrupted goes on where it stopped.
    """
    from .space import Space

    console = _console(stderr=True)

    def announce(step: Step) -> None:
        console.print(
            f"[bold]{step.name:<11}[/] {step.seconds:7.1f} s  "
            f"{readable_bytes(step.bytes):>9}  {step.says}"
        )

    space = Space.build(texts, out=out, on_step=announce, **settings)
    if as_json:
        echo_json(space.report)
        return
    for row in space.report["known_item"]["modes"]:
        console.print(
            f"known item  {row['mode']:<10} MRR@10 {row['mrr10']:.3f} "
            f"[{row['mrr10_low']:.3f}, {row['mrr10_high']:.3f}]  recall@10 {row['recall10']:.3f}"
        )
    click.echo(f"{out}: {len(space):,} passages, {readable_bytes(space.nbytes)}")
    click.echo(f"report: {space.root / 'report.html'}")


@click.command("search")
@click.argument("space")
@click.argument("query", nargs=-1)
@click.option("-k", type=click.IntRange(1), default=5, show_default=True, help="passages to show")
@click.option(
    "--mode", type=click.Choice(MODES), default="hybrid", show_default=True, help="how to rank"
)
@json_option
def search_command(space: str, query: tuple[str, ...], k: int, mode: str, as_json: bool) -> None:
    """Find passages, and show which of their tokens matched the query's.

    Without a QUERY it asks for one after another.
    """
    from .space import Space

    opened = Space.open(space)
    if query:
        _show(opened, " ".join(query), k, mode, as_json)
        return
    while True:
        try:
            line = click.prompt("search", prompt_suffix="> ", err=True)
        except click.Abort:
            click.echo(err=True)
            return
        try:
            _show(opened, line, k, mode, as_json)
        except TokenspaceError as fault:
            click.echo(f"{fault}" + (f" (hint: {fault.hint})" if fault.hint else ""), err=True)


def _show(space: Space, query: str, k: int, mode: str, as_json: bool) -> None:
    hits = space.search(query, k=k, mode=mode)
    if as_json:
        echo_json([hit.to_dict() for hit in hits])
        return
    console = _console()
    for hit in hits:
        console.print(*hit_lines(hit), sep="\n", highlight=False)
    if not hits:
        click.echo("no passage matches", err=True)


def hit_lines(hit: Hit) -> list[Text]:
    """Return the lines that show one hit: where, the passage with its matches, and why."""
    from rich.text import Text

    head = Text.assemble(
        (f"{hit.rank}. ", "bold"),
        (f"{hit.source}:{hit.line}", "bold cyan"),
        (f"  {hit.title}" if hit.title and hit.title != hit.source else "", ""),
        (f"  {hit.score:.4g}", "dim"),
    )
    body = Text(hit.text)
    best = max((match.similarity * match.weight for match in hit.alignment), default=1.0)
    for match in hit.alignment:
        strength = match.similarity * match.weight / best if best > 0 else 0.0
        style = "bold black on yellow" if strength > 0.75 else "bold" if strength > 0.4 else "dim"
        body.stylize(style, match.start, match.end)
    strongest = sorted(hit.alignment, key=lambda match: -match.similarity * match.weight)
    pairs = [match for match in strongest if match.similarity * match.weight > best / 4][:5]
    why = "  ".join(f"{m.query.strip()}→{m.passage.strip()} {m.similarity:.2f}" for m in pairs)
    window = _window(hit)
    return [head, _indent(body[window[0] : window[1]]), Text(f"   why: {why}", "dim"), Text()]


def _window(hit: Hit, width: int = 480) -> tuple[int, int]:
    """Return the part of the passage to show: whole lines around its strongest match."""
    if len(hit.text) <= width:
        return (0, len(hit.text))
    strongest = max(hit.alignment, key=lambda match: match.similarity * match.weight, default=None)
    centre = strongest.start if strongest else 0
    start = max(0, min(centre - width // 2, len(hit.text) - width))
    start = hit.text.rfind("\n", 0, start) + 1
    end = hit.text.find("\n", start + width)
    return (start, end if end > 0 else len(hit.text))


def _indent(text: Text) -> Text:
    from rich.text import Text

    return Text("\n").join(Text("   ") + line for line in text.split("\n", allow_blank=False))


@click.command("neighbors")
@click.argument("space")
@click.argument("words", nargs=-1, required=True)
@click.option("-k", type=click.IntRange(1), default=10, show_default=True, help="how many")
@json_option
def neighbors_command(space: str, words: tuple[str, ...], k: int, as_json: bool) -> None:
    """Show the tokens whose vectors are nearest to each WORD."""
    from .space import Space

    opened = Space.open(space)
    found = {word: opened.neighbors(word, k) for word in words}
    if as_json:
        echo_json({word: [list(pair) for pair in near] for word, near in found.items()})
        return
    for word, near in found.items():
        click.echo(f"{word}: " + "  ".join(f"{token} {score:.2f}" for token, score in near))


@click.command("analogy")
@click.argument("space")
@click.argument("a")
@click.argument("b")
@click.argument("c")
@click.option("-k", type=click.IntRange(1), default=5, show_default=True, help="how many")
@json_option
def analogy_command(space: str, a: str, b: str, c: str, k: int, as_json: bool) -> None:
    """Show the tokens nearest to A - B + C (king - man + woman)."""
    from .space import Space

    found = Space.open(space).analogy(a, b, c, k)
    if as_json:
        echo_json([list(pair) for pair in found])
        return
    click.echo(f"{a} - {b} + {c}: " + "  ".join(f"{token} {score:.2f}" for token, score in found))


@click.command("info")
@click.argument("space")
@click.option("--verify", is_flag=True, help="compare every file with its checksum")
@json_option
def info_command(space: str, verify: bool, as_json: bool) -> None:
    """Show what a space holds, how it was made, and how it searches."""
    from .space import Space

    described = Space.open(space, verify=verify).info()
    if as_json:
        echo_json(described)
        return
    for key, value in described.items():
        click.echo(f"{key:<12} {_plain(value)}")


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(item)}" for name, item in value.items())
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


@click.command("add")
@click.argument("space")
@click.argument("texts", metavar="TEXT...", nargs=-1, required=True)
@_reading_options
@_engine_option
@json_option
def add_command(space: str, texts: tuple[str, ...], as_json: bool, **settings: Any) -> None:
    """Add text to a space with the vectors it has; sources that it holds already are replaced.

    TEXT is a file, a folder, or - for standard input, which is a source too: standard-input.txt.
    """
    from .space import Space

    changed = Space.open(space).add(texts, **settings)
    _say(changed, as_json)


@click.command("remove")
@click.argument("space")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@json_option
def remove_command(space: str, sources: tuple[str, ...], as_json: bool) -> None:
    """Remove the passages of each SOURCE (a name, or a pattern such as 'docs/*')."""
    from .space import Space

    changed = Space.open(space).remove(sources)
    _say(changed, as_json)


def _say(space: Space, as_json: bool) -> None:
    if as_json:
        echo_json(space.info())
    else:
        click.echo(f"{space.root}: {len(space):,} passages, {readable_bytes(space.nbytes)}")


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else 100)
