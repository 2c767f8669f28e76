"""Reports and claims: the verdict's arithmetic, and what is written and read again."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from tokenspace import catalog, report
from tokenspace.errors import ClaimFailed, ConfigError
from tokenspace.recipe import Recipe
from tokenspace.report import Claim, Report, reproduce, verdict

CLAIM = Claim(
    says="It helps", paper="none", metric="score", better="higher", baseline="nothing",
    margin=0.1, scale="the same", seeds=(0, 1, 2),
)  # fmt: skip
LOWER = Claim(
    says="It costs less", paper="none", metric="score", better="lower", baseline="nothing",
    margin=0.1, scale="the same",
)  # fmt: skip


class FakeEntry:
    """An entry whose method and claim are given, so that the arithmetic can be checked."""

    name = "fake"
    preset: ClassVar[dict[str, Any]] = {}

    def __init__(self, measure: Any) -> None:
        self.measure = measure

    def load(self) -> type[Recipe]:
        return Recipe

    def claim(self) -> Any:
        return SimpleNamespace(CLAIM=CLAIM, measure=self.measure)


@pytest.mark.parametrize(
    ("claim", "ours", "theirs", "wanted"),
    [
        (CLAIM, [0.5, 0.6], [0.3, 0.4], "holds"),
        (CLAIM, [0.5, 0.6], [0.45, 0.55], "weak"),  # always better, but not by the margin
        (CLAIM, [0.9, 0.3], [0.3, 0.4], "weak"),  # by the margin, but not always
        (CLAIM, [0.3, 0.4], [0.5, 0.6], "fails"),
        (CLAIM, [0.3], [0.3], "fails"),  # no difference is no success
        (LOWER, [0.3, 0.4], [0.5, 0.6], "holds"),
        (LOWER, [0.5, 0.6], [0.3, 0.4], "fails"),
    ],
)
def test_verdicts(claim: Claim, ours: list[float], theirs: list[float], wanted: str) -> None:
    assert verdict(claim, ours, theirs) == wanted


def test_both_sides_see_the_same_seeds_and_the_interval_is_students() -> None:
    seen = []

    def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
        seen.append((method is not None, seed, smoke))
        return {"score": (0.5 if method else 0.2) + 0.01 * seed * bool(method)}

    done = reproduce(FakeEntry(measure))  # type: ignore[arg-type]
    assert seen == [(side, seed, False) for seed in (0, 1, 2) for side in (True, False)]
    assert done.verdict == "holds"
    assert done.metrics["gain"] == pytest.approx(0.31)
    half = 4.302652729696142 * 0.01 / math.sqrt(3)  # t(0.975, 2 degrees) times s / sqrt(n)
    assert done.metrics["gain_low"] == pytest.approx(0.31 - half)
    assert done.metrics["gain_high"] == pytest.approx(0.31 + half)
    again = report.Reproduction(**json.loads(done.to_json()))
    assert again.to_dict() == json.loads(done.to_json())


def test_smoke_and_seeds() -> None:
    def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
        return {"score": float(seed)}

    assert reproduce(FakeEntry(measure), smoke=True).verdict == "untested"  # type: ignore[arg-type]
    rows = reproduce(FakeEntry(measure), seeds=(7, 8)).rows  # type: ignore[arg-type]
    assert [row["seed"] for row in rows] == [7, 7, 8, 8]


def test_figures_that_are_missing_or_not_finite_are_refused() -> None:
    with pytest.raises(ClaimFailed, match="score=nan"):
        reproduce(FakeEntry(lambda *a, **k: {"score": math.nan}))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no 'score'"):
        reproduce(FakeEntry(lambda *a, **k: {"other": 1.0}))  # type: ignore[arg-type]


def test_a_report_says_what_it_ran_on() -> None:
    done = Report(title="Done", metrics={"x": 0.123456}, rows=[{"a": 1, "b": 2.0}, {"a": 3}])
    saved = json.loads(done.to_json())
    assert saved["environment"]["python"]
    assert saved["environment"]["numpy"]
    text = done.to_markdown()
    assert text.splitlines()[0] == "# Done"
    assert "- x: 0.1235" in text
    assert "| a | b |" in text


def test_a_recorded_result_is_found_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(report.resources, "files", lambda package: tmp_path)
    assert report.recorded("none") is None
    path = report.record("some", Report(title="Done", metrics={"x": 1.0}))
    assert path == tmp_path / "results" / "some.json"
    found = report.recorded("some")
    assert found is not None
    assert found["metrics"] == {"x": 1.0}


def test_every_recorded_result_belongs_to_an_entry() -> None:
    folder = Path(report.__file__).parent / "claims" / "results"
    others = ("bench_", "compare_")
    stems = {path.stem for path in folder.glob("*.json") if not path.stem.startswith(others)}
    assert stems <= {entry.name for entry in catalog.CATALOG}
