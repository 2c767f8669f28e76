"""WordNet's definitions as pairs to learn from, and rated pairs of sentences to judge by."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from tokenspace import data
from tokenspace.examples import Examples
from tokenspace.metrics import cosine, spearman
from tokenspace.rng import stream
from tokenspace.text_encoder import TextEncoder

__all__ = ["SETS", "at_hand", "glosses", "points", "rated", "rated_halves"]

SETS = ("SICK_trial", "stsb_dev")
PAIRS = 20_000


def at_hand() -> bool:
    """Tell whether the dictionary and the rated pairs are on this machine."""
    return all(data.available(name) for name in ("oewn_definitions_dev", *SETS))


@lru_cache(maxsize=1)
def glosses() -> Examples:
    """Return 20,000 definitions, each with its synonyms as the positive."""
    rows = data.records("oewn_definitions_dev")
    order = stream(0, "definitions").permutation(len(rows))[:PAIRS]
    chosen = [rows[i] for i in order]
    return Examples(
        {
            "anchor": [row["definition"] for row in chosen],
            "positive": [row["members"].replace(" | ", ", ") for row in chosen],
        }
    )


@lru_cache(maxsize=4)
def rated(name: str) -> Examples:
    """Return a set of pairs of sentences with people's scores."""
    rows = data.sts(name)
    columns = {"anchor": [a for a, _, _ in rows], "positive": [b for _, b, _ in rows]}
    return Examples(columns, scores=[score for _, _, score in rows])


def rated_halves(examples: Examples) -> Examples:
    """Return 40 pairs with the score 1, and their anchors with other positives with 0."""
    anchors, positives = examples.columns["anchor"][:40], examples.columns["positive"][:40]
    other = (*positives[1:], positives[0])
    columns = {"anchor": [*anchors, *anchors], "positive": [*positives, *other]}
    return Examples(columns, scores=[1.0] * 40 + [0.0] * 40)


def points(encoder: TextEncoder, sets: tuple[Examples, ...]) -> float:
    """Return Spearman's correlation of cosines with the scores, times 100, the mean over sets."""
    found = []
    for pairs in sets:
        left, right = (encoder.encode(pairs.columns[side]) for side in ("anchor", "positive"))
        found.append(100 * spearman(cosine(left, right), pairs.scores or ()))
    return float(np.mean(found))
