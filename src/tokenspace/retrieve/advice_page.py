"""The advisor's page: recall against bytes and against time, the table, and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from tokenspace.page import draw, figure, heading, page, table
from tokenspace.report import readable_bytes

from .advise import Advice

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["front", "render"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""Okabe and Ito's palette, which is told apart with any kind of colour vision."""
MARKS = "osD^vP*"

Row = Mapping[str, Any]


def render(advice: Advice) -> str:
    """Return the page: the choice first, then the drawings and the figures behind them."""
    report = advice.report
    size = f"{int(report.metrics['extrapolated_to']):,}"
    lead = (
        f"{int(report.metrics['documents']):,} documents and {int(report.metrics['queries']):,}"
        f" queries, one core; {report.seconds:.0f} seconds. Figures for {size} documents lie on"
        " a line through the sample and half of it."
    )
    commands = escape("\n".join(advice.commands))
    parts = [
        heading("The index to use", f"{advice.chosen}: {advice.because}."),
        f"<pre><code>{commands}</code></pre>",
        heading("Recall and bytes"),
        figure(
            front(report.rows, "bytes", f"bytes of {size} documents"),
            "Filled: no other is at least as good in bytes, recall and time. Bars: 95 % bootstrap.",
        ),
        heading("Recall and time"),
        figure(
            front(report.rows, "ms", f"milliseconds a query among {size} documents"),
            "The median over the queries, one at a time.",
        ),
        heading("Every setting"),
        table(
            [
                "",
                "setting",
                "bytes/document",
                f"bytes of {size}",
                "recall",
                "95 % interval",
                "of half",
                "ms p50",
                "ms p95",
                f"ms at {size}",
                "build s",
            ],
            [_cells(row) for row in report.rows],
        ),
        heading("How it was measured"),
        "<ul>" + "".join(f"<li>{escape(note)}</li>" for note in report.notes) + "</ul>",
        table(["", "value"], [[key, str(value)] for key, value in report.environment.items()]),
    ]
    return page("Which index?", lead, parts)


def _cells(row: Row) -> list[str]:
    return [
        "●" if row["front"] else "",
        str(row["setting"]),
        f"{row['bytes_per_document']:,.0f}",
        readable_bytes(row["bytes"]),
        f"{row['recall']:.3f}",
        f"{row['recall_low']:.3f} – {row['recall_high']:.3f}",
        f"{row['recall_half']:.3f}",
        f"{row['ms_p50']:.2f}",
        f"{row['ms_p95']:.2f}",
        f"{row['ms']:.1f}",
        f"{row['build_seconds']:.2f}",
    ]


def front(rows: Sequence[Row], cost: str, label: str) -> str:
    """Draw recall against a cost, a mark a setting and a colour a method; ``<svg>``.

    Settings on the front are filled and carry their names, in a column beside the plot.
    """
    methods = list(dict.fromkeys(str(row["method"]) for row in rows))

    def paint(axes: Axes) -> None:
        for row in rows:
            place = methods.index(str(row["method"]))
            colour, mark = COLOURS[place % len(COLOURS)], MARKS[place % len(MARKS)]
            x, y = max(float(row[cost]), 1e-9), float(row["recall"])
            spread = [[max(0.0, y - row["recall_low"])], [max(0.0, row["recall_high"] - y)]]
            axes.errorbar(
                x,
                y,
                yerr=spread,
                fmt=mark,
                color=colour,
                mfc=colour if row["front"] else "none",
                capsize=2,
                lw=0.8,
                alpha=1.0 if row["front"] else 0.5,
            )
        axes.set(xscale="log", xlabel=label, ylabel="recall of the exact top 10")
        if cost == "bytes":
            axes.xaxis.set_major_formatter(lambda value, _: readable_bytes(value))
        axes.xaxis.set_minor_formatter(lambda value, _: "")
        axes.margins(x=0.1, y=0.12)
        axes.grid(alpha=0.25)
        _names(axes, [row for row in rows if row["front"]], cost, methods)

    return draw(paint, 4.2)


def _names(axes: Axes, rows: Sequence[Row], cost: str, methods: Sequence[str]) -> None:
    """Write the settings in a column at the right, in the order of recall, tied to their marks."""
    ordered = sorted(rows, key=lambda row: (row["recall"], row[cost]))
    for number, row in enumerate(ordered):
        height = (number + 0.5) / max(len(ordered), 8) + max(0, 8 - len(ordered)) / 16
        colour = COLOURS[methods.index(str(row["method"])) % len(COLOURS)]
        axes.annotate(
            str(row["setting"]),
            (max(float(row[cost]), 1e-9), float(row["recall"])),
            xytext=(1.03, height),
            textcoords="axes fraction",
            va="center",
            size=8,
            color=colour,
            arrowprops={
                "arrowstyle": "-",
                "lw": 0.5,
                "color": colour,
                "alpha": 0.5,
                "relpos": (0, 0.5),
            },
            annotation_clip=False,
        )
