"""Every measure on every set for some tables, and the tests between them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from typing import Any

from tokenspace.errors import InputError
from tokenspace.progress import track
from tokenspace.report import Report, nulled
from tokenspace.significance import holm
from tokenspace.table import EmbeddingTable
from tokenspace.words.evaluation.analogy import analogies
from tokenspace.words.evaluation.categories import categorisation, outliers
from tokenspace.words.evaluation.compare import Comparison, compare
from tokenspace.words.evaluation.features import features
from tokenspace.words.evaluation.lookup import Oov, check_oov
from tokenspace.words.evaluation.results import Result
from tokenspace.words.evaluation.sentences import sentences
from tokenspace.words.evaluation.sets import Chosen, choose
from tokenspace.words.evaluation.similarity import similarity
from tokenspace.words.evaluation.tagging import tagging

__all__ = ["Evaluation", "evaluate"]

MEASURES: Mapping[str, Callable[..., Result | list[Result]]] = {
    "similarity": similarity,
    "analogy": analogies,
    "categories": categorisation,
    "outliers": outliers,
    "features": features,
    "sentences": sentences,
    "pos": lambda table, parts, **more: tagging(table, *parts, task="pos", **more),
    "ner": lambda table, parts, **more: tagging(table, *parts, task="ner", **more),
}


@dataclass(frozen=True, kw_only=True)
class Evaluation(Report):
    """The report of an evaluation.

    ``rows`` has a row for every table, set and measure; ``comparisons`` one for every pair of
    tables, set and measure; ``skipped`` the sets that could not be had, each with the reason.
    ``results`` are the full results by table, which JSON leaves out.
    """

    comparisons: Sequence[Comparison] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    results: Mapping[str, Sequence[Result]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, ready for JSON: what is not a number is null."""
        plain = asdict(replace(self, results={}))
        del plain["results"]
        return {key: nulled(value) for key, value in plain.items()}


def evaluate(
    tables: Mapping[str, EmbeddingTable],
    on: Sequence[str] | Sequence[Chosen] = (),
    *,
    oov: Oov = "skip",
    language: str = "en",
    restrict: int | None = None,
    seed: int = 0,
    resamples: int = 1000,
) -> Evaluation:
    """Measure every table on every set, and compare the tables pair by pair.

    ``on`` names sets, tasks or files as ``tokenspace words evaluate --on`` does; empty, every
    public set of the language. ``restrict`` bounds the candidates of analogies.

    Raises :class:`InputError` where none of the sets can be had.
    """
    check_oov(oov)
    begin = time.perf_counter()
    chosen = [item for item in on if isinstance(item, Chosen)]
    names = [item for item in on if isinstance(item, str)]
    if names or not chosen:
        chosen += choose(names, language)
    results: dict[str, list[Result]] = {name: [] for name in tables}
    skipped: dict[str, str] = {}
    for item in track(chosen, "evaluate"):
        try:
            given = item.load()
        except InputError as fault:
            if item.paths:
                raise
            skipped[item.name] = f"{fault} ({fault.hint})" if fault.hint else str(fault)
            continue
        more = {"restrict": restrict} if item.task == "analogy" else {}
        casing = item.language if item.language != "en" else ""
        for name, table in tables.items():
            found = MEASURES[item.task](
                table, given, name=item.name, oov=oov, language=casing, seed=seed,
                resamples=resamples, **more,
            )  # fmt: skip
            results[name] += found if isinstance(found, list) else [found]
    if len(skipped) == len(chosen):
        raise InputError(
            f"none of the sets is on this machine: {', '.join(skipped)}",
            hint="set TOKENSPACE_DATA to the folder that holds them, or name files with --on",
        )
    comparisons, count = _comparisons(results, seed, resamples), len(chosen) - len(skipped)
    return Evaluation(
        title=f"{len(tables)} table{'s' * (len(tables) > 1)} on {count} set{'s' * (count > 1)}",
        metrics={"tables": float(len(tables)), "sets": float(count)},
        rows=[{"table": name, **r.row()} for name, own in results.items() for r in own],
        recipe={
            "oov": oov,
            "language": language,
            "restrict": restrict,
            "seed": seed,
            "resamples": resamples,
        },
        notes=[f"skipped {name}: {reason}" for name, reason in skipped.items()],
        comparisons=comparisons,
        skipped=skipped,
        results=results,
        seconds=round(time.perf_counter() - begin, 3),
    )


def _comparisons(
    results: Mapping[str, Sequence[Result]], seed: int, resamples: int
) -> list[Comparison]:
    """Compare all pairs of tables on all they were both measured by; adjust by Holm over all."""
    found = [
        compare(one, two, names=(first, second), seed=seed, resamples=resamples)
        for first, second in combinations(results, 2)
        for one, two in zip(results[first], results[second], strict=True)
    ]
    adjusted = holm([item.p for item in found])
    return [replace(item, adjusted=p) for item, p in zip(found, adjusted, strict=True)]
