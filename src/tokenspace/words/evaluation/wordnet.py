"""Categories, outliers and supersenses of words, derived from the Open English WordNet."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from tokenspace import data
from tokenspace.rng import stream
from tokenspace.words.evaluation.categories import Outlier
from tokenspace.words.evaluation.features import Features

__all__ = ["DEFINITIONS", "RELATIONS", "categories", "outliers", "supersenses"]

DEFINITIONS = "dictionary/oewn_definitions_dev.tsv.gz"
RELATIONS = "dictionary/oewn_relations.tsv.gz"
ROOTS: Mapping[str, str] = {
    "bird": "01505702-n",
    "crime": "00767761-n",
    "insect": "02162607-n",
    "mammal": "01864419-n",
    "tree": "13124818-n",
    "flower": "11690372-n",
    "drink": "07897775-n",
    "vehicle": "04531608-n",
    "garment": "03423924-n",
    "tool": "04459089-n",
    "weapon": "04572661-n",
    "instrument": "03806455-n",
    "disease": "14093842-n",
    "metal": "14649636-n",
    "relative": "10255246-n",
    "feeling": "07495208-n",
}
"""Categories, and the synset of the Open English WordNet below which their words stand."""

PER_CATEGORY = 20
GROUP = 8  # words and outliers of a group
_PLAIN = re.compile(r"[a-z]{3,}")


class _Synset(NamedTuple):
    pos: str
    file: str
    members: tuple[str, ...]
    text: str


@cache
def _synsets() -> tuple[dict[str, _Synset], Counter[str]]:
    """Return the synsets of the dictionary, and how often each word stands in its definitions."""
    synsets: dict[str, _Synset] = {}
    counts: Counter[str] = Counter()
    for line in _rows(DEFINITIONS):
        name, pos, file, members, definition, examples = line[:6]
        text = f"{definition} {examples}"
        synsets[name] = _Synset(pos, file, tuple(members.split(" | ")), text)
        counts.update(data.words(text))
    return synsets, counts


def _rows(name: str) -> list[list[str]]:
    """Return the fields of every line of a table of ``data`` but the first, which names them."""
    return [line.split("\t") for line in data.lines(name)[1:]]


@cache
def _categories() -> dict[str, tuple[str, ...]]:
    synsets, counts = _synsets()
    below: defaultdict[str, list[str]] = defaultdict(list)
    for source, relation, target in _rows(RELATIONS):
        if relation == "hypernym":
            below[target].append(source)
    senses: defaultdict[str, set[str]] = defaultdict(set)
    for name, synset in synsets.items():
        for member in synset.members:
            senses[member.lower()].add(name)
    inside: dict[str, list[str]] = {}
    for category, root in ROOTS.items():
        reached, left = set[str](), [root]
        while left:
            name = left.pop()
            if name not in reached:
                reached.add(name)
                left += below[name]
        names = reached & synsets.keys()
        words = {
            word
            for name in names
            for word in synsets[name].members
            if _PLAIN.fullmatch(word) and senses[word] <= reached and not _inflected(word, senses)
        }
        own = Counter(word for name in names for word in data.words(synsets[name].text))
        inside[category] = sorted(words, key=lambda w: (own[w] - counts[w], w))
    taken = Counter(word for words in inside.values() for word in words)
    return {
        category: tuple([word for word in words if taken[word] == 1][:PER_CATEGORY])
        for category, words in inside.items()
    }


def _inflected(word: str, senses: Mapping[str, set[str]]) -> bool:
    """Tell whether a word is a form of another one that the dictionary has."""
    stems = {word[:-1]} if word.endswith("s") else set()
    if word.endswith(("ing", "es")):
        stems |= {word.removesuffix("ing").removesuffix("es")}
    return any(stem in senses for stem in stems)


def categories() -> dict[str, tuple[str, ...]]:
    """Return sixteen categories of twenty words each, derived from the Open English WordNet.

    A word belongs to a category (:data:`ROOTS`) if all its senses stand below the root, and is
    chosen if the definitions of other synsets use it most: the choice depends on no table.
    """
    return dict(_categories())


def outliers() -> list[Outlier]:
    """Return sixteen groups of eight words with eight outliers each (the 8-8-8 scheme).

    The words are the most used of each category, the outliers the first of eight other
    categories, which are drawn with a fixed seed.
    """
    categories = _categories()
    groups = []
    for category, words in categories.items():
        draw = stream(0, "outliers", category)
        others = [name for name in categories if name != category]
        chosen = [others[int(i)] for i in draw.permutation(len(others))[:GROUP]]
        outside = tuple(categories[name][k] for k, name in enumerate(chosen))
        groups.append((category, words[:GROUP], outside))
    return groups


def supersenses(least: int = 2) -> Features:
    """Return the share of every word's senses that belong to each supersense (41 of WordNet).

    The words are the single English nouns and verbs of the Open English WordNet that its
    definitions use at least ``least`` times. Tsvetkov et al. (2016) count senses in a tagged text
    instead; there is none here.
    """
    synsets, counts = _synsets()
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for synset in synsets.values():
        if synset.pos in ("n", "v"):
            for word in synset.members:
                if _PLAIN.fullmatch(word) and counts[word] >= least:
                    found[word][synset.file] += 1
    return Features.of(
        {
            word: {file: n / sum(own.values()) for file, n in own.items()}
            for word, own in sorted(found.items())
        }
    )
