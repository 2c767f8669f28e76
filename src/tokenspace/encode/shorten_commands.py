"""``tokenspace encode grid`` and ``shorten``: what a smaller encoder is worth, and making one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tokenspace.cli import echo_json, json_option
from tokenspace.errors import ConfigError

if TYPE_CHECKING:
    from tokenspace.examples import Examples

_SETS = "pairs of texts with a score: a file, or a set such as stsb_dev"


@click.command("grid")
@click.argument("model")
@click.option("--pairs", "given", metavar="FILE|SET", required=True, help=_SETS)
@click.option("--dims", metavar="K,...", help="numbers to keep  [default: all, and the halves]")
@click.option("--svg", metavar="FILE", help="also draw the curves to FILE")
@click.option("--force", is_flag=True, help="replace what is at --svg")
@click.option("--trust-remote-code", is_flag=True, help="run code out of a model directory")
@json_option
def grid_command(
    *,
    model: str,
    given: str,
    dims: str | None,
    svg: str | None,
    force: bool,
    trust_remote_code: bool,
    as_json: bool,
) -> None:
    """Print what MODEL is worth cut after each layer and to fewer numbers.

    Each figure is Spearman's correlation, times 100, of cosines with the scores of the pairs. Row 0
    is the mean of what enters the first layer.
    """
    from tokenspace.console import show_table
    from tokenspace.nn.encoder import load_encoder

    from .shorten import layer_grid, write_grid

    if svg and Path(svg).exists() and not force:
        raise ConfigError(f"{svg} exists", hint="choose another --svg, or add --force")
    encoder = load_encoder(model, trust_remote_code=trust_remote_code)
    kept = _dims(dims, encoder.dim)
    grid = layer_grid(encoder, scored(given), kept)
    if svg:
        write_grid(svg, grid, kept)
    if as_json:
        rows = [
            {"layers": n, **{str(k): float(x) for k, x in zip(kept, row, strict=True)}}
            for n, row in enumerate(grid)
        ]
        return echo_json({"model": model, "pairs": given, "dims": kept, "grid": rows})
    cells = [[str(n), *(f"{100 * x:.1f}" for x in row)] for n, row in enumerate(grid)]
    return show_table(["layers", *map(str, kept)], cells, f"{model} on {given}: Spearman x 100")


@click.command("shorten")
@click.argument("model")
@click.option("--layers", type=int, metavar="N", help="layers to keep, from the first on")
@click.option("--dim", type=int, metavar="K", help="numbers to keep of every vector")
@click.option(
    "--rotate", metavar="TEXT", help="keep principal components on these texts, not the first K"
)
@click.option("--out", required=True, metavar="DIR", help="where the model goes")
@click.option("--force", is_flag=True, help="replace what is at --out")
@click.option("--trust-remote-code", is_flag=True, help="run code out of a model directory")
@json_option
def shorten_command(
    *,
    model: str,
    layers: int | None,
    dim: int | None,
    rotate: str | None,
    out: str,
    force: bool,
    trust_remote_code: bool,
    as_json: bool,
) -> None:
    """Cut MODEL to fewer layers, fewer numbers, or both, and write it to --out.

    The directory opens in plain SentenceTransformer. `tokenspace encode grid` says what is lost,
    and `tokenspace encode matryoshka2d` trains a model to lose little.
    """
    from tokenspace.corpus import Corpus
    from tokenspace.nn.encoder import load_encoder
    from tokenspace.nn.layers import size

    from .shorten import shortened

    if Path(out).exists() and not force:
        raise ConfigError(f"{out} exists", hint="choose another --out, or add --force")
    encoder = load_encoder(model, trust_remote_code=trust_remote_code)
    texts = Corpus.load(rotate) if rotate else None
    short = shortened(encoder, layers=layers, dim=dim, rotate=texts)
    short.save(out)
    before, after = size(encoder), size(short)
    if as_json:
        return echo_json({"model": model, "out": out, "before": before, "after": after})
    parts = (f"{after[k]:,} of {before[k]:,} {k}" for k in before if after[k] != before[k])
    return click.echo(f"{out}: {', '.join(parts)}")


def scored(given: str) -> Examples:
    """Load pairs with scores: a file, or a set of the data by name."""
    from tokenspace import data
    from tokenspace.examples import Examples

    if Path(given.partition("#")[0]).exists():
        return Examples.load(given)
    rows = data.sts(given)
    columns = {"anchor": [a for a, _, _ in rows], "positive": [b for _, b, _ in rows]}
    return Examples(columns, scores=[score for _, _, score in rows])


def _dims(given: str | None, D: int) -> list[int]:
    if given is None:
        return [D >> i for i in range(3, -1, -1) if D >> i >= 1]
    try:
        return [int(part) for part in given.split(",")]
    except ValueError:
        raise ConfigError(f"--dims {given}", hint="write whole numbers: --dims 64,128") from None
