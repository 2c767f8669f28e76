"""The report of an edited model as one HTML page that opens offline."""

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
    """Return the page; ``pairs`` gives the rows of every matrix before and after."""
    changed = sum(row["rows_changed"] for row in report.rows)
    lead = f"{changed:,} rows of token vectors have changed; {report.seconds:.1f} seconds."
    figures = [[name.replace("_", " "), f"{value:.4f}"] for name, value in report.metrics.items()]
    parts = [heading("What it did"), table(["figure", "value"], figures)]
    for side, (before, after) in pairs.items():
        caption = f"{side}: cosine of every row with what it was."
        drawn = draw(partial(_histogram, values=cosine(before, after)), 2.6)
        parts.append(figure(drawn, caption))
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


def _histogram(axes: Any, values: np.ndarray) -> None:
    axes.hist(values, np.linspace(min(0.0, float(values.min())), 1, 60))
    axes.set(xlabel="cosine", ylabel="tokens")
