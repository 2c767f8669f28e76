"""2D Matryoshka: every depth and width trained, against the whole vector only."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple, cast

import numpy as np

from tokenspace.claims import _glosses
from tokenspace.claims._in_context import pretrained
from tokenspace.claims._settings import MINILM
from tokenspace.encode import trial
from tokenspace.encode.matryoshka2d import Matryoshka2D
from tokenspace.encode.shorten import layer_grid
from tokenspace.examples import Examples
from tokenspace.recipe import Recipe
from tokenspace.report import Claim

STEPS, BATCH, LR = 100, 32, 1e-4
CLAIM = Claim(
    says="An encoder trained at all depths and widths, cut to half of its layers or more and any "
    "width, ranks pairs of sentences more as people do than one trained at its full size only",
    paper="arXiv:2402.14776",
    metric="shallow",
    better="higher",
    baseline="the same steps with the loss of the whole vector of the last layer alone",
    margin=1.0,
    scale="paper: BERT-base, 7 sets of STS; here: MiniLM (6 layers, 384 numbers), 100 steps of 32 "
    "pairs of WordNet's definitions and their synonyms. shallow: Spearman x 100, mean over 3 to 5 "
    "layers, 32, 64, 128 and 384 numbers, and the trial set of SICK and the STS benchmark's "
    "development set; whole: the same of all layers and numbers (without these files: an "
    "untrained network, halves of invented texts)",
    budget_s=600.0,
)


class Material(NamedTuple):
    """A network, the pairs it learns from, sets of scored pairs, and the grid's extent."""

    model: Any
    examples: Examples
    judged: tuple[Examples, ...]
    dims: tuple[int, ...]
    layers: tuple[int, ...]


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return the mean of the grid's lower part as ``shallow``, and its last corner as ``whole``."""
    given = material(smoke)
    real = given.model.dim > 64
    steps, batch = (STEPS, BATCH) if real else (4, 8)
    if method is None:
        trained = plain(given, steps, batch, seed)
    else:
        recipe = replace(
            cast("Matryoshka2D", method),
            steps=steps,
            batch=batch,
            lr=LR,
            seed=seed,
            widths="+".join(map(str, given.dims[:-1])),
        )
        trained = recipe(given.model, examples=given.examples)
    grids = [100 * layer_grid(trained, pairs, given.dims) for pairs in given.judged]
    grid = np.mean(grids, axis=0)
    return {
        "shallow": float(grid[list(given.layers)].mean()),
        "whole": float(grid[-1, -1]),
        **{f"layer_{n}": float(row.mean()) for n, row in enumerate(grid)},
    }


def plain(given: Material, steps: int, batch: int, seed: int) -> Any:
    """Return the network after as many steps of the plain loss on the same batches."""
    from tokenspace.nn.sentence import copied, dataset, fine_tune, pair_loss, wrapped

    made = copied(given.model)
    loss = pair_loss(made, given.examples)
    fine_tune(made, dataset(given.examples), loss, steps=steps, batch=batch, lr=LR, seed=seed)
    return wrapped(made)


@lru_cache(maxsize=1)
def material(smoke: bool) -> Material:
    """Return the same for both sides and every seed."""
    if smoke or not (pretrained() and _glosses.at_hand()):
        bag = trial.bag(tiny=True)
        halves = (_glosses.rated_halves(bag["examples"]),)
        return Material(bag["model"], bag["examples"], halves, (4, 16), (1,))
    from tokenspace.nn.encoder import load_encoder

    model = load_encoder(MINILM, device="cpu")
    judged = tuple(_glosses.rated(name) for name in _glosses.SETS)
    return Material(model, _glosses.glosses(), judged, (32, 64, 128, 384), (3, 4, 5))
