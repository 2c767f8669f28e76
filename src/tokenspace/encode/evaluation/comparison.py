"""Every encoder on every data set, and the tests between encoders.

In each family, Wilcoxon's signed-rank test over its data sets
(:func:`tokenspace.significance.signed_rank`), with Holm's correction over the pairs of encoders
that are compared, which are named before anything is measured. In each data set, the paired
bootstrap over its items with BCa intervals of 95 %, which are not corrected.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenspace.encode.evaluation.results import Key, Scores
from tokenspace.encode.evaluation.sets import Chosen, choose
from tokenspace.encode.evaluation.tasks import FAMILIES, Judged, Vectors, judge
from tokenspace.errors import ConfigError, InputError
from tokenspace.progress import track
from tokenspace.report import Report, nulled
from tokenspace.resampling import bca, drawn
from tokenspace.significance import SignedRank, holm, needed, signed_rank
from tokenspace.text_encoder import TextEncoder

__all__ = ["Comparison", "Difference", "FamilyTest", "compare", "compare_scores"]

FEWEST = 10  # items of which an interval is drawn: of fewer, the draws are hardly different
Pair = tuple[str, str]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """First less second in one data set, with its 95 % interval; NaN below ten ``items``."""

    family: str
    set: str
    measure: str
    first: str
    second: str
    difference: float
    low: float
    high: float
    items: int


@dataclass(frozen=True)
class FamilyTest:
    """First less second over the ``sets`` of one family: the mean, and Wilcoxon's two-sided test.

    ``adjusted`` is ``p`` by Holm over the pairs of this family. Both are NaN where no outcome on so
    many sets could have been significant; ``verdict`` says so, or which is better, if any.
    """

    family: str
    first: str
    second: str
    sets: int
    difference: float
    won: int
    lost: int
    p: float
    adjusted: float
    verdict: str


@dataclass(frozen=True, kw_only=True)
class Comparison(Report):
    """The report of a comparison.

    ``rows`` has a row for every model and data set; ``tests`` one for every family and pair;
    ``differences`` one for every measured data set and pair; ``skipped`` the sets that could not
    be had, each with the reason.
    """

    tests: Sequence[FamilyTest] = ()
    differences: Sequence[Difference] = ()
    skipped: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, ready for JSON: what is not a number is null."""
        return {key: nulled(value) for key, value in asdict(self).items()}


def compare(
    models: Mapping[str, TextEncoder],
    on: Sequence[str] | Sequence[Chosen] = (),
    *,
    scores: Scores | None = None,
    baseline: str | None = None,
    alpha: float = 0.05,
    limit: int = 500,
    built_in: bool = False,
    seed: int = 0,
    resamples: int = 10_000,
) -> Comparison:
    """Ask every encoder for every task, and test the differences.

    Parameters
    ----------
    models
        Encoders by name. They are compared in pairs, or each with ``baseline`` alone.
    on
        Families, sets or files, as :func:`tokenspace.encode.evaluation.choose` takes them; all
        sets where it is empty.
    scores
        Scores that were measured elsewhere, as :func:`read_results` gives them.
    limit
        The most pairs, texts or documents that are drawn of a set.
    built_in
        Take the sets made of Python's documentation even where there are better ones.

    Raises :class:`InputError` where none of the sets can be had, or no two models have a set in
    common.
    """
    begin = time.perf_counter()
    given = dict(scores or {})
    twice = sorted(set(models) & set(given))
    if twice:
        raise ConfigError(f"{twice[0]} is a model and in the results", hint="call one differently")
    if limit < 8:
        raise ConfigError(f"limit={limit} is below 8", hint="give more texts of every set")
    pairs = _pairs([*models, *given], baseline)
    chosen = [item for item in on if isinstance(item, Chosen)]
    names = [item for item in on if isinstance(item, str)]
    if models and (names or not chosen):
        chosen += choose(names, built_in=built_in)
    judged, skipped, notes = _measured(models, chosen, limit, seed)
    own: dict[str, dict[Key, float]] = {name: {} for name in judged}
    for name, items in judged.items():
        for item in items:
            if math.isnan(item.value):
                notes.append(f"{name} has no figure on {item.set}: all its cosines are equal")
            else:
                own[name][item.family, item.set] = item.value
    differences, rows = _intervals(judged, pairs, seed, resamples)
    for name, found in given.items():
        rows += [
            {"family": key[0], "set": key[1], "measure": "main score", "model": name, "score": v}
            for key, v in found.items()
        ]
    tests = compare_scores({**own, **given}, pairs, alpha=alpha)
    compared = {(test.first, test.second) for test in tests}
    apart = [pair for pair in pairs if pair not in compared]
    if pairs and not tests:
        raise InputError(
            f"{apart[0][0]} and {apart[0][1]} have no data set in common",
            hint="compare models that were measured on the same tasks",
        )
    if apart:
        others = f" (and {len(apart) - 1} pairs more)" if len(apart) > 1 else ""
        notes.append(
            f"{apart[0][0]} and {apart[0][1]} have no data set in common: not compared{others}"
        )
    sets = {(row["family"], row["set"]) for row in rows}
    return Comparison(
        title=f"{len(own) + len(given)} encoders on {len(sets)} data sets",
        metrics={"models": float(len(own) + len(given)), "sets": float(len(sets))},
        rows=rows,
        recipe={
            "baseline": baseline, "alpha": alpha, "limit": limit, "seed": seed,
            "resamples": resamples,
        },
        notes=[*notes, *(f"skipped {name}: {reason}" for name, reason in skipped.items())],
        tests=tests,
        differences=differences,
        skipped=skipped,
        seconds=round(time.perf_counter() - begin, 3),
    )  # fmt: skip


def _pairs(names: Sequence[str], baseline: str | None) -> list[Pair]:
    if not names:
        raise ConfigError("no model to compare", hint="name two with --model, or give --results")
    if baseline is None:
        return list(combinations(names, 2))
    if baseline not in names:
        raise ConfigError(f"{baseline!r} is not compared", hint=f"models: {', '.join(names)}")
    return [(name, baseline) for name in names if name != baseline]


def _measured(
    models: Mapping[str, TextEncoder], chosen: Sequence[Chosen], limit: int, seed: int
) -> tuple[dict[str, list[Judged]], dict[str, str], list[str]]:
    """Return what every model did on every set, the sets left out, and notes."""
    vectors = {name: Vectors(encoder, name) for name, encoder in models.items()}
    judged: dict[str, list[Judged]] = {name: [] for name in models}
    skipped: dict[str, str] = {}
    for item in track(chosen, "compare"):
        name = f"{item.family}:{item.name}"
        try:
            given = item.load(limit=limit, seed=seed)
        except InputError as fault:
            if item.path:
                raise
            skipped[name] = f"{fault} ({fault.hint})" if fault.hint else str(fault)
            continue
        for model, encode in vectors.items():
            judged[model].append(judge(encode, item.family, item.name, given, seed=seed))
    if models and len(skipped) == len(chosen):
        raise InputError(
            f"none of the sets is on this machine: {', '.join(skipped)}",
            hint="set TOKENSPACE_DATA to the folder that holds them, or name files with --task",
        )
    notes = [
        f"{name}: {encode.zero} texts have the zero vector"
        for name, encode in vectors.items()
        if encode.zero
    ]
    return judged, skipped, notes


def _intervals(
    judged: Mapping[str, Sequence[Judged]], pairs: Sequence[Pair], seed: int, resamples: int
) -> tuple[list[Difference], list[dict[str, Any]]]:
    """Return the difference of every pair in every set, and a row for every model and set."""
    names = list(judged)
    differences: list[Difference] = []
    rows: list[dict[str, Any]] = []
    for together in zip(*judged.values(), strict=True):
        one = together[0]
        found = drawn(one.kind, [item.items for item in together], seed=seed, resamples=resamples)
        for index, item in enumerate(together):
            low, high = _ends(found.values[index], found.draws[index], found.left_out[index])
            rows.append({
                "family": item.family, "set": item.set, "measure": item.measure,
                "model": names[index], "score": float(found.values[index]), "low": low,
                "high": high, "items": len(item.items),
            })  # fmt: skip
        for first, second in pairs:
            if first not in judged or second not in judged:
                continue
            i, j = names.index(first), names.index(second)
            gain = float(found.values[i] - found.values[j])
            low, high = _ends(
                gain, found.draws[i] - found.draws[j], found.left_out[i] - found.left_out[j]
            )
            differences.append(
                Difference(
                    one.family, one.set, one.measure, first, second, gain, low, high,
                    len(one.items),
                )
            )  # fmt: skip
    return differences, rows


def _ends(value: float, draws: Values, left_out: Values) -> tuple[float, float]:
    enough = len(left_out) >= FEWEST
    return bca(float(value), draws, left_out) if enough else (math.nan, math.nan)


def compare_scores(
    scores: Scores, pairs: Sequence[Pair] | None = None, *, alpha: float = 0.05
) -> list[FamilyTest]:
    """Test pairs of models in every family, over the data sets that both have.

    ``pairs`` is all of them where it is not given. The mean is over data sets of one family, never
    over families.
    """
    named = list(combinations(scores, 2)) if pairs is None else list(pairs)
    families = [key[0] for found in scores.values() for key in found]
    order = [name for name in FAMILIES if name in families]
    order += [name for name in dict.fromkeys(families) if name not in order]
    tests: list[FamilyTest] = []
    for family in order:
        tests += _family_tests(family, scores, named, alpha)
    return tests


def _family_tests(
    family: str, scores: Scores, pairs: Sequence[Pair], alpha: float
) -> list[FamilyTest]:
    found: list[tuple[Pair, Values, SignedRank]] = []
    for first, second in pairs:
        keys = [key for key in scores[first] if key[0] == family and key in scores[second]]
        if keys:
            sides = np.array([[scores[model][key] for key in keys] for model in (first, second)])
            found.append(((first, second), sides[0] - sides[1], signed_rank(*sides)))
    adjusted = holm([test.p for *_, test in found])
    least = holm([test.least for *_, test in found])
    tests = []
    for ((first, second), gains, test), p, best in zip(found, adjusted, least, strict=True):
        possible = best <= alpha
        if not possible:
            differ = " that differ" if test.nonzero < test.n else ""
            said = (
                f"cannot be significant: {test.nonzero} set{'s' * (test.nonzero != 1)}{differ},"
                f" {needed(len(found), alpha)} are needed"
            )
        elif p <= alpha:
            said = f"{first if test.middle < test.W else second} is better"
        else:
            said = "no significant difference"
        tests.append(
            FamilyTest(
                family=family,
                first=first,
                second=second,
                sets=test.n,
                difference=float(gains.mean()),
                won=int((gains > 0).sum()),
                lost=int((gains < 0).sum()),
                p=test.p if possible else math.nan,
                adjusted=p if possible else math.nan,
                verdict=said,
            )
        )
    return tests
