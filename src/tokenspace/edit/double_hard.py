"""Take off first the common direction that hides a bias, then debias hard.

The idea
--------
How frequent a word is shows in a few directions that all words share, and these twist the
direction in which she and he differ: what is taken out is not the whole of the bias. So each of
the first principal directions is taken off on trial. After it and the bias are gone, the words that
leaned most to either side should no longer fall into two clusters by their side; the direction
after which they do so least is taken off for good, and `hard_debias` does the rest.

Equations
---------
mu: the mean of all words, u_1 ... u_m: their first principal directions, g: the direction in which
the definitional sets differ, F and M: the ``words`` that lean most to either side::

    w_i   =  (w - mu) - u_i u_i^T (w - mu),    then without g, at length 1
    a_i   =  share of F and M that 2-means puts with their own side
    i*    =  argmin a_i,    w <- w_i*,    then hard debiasing of all words

Departures from the paper
-------------------------
What leans is told by g, not by the nearness to she and he alone. The direction g is found again
after each trial, so that what hard debiasing takes out is what the pairs differ in then. The code
takes u_i^T w off, without the mean in it; the paper's formula is the one here. The clusters are
those of vectors at length 1, the best of ten starts. Words that only their n-grams tell (a fastText
model's) are neutral.

Cost
----
That of `abtt` and of `hard_debias`, and O(m n D) for the trials, n = 2 ``words``.

When not to use it
------------------
The words that lean most along *any* direction cluster, so what the clusters show need not be the
bias: see the control in the bias report. `leace` takes from a linear classifier what tells classes
that are given as words.

Reference
---------
T. Wang, X. V. Lin, N. F. Rajani, B. McCann, V. Ordonez, C. Xiong: Double-Hard Debias: Tailoring
Word Embeddings for Gender Bias Mitigation. ACL 2020, arXiv:2005.00965, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Ids
from tokenspace.errors import InputError
from tokenspace.progress import track
from tokenspace.recipe import Range, Recipe
from tokenspace.table import EmbeddingTable
from tokenspace.word_sets import WordSets

from ._hard import hard
from ._spectrum import covariance, mapped, mean_of
from ._subspace import remove, subspace, unit
from ._words import Affine, Lists, bias_of, edited, rows_of, usable
from .residual import two_clusters

__all__ = ["DoubleHard"]

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class DoubleHard(Recipe):
    """Take off first the common direction that hides a bias, then debias hard."""

    candidates: Annotated[int, Range(1, 4096), "principal directions that are tried, at most"] = 20
    words: Annotated[int, Range(2, 1_000_000), "words of either side that are clustered"] = 500
    equal: Annotated[bool, "equalise sets, after the other words are neutralised"] = True
    unit: Annotated[bool, "leave rows at length 1, instead of the length they have"] = False
    seed: Annotated[int, Range(0, 2**32 - 1), "of the starts of the clusters"] = 0

    tiny: ClassVar[Mapping[str, Any]] = {"candidates": 3, "words": 12}

    def __call__(
        self,
        source: EmbeddingTable,
        /,
        *,
        definitional: WordSets | None = None,
        equalize: WordSets | None = None,
        specific: WordSets | None = None,
    ) -> EmbeddingTable:
        """Return the table, (V, D), less its mean, a common direction and the bias.

        The lists are those of `hard_debias`. ``metrics`` in the notes are DirectBias of the neutral
        words before and after, each along the direction of its own pairs; which principal direction
        was taken off (``component``, from 1); and what the clusters showed without one and with it.

        Raises :class:`InputError` where fewer than two definitional sets have two words or more in
        the table, and for a table of fewer than three dimensions or of fewer than four words
        beside those of the lists.
        """
        if source.shape[1] < 3:
            raise InputError(
                f"double_hard: {source.shape[1]} dimensions, and two are taken off",
                hint="give a table of three dimensions and more",
            )
        lists = Lists.of(source, definitional, equalize, specific)
        words = usable(source)
        mu = mean_of(source, words)
        U = np.linalg.eigh(covariance(source, words, mu))[1][:, ::-1].T
        found = lists.subspace(source, 1)
        leaning, side = self._leaning(source, lists, found.basis[0])
        trials = range(min(self.candidates, source.shape[1]))
        aligned = [
            self._aligned(source, lists, leaning, side, mu, U[i : i + 1])
            for i in track(trials, "directions")
        ]
        best = int(np.argmin(aligned))
        u = U[best : best + 1]
        W = remove(np.eye(source.shape[1]), u)
        rest = source.replace(vectors=mapped(source, words, mu, W))
        now = lists.subspace(rest, 1)
        vectors, more = hard(rest, lists, now.basis, equal=self.equal, as_unit=self.unit)
        metrics = {
            "direct_bias_before": bias_of(source.vectors, lists.neutral, found.basis),
            "direct_bias_after": bias_of(vectors, lists.neutral, now.basis),
            "component": float(best + 1),
            "clusters_without": self._aligned(source, lists, leaning, side, mu, U[:0]),
            "clusters_with": aligned[best],
            "explained": float(now.shares[0]),
        }
        said = [lists.compared(source, found), *lists.lines, *more]
        W = remove(W, now.basis)
        affine = Affine(W, -mu @ W)
        return edited(self, source, vectors, metrics, said, affine=affine, missing=lists.missing)

    def _leaning(
        self, source: EmbeddingTable, lists: Lists, g: Values
    ) -> tuple[Ids, npt.NDArray[np.bool_]]:
        """Return the ids of the neutral words that lean most to either side, and their sides."""
        neutral = np.flatnonzero(lists.neutral)
        lean = np.concatenate(
            [
                rows_of(source, some) @ g
                for some in np.array_split(neutral, len(neutral) // 65_536 + 1)
            ]
        )
        order = neutral[np.argsort(lean, kind="stable")]
        count = min(self.words, len(order) // 2)
        if count < 2:
            raise InputError(
                f"{len(order)} words of the table are in no list, and four are needed to lean",
                hint="give a larger table, or shorter lists",
            )
        return np.concatenate([order[:count], order[len(order) - count :]]), np.repeat(
            [False, True], count
        )

    def _aligned(
        self,
        source: EmbeddingTable,
        lists: Lists,
        leaning: Ids,
        side: npt.NDArray[np.bool_],
        mu: Values,
        u: Values,
    ) -> float:
        """Return the share of leaning words that 2-means puts with their side, without u and g."""

        def rest(ids: Ids) -> Values:
            return remove(np.asarray(source.vectors[ids], np.float64) - mu, u)

        g = subspace([unit(rest(ids)) for ids in lists.definitional]).basis
        apart = two_clusters(unit(remove(unit(rest(leaning)), g)), self.seed)
        share = float((apart == side).mean())
        return max(share, 1 - share)
