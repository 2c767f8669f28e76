"""The common study: every method at the same budgets, on tasks that a table is trained for.

A setting is a task. Of a finished table (``retrieval``) a method makes its form; in the others it
gives the layer of a small network, which is trained and then measured with the exported table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tokenspace.errors import ConfigError
from tokenspace.recipe import Recipe, knobs

from . import ctr

__all__ = ["BUDGETS", "SETTINGS", "at_budgets", "setting"]

BUDGETS = (0.5, 0.1, 0.01, 0.001)
"""Shares of the table's float32 bytes."""

SETTINGS = (*ctr.SETS, "lm", "retrieval")


def at_budgets(recipes: Sequence[Recipe]) -> list[Recipe]:
    """Return every recipe at every budget, where it has one that was left at its default."""
    found: list[Recipe] = []
    for recipe in recipes:
        plain = {knob.name: knob.default for knob in knobs(type(recipe))}
        free = "budget" in plain and recipe.to_dict()["budget"] == plain["budget"]
        found += [replace(recipe, **{"budget": b}) for b in BUDGETS] if free else [recipe]
    return found


def setting(on: str, seed: int) -> dict[str, Any]:
    """Return the inputs of one of :data:`SETTINGS`, with how a method is run and judged there.

    ``run(recipe)`` gives what ``judge`` reads; ``notes`` say what the whole table reaches.
    """
    if on == "retrieval":
        from tokenspace.claims._vectors import learned

        table = learned(seed, smoke=False)
        return {"source": table.vectors, "counts": table.counts}
    run, whole = _lm(seed) if on == "lm" else _clicks(on, seed)
    return {
        "run": run,
        "judge": lambda figures: figures,
        "notes": ["the whole table: " + ", ".join(f"{k} {v:.4f}" for k, v in whole.items())],
    }


Figures = dict[str, float]


def _clicks(on: str, seed: int) -> tuple[Callable[[Recipe], Figures], Figures]:
    from .ctr_net import tuned

    clicks = ctr.load(on, seed)

    def run(recipe: Recipe) -> Figures:
        return _shown(tuned(_trainable(recipe), clicks, seed))

    return run, _shown(tuned(None, clicks, seed))


def _lm(seed: int) -> tuple[Callable[[Recipe], Figures], Figures]:
    from .lm_net import Task

    task = Task.of(seed)
    return (lambda recipe: task.train(_trainable(recipe))), task.train(None)


def _trainable(recipe: Recipe) -> Recipe:
    if not hasattr(recipe, "embedding"):
        raise ConfigError(
            f"{recipe.name} makes its form of a finished table only",
            hint="compare it with --on retrieval",
        )
    return recipe


def _shown(figures: Mapping[str, float]) -> Figures:
    return {name: figures[name] for name in ("auc", "logloss", "ratio", "init_std")}
