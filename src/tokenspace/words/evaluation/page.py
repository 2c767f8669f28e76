"""An evaluation as rows of text, as one plot, and as an HTML page that opens offline."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tokenspace.page import draw, figure, heading, page, table
from tokenspace.words.evaluation.suite import Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["NOTE", "draw_scores", "head", "lines", "render"]

NOTE = (
    "Brackets: 95 % bootstrap interval; n: items used of all; difference and p: on the items that"
    " both have. * differs from the first table"
    " (Holm-adjusted p < 0.05; Williams' test for correlations, McNemar's for shares of right"
    " answers, else the paired bootstrap)."
)
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKS = "osD^vP*"


def _tables(found: Evaluation) -> list[str]:
    return list(dict.fromkeys(str(row["table"]) for row in found.rows))


def _by_set(found: Evaluation) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the rows by set and measure, then by table."""
    grouped: dict[tuple[str, str], dict[str, Any]] = {}
    for row in found.rows:
        grouped.setdefault((str(row["set"]), str(row["measure"])), {})[str(row["table"])] = row
    return grouped


def _differing(found: Evaluation) -> set[tuple[str, str, str]]:
    """Return (set, measure, table) where a table differs from the first one."""
    first = _tables(found)[0]
    return {
        (item.set, item.measure, item.second)
        for item in found.comparisons
        if item.first == first and item.adjusted < 0.05
    }


def head(found: Evaluation) -> list[str]:
    """Return the heads of :func:`lines`."""
    two = ["difference", "p"] if len(_tables(found)) == 2 else []
    return ["set", "measure", *_tables(found), "n", *two]


def lines(found: Evaluation) -> list[list[str]]:
    """Return a line for every set and measure: names, one figure a table, items, difference."""
    tables, differing = _tables(found), _differing(found)
    between = {(item.set, item.measure): item for item in found.comparisons}
    out = []
    for (name, measure), rows in _by_set(found).items():
        cells = [_cell(rows[t]) + " *" * ((name, measure, t) in differing) for t in tables]
        counts = list(dict.fromkeys(f"{rows[t]['used']:,}" for t in tables))
        line = [name, measure, *cells, f"{' / '.join(counts)} of {rows[tables[0]]['total']:,}"]
        if len(tables) == 2:
            item = between[name, measure]
            line += [_signed(item.difference), _chance(item.adjusted)]
        out.append(line)
    return out


def _cell(row: Any) -> str:
    if math.isnan(row["value"]):
        return "–"
    return f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def _signed(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:+.3f}"


def _chance(p: float) -> str:
    return "–" if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def draw_scores(found: Evaluation) -> str:
    """Draw every figure with its interval, a line a set and measure, a colour a table: SVG."""
    tables, grouped = _tables(found), list(_by_set(found).items())
    shift = 0.6 / max(1, len(tables))

    def paint(axes: Axes) -> None:
        for index, name in enumerate(tables):
            places, values, below, above = [], [], [], []
            for place, (_, rows) in enumerate(grouped):
                row = rows[name]
                if not math.isnan(row["value"]):
                    places.append(place + (index - (len(tables) - 1) / 2) * shift)
                    values.append(row["value"])
                    below.append(max(0.0, row["value"] - row["low"]))
                    above.append(max(0.0, row["high"] - row["value"]))
            axes.errorbar(
                values, places, xerr=[below, above], label=name, linestyle="", capsize=2,
                marker=MARKS[index % len(MARKS)], markersize=4,
                color=COLOURS[index % len(COLOURS)],
            )  # fmt: skip
        axes.set_yticks(
            range(len(grouped)), [f"{name}, {measure}" for (name, measure), _ in grouped]
        )
        axes.set_ylim(len(grouped) - 0.4, -0.6)
        axes.axvline(0, color="grey", linewidth=0.6)
        axes.grid(axis="x", alpha=0.3)
        axes.set_xlabel("correlation, share of right answers, purity or F1")
        if len(tables) > 1:
            axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=4)

    return draw(paint, 1.2 + (0.16 + 0.12 * len(tables)) * len(grouped))


def render(found: Evaluation) -> str:
    """Return the page: the plot, the table, further figures, comparisons, what was skipped."""
    lead = f"{', '.join(_tables(found))}; {found.seconds:.0f} seconds. Unknown words: "
    lead += f"{found.recipe.get('oov', '')}."
    parts = [
        figure(draw_scores(found), "Every figure with its 95 % bootstrap interval."),
        heading("Figures", NOTE),
        table(head(found), lines(found)),
    ]
    more = [
        [str(row["set"]), str(row["measure"]), str(row["table"]), key, f"{value:.3f}"]
        for row in found.rows
        for key, value in row["also"].items()
    ]
    parts += [heading("Beside them"), table(["set", "measure", "table", "figure", "value"], more)]
    if found.comparisons:
        tests = [
            [
                item.set, item.measure, f"{item.first} – {item.second}", _signed(item.difference),
                f"[{_signed(item.low)}, {_signed(item.high)}]", item.test, _chance(item.p),
                _chance(item.adjusted), f"{item.used:,}",
            ]
            for item in found.comparisons
        ]  # fmt: skip
        columns = ["set", "measure", "tables", "difference", "95 %", "test", "p", "Holm", "items"]
        parts += [heading("Differences, on the items that both have"), table(columns, tests)]
    unknown = [
        [
            str(row["set"]), str(row["table"]), f"{len(row['unknown']):,}",
            " ".join(row["unknown"][:40]) + " …" * (len(row["unknown"]) > 40),
        ]
        for row in {(r["set"], r["table"]): r for r in found.rows}.values()
        if row["unknown"]
    ]  # fmt: skip
    if unknown:
        columns = ["set", "table", "words", "which (all of them are in the JSON report)"]
        parts += [heading("Words that a table lacks"), table(columns, unknown)]
    if found.skipped:
        skipped = [[name, reason] for name, reason in found.skipped.items()]
        parts += [heading("Skipped"), table(["set", "why"], skipped)]
    settings = {**found.recipe, **found.environment}
    parts += [
        heading("Made with"),
        table(["setting", "value"], [[key, str(value)] for key, value in settings.items()]),
    ]
    return page(found.title, lead, parts)
