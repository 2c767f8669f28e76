"""Triplets: what belongs to a text, and what does not; and how many an encoder has in order."""

from __future__ import annotations

from typing import Literal

import numpy as np

from tokenspace.errors import ConfigError, InputError
from tokenspace.examples import Examples
from tokenspace.metrics import cosine
from tokenspace.rng import stream
from tokenspace.text_encoder import TextEncoder

__all__ = ["Form", "triplet_figures", "triplets_of"]

Form = Literal["cosine", "euclidean", "soft"]
"""The distance of two vectors; ``soft`` is cosine, with ln(1 + e^x) for max(0, x) in the loss."""


def triplets_of(examples: Examples, *, seed: int = 0) -> Examples:
    """Return one row for each negative; pairs get one that is the positive of another row.

    Raises :class:`ConfigError` for other examples, and :class:`InputError` where the anchor of a
    row is its positive or a negative as well, and where no row has a negative.
    """
    if examples.kind not in ("triplets", "pairs"):
        raise ConfigError(
            f"{examples.kind} examples are no triplets",
            hint="give columns anchor, positive and negative",
        )
    anchors, positives = examples.columns["anchor"], examples.columns["positive"]
    negatives = examples.negative_columns or (_others(anchors, positives, seed),)
    rows = [
        (row, anchors[row], positives[row], column[row])
        for row in range(len(examples))
        for column in negatives
        if column[row].strip()
    ]
    if not rows:
        raise InputError("no row has a negative", hint="give a negative, or pairs without one")
    for row, a, p, n in rows:
        if a.strip() in (p.strip(), n.strip()):
            which = "positive" if a.strip() == p.strip() else "negative"
            raise InputError(
                f"row {row}: the anchor is also the {which} ({a[:40]!r})",
                hint="leave that row out: of equal texts nothing is learned",
            )
    _, *columns = zip(*rows, strict=True)
    return Examples(dict(zip(("anchor", "positive", "negative"), columns, strict=True)))


def _others(anchors: tuple[str, ...], positives: tuple[str, ...], seed: int) -> tuple[str, ...]:
    """Return for each row a positive that does not stand beside its anchor in any row."""
    own: dict[str, set[str]] = {}
    for a, p in zip(anchors, positives, strict=True):
        own.setdefault(a, {a.strip()}).add(p)
    every = list(dict.fromkeys(positives))
    starts = stream(seed, "negatives").integers(len(every), size=len(anchors))
    found = []
    for row, (a, start) in enumerate(zip(anchors, starts.tolist(), strict=True)):
        turned = (every[(start + step) % len(every)] for step in range(len(every)))
        negative = next((text for text in turned if text not in own[a]), None)
        if negative is None:
            raise InputError(
                f"row {row}: no other row has a positive that is not this anchor's, too",
                hint="give negatives, or pairs of several subjects",
            )
        found.append(negative)
    return tuple(found)


def triplet_figures(
    encoder: TextEncoder, triplets: Examples, *, alpha: float = 0.2, form: Form = "cosine"
) -> dict[str, float]:
    """Return what share of triplets has d(a, p) < d(a, n), and two figures of the gap between them.

    ``accuracy`` is that share, ``margin`` the mean of d(a, n) - d(a, p), and ``at_alpha`` the share
    where that is ``alpha`` or more.
    """
    place = {text: row for row, text in enumerate(triplets.texts)}
    vectors = encoder.encode(triplets.texts).astype(np.float64)
    a, p, n = (
        vectors[[place[text] for text in triplets.columns[name]]]
        for name in ("anchor", "positive", "negative")
    )
    if form == "euclidean":
        gap = np.linalg.norm(a - n, axis=1) - np.linalg.norm(a - p, axis=1)
    else:
        gap = cosine(a, p) - cosine(a, n)
    return {
        "accuracy": float(np.mean(gap > 0)),
        "margin": float(np.mean(gap)),
        "at_alpha": float(np.mean(gap >= alpha)),
    }
