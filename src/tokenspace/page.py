"""HTML pages that open offline: headings, tables and SVG plots, without a script.

Every text that comes from the user's files is escaped by these bricks.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["curves", "draw", "figure", "heading", "page", "plots", "table"]

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


def page(title: str, lead: str, parts: Sequence[str]) -> str:
    """Return a whole page: its title, one line under it, and the parts in their order."""
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width'>"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><h1>{escape(title)}</h1><p class=lead>{escape(lead)}</p>"
        f"{''.join(parts)}</body></html>\n"
    )


def heading(text: str, lead: str = "") -> str:
    """Return a section's heading, and a line under it if there is one."""
    return f"<h2>{escape(text)}</h2>" + (f"<p class=lead>{escape(lead)}</p>" if lead else "")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; a column whose cells all begin with a digit is aligned to the right."""
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


def figure(svg: str, caption: str) -> str:
    """Return a drawing (as :func:`draw` gives it) with its caption."""
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def draw(paint: Callable[[Axes], None], height: float) -> str:
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


def plots(trial: object, rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield the drawings of a comparison, (SVG, caption), that a family's ``trial`` asks for.

    Its ``COURSE`` is a label and figures that belong in one plot of dots, such as a score before
    and after; its ``CURVES`` a figure and others that are drawn against it.
    """
    columns = {key for row in rows for key in row}
    course = getattr(trial, "COURSE", None)
    if course is not None and columns.issuperset(course[1]):
        yield dots(rows, *course), f"{course[0]}, by method."
    along, names = getattr(trial, "CURVES", ("", ()))
    for name in names:
        if {along, name} <= columns:
            yield curves(rows, along, name), f"{name} against {along}, a line a method."


def curves(rows: Sequence[Mapping[str, Any]], along: str, name: str) -> str:
    """Draw figure ``name`` against ``along`` (logarithmic), a line a method named at its end.

    Rows are of one method whose ``method`` is the same up to the first colon.
    """
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if along in row and name in row:
            method = str(row["method"]).partition(":")[0]
            lines.setdefault(method, []).append((float(row[along]), float(row[name])))

    def paint(axes: Axes) -> None:
        axes.set(xscale="log", xlabel=along, ylabel=name.replace("_", " "))
        axes.grid(alpha=0.3)
        ends = sorted(((min(points)[1], key) for key, points in lines.items()), reverse=True)
        low, high = (f(v for points in lines.values() for _, v in points) for f in (min, max))
        gap, place = (high - low) / max(12, len(ends)), float("inf")
        left = min(point[0] for points in lines.values() for point in points)
        for index, (value, key) in enumerate(ends):
            points = sorted(lines[key])
            shape, style = "os^Dv"[index % 5], ("-", "--", ":")[index // 5 % 3]
            (line,) = axes.plot(*zip(*points, strict=True), style, marker=shape, markersize=4)
            place = min(value, place - gap)
            axes.annotate(
                key, points[0], (left * 0.55, place), ha="right", va="center", fontsize=8,
                color=line.get_color(), arrowprops={"arrowstyle": "-", "lw": 0.4, "alpha": 0.5},
            )  # fmt: skip
        axes.set_xlim(left=left * 0.12)
        axes.set_ylim(bottom=min(low, place) - gap)
        axes.xaxis.set_major_formatter(lambda share, _: f"{share:g}")

    return draw(paint, 3.6 + 0.12 * len(lines))


def dots(
    rows: Sequence[Mapping[str, Any]], label: str, series: Mapping[str, str], name: str = "method"
) -> str:
    """Draw a line of dots for every row, the least of the first figure on top; ``<svg>``.

    ``series`` gives the figures of a row that are drawn, and what each is called.
    """
    first = next(iter(series))
    shown = sorted((row for row in rows if first in row), key=lambda row: -float(row[first]))

    def paint(axes: Axes) -> None:
        axes.grid(axis="y", alpha=0.3)
        for key, called in series.items():
            values = [float(row.get(key, "nan")) for row in shown]
            axes.plot(values, [str(row[name]) for row in shown], "o", label=called)
        axes.set_xlabel(label)
        axes.legend()

    return draw(paint, 1.2 + 0.28 * len(shown))
