"""What claims about a bias are measured on: word lists, an association test, and the cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from tokenspace import data
from tokenspace.claims._vectors import learned
from tokenspace.edit import trial
from tokenspace.edit._subspace import direct_bias, unit
from tokenspace.edit._words import Lists
from tokenspace.table import EmbeddingTable
from tokenspace.word_sets import WordSets
from tokenspace.words.evaluation import word_similarity

__all__ = ["HUMAN", "Setting", "setting"]

HUMAN = {"men": "EN-MEN-TR-3k", "ws353": "EN-WS-353-ALL", "simlex": "EN-SIMLEX-999"}
LISTS = ("definitional_pairs", "equalize_pairs", "gender_specific_full", "professions", "WEAT")
Values = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Setting:
    """A table with a bias: lists as evidence, words that should have none, and the test's sets.

    ``targets`` X, Y and ``attributes`` A, B are the four sets of WEAT, ``neutral`` the words of
    DirectBias, ``rated`` lists of word pairs with people's scores.
    """

    table: EmbeddingTable
    lists: Mapping[str, WordSets]
    neutral: Sequence[str]
    targets: tuple[Sequence[str], Sequence[str]]
    attributes: tuple[Sequence[str], Sequence[str]]
    rated: Mapping[str, Sequence[tuple[str, str, float]]]

    def basis(self, k: int = 1) -> Values:
        """Return the directions in which the definitional sets of the table differ."""
        return Lists.of(self.table, self.lists["definitional"]).subspace(self.table, k).basis

    def bias(self, table: EmbeddingTable, basis: Values) -> float:
        """Return DirectBias of the words that should have none."""
        return direct_bias(_rows(table, self.neutral), basis)

    def association(self, table: EmbeddingTable) -> dict[str, float]:
        """Return WEAT's mean difference, effect size and exact one-sided p (Caliskan 2017).

        Every partition of the targets is counted: of 8 and 8 words there are 12,870.
        """
        X, Y, A, B = (unit(_rows(table, s)) for s in (*self.targets, *self.attributes))
        s = np.concatenate([X, Y]) @ (A.mean(axis=0) - B.mean(axis=0))
        n = len(X)
        difference = float(s[:n].mean() - s[n:].mean())
        parts = np.array(list(combinations(range(len(s)), n)))
        p = float((s[parts].sum(axis=1) >= s[:n].sum() - 1e-12).mean())
        return {"weat": difference, "weat_d": difference / float(s.std()), "weat_p": p}

    def likeness(self, table: EmbeddingTable) -> dict[str, float]:
        """Return Spearman's correlation with people on every list."""
        return {name: word_similarity(table, pairs).value for name, pairs in self.rated.items()}


def _rows(table: EmbeddingTable, words: Sequence[str]) -> npt.NDArray[np.float32]:
    return table.vectors[[table.vocab.ids[word] for word in words if word in table.vocab.ids]]


def setting(seed: int, *, smoke: bool) -> Setting:
    """Return vectors of the novels and the published lists for gender, or what is made."""
    if smoke or not all(data.available(name) for name in ("novels", *LISTS, *HUMAN.values())):
        given = trial.bag(seed, tiny=smoke)
        first, second = zip(*given["definitional"], strict=True)
        one, two = (given["classes"].named(name)[:8] for name in ("first", "second"))
        lists = {name: given[name] for name in ("definitional", "equalize", "specific")}
        return Setting(given["source"], lists, [*one, *two], (one, two), (first, second), {})
    weat = data.word_sets("WEAT")
    specific = data.word_sets("gender_specific_full")
    lists = {
        "definitional": data.word_sets("definitional_pairs"),
        "equalize": data.word_sets("equalize_pairs"),
        "specific": specific,
    }
    known = set(specific.words)
    return Setting(
        learned(seed, smoke=False),
        lists,
        [word for word in data.word_sets("professions").words if word not in known],
        (weat.named("career"), weat.named("family")),
        (weat.named("male_terms"), weat.named("female_terms")),
        {name: data.word_pairs(file) for name, file in HUMAN.items()},
    )
