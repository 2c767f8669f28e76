"""Apply a method to a whole model directory: new rows on either side, checked, measured, reported.

The recipe is called on the input matrix, and for a model that is not tied once more on the output
matrix, with the donor's output matrix as the donor. A recipe that is ``joint`` is called once, on
both matrices side by side. Special tokens that only the target has (``<|im_start|>``) take the mean
row of those that have a counterpart, whatever the method. The result appears under its name only
after it was read again and has passed.
"""

from __future__ import annotations

import csv
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from tokenspace import model_options
from tokenspace.arrays import Ids
from tokenspace.catalog import Entry
from tokenspace.checkpoint.target import CHAT_TEMPLATES, DIGITS, Target, lone_specials
from tokenspace.corpus import Corpus
from tokenspace.errors import ConfigError, FormatError
from tokenspace.recipe import Recipe, apply, evidence, make
from tokenspace.report import Report
from tokenspace.runner import Given, hashes, is_model, load_input, models_extra
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import LEVELS, Vocabulary

if TYPE_CHECKING:
    from tokenspace.checkpoint import Checkpoint, VocabTensor, Written

__all__ = [
    "FILES",
    "Side",
    "options",
    "read_mapping",
    "read_specials",
    "run",
    "transplant_model",
]

FILES = ("config.json", "modules.json", "adapter_config.json")

log = logging.getLogger(__name__)


def options() -> list[click.Option]:
    """Return the options that transplants of model directories have beside those of the method."""
    return [
        click.Option(["--rows"], type=click.IntRange(1), help="exact height of the new matrices"),
        click.Option(
            ["--pad-to-multiple"], type=click.IntRange(1), help="height a multiple of this"
        ),
        click.Option(["--untie"], is_flag=True, help="give a tied model an output matrix"),
        click.Option(
            ["--chat-template"],
            type=click.Choice(CHAT_TEMPLATES),
            default=None,
            help="whose chat template is written  [default: donor]",
        ),
        click.Option(
            ["--specials"],
            multiple=True,
            metavar="NEW=OLD|FILE",
            help="a new token and the model's whose row it takes; FILE: a JSON object of such",
        ),
        click.Option(
            ["--digits"],
            type=click.Choice(DIGITS),
            default=None,
            help="whose way to cut numbers is kept  [default: donor]",
        ),
        click.Option(
            ["--map", "mapping"],
            multiple=True,
            metavar="NAME=AXIS",
            help="the axis of a tensor that counts tokens, or NAME=none",
        ),
        click.Option(["--base"], metavar="PATH|ID", help="the model of a PEFT adapter"),
        click.Option(
            ["--merge-adapter"],
            is_flag=True,
            help="merge a PEFT adapter into the model, where its new rows need it",
        ),
        model_options.eval_text(),
        click.Option(
            ["--heal"],
            metavar="FILE",
            help="text to train the result on, so that it does what the source did",
        ),
        click.Option(
            ["--heal-seconds"],
            type=click.FloatRange(min=0.0, min_open=True),
            help="how long  [default: 300, or --heal-steps alone]",
        ),
        click.Option(
            ["--heal-steps"],
            type=click.IntRange(1),
            help="end after so many steps; alone: the same bytes every time",
        ),
        model_options.no_validate(),
    ]


def run(
    entry: Entry,
    values: Mapping[str, Any],
    given: Mapping[str, Given],
    out: str,
    force: bool,
    *,
    mapping: Sequence[str] = (),
    specials: Sequence[str] = (),
    eval_text: str | None = None,
    heal: str | None = None,
    base: str | None = None,
    merge_adapter: bool = False,
    trust_remote_code: bool = False,
    **settings: Any,
) -> Report:
    """Run one method of the family from paths to a directory (:func:`transplant_model`)."""
    from tokenspace.checkpoint import Checkpoint

    recipe = make(entry.name, **{k: v for k, v in values.items() if k != "method"})
    kinds = {item.name: item.type for item in evidence(type(recipe))}
    first = {name: paths if isinstance(paths, str) else paths[0] for name, paths in given.items()}
    source = Checkpoint.open(
        first["source"],
        trust_remote_code=trust_remote_code,
        mapping=read_mapping(mapping),
        base=base,
        merge_adapter=merge_adapter,
    )
    bag: dict[str, Any] = {}
    for name, paths in given.items():
        if name == "donor" and is_model(paths, FILES):
            bag[name] = Checkpoint.open(first[name], trust_remote_code=trust_remote_code)
        elif name not in ("source", "target"):
            bag[name] = load_input(kinds[name], paths, trust_remote_code=trust_remote_code)
    texts = None if eval_text is None else list(Corpus.load(eval_text))
    chosen = {name: value for name, value in settings.items() if value is not None}
    again = {**chosen, "mapping": list(mapping), "specials": list(specials), "heal": heal}
    again |= {"eval_text": eval_text, "base": base, "merge_adapter": merge_adapter}
    return transplant_model(
        recipe,
        source,
        first["target"],
        out,
        bag=bag,
        eval_texts=texts,
        heal_texts=None if heal is None else list(Corpus.load(heal)),
        force=force,
        inputs={name: hashes(paths) for name, paths in given.items()},
        again={name: value for name, value in again.items() if value},
        specials=read_specials(specials),
        **chosen,
    )


def read_mapping(given: Sequence[str]) -> dict[str, int | None]:
    """Read ``NAME=AXIS`` or ``NAME=none`` of every ``--map``."""
    found: dict[str, int | None] = {}
    for item in given:
        name, equals, axis = item.rpartition("=")
        if not equals or not (axis == "none" or axis.isdigit()):
            raise ConfigError(f"--map {item}", hint="write --map NAME=AXIS, or NAME=none")
        found[name] = None if axis == "none" else int(axis)
    return found


def read_specials(given: Sequence[str]) -> dict[str, str]:
    """Read ``NEW=OLD``, or a JSON file with an object of such pairs, of every ``--specials``."""
    found: dict[str, str] = {}
    for item in given:
        if Path(item).is_file():
            from tokenspace.checkpoint.folder import read_json

            content = read_json(Path(item))
            if not isinstance(content, dict) or not all(
                isinstance(old, str) for old in content.values()
            ):
                raise FormatError(
                    f"{item}: not an object of tokens", hint='write {"NEW": "OLD", ...}'
                )
            found |= content
            continue
        new, _, old = item.partition("=")
        if not new or not old:
            raise ConfigError(
                f"--specials {item}", hint="write --specials NEW=OLD, or give a JSON file"
            )
        found[new] = old
    return found


@dataclass(frozen=True, eq=False)
class Side:
    """The new rows of one side of a model.

    ``table`` has a row for every token of the target; ``partners`` (V,) says whose row of the
    source was copied, -1 for none, and ``levels`` (V,) int8 by which level of the matching ladder
    (0: none, else 1 + its place in :data:`tokenspace.vocab.LEVELS`). ``lone`` are the special
    tokens that took the mean row of those with a partner.
    """

    name: str
    table: EmbeddingTable
    partners: Ids
    levels: np.ndarray
    lone: Ids

    @cached_property
    def origins(self) -> list[str]:
        """Where the row of every token comes from: a level, or one of what is no copy."""
        made = dict.fromkeys(self.table.notes.get("tokens", ()), "rebuilt")
        made |= dict.fromkeys(self.lone.tolist(), "specials' mean")
        levels = enumerate(self.levels.tolist())
        return [LEVELS[level - 1] if level else made.get(i, "unknown") for i, level in levels]


def transplant_model(
    recipe: Recipe,
    source: Checkpoint | str | Path,
    target: Target | Vocabulary | str | Path,
    out: str | Path,
    *,
    bag: Mapping[str, Any] | None = None,
    rows: int | None = None,
    pad_to_multiple: int | None = None,
    untie: bool = False,
    chat_template: str = "donor",
    specials: Mapping[str, str] | None = None,
    digits: str = "donor",
    eval_texts: Sequence[str] | None = None,
    heal_texts: Sequence[str] | None = None,
    heal_seconds: float | None = None,
    heal_steps: int | None = None,
    seed: int = 0,
    no_validate: bool = False,
    force: bool = False,
    inputs: Mapping[str, Mapping[str, str]] | None = None,
    again: Mapping[str, Any] | None = None,
) -> Report:
    """Write the model ``source`` with the tokens of ``target`` to the directory ``out``.

    Parameters
    ----------
    recipe
        A method of this family.
    source, target
        The model, and the tokenizer that it gets, opened or as a path, package or hub id.
    bag
        Further inputs of the recipe by name; ``donor`` may be a :class:`Checkpoint`, whose output
        matrix then serves the output. ``model`` is ``source`` unless it is given.
    rows, pad_to_multiple, untie, force
        As in :func:`tokenspace.checkpoint.write`.
    chat_template, specials, digits
        As in :meth:`tokenspace.checkpoint.Target.of`.
    eval_texts
        Texts on which source and result are measured; by default a sample of Python's
        documentation.
    heal_texts, heal_seconds, heal_steps, seed
        Train the result on these texts (:func:`tokenspace.nn.heal.heal`) before it is measured.
    no_validate
        Only write: do not load the result, and measure nothing.
    inputs, again
        What the report says of the inputs, and the options with which ``tokenspace run`` does the
        same again.

    Returns
    -------
    Report
        Also written as ``report.json`` and ``report.html`` into ``out``, beside
        ``provenance.tsv``, which says of every row where it comes from.
    """
    from tokenspace.checkpoint import Checkpoint, write
    from tokenspace.transplant.page import render

    begin = time.perf_counter()
    source = source if isinstance(source, Checkpoint) else Checkpoint.open(source)
    if not isinstance(target, Target):
        target = Target.of(
            source, target, chat_template=chat_template, specials=specials, digits=digits
        )
    sides = _sides(recipe, source, target, dict(bag or {}), untie)
    made: list[Report] = []

    def finish(partial: Path, written: Written) -> None:
        healed = {}
        if heal_texts is not None:
            healed = _healed(source, partial, heal_texts, heal_seconds, heal_steps, seed)
        found = {} if no_validate else _measured(source, partial, eval_texts)
        report = Report(
            title=f"{recipe}: {source.name} with the tokens of {_name(target)}",
            metrics={
                **_counts(sides[0]),
                "rows": float(written.rows),
                "padding_rows": float(written.padding),
                **healed,
                **found,
            },
            rows=[_tensor(source, tensor, written.rows) for tensor in source.tensors],
            recipe={**recipe.to_dict(), "options": dict(again or {})},
            inputs=dict(inputs or {}),
            notes=[
                *written.notes,
                *_warnings(source.vocab, sides, eval_texts is None and bool(found)),
            ],
            seconds=round(time.perf_counter() - begin, 3),
        )
        _provenance(partial / "provenance.tsv", source.vocab, sides)
        (partial / "report.json").write_text(report.to_json() + "\n", encoding="utf-8")
        html = render(report, source, sides)
        (partial / "report.html").write_text(html, encoding="utf-8")
        made.append(report)

    write(
        source,
        out,
        target,
        input=sides[0].table.vectors,
        output=sides[1].table.vectors if len(sides) > 1 else None,
        partners=sides[0].partners,
        rows=rows,
        pad_to_multiple=pad_to_multiple,
        untie=untie,
        force=force,
        finish=finish,
    )
    return made[0]


def _sides(
    recipe: Recipe, source: Checkpoint, target: Target, bag: dict[str, Any], untie: bool
) -> list[Side]:
    """Return the new rows of the input and, where the result has one, of the output matrix."""
    from tokenspace.checkpoint import Checkpoint

    match = target.vocab.match(source.vocab)
    partners, levels = match.ids.copy(), match.steps.copy()
    for new, old in target.copies.items():
        partners[new], levels[new] = old, LEVELS.index("special") + 1
    lone, specials = lone_specials(target.vocab, partners)
    names = ["input"] if source.tied and not untie else ["input", "output"]
    donor = bag.get("donor")
    bag.setdefault("model", source)

    def made(table: EmbeddingTable, part: str) -> EmbeddingTable:
        given = {**bag, "source": table, "target": target.vocab}
        if isinstance(donor, Checkpoint):
            given["donor"] = donor.table(part)
        result: EmbeddingTable = apply(recipe, given)
        rows = result.vectors.copy()
        for new, old in target.copies.items():
            rows[new] = table.vectors[old]
        if len(lone):
            rows[lone] = table.vectors[specials].mean(axis=0, dtype=np.float64)
        return result.replace(vectors=rows)

    if getattr(recipe, "joint", False) and len(names) == 2:
        left, right = source.table("input"), source.table("output")
        both = np.concatenate([left.vectors, right.vectors], axis=1)
        whole = made(left.replace(vectors=both), "input")
        halves = np.split(whole.vectors, [left.shape[1]], axis=1)
        tables = [whole.replace(vectors=np.ascontiguousarray(half)) for half in halves]
    else:
        tables = [made(source.table(name), name) for name in names]
    return [Side(n, t, partners, levels, lone) for n, t in zip(names, tables, strict=True)]


def _name(target: Target) -> str:
    vocab = target.vocab
    return f"a {vocab.kind} tokenizer of {len(vocab):,} tokens"


def _counts(side: Side) -> dict[str, float]:
    """Count the rows by where they come from."""
    found = Counter(side.origins)
    copied = {f"copied_{level}": float(found[level]) for level in LEVELS if found[level]}
    return {
        **copied,
        "rebuilt": float(found["rebuilt"]),
        "specials_mean": float(found["specials' mean"]),
        "unknown": float(found["unknown"]),
    }


def _tensor(source: Checkpoint, tensor: VocabTensor, rows: int) -> dict[str, Any]:
    entry = source.entry(tensor.name)
    return {
        "tensor": tensor.name,
        "role": tensor.role,
        "dtype": entry.dtype,
        "rows_before": entry.shape[tensor.axis],
        "rows_after": rows,
        "aliases": ", ".join(tensor.aliases),
    }


def _warnings(source: Vocabulary, sides: Sequence[Side], sampled: bool) -> list[str]:
    """Say what a user should know of the rows, and on what text the models were measured."""
    vocab, mates = sides[0].table.vocab, sides[0].partners
    said = []
    if source.ghosts:
        shown = ", ".join(sorted(source.ghosts)[:6]) + (", …" if len(source.ghosts) > 6 else "")
        said.append(f"the model's tokens without a row: {len(source.ghosts)} ({shown})")
    if source.holes:
        said.append(f"the model's rows without a token: {len(source.holes)}")
    if not (sides[0].levels == LEVELS.index("exact") + 1).any():
        said.append("no token of text is in both vocabularies: every row is new")
    alone = [vocab.tokens[i] for i in vocab.specials if vocab.tokens[i] and mates[i] < 0]
    if alone:
        shown = ", ".join(alone[:12]) + (f" and {len(alone) - 12} more" if alone[12:] else "")
        what = "; they take the mean row of those that have one" if len(sides[0].lone) else ""
        said.append(
            f"special tokens without a counterpart: {shown}{what} (--specials NEW=OLD names one)"
        )
    for side in sides:
        flagged = side.table.notes.get("flagged")
        if flagged:
            said.append(f"{side.name}: {flagged} rebuilt rows deserve distrust (provenance.tsv)")
    if sampled:
        said.append("measured on a sample of Python's documentation: give your own --eval-text")
    return said


def _provenance(path: Path, source: Vocabulary, sides: Sequence[Side]) -> None:
    """Write for every row of every side where it comes from, one line each."""
    columns = ("support", "residual", "l1")
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, dialect="excel-tab")
        lines.writerow(["side", "id", "token", "from", "source_id", "source_token", *columns])
        for side in sides:
            notes = side.table.notes
            place = {token: index for index, token in enumerate(notes.get("tokens", ()))}
            for i, token in enumerate(side.table.vocab.tokens):
                mate, origin = int(side.partners[i]), side.origins[i]
                if mate >= 0:
                    lines.writerow([side.name, i, token, origin, mate, source.tokens[mate]])
                elif origin == "rebuilt":
                    figures = [_figure(notes.get(name), place[i]) for name in columns]
                    lines.writerow([side.name, i, token, origin, "", "", *figures])
                else:
                    lines.writerow([side.name, i, token, origin])


def _figure(values: Any, index: int) -> str:
    return f"{values[index]:.6g}" if isinstance(values, Sequence) and len(values) > index else ""


def _healed(
    source: Checkpoint,
    result: Path,
    texts: Sequence[str],
    seconds: float | None,
    total: int | None,
    seed: int,
) -> dict[str, float]:
    """Train the result on the texts."""
    with models_extra("healing"):
        from tokenspace.nn.heal import heal
    done = heal(source.root, result, texts, seconds=seconds, total=total, seed=seed)
    return {f"heal_{name}": float(value) for name, value in asdict(done).items()}


def _measured(source: Checkpoint, result: Path, texts: Sequence[str] | None) -> dict[str, float]:
    """Load the result, run it once, and measure both models on the texts."""
    with models_extra("loading the result"):
        from tokenspace.nn.quality import compared
    return compared(source.root, result, texts)
