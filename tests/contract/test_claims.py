"""Claims cannot rot: each runs on a hundredth of its data, and says honestly what it compares."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import pytest
from subjects import names

from tokenspace import catalog
from tokenspace.report import recorded, reproduce

pytestmark = pytest.mark.parametrize("name", names())


def test_the_smoke_run_gives_finite_figures_of_both_sides(name: str) -> None:
    report = reproduce(catalog.find(name), smoke=True)
    assert report.verdict == "untested"
    assert [row["side"] for row in report.rows] == ["method", "baseline"]
    figures = [set(row) for row in report.rows]
    assert figures[0] == figures[1]
    assert all(math.isfinite(value) for value in report.metrics.values())
    json.loads(report.to_json(), parse_constant=pytest.fail)


def test_the_claim_is_stated_in_full(name: str) -> None:
    claim = catalog.find(name).claim().CLAIM
    assert claim.says and claim.baseline and claim.scale
    assert claim.paper == catalog.find(name).paper
    assert claim.margin > 0
    assert len(claim.seeds) == len(set(claim.seeds)) >= 3
    assert 0 < claim.budget_s <= 600


def test_a_recorded_result_is_of_this_claim(name: str) -> None:
    entry, result = catalog.find(name), recorded(name)
    if result is None:
        return
    now = json.loads(json.dumps(asdict(entry.claim().CLAIM)))
    assert result["claim"] == now
    assert result["recipe"] == json.loads(json.dumps(entry.load()(**entry.preset).to_dict()))
    assert result["verdict"] in ("holds", "weak", "fails")
    assert all(math.isfinite(value) for value in result["metrics"].values())
