"""A comparison as rows of text, as plots, and as an HTML page that opens offline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tokenspace.encode.evaluation.comparison import Comparison, Difference
from tokenspace.page import curves, draw, figure, heading, page, table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "OUTCOMES",
    "draw_courses",
    "draw_differences",
    "draw_families",
    "models",
    "note",
    "outcomes",
    "render",
    "scores",
]

OUTCOMES = ("family", "first – second", "sets", "mean", "won:lost", "p", "Holm", "outcome")
"""The heads of :func:`outcomes`."""

Courses = Mapping[str, Sequence[Mapping[str, float]]]
_NO_FIGURE = ("method", "step", "epoch", "seconds", "learning_rate", "lr")
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")


def models(found: Comparison) -> list[str]:
    """Return the names of the models, in their order."""
    return list(dict.fromkeys(str(row["model"]) for row in found.rows))


def note(found: Comparison) -> str:
    """Return what the columns of both tables mean."""
    pairs = len({(test.first, test.second) for test in found.tests})
    said = (
        "p: Wilcoxon's signed-rank test over the data sets of a family, two-sided, exact with ties"
        f" and zeros. Holm: p adjusted for the {pairs} pair{'s' * (pairs != 1)} of this family;"
        f" significant up to {found.recipe['alpha']:g}. Families are not averaged."
    )
    if found.differences:
        said += (
            " Brackets: 95 % paired bootstrap interval (BCa) of a difference inside one set of ten"
            " items or more, not adjusted."
        )
    return said


def scores(found: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return heads and lines: a set a line, the score of every model, of two the difference."""
    names = models(found)
    by_set: dict[tuple[str, str, str], dict[str, float]] = {}
    for row in found.rows:
        key = (str(row["family"]), str(row["set"]), str(row["measure"]))
        by_set.setdefault(key, {})[str(row["model"])] = float(row["score"])
    between = {(d.family, d.set): d for d in found.differences} if len(names) == 2 else {}
    head = ["family", "set", "measure", *names, *(["difference"] if between else [])]
    lines = []
    for key, given in by_set.items():
        cells = [_score(given.get(name, math.nan)) for name in names]
        gap = [_interval(between.get(key[:2]))] if between else []
        lines.append([*key, *cells, *gap])
    return head, lines


def _score(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4f}"


def _interval(found: Difference | None) -> str:
    if found is None or math.isnan(found.difference):
        return "–"
    if math.isnan(found.low):
        return f"{found.difference:+.4f} ({found.items} items)"
    return f"{found.difference:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


def outcomes(found: Comparison) -> list[list[str]]:
    """Return a line for every family and pair, in the order of :data:`OUTCOMES`."""
    return [
        [
            test.family, f"{test.first} – {test.second}", str(test.sets),
            f"{test.difference:+.4f}", f"{test.won}:{test.lost}", _chance(test.p),
            _chance(test.adjusted), test.verdict,
        ]
        for test in found.tests
    ]  # fmt: skip


def _chance(p: float) -> str:
    return "–" if math.isnan(p) else "<0.0001" if p < 0.0001 else f"{p:.4f}"


def draw_families(found: Comparison) -> str:
    """Draw a bar for every model in every family, its mean over common sets, as SVG."""
    names = models(found)
    means = _means(found.rows)
    families = list(dict.fromkeys(family for family, _ in means))
    height = 0.8 / max(1, len(names))

    def paint(axes: Axes) -> None:
        for index, name in enumerate(names):
            shown = [(i, means[f, name]) for i, f in enumerate(families) if (f, name) in means]
            places = [i + (index - (len(names) - 1) / 2) * height for i, _ in shown]
            axes.barh(
                places, [value for _, value in shown], height * 0.9, label=name,
                color=COLOURS[index % len(COLOURS)],
            )  # fmt: skip
        axes.set_yticks(range(len(families)), families)
        axes.invert_yaxis()
        axes.grid(axis="x", alpha=0.3)
        axes.set_xlabel("mean over the data sets of a family")
        axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)

    return draw(paint, 1.2 + (0.25 + 0.18 * len(names)) * len(families))


def _means(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], float]:
    """Return the mean score of every family and model, over the sets that all of them have."""
    by_set: dict[str, dict[str, dict[str, float]]] = {}
    for row in rows:
        if math.isnan(row["score"]):
            continue
        sets = by_set.setdefault(str(row["family"]), {})
        sets.setdefault(str(row["set"]), {})[str(row["model"])] = float(row["score"])
    means: dict[tuple[str, str], float] = {}
    for family, sets in by_set.items():
        names = list(dict.fromkeys(name for own in sets.values() for name in own))
        shared = [own for own in sets.values() if len(own) == len(names)]
        for name in names if shared else ():
            means[family, name] = math.fsum(own[name] for own in shared) / len(shared)
    return means


def draw_differences(differences: Sequence[Difference]) -> str:
    """Draw the difference in every set with its interval, one pair of models, as SVG."""

    def paint(axes: Axes) -> None:
        families = list(dict.fromkeys(item.family for item in differences))
        for place, item in enumerate(differences):
            ends = [e if not math.isnan(e) else item.difference for e in (item.low, item.high)]
            below, above = item.difference - ends[0], ends[1] - item.difference
            axes.errorbar(
                item.difference, place, fmt="o", markersize=4, capsize=2,
                xerr=[[max(0.0, below)], [max(0.0, above)]],
                color=COLOURS[families.index(item.family) % len(COLOURS)],
            )  # fmt: skip
        axes.axvline(0, color="grey", linewidth=0.8)
        axes.set_yticks(
            range(len(differences)), [f"{item.set} · {item.family}" for item in differences]
        )
        axes.set_ylim(len(differences) - 0.4, -0.6)
        axes.grid(axis="x", alpha=0.3)
        first, second = differences[0].first, differences[0].second
        axes.set_xlabel(f"{first} less {second}")

    return draw(paint, 1.0 + 0.21 * len(differences))


def draw_courses(courses: Courses) -> list[tuple[str, str]]:
    """Draw every figure of trainings against the step, a line a model: (SVG, its name)."""
    rows = [{"method": model, **row} for model, course in courses.items() for row in course]
    figures = dict.fromkeys(key for row in rows for key in row if key not in _NO_FIGURE)
    return [(curves(rows, "step", name), name.replace("_", " ")) for name in figures]


def render(found: Comparison, courses: Courses | None = None) -> str:
    """Return the page: the tests, the plots, every score, and what was left out.

    ``courses`` are the figures of the trainings of models, by model, each with its ``step``.
    """
    said = "The mean of every model in every family, over the sets that all of them have."
    parts = [figure(draw_families(found), said)]
    if found.tests:
        parts += [heading("Families", note(found)), table(OUTCOMES, outcomes(found))]
    pairs: dict[tuple[str, str], list[Difference]] = {}
    for item in found.differences:
        if not math.isnan(item.difference):
            pairs.setdefault((item.first, item.second), []).append(item)
    for (first, second), own in pairs.items():
        said = f"{first} less {second} in every data set, with 95 % intervals (paired BCa)."
        parts.append(figure(draw_differences(own), said))
    parts += [heading("Scores"), table(*scores(found))]
    if len(pairs) > 1:
        lines = [
            [d.family, d.set, f"{d.first} – {d.second}", _interval(d), str(d.items)]
            for d in found.differences
        ]
        head = ["family", "set", "models", "difference", "items"]
        parts += [heading("Differences in every set"), table(head, lines)]
    learned = draw_courses(courses or {})
    parts += [heading("How they learned")] if learned else []
    parts += [figure(svg, f"{name} by training step.") for svg, name in learned]
    if found.notes:
        parts += [heading("Notes"), table(["note"], [[text] for text in found.notes])]
    return page(found.title, f"{', '.join(models(found))}; {found.seconds:.0f} seconds.", parts)
