"""What every compressed table keeps to while it is trained in the place of nn.Embedding."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from subjects import bag, names, tiny

from tokenspace.compress._budget import allowed
from tokenspace.compress.floats import open_rows
from tokenspace.errors import InputError
from tokenspace.nn.embedding import CompressedEmbedding
from tokenspace.nn.train import steps

TRAINED = [name for name in names("compress") if hasattr(type(tiny(name)), "embedding")]
pytestmark = pytest.mark.parametrize("name", TRAINED)
STEPS = 20


def fresh(name: str, seed: int = 0) -> CompressedEmbedding:
    given = bag("compress")
    size, width = given["source"].shape
    recipe: Any = tiny(name)
    layer: CompressedEmbedding = recipe.embedding(
        size, width, counts=given["counts"], fields=given["fields"], seed=seed
    )
    return layer


def descend(layer: CompressedEmbedding, stage: int) -> list[float]:
    """Train towards the rows of the trial's table; return the loss of every step."""
    target = torch.from_numpy(bag("compress")["source"])
    draw = np.random.default_rng(stage)
    batches = [torch.from_numpy(draw.integers(0, len(target), 64)) for _ in range(STEPS)]
    searched = {id(parameter) for parameter in layer.searched()}
    still = {key for key, parameter in layer.named_parameters() if id(parameter) in searched}

    def loss(module: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
        off: torch.Tensor = (module(ids) - target[ids]).square().mean()
        return off + layer.penalty()

    found = []
    for tick in steps(
        layer, loss, batches, lr=0.05, total=STEPS, decay="none", weight_decay=0.0,
        slower=lambda key: float(key not in still),
    ):  # fmt: skip
        if searched:
            torch.autograd.backward(loss(layer, batches[0]), inputs=list(layer.searched()))
            for parameter in layer.searched():
                parameter.data -= 1e-3 * parameter.grad  # type: ignore[operator]
        layer.after_step(tick.step, STEPS)
        found.append(tick.loss)
    return found


@cache
def trained(name: str, seed: int = 0) -> tuple[CompressedEmbedding, tuple[float, ...]]:
    """Return the layer after all of its stages, and the losses of the last."""
    target = bag("compress")["source"]
    everyone = torch.arange(len(target))

    def evaluate(layer: CompressedEmbedding) -> float:
        return -float(np.square(layer.eval()(everyone).detach().numpy() - target).mean())

    layer = fresh(name, seed)
    for stage in range(3):
        losses = descend(layer, stage)
        following = layer.settled(evaluate)
        if following is None:
            return layer.eval(), tuple(losses)
        layer = following
    raise AssertionError("a layer that never settles")


def test_it_learns(name: str) -> None:
    _, losses = trained(name)
    assert np.isfinite(losses).all()
    assert np.mean(losses[-5:]) < 0.97 * losses[0]


def test_the_export_reads_as_the_layer_does(name: str) -> None:
    layer, _ = trained(name)
    table = layer.export()
    assert not isinstance(table, torch.nn.Module)
    everyone = np.arange(table.shape[0])
    rows = table.rows(everyone)
    assert np.abs(rows).max() > 0
    np.testing.assert_allclose(
        layer(torch.from_numpy(everyone)).detach().numpy(), rows, rtol=1e-4, atol=1e-5
    )


def test_the_export_is_within_the_budget(name: str) -> None:
    layer, _ = trained(name)
    budget = getattr(tiny(name), "budget", 1.0)
    size, width = bag("compress")["source"].shape
    for table in (layer.export(), fresh(name).export()):
        assert table.shape == (size, width)
        assert 0 < table.nbytes <= allowed(budget, size, width)


def test_the_export_is_saved_and_opened(name: str, tmp_path: Path) -> None:
    table = trained(name)[0].export()
    table.save(tmp_path / "table")
    again = open_rows(tmp_path / "table")
    everyone = np.arange(table.shape[0])
    np.testing.assert_array_equal(again.rows(everyone), table.rows(everyone))
    assert again.nbytes == table.nbytes


def test_same_seed_same_table(name: str) -> None:
    trained.cache_clear()
    first = trained(name)[0].export()
    trained.cache_clear()
    second = trained(name)[0].export()
    everyone = np.arange(first.shape[0])
    np.testing.assert_array_equal(first.rows(everyone), second.rows(everyone))


def test_ids_of_any_shape_and_none_outside(name: str) -> None:
    layer = fresh(name).eval()
    ids = torch.tensor([[3, 0, 3], [1, 2, 0]])
    rows = layer(ids)
    assert rows.shape == (2, 3, layer.embedding_dim)
    torch.testing.assert_close(rows[0, 0], rows[0, 2])
    assert layer(ids[:0]).shape == (0, 3, layer.embedding_dim)
    for outside in (-1, layer.num_embeddings):
        with pytest.raises(InputError, match=f"row {outside} is outside"):
            layer(torch.tensor([0, outside]))


def test_rows_begin_with_the_asked_spread(name: str) -> None:
    given = bag("compress")
    size, width = 4_000, 16
    recipe: Any = tiny(name)
    layer = recipe.embedding(
        size, width, counts=np.resize(given["counts"], size), fields=np.arange(size) * 4 // size,
        init_std=0.02,
    )  # fmt: skip
    rows = layer.train()(torch.randint(size, (2_000,), generator=torch.Generator().manual_seed(0)))
    shown = rows.detach()
    shown = shown[shown.abs() > 0]  # some methods hide values while they train
    assert 0.01 < float(shown.std()) < 0.03
