"""``tokenspace encode lexical``: the words of a DupMAE encoder for sentence-transformers."""

from __future__ import annotations

from pathlib import Path

import click

from tokenspace.cli import echo_json, json_option
from tokenspace.errors import ConfigError, InputError, MissingExtra


@click.command("lexical")
@click.argument("model")
@click.option("--top", type=int, metavar="K", help="words kept of a document  [default: 384]")
@click.option("--out", required=True, metavar="DIR", help="where the model goes")
@click.option("--force", is_flag=True, help="replace what is at --out")
@json_option
def lexical_command(*, model: str, top: int | None, out: str, force: bool, as_json: bool) -> None:
    """Write the words that MODEL names, one that encode dupmae made, as a SparseEncoder.

    It opens with SparseEncoder(DIR, trust_remote_code=True) of sentence-transformers, without this
    package: encode_document keeps the strongest words of a text, encode_query the values of all.
    """
    if Path(out).exists() and not force:
        raise ConfigError(f"{out} exists", hint="choose another --out, or add --force")
    try:
        from tokenspace.nn.duplex import FILE, DuplexEncoder

        from .lexical import write_sparse
    except ImportError as fault:
        raise MissingExtra.named("models", "a sparse encoder") from fault
    if not (Path(model) / FILE).is_file():
        raise InputError(
            f"{model}: no encoder that names words", hint="make one with tokenspace encode dupmae"
        )
    encoder = DuplexEncoder.load(model)
    write_sparse(encoder, out, top=top)
    words = len(encoder.pretraining["head.bias"])
    kept = min(encoder.half, words) if top is None else top
    if as_json:
        return echo_json({"model": model, "out": out, "top": kept, "words": words})
    return click.echo(f"{out}: {kept:,} of {words:,} words of a document")
