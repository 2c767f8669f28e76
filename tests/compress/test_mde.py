"""MDE: widths by hand, factors by numpy, and the layer against a loop over ids."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tokenspace.compress.mde import MDE
from tokenspace.errors import ConfigError, InputError, MissingEvidence


@pytest.fixture
def draw() -> np.random.Generator:
    return np.random.default_rng(12)


def cost(rows: np.ndarray, widths: list[int], width: int) -> int:
    """Return the bytes of tables and projections, with whole rows where they are smaller."""
    return sum(4 * min(n * width, n * w + w * width) for n, w in zip(rows, widths, strict=True))


def test_widths_by_hand() -> None:
    fields = np.repeat(np.arange(3), [64, 256, 1024])  # 1, 4 and 16 times the smallest
    group, widths = MDE(budget=0.45).plan(1344, 16, None, fields)
    np.testing.assert_array_equal(group, fields)
    # α = 0.386 is the first that fits: 16, 16 * 4^-α = 9.4 and 16 * 16^-α = 5.49; 6 would not
    assert widths == [16, 9, 5]
    assert cost(np.array([64, 256, 1024]), widths, 16) + 24 <= 0.45 * 4 * 1344 * 16
    _, least = MDE(budget=0.147).plan(1344, 16, None, fields)
    assert least == [16, 4, 1]  # α = 1


@pytest.mark.parametrize("budget", [0.3, 0.5, 0.8])
def test_alpha_is_the_smallest_within_the_budget(draw: np.random.Generator, budget: float) -> None:
    fields = draw.permutation(np.repeat(np.arange(4), [10, 60, 200, 730]))
    rows = np.bincount(fields)
    _, widths = MDE(budget=budget).plan(1000, 16, None, fields)
    member = 8 * (128 * 2 // 8 + 16)  # eight blocks of two bits a row, and four counts each
    for alpha in np.arange(1001) / 1000:
        slow = [max(1, int(np.rint(16 * (n / 10) ** -alpha))) for n in rows]
        slow = [w if n * w + w * 16 < n * 16 else 16 for n, w in zip(rows, slow, strict=True)]
        if cost(rows, slow, 16) + member <= budget * 64_000:
            break
    assert widths == slow


def test_factors_are_the_best_of_each_group(draw: np.random.Generator) -> None:
    source = draw.standard_normal((500, 8)).astype(np.float32)
    fields = np.sort(draw.permutation(np.repeat(np.arange(3), [20, 80, 400])))
    table = MDE(budget=0.4)(source, fields=fields)
    assert table.nbytes <= 0.4 * source.nbytes
    rows = table.rows(np.arange(500))
    _, widths = MDE(budget=0.4).plan(500, 8, None, fields)
    for f, width in enumerate(widths):
        u, s, v = np.linalg.svd(source[fields == f].astype(np.float64), full_matrices=False)
        best = (u[:, :width] * s[:width]) @ v[:width]
        np.testing.assert_allclose(rows[fields == f], best, atol=1e-5)


def test_the_layer_is_a_loop_over_ids(draw: np.random.Generator) -> None:
    counts = draw.permutation(10_000 // np.arange(1, 201))
    layer = MDE(budget=0.4, buckets=3).embedding(200, 8, counts=counts, seed=5)
    group, place = layer.group.numpy(), layer.place.numpy()
    ids = draw.integers(0, 200, 50)
    slow = []
    for x in ids:
        row = layer.tables[group[x]][place[x]].detach().double().numpy()
        out = str(int(group[x]))
        slow.append(row @ layer.outs[out].detach().double().numpy() if out in layer.outs else row)
    found = layer(torch.from_numpy(ids))
    np.testing.assert_allclose(found.detach().numpy(), slow, atol=1e-6)
    found.sum().backward()
    touched = {int(g) for g in group[ids]}
    for g, table in enumerate(layer.tables):
        assert (table.grad is not None and bool(table.grad.any())) == (g in touched)


def test_the_whole_budget_gives_the_table_back(draw: np.random.Generator) -> None:
    source = draw.standard_normal((60, 8)).astype(np.float32)
    for given in ({"counts": np.arange(60)}, {"fields": np.arange(60) % 3}):
        table = MDE(budget=1)(source, **given)
        np.testing.assert_array_equal(table.rows(np.arange(60)), source)
        assert table.nbytes == source.nbytes


def test_fields_of_one_size_give_way_to_counts(draw: np.random.Generator) -> None:
    fields, counts = np.arange(400) % 2, 1000 // np.arange(1, 401)
    with pytest.raises(ConfigError, match=r"mde: budget=0.4 .* \(1\)"):
        MDE(budget=0.4).plan(400, 16, None, fields)
    group, widths = MDE(budget=0.4, buckets=4).plan(400, 16, counts, fields)
    assert len(widths) == 4
    assert (np.diff(group) >= 0).all()


def test_out_of_reach_names_the_smallest_budget() -> None:
    counts = 1000 // np.arange(1, 401)
    with pytest.raises(ConfigError, match=r"mde: budget=0.02 .* least it can do is") as caught:
        MDE(budget=0.02).plan(400, 16, counts, None)
    share = float(str(caught.value.hint).split()[2])
    MDE(budget=share).plan(400, 16, counts, None)


def test_bad_input_is_refused() -> None:
    source = np.ones((6, 4), np.float32)
    with pytest.raises(MissingEvidence, match="mde needs fields or counts"):
        MDE()(source)
    with pytest.raises(InputError, match="counts"):
        MDE()(source, counts=np.ones(5, np.int64))
    with pytest.raises(InputError, match="fields"):
        MDE()(source, fields=np.array([0, 0, 2, 2, 2, 2]))
