"""LEACE: a linear classifier tells held-out words less than after the removal of a direction."""

from __future__ import annotations

import numpy as np

from tokenspace.claims._bias import Setting, setting
from tokenspace.edit._linear import logistic
from tokenspace.edit._subspace import unit
from tokenspace.edit._words import usable
from tokenspace.edit.projection import Projection
from tokenspace.recipe import Recipe, apply
from tokenspace.report import Claim
from tokenspace.rng import stream
from tokenspace.word_sets import WordSets

__all__ = ["CLAIM", "measure"]

CLAIM = Claim(
    says="Of words that lean to one side, a linear classifier tells the sides of new ones far less",
    paper="arXiv:2306.03819",
    metric="accuracy",
    better="lower",
    baseline="the removal of the direction that the words lean along",
    margin=0.1,
    scale="paper: BERT's hidden states of biographies, 768 dimensions; here: skip-gram of 4.4 "
    "million words of novels, 100 dimensions. The 1,000 words that lean most to either side of the "
    "direction of she and he; a half of them is given as classes, and a logistic regression is "
    "trained on that half. accuracy: on the other half (chance: 0.5). Rows carry that of the known "
    "half, and Spearman on MEN, WordSim-353 and SimLex-999 (without these files: a made table)",
    budget_s=600.0,
)


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return the ``accuracy`` on held-out words, and that on the words that were given."""
    given = setting(seed, smoke=smoke)
    ids, sides = _leaning(given, 20 if smoke else 1_000)
    order = stream(seed, "half").permutation(len(ids))
    known, asked = order[::2], order[1::2]
    if method is None:
        bag = {"source": given.table, "definitional": given.lists["definitional"]}
        table = apply(Projection(), bag)
    else:
        tokens = given.table.vocab.tokens
        classes = [[tokens[ids[i]] for i in known if sides[i] == side] for side in (0, 1)]
        table = apply(method, {"source": given.table, "classes": WordSets(classes)})
    rows = unit(table.vectors[ids])
    probe = logistic(rows[known], sides[known], C=10.0)
    right = (probe(rows) > 0) == (sides > 0)
    return {
        "accuracy": float(right[asked].mean()),
        "accuracy_known": float(right[known].mean()),
        **given.likeness(table),
    }


def _leaning(given: Setting, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids of the words that lean most to either side, and their sides, 0 and 1."""
    words = np.flatnonzero(usable(given.table))
    lean = unit(given.table.vectors[words]) @ given.basis()[0]
    order = words[np.argsort(lean, kind="stable")]
    ids = np.concatenate([order[: count // 2], order[-(count // 2) :]])
    return ids, np.repeat([0, 1], count // 2)
