"""Draw unseen rows close around the mean, with the correlations of the source rows.

The idea
--------
All unseen tokens at the mean row are one and the same token to the model. Give each a small
deviation of its own, with the correlations that the old rows have, so that they can be told apart
and training can pull them in different directions, yet so small that nothing else changes.

Equations
---------
With the source rows v_1 ... v_n (n, d)::

    μ = (1/n) Σ v_i                        Σ = (1/n) Σ (v_i − μ)(v_i − μ)ᵀ
    L Lᵀ = Σ + 1e-6 (tr Σ / d) I           (Cholesky, lower triangle)
    row = μ + √scale L z                   z ~ N(0, I), drawn for each token

Departures from the paper
-------------------------
- The jitter keeps Σ factorisable where rows are fewer than columns or depend on one another; public
  tools fall back to another distribution there.
- Everything up to the row is float64; one rounding at the end.
- Tokens are given their draws in the order of their strings, so that ids play no part, and the
  draws differ between a model's input and output matrix.

Cost
----
n d² + d³ / 3 + m d² multiplications for m unseen tokens; d² + m d numbers of float64.

When not to use it
------------------
Where anything is known of the new tokens. With ``scale`` near 1 the rows are as wide as the old
ones: then each is a vector of no token at all, and predictions suffer as with ``univariate``.

Reference
---------
Mundra, Kishore, Dabre, Puduppully, Kunchukuttan and Khapra, "An Empirical Comparison of Vocabulary
Expansion and Initialization Approaches for Language Models", CoNLL 2024, arXiv:2407.05841. The
distribution is that of Hewitt, "Initializing New Word Embeddings for Pretrained Language Models",
2021.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from tokenspace.recipe import Range, Recipe
from tokenspace.table import EmbeddingTable
from tokenspace.transplant._linear import products
from tokenspace.transplant._shared import begin, noise
from tokenspace.vocab import Vocabulary

__all__ = ["Multivariate"]


@dataclass(frozen=True, kw_only=True)
class Multivariate(Recipe):
    """Draw unseen rows close around the mean, with the correlations of the source rows.

    ``scale`` multiplies the covariance: the rows deviate by its square root.
    """

    scale: Annotated[float, Range(0, 1e6), "the covariance as a share of the old rows'"] = 1e-5
    seed: Annotated[int, Range(0, 2**63 - 1), "seed of the draws"] = 0

    tiny: ClassVar[Mapping[str, Any]] = {}

    def __call__(self, source: EmbeddingTable, target: Vocabulary, /) -> EmbeddingTable:
        """Return one row for every token of ``target``, (V, d) float32.

        ``notes`` counts the rows ``copied`` and ``drawn``.
        """
        draft = begin(source, target)
        V = source.vectors
        mean = V.mean(axis=0, dtype=np.float64)
        covariance = products(V, mean, V, mean) / len(V)
        jitter = max(1e-6 * float(np.trace(covariance)) / V.shape[1], 1e-300)
        L = np.linalg.cholesky(covariance + jitter * np.eye(V.shape[1]))
        z = noise(source, len(draft.unseen), self.seed, "multivariate")
        draft.rows[draft.unseen] = mean + self.scale**0.5 * z @ L.T
        drawn = len(draft.unseen)
        notes = {**self.to_dict(), "copied": len(target) - drawn, "drawn": drawn}
        return EmbeddingTable(target, draft.rows, notes=notes)
