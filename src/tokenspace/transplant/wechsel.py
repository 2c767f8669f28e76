"""Give a new token the rows of those that mean the same, through aligned word vectors.

The idea
--------
A model of one language is to speak another. Word vectors of both languages are turned onto each
other by the pairs of a bilingual dictionary; every token, of the old vocabulary and the new, then
gets a place in that common space from the words that it is part of. A new token's row is the mean
of the rows of the old tokens nearest to it there: " Katze" begins as " cat", " dog" and " pet" do,
so that the model's inner layers find what they know.

Equations
---------
A dictionary pair (x, y) counts once for each way to write either word as it is, in small letters
and in title case, for which both are words of their tables. With the vectors of all these stacked
as X and Y (p, D)::

    U S Vᵀ = svd(Xᵀ Y)
    W = U Vᵀ                                       the rotation that brings X W nearest to Y

A token's place u (D,), from a table with character n-grams::

    u = its row, where the token's text is a word; the mean of its n-grams' rows otherwise

and from one without, over the words w whose tokens, of "w" or of " w", include it::

    u = Σ_w f_w v_w / Σ_w f_w                      f_w: how often the word occurs

With the places of the source's tokens turned by W, the row of a new token t is::

    N   = the k tokens i of greatest cos(u_i W, u_t)
    p_i = exp(cos_i / τ) / Σ_{j in N} exp(cos_j / τ)
    row = Σ_{i in N} p_i E_i

Word vectors of different widths: those of the wider table are brought to the other's by principal
components, u P, where the columns of P are the leading eigenvectors of the covariance of its rows.

Departures from the paper
-------------------------
- Tokens of equal bytes, and special tokens of equal role, keep their rows; the paper makes digits
  and punctuation anew as well. ``reestimate_shared`` does so too, for all but special tokens.
- A token without a place keeps the mean row and is counted. The reference draws it from a normal
  distribution, which says as little and is noise.
- The wider vectors are reduced; the reference reduces the source's, whichever is wider.
- Without n-grams every word of the table takes part, once for both of its tokenisations.

Cost
----
Tokenising every word twice, D² p multiplications for the rotation, and m n D for the cosines of m
new with n old tokens, in blocks: 32 MB whatever the vocabularies' sizes. A model with n-grams is
mapped from its file, not read.

When not to use it
------------------
Where both vocabularies are of one language: ``ofa`` needs one table and no dictionary, ``focus``
none at all. Where a dictionary covers fewer words than the vectors have dimensions: the rotation
is not determined by it, and ``transtok`` learns from parallel text instead.

Reference
---------
Minixhofer, Paischer, Rekabsaz: WECHSEL: Effective initialization of subword embeddings for
cross-lingual transfer of monolingual language models, NAACL 2022, arXiv:2112.06598.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats2d, Ids
from tokenspace.errors import InputError
from tokenspace.pairs import Pairs
from tokenspace.recipe import Range, Recipe
from tokenspace.table import EmbeddingTable
from tokenspace.transplant._neighbours import mixtures
from tokenspace.transplant._shared import begin
from tokenspace.transplant._word_vectors import lexicon, token_vectors
from tokenspace.vocab import Vocabulary

__all__ = ["WECHSEL", "principal", "rotation", "usable"]

log = logging.getLogger(__name__)

LEAST = 50  # pairs


@dataclass(frozen=True, kw_only=True)
class WECHSEL(Recipe):
    """Give a new token the rows of those that mean the same, through aligned word vectors."""

    k: Annotated[int, Range(1, 4096), "old tokens that a new row is made of"] = 10
    temperature: Annotated[float, Range(1e-3, 1e3), "τ of the softmax of their cosines"] = 0.1
    reestimate_shared: Annotated[bool, "make the rows of shared tokens anew, as the paper"] = False

    tiny: ClassVar[Mapping[str, Any]] = {"k": 3}

    def __call__(
        self,
        source: EmbeddingTable,
        target: Vocabulary,
        /,
        *,
        source_vectors: EmbeddingTable,
        target_vectors: EmbeddingTable,
        dictionary: Pairs,
    ) -> EmbeddingTable:
        """Return one row for every token of ``target``, (V, d) float32.

        Parameters
        ----------
        source
            The table to extend; the tokens that it shares with ``target`` keep their rows.
        target
            The vocabulary to give rows to.
        source_vectors, target_vectors
            Word vectors of the source's and of the target's language, of any widths. Those of a
            fastText ``.bin`` file bring their n-grams along.
        dictionary
            Pairs of words, (source's language, target's language).

        Returns
        -------
        EmbeddingTable
            ``notes`` counts the ``pairs`` used and the rows ``copied``, ``rebuilt`` or set to the
            ``mean``, and holds for each rebuilt token the ids of its ``neighbours`` in the source,
            nearest first, and their ``weights``.

        Raises
        ------
        InputError
            Where fewer than 50 pairs of the dictionary have both words in the tables.
        """
        draft = begin(source, target)
        ids = self._to_make(target, draft.unseen)
        if not len(ids):
            notes = {**self.to_dict(), "copied": len(target), "rebuilt": 0, "mean": 0}
            return EmbeddingTable(target, draft.rows, notes=notes)
        sides, pairs = usable(dictionary, source_vectors, target_vectors)
        if pairs < LEAST:
            raise InputError(
                f"wechsel: {pairs} of {len(dictionary)} pairs have both words in the tables of"
                f" vectors, it needs {LEAST}",
                hint="give a larger dictionary, or vectors of more words; is it the right way"
                " round (source, target)?",
            )
        width = min(source_vectors.shape[1], target_vectors.shape[1])
        if pairs <= width / 3:
            log.warning("wechsel: %d pairs do not determine a rotation of %d axes", pairs, width)
        P, Q = (principal(table.vectors, width) for table in (source_vectors, target_vectors))
        W = rotation(source_vectors.vectors, target_vectors.vectors, sides, P, Q)

        u_source = token_vectors(source.vocab, source_vectors) @ (P @ W).astype(np.float32)
        u_target = token_vectors(target, target_vectors)[ids] @ Q.astype(np.float32)
        known = u_target.any(axis=1)
        if not u_source.any():
            raise InputError(
                "wechsel: no token of the source is part of a word of its vectors",
                hint="give word vectors of the source's language",
            )
        rows, made = draft.rows, ids[known]
        rows[made], neighbours, p = mixtures(
            u_target[known], u_source, source.vectors, self.k, self.temperature
        )
        left = np.setdiff1d(draft.unseen, made)
        notes = {
            **self.to_dict(),
            "pairs": pairs,
            "copied": len(rows) - len(made) - len(left),
            "rebuilt": len(made),
            "mean": len(left),
            "tokens": made.tolist(),
            "neighbours": neighbours.tolist(),
            "weights": np.round(p.astype(np.float64), 4).tolist(),
        }
        return EmbeddingTable(target, rows, notes=notes)

    def _to_make(self, target: Vocabulary, unseen: Ids) -> Ids:
        """Return the ids of the rows to make, by their strings."""
        if not self.reestimate_shared:
            return unseen
        left_out = target.holes | target.specials.keys()
        ids = [i for i in range(len(target)) if i not in left_out]
        return np.array(sorted(ids, key=target.tokens.__getitem__), np.int64)


def usable(
    dictionary: Pairs, source_vectors: EmbeddingTable, target_vectors: EmbeddingTable
) -> tuple[tuple[Ids, Ids], int]:
    """Return the rows of all spellings of all pairs on both sides, and how many pairs had one."""
    left, right = lexicon(source_vectors), lexicon(target_vectors)
    rows: tuple[list[int], list[int]] = ([], [])
    pairs = 0
    for pair in dictionary:
        x, y = (
            [table[form] for form in (word, word.lower(), word.title()) if form in table]
            for word, table in zip(pair, (left, right), strict=True)
        )
        rows[0].extend(i for i in x for _ in y)
        rows[1].extend(j for _ in x for j in y)
        pairs += bool(x and y)
    return (np.array(rows[0], np.int64), np.array(rows[1], np.int64)), pairs


def principal(vectors: Floats2d, width: int) -> npt.NDArray[np.float64]:
    """Return the ``width`` leading eigenvectors of the rows' covariance as columns, (D, width).

    Rows of that width already are left as they are: the identity.
    """
    n, D = vectors.shape
    if width == D:
        return np.eye(D)
    C = np.zeros((D, D))
    for start in range(0, n, 8192):
        block = vectors[start : start + 8192].astype(np.float64)
        C += block.T @ block
    mean = vectors.mean(axis=0, dtype=np.float64)
    C -= n * np.outer(mean, mean)
    return np.asarray(np.linalg.eigh(C)[1][:, ::-1][:, :width])


def rotation(
    source: Floats2d,
    target: Floats2d,
    sides: tuple[Ids, Ids],
    P: npt.NDArray[np.float64],
    Q: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Return the orthogonal W that minimises ‖X P W − Y Q‖, (width, width) float64.

    X and Y are the rows ``sides`` of both tables (Schönemann 1966; not centred).
    """
    M = np.zeros((source.shape[1], target.shape[1]))
    for start in range(0, len(sides[0]), 8192):
        X, Y = (
            table[ids[start : start + 8192]].astype(np.float64)
            for table, ids in zip((source, target), sides, strict=True)
        )
        M += X.T @ Y
    U, _, Vt = np.linalg.svd(P.T @ M @ Q)
    return np.asarray(U @ Vt)
