"""The command line: a lazy tree grown from the catalogue.

``tokenspace FAMILY METHOD [--input PATH ...] [--knob VALUE ...] --out PATH`` is built from the
recipe's fields and its call's signature when that very command is reached, so that no help page
imports more than it shows. Results go to standard output, everything else to standard error.
"""

from __future__ import annotations

import errno
import json
import logging
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from . import __version__, catalog
from .errors import ConfigError, InputError, TokenspaceError

if TYPE_CHECKING:
    from .recipe import Evidence, Knob, Recipe
    from .report import Report

__all__ = ["main"]

VERBS = {
    "build": ("space.commands", "Make a searchable space out of text."),
    "search": ("space.commands", "Find passages and show which tokens matched."),
    "neighbors": ("space.commands", "Show the nearest tokens of a word."),
    "analogy": ("space.commands", "Show the tokens nearest to A - B + C."),
    "info": ("space.commands", "Show what a space holds and how it was made."),
    "add": ("space.commands", "Add text to a space without building it again."),
    "remove": ("space.commands", "Remove sources from a space."),
    "index": ("retrieve.engines.commands", "Keep token vectors where they can be changed."),
    "serve": ("serve.commands", "Offer search in a space over HTTP."),
    "expand": ("transplant.commands", "Add tokens to a model; old ones keep id and row."),
    "prune": ("transplant.commands", "Drop the tokens of a model that a text does not use."),
    "decompress": ("compress.commands", "Write a compressed model with an ordinary matrix again."),
    "hypernet": ("transplant.commands", "Train a network that gives a model rows for any tokens."),
    "compare-tokenizers": ("tokenizer_commands", "Show what two tokenizers share and cost."),
    "list": ("verbs", "List every method with its recorded verdict."),
    "show": ("verbs", "Explain one method: idea, knobs, inputs, claim."),
    "run": ("verbs", "Run again exactly what a report.json recorded."),
    "compare": ("verbs", "Run every method of a family on the same data."),
    "reproduce": ("verbs", "Measure a method's claim again, on this machine."),
    "doctor": ("verbs", "Show versions, threads, extras and data."),
}
FAMILY_VERBS = {
    "edit": {
        "bias": ("edit.commands", "Measure the bias of a table or a model: a full report."),
        "specific": ("edit.commands", "Find the words that may lie along a direction."),
    },
    "encode": {
        "classify": ("encode.commands", "Name the class of texts, and the words that tell it."),
        "diff": ("encode.diff_commands", "Say where the weights changed in training."),
        "isotropy": ("encode.isotropy_commands", "Say how evenly vectors fill their space."),
        "lexical": ("encode.lexical_commands", "Write the words that a model names for search."),
        "merge": ("encode.merge_commands", "Mix a model with one that was trained from it."),
        "onnx": ("encode.run_commands", "Convert a text encoder to ONNX, also in int8."),
        "run": ("encode.run_commands", "Turn a file of texts into a file of vectors, fast."),
        "grid": ("encode.shorten_commands", "Print what a model is worth at each depth and width."),
        "shorten": ("encode.shorten_commands", "Cut a model to fewer layers or numbers."),
        "train": ("encode.train_commands", "Train a model on your own pairs, and prove the gain."),
    },
    "retrieve": {
        "advise": ("retrieve.commands", "Measure settings on a sample of yours and name the best."),
        "pool": ("retrieve.commands", "Keep fewer token vectors of every document."),
        "encode": ("retrieve.encoder_commands", "Turn lines of text into token vectors."),
        "finetune": ("retrieve.encoder_commands", "Train an encoder to need few vectors a text."),
        "hybrid": ("retrieve.hybrid_commands", "Index texts by a vector and words together."),
        "search": ("retrieve.hybrid_commands", "Find the texts of such an index for a question."),
    },
    "words": {
        "disambiguate": ("words.sense_commands", "Tell which senses the words of a text have."),
        "evaluate": (
            "words.evaluation.commands",
            "Judge word vectors, and test their differences.",
        ),
        "study-turkish": ("words.turkish_commands", "Learn Turkish word vectors and judge them."),
        "phrases": ("words.phrase_commands", "Join words that belong together into one."),
    },
}
"""What a family does beside its methods: ``tokenspace FAMILY VERB``."""


def verb_command(name: str, module: str) -> click.Command:
    """Import the command of a verb."""
    found: click.Command = getattr(
        import_module(f".{module}", __package__), f"{name.replace('-', '_')}_command"
    )
    return found


class Root(click.Group):
    """The verbs of this library and its families, each imported when it is reached."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*VERBS, *(item.name for item in catalog.FAMILIES)]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name in VERBS:
            return verb_command(name, VERBS[name][0])
        if name in {item.name for item in catalog.FAMILIES}:
            return FamilyGroup(name, help=catalog.family(name).summary)
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.list_commands(ctx):
            raise unknown("command", args[0], self.list_commands(ctx))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in VERBS.items()])
        with formatter.section("Methods, by family (tokenspace FAMILY METHOD --help)"):
            formatter.write_dl([(item.name, item.summary) for item in catalog.FAMILIES])


class FamilyGroup(click.Group):
    """The methods of one family, and what it does beside them."""

    @property
    def verbs(self) -> dict[str, tuple[str, str]]:
        """Name, module and summary of every verb."""
        return FAMILY_VERBS.get(str(self.name), {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.verbs, *(entry.name for entry in catalog.members(str(self.name)))]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name in self.verbs:
            return verb_command(name, self.verbs[name][0])
        if name not in self.list_commands(ctx):
            return None
        return method_command(catalog.find(name))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.list_commands(ctx):
            raise unknown(f"{self.name} method", args[0], self.list_commands(ctx))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.verbs:
            with formatter.section("Commands"):
                formatter.write_dl([(name, summary) for name, (_, summary) in self.verbs.items()])
        with formatter.section("Methods"):
            rows = [(entry.name, entry.summary) for entry in catalog.members(str(self.name))]
            formatter.write_dl(rows)


def unknown(what: str, given: str, known: Sequence[str]) -> ConfigError:
    """Build the error for a name that is not in ``known``, with the nearest one that is."""
    import difflib

    near = difflib.get_close_matches(given, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"one of: {', '.join(known)}"
    return ConfigError(f"there is no {what} {given!r}", hint=hint)


class KnobType(click.ParamType[Any]):
    """Reads an option's text by the knob that it sets."""

    def __init__(self, knob: Knob, where: str) -> None:
        self.knob, self.where, self.name = knob, where, knob.allowed

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return self.knob.read(value, self.where) if isinstance(value, str) else value


def _knob_option(knob: Knob, where: str) -> click.Option:
    flag = "--" + knob.name.replace("_", "-")
    text = knob.help + (f" {knob.range}" if knob.range else "")
    if bool in knob.kinds:
        return click.Option([f"{flag}/--no-{flag[2:]}"], default=None, help=text)
    metavar = "|".join(
        [kind.__name__.upper() for kind in knob.kinds if kind is not type(None)]
        + list(knob.choices)
    )
    shown = f"{text}  [default: {knob.default}]"
    return click.Option([flag], type=KnobType(knob, where), metavar=metavar, help=shown)


INPUTS = {
    "Floats2d": "vectors: a table, a file of word vectors, or an .npy",
    "Ids": "whole numbers, one for every row: one a line, an .npy, or a table with counts",
    "Checkpoint": "a model: directory, package or hub id",
    "Corpus": "text: files (also packed), folders, - for standard input, or table.csv#FIELD",
    "Definitions": "a dictionary: a table with columns entry and definition, or lines of both",
    "Examples": "texts to learn from: lines, or a table with columns such as anchor and positive",
    "EmbeddingTable": "vectors: a table, a file of word vectors, or a model",
    "Hypernet": "a network that tokenspace hypernet made",
    "Labels": "one label a text, in their order: a file with one a line, or table.csv#FIELD",
    "Pairs": "pairs of texts: a file of two columns, or two files of equal lines",
    "PretrainedEncoder": "a pretrained network: directory, package or hub id",
    "Ragged": "vectors of the tokens of documents",
    "TextEncoder": "a text encoder: directory, package or hub id",
    "Vocabulary": "a tokenizer: file, directory, package or hub id; or a word list",
    "WordSets": "words or sets of words: JSON arrays, or a set a line",
}
"""What an input of a method may be, by its type."""


def _input_option(item: Evidence) -> click.Option:
    return click.Option(
        ["--" + item.name.replace("_", "-")],
        required=item.required and item.positional,  # of the others the recipe says what it lacks
        multiple=item.kind in ("Corpus", "Definitions", "Examples", "Pairs"),
        metavar="PATH",
        help=INPUTS.get(item.kind, f"{item.kind} to load")
        + ("" if item.required else " (optional)"),
    )


def _reading_options() -> list[click.Option]:
    how = click.Choice(["words", "whitespace", "spacy"])
    return [
        click.Option(
            ["--split"],
            type=how,
            help="how words are found in text: runs of letters and digits in small letters; "
            "what white space separates; spaCy's rules for --language  [default: words]",
        ),
        click.Option(
            ["--language"], metavar="CODE", help="language of the text, e.g. tr: small letters"
        ),
    ]


def method_command(entry: catalog.Entry) -> click.Command:
    """Build the command of one method from its knobs and its inputs."""
    import inspect

    from .recipe import evidence, knobs
    from .runner import directory_module

    recipe = entry.load()
    inputs, fields = evidence(recipe), knobs(recipe)
    module = directory_module(entry)
    more = module.options() if module else []
    if module or {"TextEncoder", "PretrainedEncoder", "Checkpoint"} & {
        item.kind for item in inputs
    }:
        flag = ["--trust-remote-code"]
        more.append(click.Option(flag, is_flag=True, help="run code out of a model directory"))
    if catalog.family(entry.family).of_words and "Corpus" in {item.kind for item in inputs}:
        more += _reading_options()
    page = inspect.getdoc(sys.modules[recipe.__module__]) or ""
    body = page.partition("\n")[2].strip()

    def run(out: str, config: str | None, force: bool, as_json: bool, **options: Any) -> None:
        from .runner import run_method

        chosen = {f.name: options[f.name] for f in fields if options[f.name] is not None}
        given = {i.name: options[i.name] for i in inputs if options[i.name] not in (None, ())}
        others = {str(option.name): options[str(option.name)] for option in more}
        values = {**_read_config(config, recipe), **chosen}
        report = run_method(entry, values, given, out, force, **others)
        echo_report(report, out, as_json)

    return click.Command(
        entry.name,
        callback=run,
        short_help=entry.summary,
        help="\n\n\b\n".join([entry.summary, *body.split("\n\n")]),  # \b keeps the line breaks
        params=[
            *(_input_option(item) for item in inputs),
            *(_knob_option(knob, entry.name) for knob in fields),
            *more,
            click.Option(["--config"], metavar="FILE", help="knobs from a TOML file"),
            click.Option(["--out"], required=True, metavar="PATH", help="where the result goes"),
            click.Option(["--force"], is_flag=True, help="replace what is at --out"),
            click.Option(["--json", "as_json"], is_flag=True, help="print the report as JSON"),
        ],
    )


def _read_config(path: str | None, recipe: type[Recipe]) -> dict[str, Any]:
    """Read knobs from a TOML file; its keys are those of the fields, and no others."""
    import tomllib

    if path is None:
        return {}
    try:
        with open(path, "rb") as file:
            values = tomllib.load(file)
    except (OSError, ValueError) as fault:  # TOMLDecodeError and UnicodeDecodeError are the latter
        raise ConfigError(f"{path}: {fault}", hint="--config takes a TOML file of knobs") from fault
    recipe.from_dict(values)  # refuses unknown keys and bad values before any work
    return values


@click.command(
    cls=Root,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Tokenspace: learn, transplant, search, compress and judge the vectors under tokens.",
    epilog="Start with: tokenspace build --out space, then tokenspace search space QUESTION",
)
@click.version_option(__version__, prog_name="tokenspace")
@click.option("-v", "--verbose", count=True, help="log more; twice: debug log and tracebacks")
@click.option("-q", "--quiet", is_flag=True, help="no progress bars, only errors")
@click.pass_context
def root(ctx: click.Context, verbose: int, quiet: bool) -> None:
    """Set up logging and progress for every command below."""
    level = (
        logging.ERROR if quiet else (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    )
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    for handler in logging.root.handlers:
        handler.addFilter(_ours_or_a_warning)
    if not quiet and sys.stderr.isatty():
        from .progress import show_progress

        ctx.with_resource(show_progress())


def _ours_or_a_warning(record: logging.LogRecord) -> bool:
    """Let other libraries speak only where something is wrong."""
    return record.levelno >= logging.WARNING or record.name.startswith("tokenspace")


def explain(fault: BaseException) -> tuple[str, int]:
    """Return the one line and the exit code for an error that ended a command."""
    if isinstance(fault, TokenspaceError):
        return str(fault) + (f" (hint: {fault.hint})" if fault.hint else ""), fault.exit_code
    if isinstance(fault, click.ClickException):
        hint = ""
        if isinstance(fault, click.UsageError) and fault.ctx is not None:
            hint = f" (hint: see {fault.ctx.command_path} --help)"
        return fault.format_message().rstrip(".") + hint, 2
    if isinstance(fault, OSError):
        full = fault.errno == errno.ENOSPC
        hint = "free some space and run the same command again" if full else "check the path"
        where = f"{fault.filename}: " if fault.filename else ""
        return f"{where}{fault.strerror or fault} (hint: {hint})", InputError.exit_code
    if isinstance(fault, MemoryError):
        return f"out of memory ({fault}) (hint: use less data or a smaller setting)", 3
    raise fault


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; every expected error becomes one line and an exit code."""
    words = list(sys.argv[1:] if args is None else args)
    debug = any(word in ("-vv", "-vvv") for word in words) or words.count("-v") > 1
    try:
        with _cleaned_up_when_told_to_end():
            code = root.main(words, prog_name="tokenspace", standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):
        click.echo("tokenspace: interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except (TokenspaceError, click.ClickException, OSError, MemoryError) as fault:
        if debug:
            traceback.print_exc()
        line, code = explain(fault)
        click.echo(f"tokenspace: error: {line}", err=True)
    sys.exit(code if isinstance(code, int) else 0)


@contextmanager
def _cleaned_up_when_told_to_end() -> Iterator[None]:
    """Let SIGTERM raise like Ctrl-C does, so that what is half written is removed."""

    def end(*_: object) -> None:
        sys.exit(143)

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    former = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--json`` to a command, as ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="print JSON for programs")(function)


def echo_json(value: object) -> None:
    """Print a value as JSON on standard output."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def echo_report(report: Report, out: str, as_json: bool) -> None:
    """Print what a run gave: where it is, its figures and its notes, or the report as JSON."""
    if as_json:
        return click.echo(report.to_json())
    click.echo(f"{out}: {report.title} in {report.seconds:.1f} s")
    for name, value in report.metrics.items():
        figure = f"{value:,.0f}" if float(value).is_integer() else f"{value:.4f}"
        click.echo(f"  {name.replace('_', ' ')}: {figure}")
    for note in report.notes:
        click.echo(f"  {note}")
    return None
