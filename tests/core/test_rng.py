"""Random streams: equal for equal purposes, independent otherwise, and never global."""

from __future__ import annotations

import random

import numpy as np

from tokenspace.rng import derive, stream, torch_scope


def test_equal_purposes_draw_equally_and_others_do_not() -> None:
    first = stream(0, "negatives", 1).random(5)
    np.testing.assert_array_equal(first, stream(0, "negatives", 1).random(5))
    for other in (stream(1, "negatives", 1), stream(0, "windows", 1), stream(0, "negatives", 2)):
        assert not np.array_equal(first, other.random(5))


def test_seeds_fit_in_63_bits_and_do_not_collide() -> None:
    seeds = {derive(seed, "purpose", i) for seed in range(50) for i in range(50)}
    assert len(seeds) == 2500
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_value_is_stable_between_versions() -> None:
    assert derive(0, "init") == 3912388711783151084


def test_global_generators_are_left_alone() -> None:
    before = random.getstate(), repr(np.random.get_state())  # noqa: NPY002
    stream(3, "x").random(100)
    assert (random.getstate(), repr(np.random.get_state())) == before  # noqa: NPY002


def test_torch_is_seeded_inside_the_scope_and_restored_after_it() -> None:
    import torch

    before = torch.random.get_rng_state()
    with torch_scope(0, "init"):
        first = torch.rand(4)
    with torch_scope(0, "init"):
        second = torch.rand(4)
    assert torch.equal(first, second)
    assert torch.equal(torch.random.get_rng_state(), before)
