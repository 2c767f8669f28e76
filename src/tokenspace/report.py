"""Reports and claims: every number with what produced it, and a standing proof per method.

A :class:`Report` is a frozen record of one run. A :class:`Claim` says what a paper promises and
by which margin; :func:`reproduce` measures the method and its baseline on the same data and
seeds and gives a :data:`Verdict` on the paired differences.
"""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from .errors import ClaimFailed, ConfigError
from .progress import track

if TYPE_CHECKING:
    from .catalog import Entry

__all__ = [
    "Claim",
    "Report",
    "Reproduction",
    "Verdict",
    "environment",
    "nulled",
    "readable_bytes",
    "record",
    "recorded",
    "reproduce",
    "verdict",
]

Verdict = Literal["holds", "weak", "fails", "untested"]


def readable_bytes(count: float) -> str:
    """Return a number of bytes as people read it: ``"2.5 MB"``."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def environment() -> dict[str, Any]:
    """Return the versions, the machine and the thread count that figures depend on."""
    from importlib import metadata

    packages = ("tokenspace", "numpy", "numba", "tokenizers", "faiss-cpu", "torch")
    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count() or 1,
        **versions,
    }


def nulled(value: Any) -> Any:
    """Return plain data in which NaN, which JSON has no word for, is None."""
    if isinstance(value, Mapping):
        return {key: nulled(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [nulled(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


@dataclass(frozen=True, kw_only=True)
class Report:
    """What one run did and gave.

    ``metrics`` are the headline figures; ``rows`` the table behind them, one mapping a row;
    ``recipe`` the method with its knobs; ``inputs`` what was read: by name, each path with its
    SHA-256; ``seconds`` the wall time; ``environment`` versions and threads.
    """

    title: str
    metrics: Mapping[str, float]
    rows: Sequence[Mapping[str, Any]] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    seconds: float = 0.0
    environment: Mapping[str, Any] = field(default_factory=environment)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, ready for JSON."""
        return asdict(self)

    def to_json(self) -> str:
        """Return the report as indented JSON."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)

    def to_markdown(self) -> str:
        """Return the report as a heading, its metrics, its table and its notes."""
        lines = [f"# {self.title}", ""]
        lines += [f"- {name}: {_figure(value)}" for name, value in self.metrics.items()]
        if self.rows:
            columns = list(dict.fromkeys(key for row in self.rows for key in row))
            lines += ["", "| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
            lines += [
                "| " + " | ".join(_figure(row.get(column, "")) for column in columns) + " |"
                for row in self.rows
            ]
        lines += ["", *self.notes] if self.notes else []
        return "\n".join(lines) + "\n"


def _figure(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a paper promises, in a form that two cores can check.

    ``metric`` is a key of what ``measure`` returns; the method must beat ``baseline`` (words that
    say what ``measure(None, ...)`` does) by ``margin`` in the direction ``better``. ``scale``
    states honestly how far the paper's experiment is from this one.
    """

    says: str
    paper: str
    metric: str
    better: Literal["higher", "lower"]
    baseline: str
    margin: float
    scale: str
    seeds: tuple[int, ...] = (0, 1, 2)
    budget_s: float = 300.0


class ClaimModule(Protocol):
    """A module of :mod:`tokenspace.claims`: the claim, and how both sides are measured."""

    CLAIM: Claim
    measure: Callable[..., dict[str, float]]


def verdict(claim: Claim, method: Sequence[float], baseline: Sequence[float]) -> Verdict:
    """Judge paired figures.

    ``holds``: every seed goes the claimed way and the mean difference reaches the margin;
    ``weak``: the mean goes the claimed way, but not at every seed or not by the margin;
    ``fails``: otherwise.
    """
    sign = 1.0 if claim.better == "higher" else -1.0
    gains = [sign * (ours - theirs) for ours, theirs in zip(method, baseline, strict=True)]
    mean = statistics.fmean(gains)
    if min(gains) > 0 and mean >= claim.margin:
        return "holds"
    return "weak" if mean > 0 else "fails"


def _interval(gains: Sequence[float]) -> tuple[float, float]:
    """Return Student's 95 % interval of the mean gain over the seeds."""
    if len(gains) < 2:
        return (gains[0], gains[0])
    from scipy.stats import t

    centre = statistics.fmean(gains)
    half = float(t.ppf(0.975, len(gains) - 1)) * statistics.stdev(gains) / len(gains) ** 0.5
    return (centre - half, centre + half)


@dataclass(frozen=True, kw_only=True)
class Reproduction(Report):
    """The report of a re-measured claim: both sides in ``rows``, and what came of it."""

    name: str
    verdict: Verdict
    claim: Mapping[str, Any]


def reproduce(
    entry: Entry, *, smoke: bool = False, seeds: Sequence[int] | None = None
) -> Reproduction:
    """Measure a method against its baseline on identical data and seeds.

    ``smoke`` runs one seed on about one per cent of the data, in seconds, to prove that the
    claim still runs; it gives no verdict. ``seeds`` replaces those of the claim.

    Raises :class:`ClaimFailed` where a side gives a figure that is not finite.
    """
    module = cast("ClaimModule", entry.claim())
    claim = module.CLAIM
    recipe = entry.load()(**entry.preset)
    seeds = tuple(seeds or (claim.seeds[:1] if smoke else claim.seeds))
    rows: list[dict[str, Any]] = []
    begin = time.perf_counter()
    runs = [(s, side) for s in seeds for side in ("method", "baseline")]
    for seed, side in track(runs, entry.name):
        start = time.perf_counter()
        figures = module.measure(recipe if side == "method" else None, seed, smoke=smoke)
        if claim.metric not in figures:
            raise ConfigError(f"claim {entry.name}: measure gave no {claim.metric!r}")
        for metric, value in figures.items():
            if not math.isfinite(value):
                raise ClaimFailed(f"claim {entry.name}: {side}, seed {seed}: {metric}={value}")
        seconds = round(time.perf_counter() - start, 2)
        rows.append({"side": side, "seed": seed, **figures, "seconds": seconds})
    ours, theirs = (
        [row[claim.metric] for row in rows if row["side"] == side]
        for side in ("method", "baseline")
    )
    judged: Verdict = "untested" if smoke else verdict(claim, ours, theirs)
    sign = 1.0 if claim.better == "higher" else -1.0
    gains = [sign * (a - b) for a, b in zip(ours, theirs, strict=True)]
    low, high = _interval(gains)
    return Reproduction(
        title=f"{entry.name}: {claim.says}",
        name=entry.name,
        verdict=judged,
        claim=asdict(claim),
        metrics={
            "method": statistics.fmean(ours),
            "baseline": statistics.fmean(theirs),
            "gain": statistics.fmean(gains),
            "gain_low": low,
            "gain_high": high,
            "margin": claim.margin,
        },
        rows=rows,
        recipe=recipe.to_dict(),
        notes=(f"baseline: {claim.baseline}", f"scale: {claim.scale}"),
        seconds=round(time.perf_counter() - begin, 2),
    )


def recorded(name: str) -> dict[str, Any] | None:
    """Return the recorded result of a claim, or None where none was recorded.

    Results are shipped inside the package (``tokenspace/claims/results/NAME.json``) and shown by
    ``list``, the documentation and the README.
    """
    path = resources.files("tokenspace.claims").joinpath("results", f"{name}.json")
    if not path.is_file():
        return None
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result


def record(name: str, report: Report) -> Path:
    """Write a result where :func:`recorded` finds it, and return the path."""
    from .io import replacing

    target = Path(str(resources.files("tokenspace.claims"))) / "results" / f"{name}.json"
    target.parent.mkdir(exist_ok=True)
    with replacing(target) as partial:
        partial.write_text(report.to_json() + "\n", encoding="utf-8")
    return target
