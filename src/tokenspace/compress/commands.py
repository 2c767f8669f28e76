"""The verb on compressed models beside the methods themselves: decompress."""

from __future__ import annotations

import json

import click

from tokenspace.cli import json_option


@click.command("decompress")
@click.argument("model")
@click.option("--out", required=True, metavar="DIR", help="where the result goes")
@click.option("--force", is_flag=True, help="replace what is at --out")
@json_option
def decompress_command(model: str, out: str, force: bool, as_json: bool) -> None:
    """Write the compressed MODEL with an ordinary matrix again, which transformers loads.

    MODEL is a directory that tokenspace compress METHOD --source MODEL wrote. What the compression
    lost stays lost.
    """
    from .hollow import fill

    opened = fill(model, out, force=force)
    shapes = {name: list(opened.tables[name].shape) for name in opened.tables}
    if as_json:
        return click.echo(json.dumps({"out": out, "tensors": shapes}, indent=2))
    for name, (height, width) in shapes.items():
        click.echo(f"{out}: {name}, {height:,} rows of {width}")
    return None
