"""Draw unseen rows with the old rows' mean and deviation in each column.

The idea
--------
Make new rows that look like old ones, one column at a time: as long, as wide, and around the same
middle. Each token is then plainly different from every other. What is lost is how the columns go
together, and with it the convex hull: a row as far from the mean as an old one, in a direction that
no token has, wins greedy choices from the old tokens.

Equations
---------
With the source rows v_1 ... v_n (n, d), for every column j::

    μ_j = (1/n) Σ_i v_ij        σ_j² = (1/n) Σ_i (v_ij − μ_j)²
    row_j = μ_j + σ_j z_j       z_j ~ N(0, 1), drawn for each token

Departures from the paper
-------------------------
None in the distribution. Moments are taken in float64. Tokens are given their draws in the order of
their strings, so that ids play no part, and the draws differ between a model's input and output
matrix.

Cost
----
Two passes over the source, and m d draws for m unseen tokens.

When not to use it
------------------
Before a model is used without further training: ``mean`` and ``multivariate`` disturb it far less,
at the same cost. Its place is that of a baseline, and of rows that must be as long as the old ones.

Reference
---------
Mundra, Kishore, Dabre, Puduppully, Kunchukuttan and Khapra, "An Empirical Comparison of Vocabulary
Expansion and Initialization Approaches for Language Models", CoNLL 2024, arXiv:2407.05841.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from tokenspace.recipe import Range, Recipe
from tokenspace.table import EmbeddingTable
from tokenspace.transplant._shared import begin, noise
from tokenspace.vocab import Vocabulary

__all__ = ["Univariate"]


@dataclass(frozen=True, kw_only=True)
class Univariate(Recipe):
    """Draw unseen rows with the old rows' mean and deviation in each column."""

    seed: Annotated[int, Range(0, 2**63 - 1), "seed of the draws"] = 0

    tiny: ClassVar[Mapping[str, Any]] = {}

    def __call__(self, source: EmbeddingTable, target: Vocabulary, /) -> EmbeddingTable:
        """Return one row for every token of ``target``, (V, d) float32.

        ``notes`` counts the rows ``copied`` and ``drawn``.
        """
        draft = begin(source, target)
        mean = source.vectors.mean(axis=0, dtype=np.float64)
        deviation = source.vectors.std(axis=0, dtype=np.float64)
        z = noise(source, len(draft.unseen), self.seed, "univariate")
        draft.rows[draft.unseen] = mean + deviation * z
        drawn = len(draft.unseen)
        notes = {**self.to_dict(), "copied": len(target) - drawn, "drawn": drawn}
        return EmbeddingTable(target, draft.rows, notes=notes)
