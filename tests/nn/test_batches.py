"""Batches of similar length: every sequence once, never over the budget, longest first."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tokenspace.errors import ConfigError
from tokenspace.nn.windows import batches

CPU = torch.device("cpu")


@given(st.lists(st.integers(0, 40), max_size=60), st.integers(1, 50))
def test_every_number_once_within_the_budget(lengths, tokens):
    found = list(batches(lengths, CPU, texts=None, tokens=tokens))
    assert sorted(i for batch in found for i in batch) == list(range(len(lengths)))
    flat = [lengths[i] for batch in found for i in batch]
    assert flat == sorted(flat, reverse=True)
    for batch in found:
        width = max(lengths[i] for i in batch)
        assert len(batch) * width <= tokens or len(batch) == 1


def test_a_number_of_texts_is_kept_to():
    assert list(batches([1, 3, 2, 3], CPU, texts=2)) == [[1, 3], [2, 0]]
    assert list(batches([], CPU, texts=2)) == []


def test_the_default_is_as_many_as_a_device_computes_quickly():
    on = {
        name: list(batches([16] * 2000, torch.device(name), texts=None)) for name in ("cpu", "cuda")
    }
    assert {name: len(found[0]) for name, found in on.items()} == {"cpu": 32, "cuda": 1024}


@pytest.mark.parametrize("wrong", [{"texts": 0}, {"texts": None, "tokens": 0}])
def test_nothing_at_a_time_is_refused(wrong):
    with pytest.raises(ConfigError, match=r"=0 is outside \[1, inf\]"):
        list(batches([1], CPU, **wrong))
