"""The drawings of a comparison."""

from __future__ import annotations

from types import SimpleNamespace
from xml.etree import ElementTree

from tokenspace.page import plots

ROWS = [
    {"method": "one:budget=0.5", "share": 0.5, "auc": 0.8, "at once": 2.0},
    {"method": "one:budget=0.01", "share": 0.01, "auc": 0.7, "at once": 3.0},
    {"method": "two", "share": 0.25, "auc": 0.75, "at once": 1.0},
    {"method": "three", "at once": 4.0},
]


def words(svg: str) -> list[str]:
    found = ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(item.itertext()) for item in found]


def test_a_line_a_method_is_named_once_at_its_end() -> None:
    trial = SimpleNamespace(CURVES=("share", ("auc", "logloss")))
    ((svg, caption),) = plots(trial, ROWS)
    said = [word.strip() for word in words(svg)]
    assert said.count("one") == said.count("two") == 1
    assert "three" not in said
    assert "0.01" in said and "share" in said
    assert caption == "auc against share, a line a method."
    assert svg == next(iter(plots(trial, ROWS)))[0]


def test_a_plot_is_drawn_only_of_what_was_measured() -> None:
    assert not list(plots(SimpleNamespace(), ROWS))
    assert not list(plots(SimpleNamespace(CURVES=("bytes", ("auc",))), ROWS))
    dots = SimpleNamespace(COURSE=("bits", {"at once": "at once"}))
    ((svg, _),) = plots(dots, ROWS)
    said = words(svg)
    assert all(any(row["method"] in word for word in said) for row in ROWS)
