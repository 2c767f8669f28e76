"""The report of a build as one HTML page that opens offline: figures, tables and SVG plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tokenspace.arrays import Floats2d
from tokenspace.page import draw, figure, heading, page, table
from tokenspace.report import readable_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["render"]


def render(report: Mapping[str, Any]) -> str:
    """Return the page for the dictionary that ``report.json`` holds."""
    counts = report["counts"]
    lead = (
        f"{counts['passages']:,} passages, {counts['words']:,} words from "
        f"{counts['sources']:,} sources; {counts['vocabulary']:,} tokens of width "
        f"{counts['width']}; {readable_bytes(report['bytes']['total'])} on disk."
    )
    parts = [
        heading("Does search find a known passage?", report["known_item"]["says"]),
        table(
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
        figure(_recall_plot(report["known_item"]["modes"]), "Recall against the bytes it needs."),
        heading("How similar are things?"),
        figure(
            _histogram(report["similarity"]),
            "Cosine of a query with its own passage, and of passages with each other.",
        ),
        heading("A map of frequent tokens"),
        figure(_map(report["map"]), "The two main directions of the frequent tokens' vectors."),
        heading("Nearest neighbours"),
        table(
            ["token", "nearest tokens"],
            [[word, ", ".join(near)] for word, near in report["neighbors"].items()],
        ),
        heading("Steps"),
        table(
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
        heading("Made with"),
        table(
            ["setting", "value"],
            [
                [key, str(value)]
                for key, value in {**report["config"], **report["environment"]}.items()
            ],
        ),
    ]
    return page(report["title"], lead, parts)


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

    return draw(paint, 3.6)


def _histogram(similarity: Mapping[str, Any]) -> str:
    def paint(axes: Axes) -> None:
        edges = np.asarray(similarity["edges"])
        for label in ("query and its passage", "two passages"):
            axes.stairs(similarity[label], edges, label=label, fill=True, alpha=0.5)
        axes.set(xlabel="cosine", ylabel="share")
        axes.legend(frameon=False)

    return draw(paint, 2.8)


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

    return draw(paint, 6.0)


def flat_map(unit: Floats2d) -> Floats2d:
    """Project unit rows (n, D) on their two main directions, (n, 2); signs are fixed."""
    centred = unit - unit.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    main = directions[:2]
    main = main * np.sign(main[np.arange(len(main)), np.abs(main).argmax(axis=1)])[:, None]
    return np.asarray(centred @ main.T, np.float32)
