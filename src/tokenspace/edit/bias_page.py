"""The report of a bias as a page: who lies along the direction, the queries, and what is left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tokenspace.page import draw, figure, heading, page, table

from .bias import BiasReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["render"]

ENDS = 15  # words of either side that are drawn


def render(found: BiasReport) -> str:
    """Return the whole page."""
    direction, direct = found.direction, found.direct
    first, second = ([words[i] for words in direction["sets"]] for i in (0, 1))
    parts = [
        heading("The direction", f"From {', '.join(first[:6])} to {', '.join(second[:6])}."),
        figure(
            draw(lambda axes: _shares(axes, found), 2.6),
            "Share of the variance of the definitional sets along each principal direction; "
            "dashed: the first direction of as many random sets (mean, and largest of 200).",
        ),
        heading(
            "Direct bias",
            f"{direct['bias']:.4f} over {direct['words']} neutral words; a random direction gives "
            f"{direct['chance']:.4f}.",
        ),
        figure(
            draw(lambda axes: _words(axes, found.words), 0.19 * 2 * ENDS + 0.8),
            "Cosine with the direction of the neutral words furthest to either side.",
        ),
    ]
    if found.indirect:
        pairs = [(a, b, f"{cosine:.3f}", f"{share:.3f}") for a, b, cosine, share in found.indirect]
        parts += [
            heading("Indirect bias", "How much of two words' likeness the direction brings."),
            table(("word", "word", "cosine", "share"), pairs),
        ]
    parts += _queries(found)
    if "measures" in found.residual:
        parts += [
            heading(
                "What is left",
                f"In {found.residual['words']} words, of {found.residual['of']}. Only what exceeds "
                "the random directions says anything about this one.",
            ),
            figure(
                draw(lambda axes: _left(axes, found.residual["measures"]), 2.4),
                "Dot: this direction. Bar: eight random directions, lowest to highest, and mean. "
                "Chance is 0.5 for clusters and classifier, 0 for neighbours.",
            ),
        ]
    if found.missing:
        rows = [(name, str(len(words)), ", ".join(words)) for name, words in found.missing.items()]
        parts += [heading("Not in the table"), table(("list", "words", ""), rows)]
    return page(f"Bias of {found.source}", "tokenspace edit bias", parts)


def _queries(found: BiasReport) -> list[str]:
    if not found.queries:
        return []
    rows = []
    for query in found.queries:
        sets = f"{' / '.join(query['targets'])} by {' / '.join(query['attributes'])}"
        gone = "; ".join(f"{name}: {', '.join(words)}" for name, words in query["missing"].items())
        figures = (
            [f"left out: {query['left_out']}", "", "", "", "", ""]
            if "left_out" in query
            else [
                *(f"{query[key]:.3f}" for key in ("effect", "difference")),
                f"{query['p']:.4g}",
                *(f"{query[key]:.3f}" for key in ("rnsb", "mac", "ect")),
            ]
        )
        rows.append((query["query"], sets, *figures, gone))
    head = ("query", "sets", "effect", "difference", "p", "RNSB", "MAC", "ECT", "without")
    return [
        heading("Queries", "p: share of the partitions of the targets with as high a score."),
        table(head, rows),
    ]


def _shares(axes: Axes, found: BiasReport) -> None:
    shares = found.direction["shares"]
    axes.bar(range(1, len(shares) + 1), shares, color="#4c72b0")
    axes.axhline(found.direction["random_mean"], ls="--", lw=1, color="#888")
    axes.axhline(found.direction["random_max"], ls=":", lw=1, color="#888")
    axes.set(xlabel="direction", ylabel="share", xticks=range(1, len(shares) + 1))


def _words(axes: Axes, words: Sequence[tuple[str, float]]) -> None:
    shown = words if len(words) <= 2 * ENDS else [*words[:ENDS], *words[-ENDS:]]
    places = range(len(shown), 0, -1)
    values = [value for _, value in shown]
    colours = ["#c44e52" if value > 0 else "#4c72b0" for value in values]
    axes.barh(list(places), values, color=colours)
    axes.set_yticks(list(places), [word for word, _ in shown])
    axes.axvline(0, lw=0.8, color="#888")
    axes.set_xlabel("cosine with the direction")


def _left(axes: Axes, measures: Sequence[dict[str, Any]]) -> None:
    for place, row in enumerate(reversed(measures)):
        axes.plot([row["control_low"], row["control_high"]], [place, place], lw=6, color="#bbb")
        axes.plot(row["control_mean"], place, "|", markersize=14, color="#666")
        axes.plot(row["found"], place, "o", color="#c44e52")
    axes.set_yticks(range(len(measures)), [row["measure"] for row in reversed(measures)])
    axes.set_ylim(-0.6, len(measures) - 0.4)
