"""Vectors of all layers: columns that pass the network in groups, and how these are chosen."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from tokenspace.nn.fresh import fresh_encoder
from tokenspace.nn.layers import column_vectors, layer_vectors, length_groups
from tokenspace.nn.sentence import copied

LINES = ["the red ship sails over the cold sea", "a blue ship", "it is cold at sea", "so", "red"]
SIDES = [[*LINES, " ".join(LINES[:3])], ["ship", "the sea", *LINES[:4]]]


@pytest.mark.parametrize(
    ("kind", "side"), [("bert", "right"), ("llama", "right"), ("llama", "left")]
)
@pytest.mark.parametrize("prompts", [(None, None), ("so", "so"), ("so", "red")])
def test_columns_together_are_columns_alone(kind, side, prompts) -> None:
    made = copied(fresh_encoder(LINES, kind=kind, layers=2)).double().eval()
    made.tokenizer.padding_side = side
    features = [made.preprocess(texts, prompt=p) for texts, p in zip(SIDES, prompts, strict=True)]
    with torch.no_grad():
        found = column_vectors(made, features)
        alone = [layer_vectors(made, column) for column in features]
    assert len(found) == 3
    for n, layer in enumerate(found):
        for vectors, expected in zip(layer, alone, strict=True):
            np.testing.assert_allclose(vectors, expected[n], atol=1e-7)


def test_gradients_are_those_of_columns_alone() -> None:
    made = copied(fresh_encoder(LINES, layers=2)).double().eval()
    features = [made.preprocess(texts) for texts in SIDES]
    slopes = []
    for found in (
        column_vectors(made, features),
        list(zip(*(layer_vectors(made, column) for column in features), strict=True)),
    ):
        loss = sum((k + 1) * (a * b).sum().sin() for k, (a, b) in enumerate(found))
        given = [p for p in made.parameters() if p.requires_grad]
        slopes.append(torch.autograd.grad(loss, given, allow_unused=True))
    for one, other in zip(*slopes, strict=True):
        if other is not None:
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-7)


def best_cost(lengths: list[int]) -> int:
    """Return the least time of all ways to cut the sorted lengths."""
    order, n = sorted(lengths, reverse=True), len(lengths)
    costs = []
    for cuts in range(2 ** (n - 1)):
        ends = [0, *(i + 1 for i in range(n - 1) if cuts >> i & 1), n]
        costs.append(sum(order[a] * (b - a) + 64 for a, b in pairwise(ends)))
    return min(costs)


@pytest.mark.parametrize("seed", range(4))
def test_groups_take_the_least_time(seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(1, 120, 9).tolist()
    groups = length_groups(lengths)
    assert sorted(i for group in groups for i in group) == list(range(9))
    cost = sum(max(lengths[i] for i in group) * len(group) + 64 for group in groups)
    assert cost == best_cost(lengths)


def test_groups_by_hand() -> None:
    assert length_groups([]) == []
    assert length_groups([3, 4, 5]) == [[2, 1, 0]]  # 15 are less than 5 + 64 + 8
    # 10 more of 100 would take 1000, alone 10 + 64
    assert length_groups([1] * 10 + [100]) == [[10], list(range(10))]
