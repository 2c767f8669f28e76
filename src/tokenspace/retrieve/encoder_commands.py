"""``tokenspace retrieve finetune`` and ``encode``: train a text encoder, and apply it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tokenspace.cli import echo_json, json_option
from tokenspace.errors import ConfigError, InputError
from tokenspace.report import readable_bytes

if TYPE_CHECKING:
    from tokenspace.retrieve.pooling import Side


@click.command("finetune")
@click.argument("model")
@click.option(
    "--pairs",
    required=True,
    multiple=True,
    metavar="FILE",
    help="queries and their documents: .tsv, .csv with a header, .jsonl, or two files of lines",
)
@click.option("--out", required=True, metavar="DIR", help="where the trained encoder goes")
@click.option(
    "--method",
    default="crisp:lr=1e-05",
    show_default=True,
    metavar="NAME[:KNOB=VALUE,...]",
    help="the retrieve method that trains an encoder, and its knobs",
)
@click.option("--trust-remote-code", is_flag=True, help="accept a model with own code")
@click.option("--force", is_flag=True, help="replace what is at --out")
@json_option
def finetune_command(
    *,
    model: str,
    pairs: Sequence[str],
    out: str,
    method: str,
    trust_remote_code: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Train the text encoder MODEL so that few vectors a text are enough.

    The result is a directory of sentence-transformers that also knows what to keep. Use it as in:
    tokenspace retrieve encode TEXT --encoder DIR --out docs.safetensors
    """
    if Path(out).exists() and not force:
        raise ConfigError(f"{out} exists", hint="choose another --out, or add --force")
    from tokenspace.pairs import Pairs
    from tokenspace.recipe import parse

    recipe: Any = parse(method)
    if not hasattr(recipe, "finetune"):
        raise ConfigError(f"{recipe.name} trains no encoder", hint="--method crisp")
    given = Pairs.load(*pairs)
    figures = recipe.finetune(model, given, out, trust_remote_code=trust_remote_code)
    if as_json:
        return echo_json({"out": out, "method": str(recipe), "pairs": len(given), **figures})
    return click.echo(
        f"{out}: trained as {recipe} on {len(given):,} pairs;"
        f" loss {figures['loss_first']:.3f} at first, {figures['loss_last']:.3f} at last"
    )


@click.command("encode")
@click.argument("texts", metavar="TEXT...", nargs=-1, required=True)
@click.option("--encoder", required=True, metavar="PATH|ID", help="a text encoder")
@click.option(
    "--keep",
    metavar="HOW",
    help="all, tail:8, spacing:2, even:8, kmeans:8, kmeans:25%, ward:2 or drop:0.95 (default: what"
    " the encoder was trained for, otherwise all)",
)
@click.option("--whole", is_flag=True, help="one vector a text, in place of its tokens' vectors")
@click.option("--queries", is_flag=True, help="the texts are queries, not documents")
@click.option("--out", required=True, metavar="FILE", help="where the result goes: .safetensors")
@click.option("--trust-remote-code", is_flag=True, help="accept an encoder with own code")
@click.option("--force", is_flag=True, help="replace what is at --out")
@json_option
def encode_command(
    *,
    texts: Sequence[str],
    encoder: str,
    keep: str | None,
    whole: bool,
    queries: bool,
    out: str,
    trust_remote_code: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Turn files of text, one item a line, into the token vectors that --docs takes.

    A line that gives no token is refused, with its number; with --whole, one whose vector is zero.
    """
    if Path(out).exists() and not force:
        raise ConfigError(f"{out} exists", hint="choose another --out, or add --force")
    if Path(out).suffix != ".safetensors":
        raise ConfigError(f"{out} is not NAME.safetensors", hint="end --out in .safetensors")
    if whole and keep is not None:
        raise ConfigError(
            "--keep is about the vectors of tokens", hint="leave out --keep or --whole"
        )
    from tokenspace.arrays import Ragged
    from tokenspace.corpus import Corpus
    from tokenspace.runner import load_input, located
    from tokenspace.text_encoder import TextEncoder

    from .crisp import trained_sides
    from .pooling import Pooling, pool

    side: Side = "query" if queries else "document"
    if keep is not None:
        Pooling.parse(keep)
    lines = list(Corpus.load(*texts))
    place = located(TextEncoder, encoder)
    loaded = load_input(TextEncoder, place, trust_remote_code=trust_remote_code)
    if hasattr(loaded, "prompted"):
        loaded = loaded.prompted(side)
    if whole:
        vectors = loaded.encode(lines)
        tokens, good, missing = Ragged.single(vectors), vectors.any(axis=1), "vector"
    else:
        tokens = loaded.encode_tokens(lines)
        good, missing = tokens.heights > 0, "token"
    if not good.all() or not lines:
        raise InputError(
            f"line {int(good.argmin()) + 1} gives no {missing}" if lines else "there is no text",
            hint="remove blank lines, and those of unknown words: each line is an item",
        )
    trained = None if whole else trained_sides(encoder)
    how = keep or (trained[side == "document"] if trained else "all")
    kept = pool(tokens, how, side=side)
    kept.save(out)
    figures = {"items": len(kept), "tokens": len(tokens.flat), "kept": len(kept.flat)}
    if as_json:
        return echo_json({"out": out, "keep": how, "bytes": kept.flat.nbytes, **figures})
    return click.echo(
        f"{out}: {len(kept.flat):,} vectors ({how}) of {len(tokens.flat):,} tokens in"
        f" {len(kept):,} items, {readable_bytes(kept.flat.nbytes)}"
    )
