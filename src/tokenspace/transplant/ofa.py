"""Give a new token the rows of those nearest to it in one space of words of all languages.

The idea
--------
There are tables of word vectors in which the words of many languages lie together, translations
close to each other. In such a table every token, of the old vocabulary and the new, has a place:
the mean of the words that it is part of. A new token's row is the mean of the rows of the old
tokens nearest to it there. What the old rows have to say may be pressed into fewer dimensions
first, since a matrix of embeddings is far from using all of its own: then the new rows are
combinations of a few *primitives*, and what is noise in the old rows is left behind.

Equations
---------
A token's place u (D,), over the words w whose tokens, of "w" or of " w", include it::

    u = Σ_w f_w v_w / Σ_w f_w                      f_w: how often the word occurs

(with character n-grams in the table: the vector of the token's text). The row of a new token t::

    N   = the k tokens i of the source of greatest cos(u_i, u_t)
    p_i = exp(cos_i / τ) / Σ_{j in N} exp(cos_j / τ)
    row = Σ_{i in N} p_i E_i

With a rank r, E (n, d) is replaced by its best approximation of that rank, coordinates F (n, r)
times primitives P (r, d)::

    E = U Σ Vᵀ;    F = U Σ [:, :r];    P = Vᵀ [:r]
    row = (Σ_{i in N} p_i F_i) P

which is the projection of the row above on the leading right singular vectors.

Departures from the paper
-------------------------
- The model stays as it was: the product F P is written as a normal matrix, and shared tokens keep
  their rows exactly, whatever the rank. The paper's model stores F and P, with fewer parameters.
- The scale Σ is with the coordinates; the product is the same.
- Tokens that differ from an old one in case only are rebuilt like others; ``case`` copies that
  token's row, as the reference does, at the price that "US" is "us".
- A token without a place keeps the mean row and is counted; the reference draws it at random.

Cost
----
As ``wechsel``, without the rotation; with a rank, n d² multiplications and the eigenvectors of a
(d, d) matrix instead of a decomposition of E.

When not to use it
------------------
Where no such table exists for the two languages (``wechsel`` aligns two of them with a
dictionary). With a rank far below d, unless the source's singular values fall that early: the
paper's small ranks pay when training is continued, not before.

Reference
---------
Liu, Lin, Wang, Schütze: OFA: A Framework of Initializing Unseen Subword Embeddings for Efficient
Large-scale Multilingual Continued Pretraining, NAACL 2024 (Findings), arXiv:2311.08849.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from tokenspace.arrays import Floats2d
from tokenspace.errors import InputError
from tokenspace.recipe import Range, Recipe
from tokenspace.table import EmbeddingTable
from tokenspace.transplant._neighbours import mixtures
from tokenspace.transplant._shared import begin
from tokenspace.transplant._word_vectors import token_vectors
from tokenspace.vocab import Vocabulary

__all__ = ["OFA", "primitives"]


@dataclass(frozen=True, kw_only=True)
class OFA(Recipe):
    """Give a new token the rows of those nearest to it in one space of words of all languages."""

    k: Annotated[int, Range(1, 4096), "old tokens that a new row is made of"] = 10
    temperature: Annotated[float, Range(1e-3, 1e3), "τ of the softmax of their cosines"] = 0.1
    rank: Annotated[int, Range(0, 65536), "r of the new rows, at most their width (0: full)"] = 0
    case: Annotated[bool, "copy the row of a token that differs in case only"] = False

    tiny: ClassVar[Mapping[str, Any]] = {"k": 3}

    def __call__(
        self, source: EmbeddingTable, target: Vocabulary, /, *, vectors: EmbeddingTable
    ) -> EmbeddingTable:
        """Return one row for every token of ``target``, (V, d) float32.

        Parameters
        ----------
        source
            The table to extend; the tokens that it shares with ``target`` keep their rows.
        target
            The vocabulary to give rows to.
        vectors
            Vectors of words of both vocabularies' languages in one space.

        Returns
        -------
        EmbeddingTable
            ``notes`` counts the rows ``copied``, ``rebuilt`` or set to the ``mean``, and holds for
            each rebuilt token the ids of its ``neighbours`` in the source, nearest first, and
            their ``weights``; ``kept`` is the share of the source's squares that the rank keeps.

        Raises
        ------
        InputError
            Where the rank exceeds the width of the rows, or no token of the source has a place.
        """
        if self.rank > source.shape[1]:
            raise InputError(
                f"ofa: rank={self.rank} exceeds the {source.shape[1]} columns of the source",
                hint="give a smaller rank, or 0 for all",
            )
        draft = begin(source, target)
        rows, unseen = draft.rows, draft.unseen
        if self.case and len(unseen):
            partner = target.match(source.vocab, ("case",)).ids[unseen]
            rows[unseen[partner >= 0]] = source.rows(partner[partner >= 0])
            unseen = unseen[partner < 0]
        if not len(unseen):
            notes = {**self.to_dict(), "copied": len(rows), "rebuilt": 0, "mean": 0}
            return EmbeddingTable(target, rows, notes=notes)
        u_source = token_vectors(source.vocab, vectors)
        u_target = token_vectors(target, vectors)[unseen]
        known = u_target.any(axis=1)
        if not u_source.any():
            raise InputError(
                "ofa: no token of the source is part of a word of the vectors",
                hint="give word vectors of both languages in one space",
            )
        made, neighbours, p = mixtures(
            u_target[known], u_source, source.vectors, self.k, self.temperature
        )
        kept = 1.0
        if self.rank:
            P, kept = primitives(source.vectors, self.rank)
            made = np.asarray((made @ P.T) @ P, np.float32)
        rows[unseen[known]] = made
        notes = {
            **self.to_dict(),
            "copied": len(rows) - len(unseen),
            "rebuilt": len(made),
            "mean": len(unseen) - len(made),
            "kept": kept,
            "tokens": unseen[known].tolist(),
            "neighbours": neighbours.tolist(),
            "weights": np.round(p.astype(np.float64), 4).tolist(),
        }
        return EmbeddingTable(target, rows, notes=notes)


def primitives(rows: Floats2d, rank: int) -> tuple[Floats2d, float]:
    """Return the leading right singular vectors of ``rows``, (rank, d), and the share kept.

    The share is that of the squared singular values. They come from Eᵀ E, in float64.
    """
    d = rows.shape[1]
    C = np.zeros((d, d))
    for start in range(0, len(rows), 8192):
        block = rows[start : start + 8192].astype(np.float64)
        C += block.T @ block
    values, vectors = np.linalg.eigh(C)
    values = np.maximum(values, 0)
    share = float(values[d - rank :].sum() / max(float(values.sum()), 1e-300))
    return np.ascontiguousarray(vectors[:, ::-1][:, :rank].T, np.float32), share
