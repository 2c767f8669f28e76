"""Draw unseen rows from N(0, std²), as a model's rows are before any training.

The idea
--------
Treat a new token as every token was treated once: with the short random vector that a fresh model
starts from. It knows nothing of the source, not even where its rows lie.

Equations
---------
For every unseen token and every column j::

    row_j = std z_j       z_j ~ N(0, 1)

Departures from the paper
-------------------------
None: std = 0.02 is what BERT, GPT-2 and Llama begin with. Tokens are given their draws in the order
of their strings, so that ids play no part, and the draws differ between a model's input and output
matrix.

Cost
----
m d draws for m unseen tokens.

When not to use it
------------------
As the output rows of a model whose logits are all far below zero: a row near zero has a logit near
zero there, and takes the probability of every old token. Where logits lie around zero it does
less harm. It is the baseline that others are measured by.

Reference
---------
Mundra, Kishore, Dabre, Puduppully, Kunchukuttan and Khapra, "An Empirical Comparison of Vocabulary
Expansion and Initialization Approaches for Language Models", CoNLL 2024, arXiv:2407.05841.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from tokenspace.recipe import Range, Recipe
from tokenspace.table import EmbeddingTable
from tokenspace.transplant._shared import begin, noise
from tokenspace.vocab import Vocabulary

__all__ = ["Random"]


@dataclass(frozen=True, kw_only=True)
class Random(Recipe):
    """Draw unseen rows from N(0, std²), as a model's rows are before any training."""

    std: Annotated[float, Range(0, 1e6), "deviation of every entry"] = 0.02
    seed: Annotated[int, Range(0, 2**63 - 1), "seed of the draws"] = 0

    tiny: ClassVar[Mapping[str, Any]] = {}

    def __call__(self, source: EmbeddingTable, target: Vocabulary, /) -> EmbeddingTable:
        """Return one row for every token of ``target``, (V, d) float32.

        ``notes`` counts the rows ``copied`` and ``drawn``.
        """
        draft = begin(source, target)
        drawn = len(draft.unseen)
        draft.rows[draft.unseen] = self.std * noise(source, drawn, self.seed, "random")
        notes = {**self.to_dict(), "copied": len(target) - drawn, "drawn": drawn}
        return EmbeddingTable(target, draft.rows, notes=notes)
