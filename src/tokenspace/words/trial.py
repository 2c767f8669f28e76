"""What every trainer of word vectors is tried on: whether cosines rank pairs of words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from tokenspace import data
from tokenspace.corpus import Corpus
from tokenspace.recipe import Recipe
from tokenspace.table import EmbeddingTable
from tokenspace.toy_encoder import ToyEncoder
from tokenspace.words import study
from tokenspace.words.evaluation import similarity, word_similarity

__all__ = [
    "SETTINGS",
    "Material",
    "association",
    "bag",
    "judge",
    "material",
    "rank_correlation",
    "subjects",
]

SETTINGS = ("invented", *study.SETTINGS)
"""What ``compare`` can be run on: invented sentences, or the settings of :mod:`.study`."""

HUMAN = ("EN-WS-353-ALL", "EN-MEN-TR-3k", "EN-SIMLEX-999")
Pairs = list[tuple[str, str, float]]


class Material(NamedTuple):
    """Sentences of words between spaces, and lists of word pairs with their scores."""

    texts: Sequence[str]
    pairs: Mapping[str, Pairs]


def subjects(recipes: Sequence[Recipe], on: str) -> list[Recipe]:
    """Return what is compared in a setting: on real text, recipes of the same size and length."""
    return list(recipes) if on == SETTINGS[0] else study.subjects(recipes, on)


def bag(seed: int = 0, *, tiny: bool = False, on: str = "invented") -> dict[str, Any]:
    """Return a ``corpus`` of invented sentences by topic, and ``pairs`` from sentences held out.

    ``encoder`` is a toy that knows letters and neighbours. ``on`` is one of :data:`SETTINGS`.
    """
    if on != SETTINGS[0]:
        return study.setting(on, seed)
    sizes = (150, 60, 4) if tiny else (25_000, 1_200, 40)
    texts, pairs = _held_out(data.zipf_text(*sizes, seed=seed))
    return {"corpus": Corpus(texts), "pairs": pairs, "encoder": ToyEncoder(seed=seed)}


def judge(result: Any, bag: Mapping[str, Any]) -> dict[str, float]:
    """Return the rank correlation of cosines with the scores of the pairs, and the pairs used.

    A setting on real text brings a judge of its own.
    """
    if "judge" in bag:
        figures: dict[str, float] = bag["judge"](result)
        return figures
    score = word_similarity(result, bag["pairs"])
    return {"rho": score.value, "pairs": float(score.used), "dim": float(result.shape[1])}


@cache
def material(*, smoke: bool = False) -> Material:
    """Return what claims and benchmarks learn from, and what they are judged by.

    The novels with WordSim-353, MEN and SimLex-999 where these files are on this machine;
    otherwise the text that Python carries, with the association of words in a fifth of it that is
    held out. ``smoke`` gives invented sentences instead.
    """
    if smoke:
        texts, pairs = _held_out(data.zipf_text(1_500, 200, 8))
        return Material(texts, {"association": pairs})
    if all(data.available(name) for name in ("novels", *HUMAN)):
        return Material(data.novels(), {name: data.word_pairs(name) for name in HUMAN})
    from tokenspace.stdlib_text import documents

    sentences = (
        " ".join(data.words(part)) for page in documents() for part in page.text.split(". ")
    )
    texts, pairs = _held_out([text for text in sentences if text])
    return Material(texts, {"association": pairs})


def rank_correlation(table: EmbeddingTable, pairs: Mapping[str, Pairs]) -> dict[str, float]:
    """Return Spearman's correlation on every list of pairs, and their mean as ``rho``."""
    each = {
        name: similarity(table, listed, resamples=1).score.value  # its interval is not asked for
        for name, listed in pairs.items()
    }
    return {"rho": float(np.mean(list(each.values()))), **each}


def _held_out(texts: Sequence[str]) -> tuple[list[str], Pairs]:
    """Keep every fifth text apart, and return the others and the associations in those kept."""
    return [text for i, text in enumerate(texts) if i % 5], association(texts[::5])


def association(texts: Sequence[str], *, window: int = 5, words: int = 400) -> Pairs:
    """Return all pairs of the most frequent words with their pointwise mutual information.

    log(n_ab N / (n_a n_b)), n_ab counting how often a and b stand within ``window`` words of each
    other, plus 1/2 so that pairs which never meet have a score as well.
    """
    counts = Counter(word for text in texts for word in text.split())
    chosen = [word for word, count in counts.most_common(words) if count > 1]
    ids = {word: index for index, word in enumerate(chosen)}
    together = np.full((len(chosen), len(chosen)), 0.5)
    for text in texts:
        row = [ids.get(word, -1) for word in text.split()]
        for i, a in enumerate(row):
            for b in row[i + 1 : i + 1 + window]:
                if a >= 0 and b >= 0:
                    together[a, b] += 1
                    together[b, a] += 1
    share = together.sum(axis=1)
    scores = np.log(together * share.sum() / np.outer(share, share))
    return [
        (chosen[a], chosen[b], float(scores[a, b]))
        for a in range(len(chosen))
        for b in range(a + 1, len(chosen))
    ]
