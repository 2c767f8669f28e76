"""The report of a build as one HTML page that opens offline: figures, tables and SVG plots.

Every text that comes from the user's files (tokens, sources, passages) is escaped here; the page
holds no script at all.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from tokenspace.arrays import Floats2d
from tokenspace.report import readable_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["render"]

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2330; --soft: #5d6780; --line: #d9deea; --bg: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9f2; --soft: #9aa4bd; --line: #343b4d; --bg: #171b26; }
  svg { background: #fff; border-radius: 6px; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--bg);
       max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; margin-bottom: .2rem; } h2 { margin-top: 2.2rem; font-size: 1.2rem; }
p.lead, figcaption { color: var(--soft); } figure { margin: 1rem 0; }
svg { width: 100%; height: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); }
td.n, th.n { text-align: right; } code { font-size: .95em; }
"""


def render(report: Mapping[str, Any]) -> str:
    """Return the page for the dictionary that ``report.json`` holds."""
    counts = report["counts"]
    lead = (
        f"{counts['passages']:,} passages, {counts['words']:,} words from "
        f"{counts['sources']:,} sources; {counts['vocabulary']:,} tokens of width "
        f"{counts['width']}; {readable_bytes(report['bytes']['total'])} on disk."
    )
    parts = [
        f"<h1>{escape(report['title'])}</h1><p class=lead>{escape(lead)}</p>",
        "<h2>Does search find a known passage?</h2>",
        f"<p class=lead>{escape(report['known_item']['says'])}</p>",
        _table(
            ["mode", "MRR@10", "95 % interval", "recall@10", "95 % interval", "bytes", "ms/query"],
            [
                [
                    row["mode"],
                    f"{row['mrr10']:.3f}",
                    f"{row['mrr10_low']:.3f} – {row['mrr10_high']:.3f}",
                    f"{row['recall10']:.3f}",
                    f"{row['recall10_low']:.3f} – {row['recall10_high']:.3f}",
                    readable_bytes(row["bytes"]),
                    f"{row['ms']:.1f}",
                ]
                for row in report["known_item"]["modes"]
            ],
        ),
        _figure(_recall_plot(report["known_item"]["modes"]), "Recall against the bytes it needs."),
        "<h2>How similar are things?</h2>",
        _figure(
            _histogram(report["similarity"]),
            "Cosine of a query with its own passage, and of passages with each other.",
        ),
        "<h2>A map of frequent tokens</h2>",
        _figure(_map(report["map"]), "The two main directions of the frequent tokens' vectors."),
        "<h2>Nearest neighbours</h2>",
        _table(
            ["token", "nearest tokens"],
            [[word, ", ".join(near)] for word, near in report["neighbors"].items()],
        ),
        "<h2>Steps</h2>",
        _table(
            ["step", "seconds", "bytes", "what"],
            [
                [
                    step["name"],
                    f"{step['seconds']:.1f}",
                    readable_bytes(step["bytes"]),
                    step["says"],
                ]
                for step in report["steps"]
            ],
        ),
        "<h2>Made with</h2>",
        _table(
            ["setting", "value"],
            [
                [key, str(value)]
                for key, value in {**report["config"], **report["environment"]}.items()
            ],
        ),
    ]
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width'>"
        f"<title>{escape(report['title'])}</title><style>{_STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    numeric = [all(row[i][:1].isdigit() for row in rows) for i in range(len(head))]
    cell = [" class=n" if flag else "" for flag in numeric]
    top = "".join(f"<th{c}>{escape(h)}</th>" for h, c in zip(head, cell, strict=True))
    body = "".join(
        "<tr>"
        + "".join(f"<td{c}>{escape(v)}</td>" for v, c in zip(row, cell, strict=True))
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def _draw(paint: Any, height: float) -> str:
    """Run ``paint(axes)`` on a fresh canvas and return the SVG element, equal at every run."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings: dict[Any, Any] = {
        "svg.hashsalt": "tokenspace",
        "svg.fonttype": "none",
        "text.parse_math": False,
        "font.size": 10,
    }
    with mpl.rc_context(settings), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a glyph that only the reader's font has
        figure = Figure(figsize=(8, height), layout="constrained")
        axes = figure.subplots()
        paint(axes)
        axes.spines[["top", "right"]].set_visible(False)
        stream = io.StringIO()
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(stream, metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]


def _recall_plot(modes: Sequence[Mapping[str, Any]]) -> str:
    def paint(axes: Axes) -> None:
        for row in modes:
            low, high = row["recall10_low"], row["recall10_high"]
            y, x = row["recall10"], max(row["bytes"], 1)
            axes.errorbar(x, y, yerr=[[y - low], [high - y]], fmt="o", capsize=3)
            axes.annotate(row["mode"], (x, y), xytext=(7, 5), textcoords="offset points")
        axes.set(xscale="log", xlabel="bytes on disk", ylabel="recall@10")
        axes.xaxis.set_major_formatter(lambda value, _: readable_bytes(value))
        axes.xaxis.set_minor_formatter(lambda value, _: "")
        axes.margins(x=0.25, y=0.15)
        axes.grid(alpha=0.25)

    return _draw(paint, 3.6)


def _histogram(similarity: Mapping[str, Any]) -> str:
    def paint(axes: Axes) -> None:
        edges = np.asarray(similarity["edges"])
        for label in ("query and its passage", "two passages"):
            axes.stairs(similarity[label], edges, label=label, fill=True, alpha=0.5)
        axes.set(xlabel="cosine", ylabel="share")
        axes.legend(frameon=False)

    return _draw(paint, 2.8)


def _map(points: Sequence[Mapping[str, Any]]) -> str:
    def paint(axes: Axes) -> None:
        for point in points:
            axes.text(point["x"], point["y"], point["token"], ha="center", va="center", size=8)
        places = np.array([[point["x"], point["y"]] for point in points]).reshape(-1, 2)
        if len(places):
            axes.set_xlim(places[:, 0].min(), places[:, 0].max())
            axes.set_ylim(places[:, 1].min(), places[:, 1].max())
        axes.margins(0.05)
        axes.set_axis_off()

    return _draw(paint, 6.0)


def flat_map(unit: Floats2d) -> Floats2d:
    """Project unit rows (n, D) on their two main directions, (n, 2); signs are fixed."""
    centred = unit - unit.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    main = directions[:2]
    main = main * np.sign(main[np.arange(len(main)), np.abs(main).argmax(axis=1)])[:, None]
    return np.asarray(centred @ main.T, np.float32)
