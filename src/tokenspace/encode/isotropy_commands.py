"""``tokenspace encode isotropy``: how evenly a model's vectors fill their space, and a remedy."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import click

from tokenspace.cli import echo_json, json_option
from tokenspace.errors import ConfigError


@click.command("isotropy")
@click.argument("model")
@click.option("--corpus", "given", metavar="TEXT", required=True, help="texts of your own kind")
@click.option(
    "--transform",
    type=click.Choice(["centre", "top", "pca", "zca", "ica"]),
    help="what every vector passes; top: centred, without the first directions",
)
@click.option("--top", type=int, metavar="N", help="directions that top takes out  [default: 1]")
@click.option("--out", metavar="DIR", help="where the model goes")
@click.option("--force", is_flag=True, help="replace what is at --out")
@click.option("--trust-remote-code", is_flag=True, help="run code out of a model directory")
@json_option
def isotropy_command(
    *,
    model: str,
    given: str,
    transform: str | None,
    top: int | None,
    out: str | None,
    force: bool,
    trust_remote_code: bool,
    as_json: bool,
) -> None:
    """Say how evenly the vectors of MODEL fill their space, and write one that fills it better.

    Every second text fits the transform and the others are measured, before and after. The
    directory opens in plain SentenceTransformer.
    """
    from tokenspace.console import show_table
    from tokenspace.corpus import Corpus
    from tokenspace.nn.encoder import load_encoder

    from .isotropy import Transform, evened, evenness

    if (transform is None) != (out is None):
        raise ConfigError("--transform and --out go together", hint="give both, or neither")
    if top is not None and transform != "top":
        raise ConfigError("--top says nothing here", hint="it goes with --transform top")
    if out and Path(out).exists() and not force:
        raise ConfigError(f"{out} exists", hint="choose another --out, or add --force")
    encoder = load_encoder(model, trust_remote_code=trust_remote_code)
    texts = list(dict.fromkeys(Corpus.load(given)))
    if transform is None or out is None:
        measured, made = texts, None
    else:
        fitted, measured = texts[::2], texts[1::2]
        many = 1 if top is None else top
        made = evened(encoder, fitted, cast("Transform", transform), top=many)
    figures = {"before": evenness(encoder.encode(measured))}
    if made is not None:
        figures["after"] = evenness(made.encode(measured))
        made.save(str(out))
    if as_json:
        return echo_json({"model": model, "texts": len(measured), **figures})
    names = list(figures["before"])
    cells = [[when, *(f"{row[name]:.4g}" for name in names)] for when, row in figures.items()]
    return show_table(["", *names], cells, f"{model}: vectors of {len(measured)} texts")
