"""Recipes: what the annotations say is what is checked, read, printed and called."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pytest

from tokenspace import catalog
from tokenspace.arrays import Floats2d
from tokenspace.errors import ConfigError, MissingEvidence
from tokenspace.recipe import Range, Recipe, apply, evidence, knobs, make, parse
from tokenspace.table import EmbeddingTable


@dataclass(frozen=True, kw_only=True)
class Scale(Recipe):
    """Multiply."""

    factor: Annotated[float, Range(0.5, 8), "what to multiply by"] = 2.0
    times: Annotated[int, Range(1, 9), "how often"] = 1
    how: Annotated[Literal["up", "down"], "which way"] = "up"
    cut: Annotated[int | Literal["none"], Range(0, 100), "rows kept"] = "none"
    exact: Annotated[bool, "in float64"] = False
    tiny: ClassVar = {"times": 2}

    def __call__(self, vectors: Floats2d, /, *, donor: EmbeddingTable | None = None) -> Floats2d:
        """Return the product."""
        return vectors * np.float32(self.factor) ** self.times


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> str:
    entry = catalog.Entry("compress", "scale", f"{__name__}:Scale", "none", "Multiply.")
    doubled = catalog.Entry(
        "compress", "twice", f"{__name__}:Scale", "none", "Multiply.", preset={"times": 2}
    )
    monkeypatch.setattr(catalog, "CATALOG", (entry, doubled))
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    return "scale"


def test_knobs_are_read_from_the_annotations() -> None:
    by_name = {knob.name: knob for knob in knobs(Scale)}
    assert list(by_name) == ["factor", "times", "how", "cut", "exact"]
    assert by_name["factor"].range == Range(0.5, 8)
    assert by_name["factor"].help == "what to multiply by"
    assert by_name["how"].choices == ("up", "down")
    assert by_name["cut"].kinds == (int,)
    assert by_name["cut"].words == "int or 'none'"
    assert by_name["times"].allowed == "int in [1, 9]"


def test_inputs_are_read_from_the_call() -> None:
    vectors, donor = evidence(Scale)
    assert (vectors.name, vectors.kind, vectors.required, vectors.positional) == (
        "vectors",
        "Floats2d",
        True,
        True,
    )
    assert (donor.name, donor.kind, donor.required, donor.positional) == (
        "donor",
        "EmbeddingTable",
        False,
        False,
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"factor": 0.25}, r"factor=0\.25 is outside \[0\.5, 8\]"),
        ({"times": 10}, r"times=10 is outside \[1, 9\]"),
        ({"times": 1.0}, r"times=1\.0 is not int"),
        ({"times": True}, r"times=True is not int"),
        ({"factor": math.nan}, "factor=nan is not float"),
        ({"factor": "2"}, "factor='2' is not float"),
        ({"how": "left"}, "how='left' is not 'up' or 'down'"),
        ({"cut": "all"}, "cut='all' is not int or 'none'"),
        ({"exact": 1}, "exact=1 is not bool"),
    ],
)
def test_bad_values_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        Scale(**values)
    assert caught.value.hint


def test_an_integer_is_a_float_and_a_choice_beats_a_range() -> None:
    assert Scale(factor=3, cut="none").factor == 3
    assert Scale(cut=7).cut == 7


@pytest.mark.usefixtures("listed")
def test_a_composition_string_is_read_by_the_types() -> None:
    assert parse("scale") == Scale()
    assert parse("scale:factor=4,how=down,cut=5,exact=true") == Scale(
        factor=4.0, how="down", cut=5, exact=True
    )
    for text in ("scale:factor", "scale:factor=x", "scale:facto=1", "scale:exact=maybe"):
        with pytest.raises(ConfigError):
            parse(text)
    with pytest.raises(ConfigError, match="no method"):
        parse("scal:factor=1")


@pytest.mark.usefixtures("listed")
def test_a_preset_is_an_entry_of_its_own() -> None:
    assert make("twice") == Scale(times=2)
    assert make("twice", times=3) == Scale(times=3)


def test_apply_feeds_a_method_from_a_bag() -> None:
    vectors = np.ones((2, 3), np.float32)
    given = {"vectors": vectors, "other": None}
    np.testing.assert_array_equal(apply(Scale(), given), vectors * 2)
    with pytest.raises(MissingEvidence, match="vectors"):
        apply(Scale(), {})


def test_ranges_read_well() -> None:
    assert str(Range(0, 2**63 - 1)) == "[0, 9223372036854775807]"
    assert str(Range(0.5, math.inf)) == "[0.5, inf]"
    assert 3 in Range(1, 3)
    assert "3" not in Range(1, 3)
