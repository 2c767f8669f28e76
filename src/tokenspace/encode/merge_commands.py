"""``tokenspace encode merge``: a model between one and what was trained from it."""

from __future__ import annotations

from pathlib import Path

import click

from tokenspace.cli import echo_json, json_option
from tokenspace.errors import ConfigError


@click.command("merge")
@click.argument("base")
@click.argument("tuned")
@click.option("--t", "given", metavar="T,...", help="where between BASE (0) and TUNED (1)")
@click.option("--field", metavar="FILE", help="examples of the field: triplets, pairs, ...")
@click.option("--general", metavar="FILE|SET", help="general examples, or a set such as stsb_dev")
@click.option(
    "--lose", type=click.FloatRange(0), metavar="POINTS", help="what general texts may lose at most"
)
@click.option("--svg", metavar="FILE", help="also draw the curve to FILE")
@click.option("--out", metavar="DIR", help="where the merged model goes")
@click.option("--force", is_flag=True, help="replace what is at --out and --svg")
@click.option("--trust-remote-code", is_flag=True, help="run code out of a model directory")
@json_option
def merge_command(
    *,
    base: str,
    tuned: str,
    given: str | None,
    field: str | None,
    general: str | None,
    lose: float | None,
    svg: str | None,
    out: str | None,
    force: bool,
    trust_remote_code: bool,
    as_json: bool,
) -> None:
    """Write the model between BASE and TUNED, or show what each point between is worth.

    With --t and --out, that model is written. With --field and --general, the models at several
    points are measured on both: triplets by the share in order, other examples as `encode train`
    measures them. --lose then picks the best for the field of those that keep the general figure,
    and writes it to --out.
    """
    from tokenspace.console import show_table
    from tokenspace.examples import Examples
    from tokenspace.io import replacing
    from tokenspace.nn.encoder import load_encoder

    from .merge import course, merged
    from .shorten_commands import scored

    ts = _numbers(given)
    measured = field is not None and general is not None
    if (field is None) != (general is None):
        raise ConfigError("one of --field and --general", hint="give both, or neither")
    if not measured and (out is None or len(ts) != 1 or svg or lose is not None):
        raise ConfigError(
            "nothing to measure by",
            hint="give --t T --out DIR, or --field FILE --general FILE for the curve",
        )
    if measured and (out is None) != (lose is None):
        raise ConfigError(
            "one of --out and --lose", hint="with --field, give both to write the best, or neither"
        )
    for path in (out, svg):
        if path and Path(path).exists() and not force:
            raise ConfigError(f"{path} exists", hint="choose another, or add --force")
    first, last = (load_encoder(m, trust_remote_code=trust_remote_code) for m in (base, tuned))
    if field is None or general is None:
        merged(first, last, ts[0]).save(str(out))
        return echo_json({"t": ts[0], "out": out}) if as_json else click.echo(f"{out}: t={ts[0]:g}")
    asked = {"ts": sorted({0.0, *ts})} if ts else {}
    found = course(first, last, field=Examples.load(field), general=scored(general), **asked)
    best = None if lose is None else found.best(lose)
    if best is not None and out is not None:
        merged(first, last, best).save(out)
    if svg:
        with replacing(svg) as partial:
            partial.write_text(found.to_svg(), encoding="utf-8")
    if as_json:
        return echo_json({**found.to_dict(), "best": best, "out": out})
    cells = [
        [f"{t:g}", f"{own:.1f}", f"{other:.1f}"]
        for t, own, other in zip(found.t, found.field, found.general, strict=True)
    ]
    show_table(
        ["t", f"field: {found.field_measure}", f"general: {found.general_measure}"],
        cells,
        f"{base} -> {tuned}, per cent",
    )
    return click.echo(f"{out}: t={best:g}") if out else None


def _numbers(given: str | None) -> list[float]:
    if given is None:
        return []
    try:
        return [float(part) for part in given.split(",")]
    except ValueError:
        raise ConfigError(f"--t {given}", hint="write numbers: --t 0.25,0.5") from None
