"""How a model learned, where its directory tells: figures by step, for the curves of a page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

__all__ = ["course"]

POINTS = 100  # that a curve keeps: enough for its shape


def course(folder: str | Path) -> list[dict[str, float]]:
    """Return the figures of a training by ``step``, at most ``POINTS`` of them; often none.

    They are the rows of a ``report.json`` that have a ``step``, or the history that a trainer of
    transformers left in ``trainer_state.json``, here or in a ``checkpoint-*``.
    """
    folder = Path(folder)
    rows = _rows(folder / "report.json", "rows")
    states = [folder / "trainer_state.json", *folder.glob("checkpoint-*/trainer_state.json")]
    for state in states if not rows else ():
        rows = max(rows, _rows(state, "log_history"), key=len)
    by_step: dict[float, dict[str, float]] = {}
    for row in rows:
        by_step.setdefault(row["step"], {}).update(row)
    ordered = [by_step[step] for step in sorted(by_step) if step > 0]
    return ordered[:: max(1, -(-len(ordered) // POINTS))]


def _rows(file: Path, name: str) -> list[dict[str, float]]:
    """Return the rows of numbers that have a step; none where the file is no such report."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    rows = found.get(name) if isinstance(found, Mapping) else None
    numbers = [
        {str(key): float(value) for key, value in row.items() if isinstance(value, int | float)}
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, Mapping)
    ]
    return [row for row in numbers if "step" in row]
