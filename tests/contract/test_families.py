"""What every method of every family keeps to, on its family's tiny inputs."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
import pytest
from subjects import arrays, assert_same, bag, digest, inputs, mapped, names, run, tiny

from tokenspace import catalog
from tokenspace.errors import MissingEvidence
from tokenspace.recipe import apply, evidence, knobs

METHODS = names()
STOCHASTIC = [  # a method that is given its network has nothing left to draw
    entry.name
    for entry in catalog.CATALOG
    if "seed" in {knob.name for knob in knobs(entry.load())}
    and "hypernet" not in {item.name for item in evidence(entry.load())}
]


@pytest.fixture(params=METHODS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def family(name: str) -> str:
    return catalog.find(name).family


def test_inputs_and_global_state_are_left_alone(name: str, family: str) -> None:
    given = bag(family)
    before = {key: digest(value) for key, value in inputs(family).items()}
    state = random.getstate(), repr(np.random.get_state()), np.geterr()  # noqa: NPY002
    torch = sys.modules.get("torch")
    draws = torch.random.get_rng_state().numpy().tobytes() if torch else b""
    run(name, given)
    assert {key: digest(given[key]) for key in before} == before
    assert (random.getstate(), repr(np.random.get_state()), np.geterr()) == state  # noqa: NPY002
    if torch:
        assert torch.random.get_rng_state().numpy().tobytes() == draws


def test_the_trial_is_the_same_every_time(family: str) -> None:
    first, second = inputs(family, 3), inputs(family, 3)
    assert {k: digest(v) for k, v in first.items()} == {k: digest(v) for k, v in second.items()}


def test_same_seed_same_bytes(name: str, family: str) -> None:
    given = bag(family)
    first, second = (arrays(family, run(name, given), given) for _ in range(2))
    assert_same(first, second)


@pytest.mark.parametrize("name", STOCHASTIC)
def test_other_seed_other_bytes(name: str, tmp_path: Path) -> None:
    family = catalog.find(name).family
    results = [run(name, bag(family), seed=seed) for seed in (0, 1)]
    for index, result in enumerate(results):
        result.save(tmp_path / str(index))
    first, second = (_bytes(tmp_path / str(index)) for index in range(2))
    assert first != second


def _bytes(path: Path) -> bytes:
    """Return the vectors or the tokenizer of a saved result: everything but its other text."""
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    return b"".join(
        f.read_bytes()
        for f in files
        if f.is_file() and (f.suffix != ".json" or f.name == "tokenizer.json")
    )


def test_results_are_finite_float32_in_c_order(name: str, family: str) -> None:
    given = bag(family)
    for key, array in arrays(family, run(name, given), given).items():
        assert array.flags.c_contiguous, key
        assert array.dtype in (np.float32, np.int64), key
        assert np.isfinite(array).all(), key


def test_inputs_may_be_read_only_and_memory_mapped(name: str, family: str, tmp_path: Path) -> None:
    given = bag(family)
    lazy = {**given, **{key: mapped(value, tmp_path) for key, value in inputs(family).items()}}
    assert_same(
        arrays(family, run(name, lazy), given), arrays(family, run(name, given), given), bits=False
    )


def test_a_saved_result_is_the_same_result(name: str, family: str, tmp_path: Path) -> None:
    given = bag(family)
    result = run(name, given)
    result.save(tmp_path / "result")
    again = type(result).load(tmp_path / "result")
    assert_same(arrays(family, again, given), arrays(family, result, given))


def test_the_judge_gives_plain_finite_figures(name: str, family: str) -> None:
    from importlib import import_module

    trial, given = import_module(f"tokenspace.{family}.trial"), bag(family)
    figures = trial.judge(run(name, given), given)
    assert figures
    for key, value in figures.items():
        assert type(value) in (int, float), key
        assert np.isfinite(value), key


def test_a_missing_input_is_named(name: str) -> None:
    recipe = tiny(name)
    for item in evidence(type(recipe)):
        if item.required:
            with pytest.raises(MissingEvidence, match=item.name):
                apply(recipe, {})
            break
