"""``tokenspace encode lexical``: the words of a DupMAE encoder for sentence-transformers."""

from __future__ import annotations

from pathlib import Path

import click

from tokenspace.cli import echo_json, json_option
from tokenspace.errors import ConfigError, MissingExtra


@click.command("lexical")
@click.argument("model")
@click.option("--top", type=int, metavar="K", help="words kept of a document")
@click.option("--out", required=True, metavar="DIR", help="where the model goes")
@click.option("--force", is_flag=True, help="replace what is at --out")
@json_option
def lexical_command(*, model: str, top: int | None, out: str, force: bool, as_json: bool) -> None:
    """Write the words that MODEL names, one that encode dupmae made, as a SparseEncoder.

    It opens with SparseEncoder(DIR, trust_remote_code=True) of sentence-transformers, without this
    package: encode_document keeps the strongest words of a text, encode_query the values of all. By
    default as many words are kept as half of the encoder's vectors' numbers, 384 at most.
    """
    if Path(out).exists() and not force:
        raise ConfigError(f"{out} exists", hint="choose another --out, or add --force")
    try:
        from tokenspace.nn.duplex import DuplexEncoder

        from .lexical import write_sparse
    except ImportError as fault:
        raise MissingExtra.named("models", "a sparse encoder") from fault
    encoder = DuplexEncoder.load(model)
    write_sparse(encoder, out, top=top)
    words = len(encoder.pretraining["head.bias"])
    kept = min(encoder.half, words) if top is None else top
    if as_json:
        return echo_json({"model": model, "out": out, "top": kept, "words": words})
    return click.echo(f"{out}: {kept:,} of {words:,} words of a document")
