"""What is left of a bias after its direction was removed, and how much that says.

The words that lay furthest to either side of a direction are told apart again in the edited
table: by two clusters, by a linear classifier on words that it did not see, and by their
neighbours (Gonen, Goldberg: Lipstick on a Pig, NAACL 2019, https://arxiv.org/abs/1903.03862). The
extreme words of *any* direction are alike in other ways too, and can be told apart without it. So
the same is measured for random directions, each removed by projection: only what exceeds that
control says anything about the bias.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tokenspace.errors import InputError
from tokenspace.metrics import pearson
from tokenspace.rng import stream

from ._linear import held_out, machine
from ._subspace import remove, unit

__all__ = ["Left", "Residual", "left", "residual", "two_clusters"]

MOST = 500  # words of either side
NEIGHBOURS = 100
FOLDS = 5
STARTS = 10  # of k-means

Values = npt.NDArray[np.float64]
Rows = npt.NDArray[np.floating]


class Left(NamedTuple):
    """How well the extreme words of a direction are still told apart.

    ``clusters``: the share of them that two clusters put with their own side (1/2 is chance);
    ``classifier``: the share that a linear support vector machine sees rightly, trained on the
    other four fifths (1/2 is chance); ``neighbours``: the correlation, over the words, of where a
    word lay with how many of its 100 nearest neighbours lay on the upper side (0 is chance).
    """

    clusters: float
    classifier: float
    neighbours: float


class Residual(NamedTuple):
    """What is left of a direction, and of each random one (``control``)."""

    words: int
    found: Left
    control: tuple[Left, ...]


def residual(
    before: Rows, after: Rows, direction: Values, *, controls: int = 8, seed: int = 0
) -> Residual:
    """Measure what is left of a direction in an edited table, and what of random ones.

    Parameters
    ----------
    before, after
        The rows of the words that were to lose the direction, (N, D), before and after the edit.
    direction
        (D,), in the space of ``before``.
    controls
        Random directions that are removed from ``before`` by projection and measured alike.

    Raises
    ------
    InputError
        For fewer than 40 words.
    """
    if len(before) < 40:
        raise InputError(f"{len(before)} words are too few", hint="40 or more are needed")
    start, end = unit(before), unit(after)
    draw = stream(seed, "residual: random directions")
    found = left(start @ direction, end, seed=seed)
    control = []
    for axis in unit(draw.standard_normal((controls, start.shape[1]))):
        control.append(left(start @ axis, unit(remove(start, axis[None])), seed=seed))
    return Residual(2 * _side(len(before)), found, tuple(control))


def left(bias: Values, rows: Values, *, seed: int = 0) -> Left:
    """Measure what the unit rows (N, D) still show of a bias (N,) that they had.

    The measures are about the words with the highest and the lowest bias, 500 each, at most a
    quarter of all.
    """
    side = _side(len(bias))
    order = np.argsort(bias, kind="stable")
    chosen = np.concatenate([order[:side], order[-side:]])
    labels = np.repeat([0.0, 1.0], side)
    apart = two_clusters(rows[chosen], seed)
    agreed = float((apart == labels).mean())
    said = held_out(machine, rows[chosen], labels, folds=FOLDS, seed=seed)
    upper = (bias > np.median(bias)).astype(np.float64)
    k = min(NEIGHBOURS, len(rows) - 1)
    likeness = rows[chosen] @ rows.T
    likeness[np.arange(2 * side), chosen] = -np.inf
    near = np.argpartition(-likeness, k - 1, axis=1)[:, :k]
    return Left(
        clusters=max(agreed, 1 - agreed),
        classifier=float((said == labels).mean()),
        neighbours=pearson(bias[chosen], upper[near].mean(axis=1)),
    )


def _side(words: int) -> int:
    return min(MOST, words // 4)


def two_clusters(rows: Values, seed: int) -> npt.NDArray[np.bool_]:
    """Split rows by 2-means, the best of ten starts: which of them are in the second cluster."""
    draw = stream(seed, "residual: clusters")
    best, least = np.zeros(len(rows), np.bool_), np.inf
    for _ in range(STARTS):
        first = rows[draw.integers(len(rows))]
        away = ((rows - first) ** 2).sum(axis=1)
        centres = np.stack([first, rows[draw.choice(len(rows), p=away / away.sum())]])
        second = np.zeros(len(rows), np.bool_)
        for turn in range(100):
            distances = ((rows[:, None] - centres) ** 2).sum(axis=2)
            now = distances[:, 1] < distances[:, 0]
            if turn and (now == second).all():
                break
            second = now
            if now.all() or not now.any():
                break
            centres = np.stack([rows[~now].mean(axis=0), rows[now].mean(axis=0)])
        cost = float(distances.min(axis=1).sum())
        if cost < least:
            best, least = second, cost
    return best
