"""What the family does beside its methods: ``tokenspace retrieve advise`` and ``pool``."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from tokenspace.cli import echo_json, json_option
from tokenspace.errors import ConfigError
from tokenspace.report import readable_bytes


@click.command("advise")
@click.option(
    "--sample",
    required=True,
    metavar="PATH",
    help="a space, or token vectors of documents: .safetensors or .npz",
)
@click.option(
    "--queries",
    metavar="FILE",
    help="token vectors of queries; for a space also text, a query a line",
)
@click.option(
    "--method",
    "methods",
    multiple=True,
    metavar="NAME[:KNOB=VALUE,...]",
    help="what is tried; may be repeated (default: what every method advises)",
)
@click.option(
    "--documents", type=click.IntRange(1), metavar="N", help="how many documents there will be"
)
@click.option(
    "--limit",
    type=click.IntRange(20),
    default=3000,
    show_default=True,
    help="documents of the sample that are measured",
)
@click.option(
    "--recall",
    type=click.FloatRange(0, 1),
    default=0.95,
    show_default=True,
    help="least recall of the exact top 10 that is wanted",
)
@click.option(
    "--ms",
    type=click.FloatRange(0, min_open=True),
    default=100.0,
    show_default=True,
    help="most milliseconds a query that are wanted, on one thread",
)
@click.option(
    "--out", default="advice", show_default=True, metavar="DIR", help="the reports' place"
)
@click.option("--force", is_flag=True, help="replace what is at --out")
@click.option("--seed", default=0, show_default=True, help="seed of what is drawn")
@json_option
def advise_command(
    *,
    sample: str,
    queries: str | None,
    methods: tuple[str, ...],
    documents: int | None,
    limit: int,
    recall: float,
    ms: float,
    out: str,
    force: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Measure a grid of settings on a sample of yours, and print the command to use.

    Each index is built on the sample and on half of it, and asked one query at a time on one
    thread; recall is that of the exact top 10. Chosen is the smallest index that grants --recall
    and --ms at --documents. DIR gets report.html with the drawings, report.json and front.svg.
    """
    if Path(out).exists() and not force:
        raise ConfigError(f"{out} exists", hint="choose another --out, or add --force")
    if "numpy" not in sys.modules:  # one thread, or the figures are those of a quiet machine
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ.setdefault(name, "1")
    from dataclasses import replace

    from tokenspace.arrays import Ragged
    from tokenspace.io import replacing
    from tokenspace.runner import hashes, located

    from .advice_page import front, render
    from .advise import Sample, Wish, advise, grid

    trials, notes = grid(methods)
    paths = {"sample": located(Ragged, sample)}
    if queries is not None:
        paths["queries"] = located(Ragged, queries)
    found = advise(
        Sample.load(sample, queries, limit, seed),
        trials,
        documents=documents or 0,
        wish=Wish(recall=recall, ms=ms),
        seed=seed,
        path=sample,
        notes=notes,
    )
    inputs = {name: hashes(path) for name, path in paths.items()}
    found = replace(found, report=replace(found.report, inputs=inputs))
    import json

    with replacing(out) as partial:
        partial.mkdir()
        text = json.dumps(found.to_dict(), indent=2, ensure_ascii=False)
        (partial / "report.json").write_text(text + "\n", encoding="utf-8")
        (partial / "report.html").write_text(render(found), encoding="utf-8")
        drawing = front(found.report.rows, "bytes", "bytes")
        (partial / "front.svg").write_text(drawing + "\n", encoding="utf-8")
    if as_json:
        return echo_json(found.to_dict())
    _show(found.report.rows, found.chosen, int(found.report.metrics["extrapolated_to"]))
    for note in found.report.notes:
        click.echo(note)
    click.echo(f"\n{found.chosen}: {found.because}\n")
    for command in found.commands:
        click.echo(f"  {command}")
    return click.echo(f"\nreport: {Path(out) / 'report.html'}")


def _show(rows: Sequence[Mapping[str, Any]], chosen: str, documents: int) -> None:
    """Print the table; rows of the front are marked, and the chosen one is bold."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    size = f"{documents:,}"
    heads = ("bytes/doc", f"at {size}", "recall@10", "95 %", "of half", "p50 ms", "p95 ms")
    shown = Table("", "setting", box=box.SIMPLE_HEAD)
    for head in (*heads, f"ms at {size}", "build s"):
        shown.add_column(head, justify="right")
    for row in rows:
        cells = [
            "●" if row["front"] else "",
            row["setting"],
            f"{row['bytes_per_document']:,.0f}",
            readable_bytes(row["bytes"]),
            f"{row['recall']:.3f}",
            f"{row['recall_low']:.3f}–{row['recall_high']:.3f}",
            f"{row['recall_half']:.3f}",
            f"{row['ms_p50']:.2f}",
            f"{row['ms_p95']:.2f}",
            f"{row['ms']:.1f}",
            f"{row['build_seconds']:.2f}",
        ]
        style = "bold" if row["setting"] == chosen else ""
        shown.add_row(*(Text(cell, style) for cell in cells))
    console = Console()
    console.width = console.width if console.is_terminal else 160  # a pipe has no width
    console.print(shown)
    click.echo("● no other is at least as good in bytes, recall and time")


@click.command("pool")
@click.option(
    "--docs",
    required=True,
    metavar="PATH",
    help="token vectors of documents: .safetensors, .npz, or a space",
)
@click.option(
    "--keep",
    required=True,
    metavar="HOW",
    help="all, tail:8, spacing:2, even:8, kmeans:8, kmeans:25%, ward:2 or drop:0.95",
)
@click.option("--queries", is_flag=True, help="these are queries, of which equal rows each count")
@click.option("--out", required=True, metavar="FILE", help="where the result goes: .safetensors")
@click.option("--force", is_flag=True, help="replace what is at --out")
@json_option
def pool_command(
    *, docs: str, keep: str, queries: bool, out: str, force: bool, as_json: bool
) -> None:
    """Keep fewer token vectors of every document: clusters' means, every second, no duplicates."""
    if Path(out).exists() and not force:
        raise ConfigError(f"{out} exists", hint="choose another --out, or add --force")
    if Path(out).suffix != ".safetensors":
        raise ConfigError(f"{out} is not NAME.safetensors", hint="end --out in .safetensors")
    from tokenspace.arrays import Ragged
    from tokenspace.runner import located

    from .pooling import Pooling, pool

    how = Pooling.parse(keep)
    before = Ragged.load(located(Ragged, docs))
    after = pool(before, how, side="query" if queries else "document")
    after.save(out)
    counts = {"items": len(before), "tokens": len(before.flat), "kept": len(after.flat)}
    if as_json:
        return echo_json({"out": out, "keep": keep, **counts})
    return click.echo(
        f"{out}: {len(after.flat):,} of {len(before.flat):,} token vectors of {len(before):,} items"
    )
