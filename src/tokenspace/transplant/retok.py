"""Give every unseen token the mean of the rows of its pieces in the source's tokens.

The idea
--------
The source could already read a new token's text: as several tokens of its own. Their mean is a
vector for all of them together. It needs neither text nor another model, and keeps the most of a
token that is put together from pieces of clear meaning.

Equations
---------
With the source tokens t_1 ... t_k that spell a new token, and their rows v (n, d)::

    row = (1/k) Σ_p v_{t_p}

The same for the input and the output matrix. A mean is a convex combination: as an output row it
never wins a greedy choice from the old tokens.

Departures from the paper
-------------------------
- The paper copies a token where the two tokenizers agree on its string; here tokens of equal bytes
  are copied, and special tokens of equal role.
- The source's model splits the bytes of the token as they are, leading space included; its
  pre-tokenizer and normalizer do not take part, unless the model does not know the text otherwise.
- White space that the source's tokenizer drops, as BERT's does, gets the mean of its punctuation's
  rows. With T5's tokenizer, where a bare space is a token in every other sentence, MiniLM so keeps
  94 % of its score on STS 2015 (``compare transplant --on minilm-t5``); with the mean row, 88 %.
- A token that cannot be written in the source's tokens (an unknown character, a special token
  without a counterpart) gets the mean row, and is counted.
- The paper goes on to train the two matrices and then the whole model; this is where it starts.

Cost
----
One call of the source's tokenizer for each unseen token, and k d additions.

When not to use it
------------------
Where the pieces of a new token are letters or bytes, whose mean says next to nothing (a language
that the source's tokenizer was not made for); where a donor model over the target's tokens exists.

Reference
---------
Gu, Zhao, Zhang, Wang, Li and Liu, "ReTok: Replacing Tokenizer to Enhance Representation Efficiency
in Large Language Model", 2024, arXiv:2410.04335.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tokenspace.errors import InputError
from tokenspace.recipe import Recipe
from tokenspace.table import EmbeddingTable
from tokenspace.transplant._shared import begin, combine, pieces
from tokenspace.vocab import Vocabulary

__all__ = ["ReTok"]


@dataclass(frozen=True, kw_only=True)
class ReTok(Recipe):
    """Give every unseen token the mean of the rows of its pieces in the source's tokens."""

    tiny: ClassVar[Mapping[str, Any]] = {}

    def __call__(self, source: EmbeddingTable, target: Vocabulary, /) -> EmbeddingTable:
        """Return one row for every token of ``target``, (V, d) float32.

        ``notes`` counts the rows ``copied``, ``rebuilt`` and set to the ``mean``; ``tokens`` are
        the ids of the rebuilt ones, and ``support`` the number of pieces of each.

        Raises :class:`InputError` where the source has no tokenizer that could split a token.
        """
        draft = begin(source, target)
        if len(draft.unseen) and source.vocab.tokenizer is None:
            raise InputError(
                "retok: the source has no tokenizer to write new tokens in",
                hint="give the source as a model directory, or use the method mean",
            )
        split = pieces(target, draft.unseen, source.vocab)
        written = np.flatnonzero(split.lengths)
        rebuilt = draft.unseen[written]
        supports, shares = split.padded()
        draft.rows[rebuilt] = combine(supports[written], shares[written], source.vectors)
        notes = {
            **self.to_dict(),
            "copied": len(target) - len(draft.unseen),
            "rebuilt": len(rebuilt),
            "mean": len(draft.unseen) - len(rebuilt),
            "tokens": rebuilt.tolist(),
            "support": split.lengths[written].tolist(),
        }
        return EmbeddingTable(target, draft.rows, notes=notes)
