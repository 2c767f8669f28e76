"""Take a bias out of all words that do not mean it, and make pairs differ in nothing else.

The idea
--------
The pairs she and he, woman and man differ in one direction of the space, and *nurse* should not:
yet it lies nearer to *she*. Three steps mend that. Find the direction, or the subspace, in which
the *definitional* pairs differ most. **Neutralise**: take it out of every word but the *specific*
ones, which mean it (*mother*, *beard*). **Equalise**: give the words of a pair the same vector
outside the subspace and equal lengths inside it, so that every neutral word is as near to the one
as to the other. With sets of more than two words and k > 1 this is multiclass debiasing, for
religions for example.

Equations
---------
Vectors w have length 1, w_B = B^T B w is what lies in the subspace B (k, D)::

    C   =  sum_i sum_{w in D_i} (w - mu_i)(w - mu_i)^T / |D_i|     B: its first k eigenvectors
    w  <-  (w - w_B) / |w - w_B|                                   w neutral
    nu  =  mu - mu_B,   mu the mean of a set E to equalise
    w  <-  nu + sqrt(1 - |nu|^2) (w_B - mu_B) / |w_B - mu_B|       w in E

Departures from the paper
-------------------------
Every row keeps its own length, since the cosines are the same and a model needs the lengths
(``unit`` leaves them at 1). Words of the definitional sets and of the sets to equalise count as
specific in all their casings: neutralised first, as the authors' code does to those outside its
list, w_B would be 0 and the sides of a pair would be chosen by its order. Sets are equalised in
the order of the file, the casings of a set as written, lower, Title, UPPER; a word in several sets
has the values of the last, and is named in the report (the code's order is not defined). A set of
which a word is exactly in the middle has no sides: it stays as it is, and is named too. Special
tokens, rows without a token and zero rows are left alone. A word that only its n-grams tell (a
fastText model's) is neutral: theirs lose the subspace.

Cost
----
O(V D k) time in float64, in blocks of rows; two tables of memory.

When not to use it
------------------
To hide a bias is not to remove it: words that were biased the same way still lie together (Gonen
and Goldberg 2019), and a classifier finds them. `soft_debias` changes the likeness of words less
and the bias less; `leace` leaves nothing that a linear classifier could read.

Reference
---------
T. Bolukbasi, K.-W. Chang, J. Zou, V. Saligrama, A. Kalai: Man is to Computer Programmer as Woman
is to Homemaker? Debiasing Word Embeddings. NIPS 2016, arXiv:1607.06520, section 5. For k > 1: T.
Manzini, Y. C. Lim, Y. Tsvetkov, A. W. Black: Black is to Criminal as Caucasian is to Police.
NAACL 2019, arXiv:1904.04047.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from tokenspace.recipe import Range, Recipe
from tokenspace.table import EmbeddingTable
from tokenspace.word_sets import WordSets

from ._hard import hard
from ._subspace import chance, remove
from ._words import Affine, Lists, bias_of, edited

__all__ = ["HardDebias"]


@dataclass(frozen=True, kw_only=True)
class HardDebias(Recipe):
    """Take a bias out of all words that do not mean it, and make pairs differ in nothing else."""

    k: Annotated[int, Range(1, 256), "directions that are taken out"] = 1
    equal: Annotated[bool, "equalise sets, after the other words are neutralised"] = True
    unit: Annotated[bool, "leave rows at length 1, instead of giving each its own back"] = False

    tiny: ClassVar[Mapping[str, Any]] = {}

    def __call__(
        self,
        source: EmbeddingTable,
        /,
        *,
        definitional: WordSets | None = None,
        equalize: WordSets | None = None,
        specific: WordSets | None = None,
    ) -> EmbeddingTable:
        """Return the table, (V, D), without the bias of the definitional sets.

        Without ``definitional`` the lists are the paper's, for gender in English; with it, the
        sets to equalise are by default the same, and no other words are specific. The notes hold
        ``missing`` words, ``metrics`` (DirectBias of the neutral words before and after, and that
        of a random direction) and the lines of the ``report``.

        Raises :class:`InputError` where fewer than two definitional sets have two words or more in
        the table, and :class:`ConfigError` where they differ in fewer than k directions.
        """
        lists = Lists.of(source, definitional, equalize, specific)
        found = lists.subspace(source, self.k)
        vectors, more = hard(source, lists, found.basis, equal=self.equal, as_unit=self.unit)
        said = [lists.compared(source, found), *lists.lines, *more]
        metrics = {
            "direct_bias_before": bias_of(source.vectors, lists.neutral, found.basis),
            "direct_bias_after": bias_of(vectors, lists.neutral, found.basis),
            "direct_bias_random": chance(source.shape[1], self.k),
            "neutral_words": float(lists.neutral.sum()),
            "explained": float(found.shares[: self.k].sum()),
        }
        width = source.shape[1]
        affine = Affine(remove(np.eye(width), found.basis), np.zeros(width))
        return edited(self, source, vectors, metrics, said, affine=affine, missing=lists.missing)
