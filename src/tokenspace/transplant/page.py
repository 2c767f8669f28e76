"""The report of a transplant as one HTML page that opens offline."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tokenspace.page import draw, figure, heading, page, table
from tokenspace.report import Report

if TYPE_CHECKING:
    from tokenspace.checkpoint import Checkpoint

    from .directory import Side

__all__ = ["render"]

_BEFORE_AFTER = ("bits_per_byte", "tokens_per_byte")


def render(report: Report, source: Checkpoint, sides: Sequence[Side]) -> str:
    """Return the page: where the rows come from, what it cost, and how the rows look."""
    metrics = dict(report.metrics)
    copied = {k: v for k, v in metrics.items() if k.startswith("copied_")}
    new = ("rebuilt", "specials_mean", "unknown")
    origins = copied | {name: metrics[name] for name in new}
    shared = int(sum(copied.values()))
    lead = (
        f"{shared:,} tokens kept their rows, {int(metrics['rebuilt']):,} were rebuilt, "
        f"{int(metrics['unknown']):,} are unknown to the method; {report.seconds:.1f} seconds."
    )
    parts = [
        heading("Where the rows come from"),
        figure(draw(partial(_bars, values=origins), 2.4), "Tokens, by where their row is from."),
    ]
    before_after = [name for name in _BEFORE_AFTER if f"{name}_after" in metrics]
    if before_after or "cosine" in metrics:
        parts.append(heading("What it cost"))
        shown = [
            [name, f"{value:.4f}"]
            for name, value in metrics.items()
            if name.startswith((*_BEFORE_AFTER, "cosine", "gain"))
        ]
        parts.append(table(["figure", "value"], shown))
    for name in before_after:
        pair = {"source": metrics[f"{name}_before"], "result": metrics[f"{name}_after"]}
        caption = f"{name.replace('_', ' ')}, lower is better."
        parts.append(figure(draw(partial(_bars, values=pair), 1.6), caption))
    parts.append(heading("How the rows look"))
    for side in sides:
        caption = f"Lengths of the {side.name} rows, old and new: new ones should look alike."
        parts.append(figure(draw(partial(_lengths, side=side), 2.8), caption))
        residuals = side.table.notes.get("residual")
        if residuals:
            caption = f"{side.name}: what share of its donor row each rebuilt token lacks."
            parts.append(figure(draw(partial(_residuals, residuals=residuals), 2.4), caption))
    columns = ["tensor", "role", "dtype", "rows_before", "rows_after", "aliases"]
    parts += [
        heading("Tensors"),
        table(columns, [[str(row[column]) for column in columns] for row in report.rows]),
        heading("Examples"),
        table(["token", "from", "source token"], _examples(source, sides[0])),
    ]
    if report.notes:
        parts += [heading("Notes"), table(["note"], [[note] for note in report.notes])]
    settings = {**report.recipe, **report.environment}
    parts += [
        heading("Made with"),
        table(["setting", "value"], [[key, str(value)] for key, value in settings.items()]),
    ]
    return page(report.title, lead, parts)


def _bars(axes: Any, values: dict[str, float]) -> None:
    names = [name.replace("copied_", "copied: ") for name in values][::-1]
    bars = axes.barh(names, list(values.values())[::-1])
    axes.bar_label(bars, fmt=lambda x: f"{x:,.0f}" if x >= 100 else f"{x:.3g}", padding=3)
    axes.margins(x=0.12)


def _lengths(axes: Any, side: Side) -> None:
    lengths = np.linalg.norm(side.table.vectors, axis=1)
    edges = np.histogram_bin_edges(lengths, 60)
    for name, chosen in (("copied", side.partners >= 0), ("new", side.partners < 0)):
        if chosen.any():
            axes.hist(lengths[chosen], edges, density=True, alpha=0.5, label=name)
    axes.set(xlabel="length of the row", ylabel="density")
    axes.legend(frameon=False)


def _residuals(axes: Any, residuals: Sequence[float]) -> None:
    axes.hist(residuals, np.linspace(0, max(1.0, *residuals), 50))
    axes.set(xlabel="relative residual", ylabel="tokens")


def _examples(source: Checkpoint, side: Side) -> list[list[str]]:
    """Return some tokens of every origin, spread over the ids."""
    origins: dict[str, list[int]] = {}
    for i, origin in enumerate(side.origins):
        origins.setdefault(origin, []).append(i)
    rows = []
    for origin, ids in origins.items():
        for i in ids[:: max(1, len(ids) // 6)][:6]:
            mate = int(side.partners[i])
            token = source.vocab.tokens[mate] if mate >= 0 else ""
            rows.append([repr(side.table.vocab.tokens[i]), origin, repr(token) if token else ""])
    return rows
