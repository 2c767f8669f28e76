"""The common study: which methods it runs, and at what budgets."""

from __future__ import annotations

import pytest

from tokenspace import catalog
from tokenspace.compress import study, trial
from tokenspace.errors import ConfigError
from tokenspace.recipe import make


def test_every_method_with_a_budget_runs_at_all_of_them() -> None:
    recipes = [make("hash"), make("hash", budget=0.3), make("int8")]
    found = [str(recipe) for recipe in trial.subjects(recipes, "zipf")]
    assert found == [
        "hash:budget=0.5", "hash", "hash:budget=0.01", "hash:budget=0.001", "hash:budget=0.3",
        "int8",
    ]  # fmt: skip
    assert trial.subjects(recipes, "made") == recipes


def test_what_only_finished_tables_have_is_said() -> None:
    for entry in catalog.members("compress"):
        recipe = make(entry.name)
        if hasattr(recipe, "embedding"):
            assert study._trainable(recipe) is recipe
        else:
            with pytest.raises(ConfigError, match="finished table") as refused:
                study._trainable(recipe)
            assert "--on retrieval" in str(refused.value.hint)
