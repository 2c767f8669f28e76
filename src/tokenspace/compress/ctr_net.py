"""The network of the click task, and its training: once round for every method of the family."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from itertools import count

import numpy as np
import torch
from torch import Tensor, nn

from tokenspace import rng
from tokenspace.arrays import Ids
from tokenspace.metrics import auc, log_loss
from tokenspace.nn.decoder import on_threads
from tokenspace.nn.embedding import CompressedEmbedding, FullEmbedding
from tokenspace.nn.train import steps
from tokenspace.recipe import Recipe

from . import Lookup
from .ctr import Clicks

__all__ = ["INIT_STDS", "ClickNet", "layer_of", "train", "tuned"]

WIDTH, HIDDEN, BATCH, LR, SEARCH_LR = 16, 64, 256, 2e-3, 1e-3
INIT_STDS = (0.05, 0.01, 0.005)
"""The standard deviations among which :func:`tuned` chooses by the validation rows."""

Batch = tuple[Tensor, Tensor]


class ClickNet(nn.Module):
    """The log-odds of a 1: the rows of F ids and their inner products, through one hidden layer."""

    pairs: Tensor

    def __init__(self, table: CompressedEmbedding, fields: int, seed: int) -> None:
        super().__init__()
        self.table = table
        pairs = torch.triu_indices(fields, fields, 1)
        self.register_buffer("pairs", pairs, persistent=False)
        inputs = pairs.shape[1] + fields * table.embedding_dim
        with rng.torch_scope(seed, "network"):
            self.head = nn.Sequential(nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1))

    def forward(self, ids: Tensor) -> Tensor:
        """Return the log-odds of rows of ``ids``, (n, F) -> (n,)."""
        return self.judged(self.table(ids))

    def judged(self, rows: Tensor) -> Tensor:
        """Return the log-odds of rows that were looked up, (n, F, width) -> (n,)."""
        rows = rows.to(self.pairs.device)
        products = (rows @ rows.transpose(1, 2))[:, self.pairs[0], self.pairs[1]]
        found: Tensor = self.head(torch.cat([products, rows.flatten(1)], dim=1)).squeeze(1)
        return found


def layer_of(
    method: Recipe | None, clicks: Clicks, seed: int, *, width: int = WIDTH, init_std: float = 0.05
) -> CompressedEmbedding:
    """Return the layer of a method for these ids, or for None the full table."""
    if method is None:
        return FullEmbedding(clicks.size, width, init_std=init_std, seed=seed)
    made: CompressedEmbedding = method.embedding(  # type: ignore[attr-defined]
        clicks.size, width, counts=clicks.counts, fields=clicks.fields,
        init_std=init_std, seed=seed,
    )  # fmt: skip
    return made


def train(
    layer: CompressedEmbedding, clicks: Clicks, seed: int, *, epochs: int = 3, lr: float = LR
) -> dict[str, float]:
    """Train a layer with a network on top, through all its stages; measure the exported table.

    Batches of 256 rows, AdamW without decay at a constant rate, one thread. What a layer gives as
    :meth:`~tokenspace.nn.embedding.CompressedEmbedding.searched` descends on validation batches
    instead (plain descent, rate 1e-3). After every epoch the exported table is measured on the
    validation rows, and the best epoch of a stage is what is kept, of those whose table is no
    larger than the last one's; a later stage may also keep what it began with.

    Returns
    -------
    dict
        ``auc`` and ``logloss`` (nats) on the test rows, ``valid_auc``; ``bytes`` of the exported
        table and its ``ratio`` to float32; ``seconds`` and ``steps`` of training in all stages.
    """
    begin, done = time.perf_counter(), 0
    model = ClickNet(layer, clicks.ids.shape[1], seed)
    with on_threads(1):
        for stage in count():
            done += _stage(model, clicks, rng.derive(seed, "stage", stage), epochs, lr, stage > 0)
            following = model.table.settled(lambda found: _looked_up(model, found, clicks))
            if following is None:
                break
            model.table = following
        seconds = time.perf_counter() - begin
        table = model.table.export()
        chances = _chances(model, table, clicks, clicks.test)
        valid = auc(clicks.labels[clicks.valid], _chances(model, table, clicks, clicks.valid))
    truth = clicks.labels[clicks.test]
    return {
        "auc": auc(truth, chances),
        "logloss": log_loss(truth, chances),
        "valid_auc": valid,
        "bytes": float(table.nbytes),
        "ratio": table.nbytes / (4 * table.shape[0] * table.shape[1]),
        "seconds": seconds,
        "steps": float(done),
    }


def tuned(
    method: Recipe | None, clicks: Clicks, seed: int, *, epochs: int = 3, width: int = WIDTH
) -> dict[str, float]:
    """Train with each of :data:`INIT_STDS`; return the figures of the best on validation rows.

    ``init_std`` is added to those of :func:`train`.
    """
    runs = []
    for init_std in INIT_STDS:
        layer = layer_of(method, clicks, seed, width=width, init_std=init_std)
        runs.append({**train(layer, clicks, seed, epochs=epochs), "init_std": init_std})
    return max(runs, key=lambda figures: figures["valid_auc"])


def _loss(model: nn.Module, batch: Batch) -> Tensor:
    device = next(model.parameters()).device
    ids, labels = (part.to(device) for part in batch)
    found = nn.functional.binary_cross_entropy_with_logits(model(ids), labels)
    added: Tensor = model.table.penalty()  # type: ignore[operator, union-attr]
    return found + added


def _batches(clicks: Clicks, part: Ids, seed: int) -> Iterator[Batch]:
    """Yield batches of a part's rows without end, in a new order every time round."""
    ids = torch.from_numpy(clicks.ids[part])
    labels = torch.from_numpy(clicks.labels[part].astype(np.float32))
    for epoch in count():
        order = torch.from_numpy(rng.stream(seed, "order", epoch).permutation(len(part)))
        yield from zip(
            torch.split(ids[order], BATCH), torch.split(labels[order], BATCH), strict=True
        )


def _stage(
    model: ClickNet, clicks: Clicks, seed: int, epochs: int, lr: float, from_start: bool
) -> int:
    """Train one stage and leave the model at its best epoch; return the steps that were taken."""
    layer = model.table
    searched = list(layer.searched())
    held = {id(parameter) for parameter in searched}
    still = {name for name, parameter in model.named_parameters() if id(parameter) in held}
    descent = torch.optim.SGD(searched, lr=SEARCH_LR) if searched else None
    held_out = _batches(clicks, clicks.valid, rng.derive(seed, "search"))
    per_epoch = -(-len(clicks.train) // BATCH)
    total = epochs * per_epoch
    truth = clicks.labels[clicks.valid]
    found = []

    def measure() -> None:
        table = layer.export()
        figure = auc(truth, _chances(model, table, clicks, clicks.valid))
        found.append((figure, table.nbytes, copy.deepcopy(model.state_dict())))

    if from_start:
        measure()
    ticks = steps(
        model, _loss, _batches(clicks, clicks.train, seed), lr=lr, total=total, decay="none",
        weight_decay=0.0, clip=None, seed=seed, slower=lambda name: float(name not in still),
    )  # fmt: skip
    for tick in ticks:
        if descent is not None:
            torch.autograd.backward(_loss(model, next(held_out)), inputs=searched)
            descent.step()
            descent.zero_grad()
        layer.after_step(tick.step, total)
        if tick.step % per_epoch == 0:
            measure()
    largest = found[-1][1]
    best = max((item for item in found if item[1] <= largest), key=lambda item: item[0])
    model.load_state_dict(best[2])
    return total


@torch.no_grad()
def _chances(
    model: ClickNet, table: Lookup, clicks: Clicks, part: Ids
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the chances of a 1 with an exported table under the network, (rows of part,)."""
    ids = clicks.ids[part]
    rows = table.rows(ids.reshape(-1)).reshape(*ids.shape, -1)
    chances = torch.sigmoid(model.judged(torch.from_numpy(rows)).double())
    return np.asarray(chances.cpu().numpy())


@torch.no_grad()
def _looked_up(model: ClickNet, layer: CompressedEmbedding, clicks: Clicks) -> float:
    """Return the validation AUC with another layer under the network, as it is now."""
    training = layer.training
    layer.eval()
    ids = torch.from_numpy(clicks.ids[clicks.valid]).to(model.pairs.device)
    layer.to(model.pairs.device)
    scores = model.judged(layer(ids)).cpu().numpy()
    layer.train(training)
    return auc(clicks.labels[clicks.valid], scores)
