"""Take a direction, or a subspace, out of every word.

The idea
--------
A direction is found in what words of some sets differ in, or is given as numbers; the space loses
it, and nothing else. Unlike `hard_debias` this is one linear map for all words, without lists of
words that may keep the direction, and what one knows of linear maps holds: sums and means of the
words lose it too.

Equations
---------
::

    w  <-  w - B^T B w,    B (k, D): orthonormal rows

B are the k directions in which the sets differ most, as in `hard_debias`; or what given directions
span; or, where every set is a single word, what the vectors of these words span.

Departures from the paper
-------------------------
The authors take the first principal component of the differences of pairs without centring them,
whose sign then counts; with sets of two words both are the same direction. Special tokens, rows
without a token and zero rows are left alone.

Cost
----
O(V D k), in blocks of rows.

When not to use it
------------------
Where *mother* and *father* shall stay apart: they lose the direction as well. What can be told
from other directions is still there; `leace` takes it from all of them at once.

Reference
---------
S. Dev, J. Phillips: Attenuating Bias in Word Vectors. AISTATS 2019, arXiv:1901.07656, section 3
(linear projection).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt

from tokenspace.arrays import Floats2d, check_finite
from tokenspace.errors import ConfigError, InputError
from tokenspace.recipe import Range, Recipe
from tokenspace.table import EmbeddingTable
from tokenspace.word_sets import WordSets

from ._subspace import chance, remove, span
from ._words import Affine, Lists, bias_of, blocks, edited, find, rows_of, usable

__all__ = ["Projection"]

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Projection(Recipe):
    """Take a direction, or a subspace, out of every word."""

    k: Annotated[int, Range(1, 4096), "directions of the sets of words that are taken out"] = 1

    tiny: ClassVar[Mapping[str, Any]] = {}

    def __call__(
        self,
        source: EmbeddingTable,
        /,
        *,
        definitional: WordSets | None = None,
        directions: Floats2d | None = None,
    ) -> EmbeddingTable:
        """Return the table, (V, D), less what lies in the subspace.

        ``directions`` (n, D) are taken out as they are, and ``definitional`` is not asked then.
        Without both, the pairs are those of Bolukbasi et al. (2016) for gender in English.

        Raises :class:`InputError` where no set has two words in the table, or where the directions
        are of another width, not finite or all zero, and :class:`ConfigError` where the sets
        differ in fewer than k directions, or where nothing would be left.
        """
        words = usable(source)
        basis, said = self._basis(source, words, definitional, directions)
        if len(basis) >= source.shape[1]:
            raise ConfigError(
                f"projection: {len(basis)} directions of {source.shape[1]}: nothing would be left",
                hint="take fewer directions out",
            )
        vectors = np.array(source.vectors, np.float32)
        for part in blocks(len(vectors)):
            chosen = words[part]
            vectors[part][chosen] = remove(source.vectors[part][chosen], basis)
        metrics = {
            "direct_bias_before": bias_of(source.vectors, words, basis),
            "direct_bias_after": bias_of(vectors, words, basis),
            "direct_bias_random": chance(source.shape[1], len(basis)),
            "directions": float(len(basis)),
        }
        width = source.shape[1]
        affine = Affine(np.eye(width) - basis.T @ basis, np.zeros(width))
        return edited(self, source, vectors, metrics, said, affine=affine, removed=basis.tolist())

    def _basis(
        self,
        source: EmbeddingTable,
        words: npt.NDArray[np.bool_],
        definitional: WordSets | None,
        directions: Floats2d | None,
    ) -> tuple[Values, list[str]]:
        """Return the subspace, (k, D), and what a user should know."""
        if directions is not None:
            if directions.ndim != 2 or directions.shape[1] != source.shape[1]:
                raise InputError(
                    f"directions of shape {directions.shape} in a table of width {source.shape[1]}",
                    hint="give (n, D) numbers, a direction a row",
                )
            check_finite(directions, "directions")
            basis = span(directions)
            if not len(basis):
                raise InputError("every direction is zero", hint="give (n, D) numbers")
            return basis, []
        if definitional is not None and all(len(s) == 1 for s in definitional):
            ids = [i for s in definitional if (i := find(source.vocab, s[0])) >= 0 and words[i]]
            gone = [s[0] for s in definitional if find(source.vocab, s[0]) < 0]
            if not ids:
                raise InputError(
                    f"none of these words is in the table: {', '.join(gone)}",
                    hint="give words of this vocabulary: --definitional FILE",
                )
            lines = [f"definitional: not in the table: {', '.join(gone)}"] if gone else []
            return span(rows_of(source, np.array(ids))), lines
        lists = Lists.of(source, definitional, WordSets([]), WordSets([]), least=1)
        found = lists.subspace(source, self.k)
        return found.basis, [lists.compared(source, found), *lists.lines]
