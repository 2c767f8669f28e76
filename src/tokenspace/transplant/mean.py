"""Give every unseen token the mean of the source rows.

The idea
--------
The least that can be done for a token that a table lacks: stand in the middle of all the others.
Shared tokens keep their rows. As an output row of a language model the mean cannot win against
every old token, whatever the hidden state, so the model's greedy choices stay what they were.

Equations
---------
With the source rows v_1 ... v_n (n, d)::

    row(token) = v_i           where token i of the source has the same bytes, or the same role
    row(token) = (1/n) Σ v_i   otherwise

For a hidden state h,  ⟨h, row⟩ = (1/n) Σ ⟨h, v_i⟩ ≤ max_i ⟨h, v_i⟩: the mean lies in the convex
hull of the old rows. The other tokens' probabilities shrink by no more than n / (n + new).

Departures from the paper
-------------------------
None in the row. The mean is accumulated in float64 and rounded once.

Cost
----
One pass over the source, and V d floats of output.

When not to use it
------------------
Where anything at all is known of the new tokens: all of them get the same vector, so that no two
can be told apart before training. It is the baseline of this family, and what other methods fall
back on.

Reference
---------
Mundra, Kishore, Dabre, Puduppully, Kunchukuttan and Khapra, "An Empirical Comparison of Vocabulary
Expansion and Initialization Approaches for Language Models", CoNLL 2024, arXiv:2407.05841.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tokenspace.recipe import Recipe
from tokenspace.table import EmbeddingTable
from tokenspace.transplant._shared import begin
from tokenspace.vocab import Vocabulary

__all__ = ["Mean"]


@dataclass(frozen=True, kw_only=True)
class Mean(Recipe):
    """Give every unseen token the mean of the source rows."""

    tiny: ClassVar[Mapping[str, Any]] = {}

    def __call__(self, source: EmbeddingTable, target: Vocabulary, /) -> EmbeddingTable:
        """Return one row for every token of ``target``, (V, d) float32.

        ``notes`` counts the rows ``copied`` and those set to the ``mean``.
        """
        draft = begin(source, target)
        new = len(draft.unseen)
        notes = {**self.to_dict(), "copied": len(target) - new, "mean": new}
        return EmbeddingTable(target, draft.rows, notes=notes)
