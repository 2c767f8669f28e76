"""The verbs on a model's vocabulary beside the methods themselves: expand, prune, hypernet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tokenspace.cli import INPUTS, echo_report, json_option
from tokenspace.errors import ConfigError, InputError
from tokenspace.transplant import EVIDENCE

if TYPE_CHECKING:
    from tokenspace.checkpoint import Checkpoint
    from tokenspace.vocab import Vocabulary

_GIVEN_BY_EXPAND = ("source", "target", "model")


def _directory_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of every command that writes a model directory."""
    from tokenspace.transplant.directory import options

    trust = click.Option(["--trust-remote-code"], is_flag=True, help="accept a model with own code")
    made: list[click.Parameter] = getattr(function, "__click_params__", [])
    function.__click_params__ = [trust, *reversed(options()), *made]  # type: ignore[attr-defined]
    return function


def _inputs(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for every input that a method of the family may ask for."""
    for name, kind in reversed(EVIDENCE.items()):
        if name not in _GIVEN_BY_EXPAND:
            several = kind in ("Corpus", "Pairs")
            flag = "--" + name.replace("_", "-")
            text = f"{INPUTS.get(kind, kind)} (if the method needs it)"
            option = click.option(flag, metavar="PATH", multiple=several, help=text)
            function = option(function)
    return function


@click.command("expand")
@click.argument("model")
@click.argument("tokenizer")
@click.option("--out", required=True, metavar="DIR", help="where the result goes")
@click.option(
    "--method",
    default="mean",
    show_default=True,
    metavar="NAME[:KNOB=VALUE,...]",
    help="the transplant method that makes the new rows",
)
@_inputs
@_directory_options
@click.option("--force", is_flag=True, help="replace what is at --out")
@json_option
def expand_command(
    *, model: str, tokenizer: str, out: str, method: str, force: bool, as_json: bool, **more: Any
) -> None:
    """Add to MODEL the tokens that TOKENIZER has more; every old token keeps its id and row.

    TOKENIZER must begin with the model's own tokens, as after adding tokens to it.
    """
    from tokenspace import catalog
    from tokenspace.recipe import parse
    from tokenspace.runner import located, run_method

    recipe = parse(method)
    entry = catalog.find(recipe.name)
    if entry.family != "transplant":
        raise ConfigError(f"{recipe.name} is not a transplant method", hint="tokenspace list")
    given = {name: more.pop(name) for name in EVIDENCE if name not in _GIVEN_BY_EXPAND}
    given = {name: list(v) if isinstance(v, tuple) else v for name, v in given.items() if v}
    from tokenspace.checkpoint import Checkpoint
    from tokenspace.vocab import Vocabulary

    given |= {"source": located(Checkpoint, model), "target": located(Vocabulary, tokenizer)}
    opened = Checkpoint.open(
        str(given["source"]), trust_remote_code=bool(more.get("trust_remote_code"))
    )
    check_extends(opened, Vocabulary.load(str(given["target"])), model, tokenizer)
    report = run_method(entry, recipe.to_dict(), given, out, force, **more)
    return echo_report(report, out, as_json)


def check_extends(source: Checkpoint, target: Vocabulary, model: str, tokenizer: str) -> None:
    """Raise :class:`InputError`, naming the first id that differs, unless target ⊇ source."""
    for index, token in enumerate(source.vocab.tokens):
        other = target.tokens[index] if index < len(target) else None
        if token and token != other:
            there = "absent" if other is None else repr(other)
            raise InputError(
                f"{tokenizer}: not an extension of {model}: id {index} is {token!r} there and"
                f" {there} here",
                hint="add tokens at the end, or use tokenspace transplant",
            )


@click.command("prune")
@click.argument("model")
@click.option(
    "--text", "texts", required=True, multiple=True, metavar="FILE", help="text to be kept"
)
@click.option("--out", required=True, metavar="DIR", help="where the result goes")
@click.option(
    "--min-count",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="occurrences that keep a token",
)
@_directory_options
@click.option("--force", is_flag=True, help="replace what is at --out")
@json_option
def prune_command(
    *,
    model: str,
    texts: Sequence[str],
    out: str,
    min_count: int,
    force: bool,
    as_json: bool,
    mapping: Sequence[str],
    specials: Sequence[str],
    eval_text: str | None,
    heal: str | None,
    base: str | None,
    merge_adapter: bool,
    trust_remote_code: bool,
    **more: Any,
) -> None:
    """Drop the tokens of MODEL that a text does not use; the text is split as before.

    Special tokens, single bytes and characters, and what kept tokens are merged from stay, so
    that any text can still be written. Kept rows are not changed.
    """
    from tokenspace.checkpoint import Checkpoint
    from tokenspace.corpus import Corpus
    from tokenspace.recipe import make
    from tokenspace.runner import located

    from .directory import read_mapping, read_specials, transplant_model
    from .prune import pruned

    source = Checkpoint.open(
        located(Checkpoint, model),
        trust_remote_code=trust_remote_code,
        mapping=read_mapping(mapping),
        base=base,
        merge_adapter=merge_adapter,
    )
    corpus = Corpus.load(*texts)
    target = pruned(source.vocab, source.vocab.count(corpus), min_count=min_count)
    report = transplant_model(
        make("mean"),
        source,
        target,
        out,
        eval_texts=list(Corpus.load(eval_text)) if eval_text else None,
        heal_texts=list(Corpus.load(heal)) if heal else None,
        force=force,
        specials=read_specials(specials),
        **{name: value for name, value in more.items() if value is not None},
    )
    return echo_report(report, out, as_json)


@click.command("hypernet")
@click.argument("model")
@click.option(
    "--corpus", "texts", required=True, multiple=True, metavar="FILE", help="text to train on"
)
@click.option("--out", required=True, metavar="FILE", help="where it goes: NAME.safetensors")
@click.option(
    "--method",
    default="zett",
    show_default=True,
    metavar="NAME[:KNOB=VALUE,...]",
    help="the transplant method that trains a network, and its knobs",
)
@click.option("--trust-remote-code", is_flag=True, help="accept a model with own code")
@click.option("--force", is_flag=True, help="replace what is at --out")
@json_option
def hypernet_command(
    *,
    model: str,
    texts: Sequence[str],
    out: str,
    method: str,
    trust_remote_code: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Train a network that predicts rows for MODEL in any tokenizer, and keep it.

    Use it as in: tokenspace transplant zett --source MODEL --hypernet FILE --target TOKENIZER.
    It serves models that were trained further from MODEL too.
    """
    import json

    from tokenspace.checkpoint import Checkpoint
    from tokenspace.corpus import Corpus
    from tokenspace.recipe import parse
    from tokenspace.runner import located

    if Path(out).exists() and not force:
        raise ConfigError(f"{out} exists", hint="choose another --out, or add --force")
    if Path(out).suffix != ".safetensors":
        raise ConfigError(f"{out} is not NAME.safetensors", hint="end --out in .safetensors")
    recipe: Any = parse(method)
    if not hasattr(recipe, "train"):
        raise ConfigError(f"{recipe.name} trains no network", hint="--method zett")
    opened = Checkpoint.open(located(Checkpoint, model), trust_remote_code=trust_remote_code)
    trained = recipe.train(opened, Corpus.load(*texts))
    trained.save(out)
    notes = trained.notes
    if as_json:
        return click.echo(json.dumps({"out": out, **notes}, indent=2))
    return click.echo(
        f"{out}: trained on sampled vocabularies of {notes['vocab_size']:,} tokens;"
        f" loss {notes['loss_first']:.3f} at first, {notes['loss_last']:.3f} at last"
    )
