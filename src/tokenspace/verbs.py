"""The verbs that speak about methods: list, show, run, compare, reproduce, doctor.

Each reads the catalogue, the recipes and the recorded results; none knows a method by name.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import click

from . import catalog
from .cli import echo_json, echo_report, json_option
from .console import cell, show_table
from .errors import ClaimFailed, ConfigError, InputError, MissingEvidence, TokenspaceError

if TYPE_CHECKING:
    from .catalog import Entry
    from .recipe import Recipe
    from .report import Report, Reproduction

__all__ = ["EvaluationModule", "describe", "listing"]

log = logging.getLogger(__name__)


def _write(path: Path, text: str) -> None:
    from .io import replacing

    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


# ---------------------------------------------------------------------------------------- list


def listing(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return the catalogue as plain data, with the recorded verdict and result of every claim."""
    from .report import recorded

    rows = []
    for entry in entries:
        result = recorded(entry.name)
        row = {key: getattr(entry, key) for key in ("family", "name", "paper", "summary")}
        verdict = result["verdict"] if result else "untested"
        rows.append({**row, "stability": entry.stability, "verdict": verdict, "result": result})
    return rows


def _plugins() -> list[Entry]:
    """Return the entries that other packages offer under ``tokenspace.methods``."""
    found = []
    for point in metadata.entry_points(group="tokenspace.methods"):
        entry = point.load()
        if not isinstance(entry, catalog.Entry):
            raise ConfigError(
                f"the plugin {point.name!r} ({point.value}) is not a tokenspace.catalog.Entry",
                hint="an entry point of tokenspace.methods names an Entry",
            )
        found.append(entry)
    return found


@click.command("list")
@click.argument("family", required=False)
@click.option("--plugins", is_flag=True, help="also methods that other packages offer")
@json_option
def list_command(family: str | None, plugins: bool, as_json: bool) -> None:
    """List every method, or those of one FAMILY, with the recorded verdict of its claim."""
    entries = [*catalog.CATALOG, *(_plugins() if plugins else [])]
    if family is not None:
        catalog.family(family)
        entries = [entry for entry in entries if entry.family == family]
    rows = listing(entries)
    if as_json:
        return echo_json(rows)
    columns = ("family", "name", "verdict", "summary", "paper")
    return show_table(columns, [[row[column] for column in columns] for row in rows])


# ---------------------------------------------------------------------------------------- show


def describe(entry: Entry) -> dict[str, Any]:
    """Return everything that is known about one method, as plain data.

    This is what ``show --json`` prints and what the documentation's pages are made of.
    """
    import inspect
    import sys

    from .recipe import evidence, knobs

    recipe = entry.load()
    inputs, fields = evidence(recipe), knobs(recipe)
    synopsis = ["tokenspace", entry.family, entry.name]
    synopsis += [f"--{item.name} PATH" for item in inputs if item.required]
    synopsis += [f"[--{item.name} PATH]" for item in inputs if not item.required]
    return {
        **listing([entry])[0],
        "class": recipe.__name__,
        "page": inspect.getdoc(sys.modules[recipe.__module__]) or "",
        "knobs": [
            {
                "name": knob.name,
                "type": knob.words,
                "default": entry.preset.get(knob.name, knob.default),
                "range": str(knob.range) if knob.range else None,
                "help": knob.help,
            }
            for knob in fields
        ],
        "inputs": [
            {
                "name": item.name,
                "type": item.kind,
                "required": item.required,
                "positional": item.positional,
            }
            for item in inputs
        ],
        "synopsis": " ".join([*synopsis, "[--KNOB VALUE ...]", "--out PATH"]),
        "claim": asdict(entry.claim().CLAIM),
    }


@click.command("show")
@click.argument("name", metavar="METHOD")
@json_option
def show_command(name: str, as_json: bool) -> None:
    """Explain one METHOD: the idea, its knobs and inputs, its claim and what was measured."""
    about = describe(catalog.find(name))
    if as_json:
        return echo_json(about)
    click.echo(f"{about['page']}\n\n{about['paper']} · {about['family']} · {about['stability']}\n")
    click.echo(about["synopsis"] + "\n")
    columns = ("name", "type", "default", "range", "help")
    knobs = [[knob[c] if knob[c] is not None else "" for c in columns] for knob in about["knobs"]]
    if knobs:
        show_table(("knob", *columns[1:]), knobs)
    inputs = [[i["name"], i["type"], "yes" if i["required"] else "no"] for i in about["inputs"]]
    show_table(("input", "type", "required"), inputs)
    claim, result = about["claim"], about["result"]
    click.echo(f"Claim: {claim['says']}")
    click.echo(f"  {claim['metric']} ({claim['better']} is better) against: {claim['baseline']}")
    click.echo(f"  margin {claim['margin']:g}; {claim['scale']}")
    if result is None:
        return click.echo(f"  not recorded yet: tokenspace reproduce {name} --record")
    figures = ", ".join(f"{key} {value:.4g}" for key, value in result["metrics"].items())
    return click.echo(f"  {result['verdict']}: {figures}")


# ----------------------------------------------------------------------------------------- run


@click.command("run")
@click.argument("report", metavar="REPORT", type=click.Path(dir_okay=False))
@click.option("--out", required=True, metavar="PATH", help="where the result goes")
@click.option("--force", is_flag=True, help="go on with changed inputs, and replace --out")
@json_option
def run_command(report: str, out: str, force: bool, as_json: bool) -> None:
    """Run again exactly what REPORT (a report.json) recorded: method, knobs and inputs."""
    from .runner import hashes, run_method

    try:
        saved = json.loads(Path(report).read_text(encoding="utf-8"))
        recipe, inputs = dict(saved["recipe"]), saved["inputs"]
        entry = catalog.find(recipe.pop("method"))
        options = dict(recipe.pop("options", {}))
        given = {name: list(paths) for name, paths in inputs.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        if isinstance(fault, TokenspaceError):
            raise
        raise InputError(
            f"{report}: not the report of a method",
            hint="give the report.json that `tokenspace FAMILY METHOD` wrote",
        ) from fault
    for name, paths in given.items():
        for path in paths:
            if path == "-":
                raise InputError(
                    f"the {name} came from standard input", hint="keep it in a file, and give that"
                )
            if not (Path(path).exists() or Path(path.partition("#")[0]).exists()):
                raise InputError(f"{path}: the recorded input is gone", hint="put it back")
            if hashes([path])[path] != inputs[name][path] and not force:
                raise InputError(
                    f"{path}: not the {name} that was recorded (its SHA-256 differs)",
                    hint="restore the file, or add --force to run with what is there",
                )
    done = run_method(entry, recipe, given, out, force, **options)
    echo_report(done, out, as_json)


# ------------------------------------------------------------------------------------- compare


class EvaluationModule(Protocol):
    """A module that compares models of a family on real tasks."""

    compare_models: Callable[..., None]


@click.command("compare")
@click.argument("family")
@click.option(
    "--method",
    "methods",
    multiple=True,
    metavar="NAME[:KNOB=VALUE,...]",
    help="a method with its knobs; may be repeated (default: every method of the family)",
)
@click.option("--on", metavar="SETTING", help="one of the family's settings (default: the first)")
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="MODEL",
    help="instead of methods: a model to judge, directory, package or hub id; may be repeated",
)
@click.option(
    "--results",
    multiple=True,
    metavar="PATH",
    help="scores of models: a result of MTEB, a folder of them, or a .csv; may be repeated",
)
@click.option(
    "--task",
    "tasks",
    multiple=True,
    metavar="NAME|FILE",
    help="what models are judged on: a family of tasks, a set or a file; may be repeated",
)
@click.option("--baseline", metavar="MODEL", help="compare every model with this one only")
@click.option(
    "--limit",
    type=click.IntRange(8),
    metavar="N",
    help="the most texts of a set of a task  [default: 500]",
)
@click.option(
    "--alpha",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="P",
    help="level of significance between models  [default: 0.05]",
)
@click.option("--trust-remote-code", is_flag=True, help="run code out of a model directory")
@click.option("--seed", default=0, show_default=True, help="seed of the common data")
@click.option("--tiny", is_flag=True, help="small built-in data and quick knobs")
@click.option("--out", metavar="FILE", help="also write the report to FILE")
@click.option("--html", metavar="FILE", help="also write a page with a plot of every figure")
@json_option
def compare_command(
    *,
    family: str,
    methods: tuple[str, ...],
    on: str | None,
    seed: int,
    tiny: bool,
    out: str | None,
    html: str | None,
    as_json: bool,
    **of_models: Any,
) -> None:
    """Run every method of a FAMILY on the same data, and judge the results alike.

    With --model or --results, models are compared on the tasks of the family instead, and the
    differences are tested.
    """
    from .recipe import make, parse

    members = catalog.members(family)
    if any(of_models.values()):
        chosen = {"seed": seed, "tiny": tiny, "out": out, "html": html, "as_json": as_json}
        return _compare_models(family, bool(methods or on), chosen, **of_models)
    recipes = [parse(text) for text in methods] or [make(entry.name) for entry in members]
    for recipe in recipes:
        if recipe.name not in {entry.name for entry in members}:
            raise ConfigError(
                f"{recipe.name} is not a method of {family}",
                hint=f"methods: {', '.join(entry.name for entry in members)}",
            )
    report = _compare(family, recipes, seed=seed, tiny=tiny, on=on)
    if out is not None:
        _write(Path(out), report.to_json() + "\n")
    if html is not None:
        _write(Path(html), _comparison_page(report, family))
    if as_json:
        return click.echo(report.to_json())
    columns = list(dict.fromkeys(key for row in report.rows for key in row))
    cells = [[row.get(c, "") for c in columns] for row in report.rows]
    show_table(columns, cells, report.title)
    for note in report.notes:
        click.echo(note)
    return None


def _compare_models(
    family: str,
    methods: bool,
    chosen: Mapping[str, Any],
    *,
    models: Sequence[str],
    results: Sequence[str],
    **more: Any,
) -> None:
    """Compare models by the family's module for it; refuse options that do not go together."""
    place = catalog.family(family).evaluation
    if not place:
        known = ", ".join(item.name for item in catalog.FAMILIES if item.evaluation)
        raise ConfigError(
            f"{family} compares methods, not models", hint=f"families that compare models: {known}"
        )
    if methods:
        raise ConfigError(
            "methods are not compared with models",
            hint="make models of them first: tokenspace FAMILY METHOD --out DIR",
        )
    if not models and not results:
        raise ConfigError("no model to compare", hint="name two with --model, or give --results")
    module = cast("EvaluationModule", import_module(place))
    values = {key: value for key, value in more.items() if value is not None}
    module.compare_models(models, results=results, **values, **chosen)


def _compare(
    family: str, recipes: Sequence[Recipe], *, seed: int, tiny: bool, on: str | None
) -> Report:
    """Run the recipes on the family's common data, in the setting ``on``."""
    from .progress import track
    from .recipe import apply
    from .report import Report

    trial = import_module(f"tokenspace.{family}.trial")
    settings: tuple[str, ...] = getattr(trial, "SETTINGS", ())
    if on is not None and on not in settings:
        known = ", ".join(settings) or "none"
        raise ConfigError(f"{family} has no setting {on!r}", hint=f"its settings: {known}")
    where = {"on": on or settings[0]} if settings and not tiny else {}
    begin = time.perf_counter()
    warm, bag = trial.bag(seed, tiny=True), trial.bag(seed, tiny=tiny, **where)
    run = bag.pop("run", lambda recipe: apply(recipe, bag))
    conclude = bag.pop("conclude", list)  # what follows from all rows together
    if where and hasattr(trial, "subjects"):
        recipes = trial.subjects(recipes, where["on"])
    rows, notes = [], list(bag.pop("notes", ()))
    for given in track(recipes, f"compare {family}"):
        small = _small(given)
        with suppress(ConfigError):  # what small data cannot reach; the others are refused below
            apply(small, warm)  # compilation is not part of the comparison
        recipe = small if tiny else given
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            result = run(recipe)
        except (ConfigError, MissingEvidence, InputError) as fault:  # the others are not to be lost
            notes.append(f"left out: {recipe}: {fault}")
            continue
        cost = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
        size = {"bytes": result.nbytes} if hasattr(result, "nbytes") else {}
        rows.append({"method": str(recipe), **cost, **size, **trial.judge(result, bag)})
    compared, rows = len(rows), conclude(rows)
    setting = f" ({where['on']})" if where else ""
    return Report(
        title=f"{family}, {compared} of its methods on the same data{setting}",
        metrics={"methods": float(compared), "seed": float(seed)},
        rows=rows,
        notes=notes,
        seconds=round(time.perf_counter() - begin, 3),
    )


def _small(recipe: Recipe) -> Recipe:
    """Return the recipe with the quick values of those knobs that were left at their defaults."""
    plain = type(recipe)()
    quick = {k: v for k, v in recipe.tiny.items() if getattr(recipe, k) == getattr(plain, k)}
    return replace(recipe, **quick)


def _comparison_page(report: Report, family: str) -> str:
    """Return a page with the table, the trial's drawings, and a bar a method for every figure."""
    from .page import draw, figure, heading, page, plots, table

    columns = list(dict.fromkeys(key for row in report.rows for key in row))
    cells = [[cell(row.get(column, "")) for column in columns] for row in report.rows]
    parts = [heading("Figures"), table(columns, cells)]
    trial = import_module(f"tokenspace.{family}.trial")
    parts += [figure(svg, caption) for svg, caption in plots(trial, report.rows)]
    for column in columns[1:]:
        bars = [(str(row["method"]), float(row[column])) for row in report.rows if column in row]
        bars.sort(key=lambda bar: bar[1])

        def paint(axes: Any, bars: Any = bars, column: str = column) -> None:
            axes.barh([name for name, _ in bars], [value for _, value in bars])
            axes.set_xlabel(column)

        parts.append(figure(draw(paint, 0.8 + 0.3 * len(bars)), f"{column}, by method."))
    lead = f"{report.seconds:.0f} seconds in all. " + " ".join(report.notes)
    return page(report.title, lead, parts)


# ----------------------------------------------------------------------------------- reproduce


def _seeds(ctx: click.Context, param: click.Parameter, text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--seeds {text!r}", hint="write whole numbers: --seeds 0,1,2") from None


@click.command("reproduce")
@click.argument("names", metavar="[METHOD]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="every method of the catalogue")
@click.option("--record", is_flag=True, help="keep the result where `list` and the docs read it")
@click.option("--smoke", is_flag=True, help="a hundredth of the data in seconds; no verdict")
@click.option("--seeds", callback=_seeds, metavar="N,...", help="instead of the claim's seeds")
@json_option
def reproduce_command(
    *,
    names: tuple[str, ...],
    every: bool,
    record: bool,
    smoke: bool,
    seeds: tuple[int, ...] | None,
    as_json: bool,
) -> None:
    """Measure the claim of a METHOD again: both sides, paired by seed, and the verdict.

    A run over several methods that was interrupted goes on where it stopped. Exit code 1 when a
    claim fails.
    """
    if every == bool(names):
        raise ConfigError("name a method or give --all", hint="tokenspace reproduce NAME | --all")
    if record and (smoke or seeds):
        raise ConfigError(
            "--record keeps only full runs on the claim's own seeds",
            hint="leave out --smoke and --seeds",
        )
    entries = [*catalog.CATALOG] if every else [catalog.find(name) for name in names]
    reports, trouble = _measure(entries, smoke=smoke, seeds=seeds, record=record)
    if as_json:
        plain = [report.to_dict() for report in reports]
        echo_json(plain[0] if len(entries) == 1 and plain else plain)
    else:
        _show_reproductions(reports)
    failed = [report.name for report in reports if report.verdict == "fails"]
    if trouble:
        raise trouble[0]
    if failed:
        raise ClaimFailed(
            f"not reproduced: {', '.join(failed)}",
            hint="the figures are above; compare them with tokenspace show METHOD",
        )


def _measure(
    entries: Sequence[Entry], *, smoke: bool, seeds: tuple[int, ...] | None, record: bool
) -> tuple[list[Reproduction], list[TokenspaceError]]:
    """Reproduce each entry; finished ones are kept on disk until the whole run is done.

    What stops one method (an absent extra) is said at once and does not stop the others.
    """
    from . import report
    from .data import cache_folder
    from .progress import track

    reports: list[Reproduction] = []
    trouble: list[TokenspaceError] = []
    kept: list[Path] = []
    version = _source_hash() if len(entries) > 1 else ""
    for entry in track(entries, "reproduce"):
        key = "-".join([version, "smoke" if smoke else "full", *map(str, seeds or ())])
        place = cache_folder() / "reproduce" / key / f"{entry.name}.json"
        try:
            if version and place.is_file():
                log.info("%s: finished in the interrupted run before", entry.name)
                saved = json.loads(place.read_text(encoding="utf-8"))
                done = report.Reproduction(**saved)
            else:
                done = report.reproduce(entry, smoke=smoke, seeds=seeds)
                if version:
                    _write(place, done.to_json())
        except TokenspaceError as fault:
            log.error("%s: %s", entry.name, fault)
            trouble.append(fault)
            continue
        if version:
            kept.append(place)
        if record:
            report.record(entry.name, done)
        reports.append(done)
    for place in kept:
        place.unlink(missing_ok=True)
    return reports, trouble


def _source_hash() -> str:
    """Return a hash of this package's sources: a changed method is never taken for the same."""
    import hashlib

    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _show_reproductions(reports: Sequence[Reproduction]) -> None:
    if len(reports) == 1:
        only = reports[0]
        columns = list(dict.fromkeys(key for row in only.rows for key in row))
        rows = [[row.get(column, "") for column in columns] for row in only.rows]
        show_table(columns, rows, only.title)
        for note in only.notes:
            click.echo(note)
    columns = ["method", "metric", "ours", "baseline", "gain", "95 % of the gain", "margin"]
    rows = []
    for report in reports:
        m, sign = report.metrics, "↑" if report.claim["better"] == "higher" else "↓"
        span = f"{m['gain_low']:.4g} … {m['gain_high']:.4g}"
        figures = [m["method"], m["baseline"], m["gain"], span, m["margin"]]
        metric = f"{report.claim['metric']} {sign}"
        rows.append([report.name, metric, *figures, f"{report.seconds:.1f}", report.verdict])
    show_table([*columns, "seconds", "verdict"], rows)


# -------------------------------------------------------------------------------------- doctor


def _installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _extras() -> dict[str, list[str]]:
    """Return, for every extra, which of its packages are not installed."""
    missing: dict[str, list[str]] = {}
    for line in metadata.requires("tokenspace") or []:
        found = re.fullmatch(r"([\w.-]+)(\[[^]]*\])?.*extra\s*==\s*['\"]([\w-]+)['\"].*", line)
        if found is None:
            continue
        package, _, extra = found.groups()
        gone = missing.setdefault(extra, [])
        if package != "tokenspace" and _installed(package) is None:
            gone.append(package)
    return missing


def _blas() -> str:
    """Return the name of the linear algebra library that numpy was built with."""
    import numpy as np

    config: Mapping[str, Any] = np.show_config(mode="dicts")
    blas = config["Build Dependencies"]["blas"]
    return f"{blas['name']} {blas['version']}"


def _writable(folder: Path) -> bool:
    while not folder.exists():
        folder = folder.parent
    return os.access(folder, os.W_OK)


@click.command("doctor")
@json_option
def doctor_command(as_json: bool) -> None:
    """Show versions, threads, extras, data and caches: what a bug report should hold."""
    from .data import cache_folder
    from .jit import threads
    from .report import environment

    data = os.environ.get("TOKENSPACE_DATA")
    files = sum(path.is_file() for path in Path(data).rglob("*")) if data else 0
    numba_cache = Path(os.environ.get("NUMBA_CACHE_DIR") or Path(__file__).parent / "__pycache__")
    facts: dict[str, Any] = {
        "environment": environment(),
        "platform": platform.platform(),
        "threads": threads(0),
        "blas": _blas(),
        "extras": {
            extra: "installed" if not gone else f"missing: {', '.join(gone)}"
            for extra, gone in _extras().items()
        },
        "data": {"TOKENSPACE_DATA": data, "files": files},
        "cache": {"path": str(cache_folder()), "writable": _writable(cache_folder())},
        "numba_cache": {"path": str(numba_cache), "writable": _writable(numba_cache)},
    }
    if as_json:
        return echo_json(facts)
    rows = []
    for name, value in facts.items():
        lines = value.items() if isinstance(value, dict) else [("", value)]
        rows += [[name if not i else "", key, str(v)] for i, (key, v) in enumerate(lines)]
    return show_table(("", "", ""), rows)
