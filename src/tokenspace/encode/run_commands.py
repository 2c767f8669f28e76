"""``tokenspace encode run`` and ``onnx``: vectors of many texts, and a model made for it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from tokenspace.cli import echo_json, json_option
from tokenspace.errors import ConfigError
from tokenspace.report import readable_bytes
from tokenspace.space.jobs import ENGINES

if TYPE_CHECKING:
    from tokenspace.text_files import Errors


@click.command("run")
@click.argument("model")
@click.argument("texts", metavar="TEXT...", nargs=-1, required=True)
@click.option("--out", required=True, metavar="FILE", help=".npy, .safetensors or .parquet")
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16", "int8"]),
    help="what a network multiplies in  [default: as the model is stored]",
)
@click.option("--prompt", metavar="NAME", help="the model's prompt to put before every text")
@click.option("--normalize", is_flag=True, help="give every vector length 1")
@click.option("--dim", type=int, metavar="K", help="keep the first K numbers of a vector")
@click.option("--batch-tokens", type=int, metavar="N", help="tokens a network is given at a time")
@click.option(
    "--errors",
    type=click.Choice(["strict", "replace"]),
    default="strict",
    show_default=True,
    help="what to do with bytes that are not UTF-8",
)
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default="local",
    show_default=True,
    help="who encodes; ray: the workers of RAY_ADDRESS, or of this machine",
)
@click.option("--dry-run", is_flag=True, help="only say how many texts, bytes and seconds")
@click.option("--trust-remote-code", is_flag=True, help="accept a model with own code")
@click.option("--force", is_flag=True, help="replace what is at --out")
@json_option
def run_command(
    *,
    model: str,
    texts: Sequence[str],
    out: str,
    errors: Errors,
    engine: Literal["local", "ray"],
    dry_run: bool,
    force: bool,
    as_json: bool,
    **how: Any,
) -> None:
    """Encode the lines of TEXT with MODEL, and write their vectors in the same order.

    MODEL is any text encoder: a directory, a package or a hub id. TEXT is a file (also packed), a
    folder, a table (reviews.csv#body) or - for standard input. A run that was killed goes on where
    it stopped. With several graphics cards:

        accelerate launch -m tokenspace encode run MODEL TEXT --out FILE
    """
    from dataclasses import asdict

    from tokenspace.corpus import Corpus
    from tokenspace.text_files import TextFiles

    from .vectors import How, estimate, write_vectors

    given, corpus = How(**how), Corpus(TextFiles(texts, errors, whole=True))
    if dry_run:
        would = estimate(model, corpus, out, given, force=force)
        if as_json:
            return echo_json(would.to_dict())
        return click.echo(
            f"{out}: would be {would.texts:,} vectors of {would.dim:,} numbers,"
            f" {readable_bytes(would.bytes)}, in about {timedelta(seconds=round(would.seconds))}"
            f" ({would.texts_per_second:,.0f} texts/s)"
            + (f"; {would.kept:,} are finished" if would.kept else "")
        )
    done = write_vectors(model, corpus, out, given, engine=engine, force=force)
    if os.environ.get("RANK", "0") != "0":  # of the processes of accelerate, one speaks
        return None
    if as_json:
        return echo_json(asdict(done))
    tokens = f", {done.tokens:,} tokens" if done.tokens is not None else ""
    click.echo(
        f"{out}: {done.texts:,} vectors of {done.dim:,} numbers in {done.seconds:.1f} s"
        f" ({done.texts_per_second:,.0f} texts/s{tokens}, {done.precision})"
        + (f"; {done.kept:,} were finished" if done.kept else "")
    )
    if done.agreement is not None:
        click.echo(f"  {done.precision} against before: {done.agreement}")
    return None


@click.command("onnx")
@click.argument("model")
@click.option("--out", required=True, metavar="DIR", help="where the converted model goes")
@click.option(
    "--precision",
    type=click.Choice(["float32", "int8"]),
    default="float32",
    show_default=True,
    help="int8: whole numbers of 8 bits, scaled by output channel",
)
@click.option(
    "--texts",
    multiple=True,
    metavar="PATH",
    help="texts of yours, on which the two models are compared  [default: Python's documentation]",
)
@click.option("--trust-remote-code", is_flag=True, help="accept a model with own code")
@click.option("--force", is_flag=True, help="replace what is at --out")
@json_option
def onnx_command(
    *,
    model: str,
    out: str,
    precision: Literal["float32", "int8"],
    texts: Sequence[str],
    trust_remote_code: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Convert the text encoder MODEL to ONNX, and measure what that changes.

    The result is a directory that encode run and every --encoder here take; its onnx/model.onnx
    runs elsewhere too, from token ids to pooled vectors.
    """
    if Path(out).exists() and not force:
        raise ConfigError(f"{out} exists", hint="choose another --out, or add --force")
    from dataclasses import asdict

    from tokenspace.runner import load_input, located
    from tokenspace.text_encoder import PretrainedEncoder

    from .onnx import convert, sample

    chosen = sample(texts)
    place = located(PretrainedEncoder, model)
    encoder = load_input(PretrainedEncoder, place, trust_remote_code=trust_remote_code)
    found = convert(encoder, out, precision=precision, texts=chosen)
    size = sum(file.stat().st_size for file in (Path(out) / "onnx").iterdir())
    if as_json:
        return echo_json({"out": out, "precision": precision, "bytes": size, **asdict(found)})
    click.echo(f"{out}: {precision}, {readable_bytes(size)}")
    return click.echo(f"  against before: {found}")
