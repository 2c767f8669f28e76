"""Compressed layers beside torch.nn.Embedding: a step of training, and looking rows up.

20,000 ids drawn by rank (Zipf), 16 numbers a row, a tenth of the bytes (a half where a tenth cannot
be reached), batches of 4,096 ids. A step is forward, backward and AdamW over all that the layer
trains; the seconds are those of the processor, on one thread. The note tells how many numbers are
trained, and of what is a network how much it multiplies. AutoDim trains rows of 2, 4, 8 and 16
numbers beside each other while it searches, nearly twice as many as the peer. Rows are looked up in
the exported form, 4,096 at a time; the peer is an ``nn.Embedding`` without gradients, and a note
tells the bytes of the exported form and of the float32 matrix.
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

from collections.abc import Callable  # noqa: E402
from dataclasses import replace  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from harness import Result, main, pair  # noqa: E402
from tokenspace import catalog  # noqa: E402
from tokenspace.errors import ConfigError  # noqa: E402
from tokenspace.recipe import make  # noqa: E402
from tokenspace.rng import stream  # noqa: E402

SIZE, WIDTH, BATCH = 20_000, 16, 4096
BUDGETS = (0.1, 0.5)
GOAL = 0.5  # of the peer's steps


def layers(counts: np.ndarray) -> list[tuple[str, Any]]:
    """Return every method of the family that is a layer, at the first budget that it reaches."""
    found = []
    for entry in catalog.members("compress"):
        recipe = make(entry.name)
        if not hasattr(recipe, "embedding"):
            continue
        free = hasattr(recipe, "budget") and entry.name not in ("int8", "int16", "alpt")
        tried = [replace(recipe, budget=b) for b in BUDGETS] if free else [recipe]
        for one in tried:
            try:
                layer = one.embedding(SIZE, WIDTH, counts=counts, seed=0)
            except ConfigError:
                continue
            found.append((str(one), layer))
            break
    return found


def trained(layer: nn.Module, ids: np.ndarray) -> str:
    """Say how many numbers a step moves, and what the products of a network cost in it."""
    numbers = sum(p.numel() for p in layer.parameters() if p.requires_grad)
    said = f"{numbers:,} numbers are trained, of {SIZE * WIDTH:,}"
    if any(isinstance(part, nn.Linear) for part in layer.modules()):
        weights = sum(p.numel() for p in layer.parameters() if p.ndim > 1)
        work = 6e-6 * len(np.unique(ids)) * weights  # forward, and both gradients
        said += f"; {work:.0f} MFLOP of products a step"
    return said


def step_of(layer: nn.Module, ids: Tensor, steps: int) -> Callable[[], object]:
    """Return ``steps`` steps of training."""
    optimizer = torch.optim.AdamW([p for p in layer.parameters() if p.requires_grad], lr=1e-3)
    target = torch.randn(len(ids), WIDTH, generator=torch.Generator().manual_seed(0))
    added = getattr(layer, "penalty", None)
    after = getattr(layer, "after_step", None)
    done = 0

    def run() -> object:
        nonlocal done
        layer.train()
        for _ in range(steps):
            optimizer.zero_grad()
            loss = (layer(ids) * target).mean()
            (loss + added() if added else loss).backward()
            optimizer.step()
            if after:
                after(done, 10_000)
            done += 1
        return None

    return run


def rows(quick: bool) -> list[Result]:
    torch.set_num_threads(1)
    draw = stream(0, "layers")
    ids = np.minimum(draw.zipf(1.2, BATCH) - 1, SIZE - 1)
    counts = np.maximum(1, 10**6 // np.arange(1, SIZE + 1))
    steps = 3 if quick else 20
    plain = nn.Embedding(SIZE, WIDTH)
    batch = torch.from_numpy(ids)
    table: list[Result] = []
    for text, layer in layers(counts):
        table.append(
            pair(
                f"train {text}",
                step_of(layer, batch, steps),
                step_of(plain, batch, steps),
                peer_name="torch.nn.Embedding",
                amount=steps,
                unit="steps/CPU s",
                goal=GOAL,
                note=trained(layer, ids),
            )
        )
        export = layer.export()
        weight = nn.Embedding(SIZE, WIDTH)

        def look(form: Any = export) -> object:
            return [form.rows(ids) for _ in range(steps)]

        def peer(weight: nn.Embedding = weight) -> object:
            with torch.no_grad():
                return [weight(batch).numpy() for _ in range(steps)]

        table.append(
            pair(
                f"look up {text}",
                look,
                peer,
                peer_name="torch.nn.Embedding",
                amount=steps * BATCH,
                unit="rows/CPU s",
                goal=None,
                note=f"{export.nbytes / 1e6:.3f} MB of {4 * SIZE * WIDTH / 1e6:.3f}",
            )
        )
    return table


if __name__ == "__main__":
    main("layers", rows, __doc__)
