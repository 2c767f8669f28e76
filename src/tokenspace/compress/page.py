"""The report of a compressed model as one HTML page that opens offline."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from tokenspace.arrays import Floats2d
from tokenspace.metrics import cosine
from tokenspace.page import draw, figure, heading, page, table
from tokenspace.report import Report

__all__ = ["render"]


def render(report: Report, pairs: Mapping[str, tuple[Floats2d, Floats2d]]) -> str:
    """Return the page; ``pairs`` gives the rows of every matrix, as they were and as read back."""
    metrics = report.metrics
    before, after = metrics["bytes_before"], metrics["bytes_after"]
    lead = f"{before:,.0f} bytes became {after:,.0f}; {report.seconds:.1f} seconds."
    sizes = {"before": before / 1e6, "after": after / 1e6}
    parts = [
        heading("What it takes"),
        figure(draw(partial(_bars, values=sizes), 1.6), "Megabytes of the token matrix."),
    ]
    measured = {k: v for k, v in metrics.items() if not k.startswith("bytes_")}
    if measured:
        shown = [[name, f"{value:.4f}"] for name, value in measured.items()]
        parts += [heading("What it cost"), table(["figure", "value"], shown)]
    for name in ("bits_per_byte", "sts"):
        if f"{name}_after" in metrics:
            pair = {when: metrics[f"{name}_{when}"] for when in ("before", "after")}
            parts.append(figure(draw(partial(_bars, values=pair), 1.6), name.replace("_", " ")))
    parts.append(heading("How the rows are kept"))
    for side, (exact, kept) in pairs.items():
        same = cosine(exact, kept)
        caption = f"{side}: cosine of every row with what is read back."
        parts.append(figure(draw(partial(_histogram, values=same), 2.6), caption))
    columns = list(report.rows[0])
    cells = [
        [f"{v:.4g}" if isinstance(v, float) else str(v) for v in r.values()] for r in report.rows
    ]
    parts.append(table(columns, cells))
    if report.notes:
        parts += [heading("Notes"), table(["note"], [[note] for note in report.notes])]
    settings = {**report.recipe, **report.environment}
    parts += [
        heading("Made with"),
        table(["setting", "value"], [[key, str(value)] for key, value in settings.items()]),
    ]
    return page(report.title, lead, parts)


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _bars(axes: Any, values: Mapping[str, float]) -> None:
    bars = axes.barh(list(values)[::-1], list(values.values())[::-1])
    axes.bar_label(bars, fmt="%.4g", padding=3)
    axes.margins(x=0.12)


def _histogram(axes: Any, values: np.ndarray) -> None:
    axes.hist(values, np.linspace(min(0.0, float(values.min())), 1, 60))
    axes.set(xlabel="cosine", ylabel="tokens")
