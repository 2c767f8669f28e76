"""The common study: every trainer on the same text, judged by what vectors are used for.

After Lai, Liu, Xu, Zhao: How to Generate a Good Word Embedding? (2016). A setting is a text, or one
of three questions: whether the domain of a text or its size counts for more, when to stop, and how
many dimensions it takes.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from tokenspace import data
from tokenspace.arrays import Floats2d, Ids
from tokenspace.corpus import Corpus
from tokenspace.errors import InputError
from tokenspace.logistic import fit, predict
from tokenspace.recipe import Recipe, apply, knobs
from tokenspace.rng import derive, stream
from tokenspace.table import EmbeddingTable
from tokenspace.words.evaluation import analogies, similarity
from tokenspace.words.relation import Factors, noise_loss

__all__ = [
    "COMMON",
    "RANDOM",
    "SETTINGS",
    "TASKS",
    "alike",
    "parts_of_speech",
    "same_class",
    "sentiment",
    "setting",
    "subjects",
    "with_gain",
]

SETTINGS = ("novels", "reviews", "domain", "stopping", "width")

TASKS = ("ws353", "men", "simlex", "semantic", "syntactic", "pos", "sentiment")
"""Spearman's correlation on three sets of pairs; accuracy on the two halves of Google's analogies;
the share of nearest neighbours that are of a word's part of speech; accuracy on film reviews."""

RANDOM = "random vectors"
"""The row that is what every task gives without having learned anything."""

COMMON: Mapping[str, Any] = {"dim": 50, "threads": 1}
_PAIRS = {"ws353": "EN-WS-353-ALL", "men": "EN-MEN-TR-3k", "simlex": "EN-SIMLEX-999"}
_DICTIONARY = "dictionary/oewn_definitions_dev.tsv.gz"
_NEIGHBOURS = 10
_FOLDS = 5
_SEEDS = 5
_OTHER = 130_000  # sentences of the novels in the setting "domain": three times the reviews
_HELD_OUT = 20  # the last of so many equal parts of the reviews, in the setting "stopping"
_SWEEPS: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "stopping": ("epochs", (1, 2, 5, 10, 20, 40, 80)),
    "width": ("dim", (10, 20, 50, 100, 200)),
}
_END = re.compile(r" [.!?] ")

Figures = dict[str, float]


def alike(recipes: Sequence[Recipe]) -> list[Recipe]:
    """Return the recipes with :data:`COMMON` knobs, where these were left at their defaults."""
    found: list[Recipe] = []
    for recipe in recipes:
        plain = {knob.name: knob.default for knob in knobs(type(recipe))}
        own = recipe.to_dict()
        free = {k: v for k, v in COMMON.items() if k in plain and own[k] == plain[k]}
        found.append(replace(recipe, **free))
    return found


def subjects(recipes: Sequence[Recipe], on: str) -> list[Recipe]:
    """Return what a setting compares: the recipes made alike, or each with all values of a knob."""
    knob, values = _SWEEPS.get(on, ("", ()))
    return [
        each
        for recipe in alike(recipes)
        for each in (
            [replace(recipe, **{knob: value}) for value in values]
            if knob in recipe.to_dict()
            else [recipe]
        )
    ]


def setting(on: str, seed: int) -> dict[str, Any]:
    """Return the inputs of one of :data:`SETTINGS`, and how results are judged there."""
    if on == "domain":
        return _domain(seed)
    if on == "stopping":
        return _stopping()
    texts = reviews() if on == "reviews" else data.novels()
    corpus = Corpus(texts, split="whitespace")
    each = [figures(_random(corpus, derive(seed, RANDOM, i))) for i in range(_SEEDS)]
    plain = {task: float(np.mean([row[task] for row in each])) for task in TASKS}
    return {
        "corpus": corpus,
        "judge": figures,
        "conclude": lambda rows: with_gain([*rows, {"method": RANDOM, **plain}]),
        "notes": [f"{sum(corpus.count().values()):,} words; pgr: mean gain over {RANDOM}, best 1"],
    }


def figures(table: EmbeddingTable) -> Figures:
    """Return the figure of every one of :data:`TASKS`."""
    found = {
        name: similarity(table, data.word_pairs(pairs), resamples=1).score.value
        for name, pairs in _PAIRS.items()
    }
    (asked,) = analogies(table, data.analogies(), measures=("3cosadd",), resamples=1, threads=1)
    found |= {name: asked.also[name] for name in ("semantic", "syntactic")}
    found["pos"] = same_class(table, parts_of_speech())
    found["sentiment"] = sentiment(table)
    return found


def with_gain(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Add to every row ``pgr``, the mean of its performance gain ratios over the tasks.

    The ratio of a task is (p - p_rand) / (p_best - p_rand): 0 is what random vectors reach, the
    row of the name :data:`RANDOM`, and 1 the best of the rows.
    """
    (floor,) = (row for row in rows if row["method"] == RANDOM)
    best = {task: max(row[task] for row in rows) for task in TASKS}
    return [
        {**row, "pgr": float(np.mean([gain(row, floor, best, task) for task in TASKS]))}
        for row in rows
    ]


def gain(
    row: Mapping[str, Any], floor: Mapping[str, Any], best: Mapping[str, Any], task: str
) -> float:
    """Return the performance gain ratio of a row; 0 where nothing is better than random vectors."""
    span = best[task] - floor[task]
    return float((row[task] - floor[task]) / span) if span > 0 else 0.0


def _random(corpus: Corpus, seed: int) -> EmbeddingTable:
    """Return a random vector for every word of the corpus that occurs five times."""
    encoded = corpus.encode(min_count=5)
    size = (len(encoded.vocab), COMMON["dim"])
    vectors = stream(seed, RANDOM).standard_normal(size, np.float32)
    return EmbeddingTable(encoded.vocab, vectors, encoded.counts)


def reviews() -> list[str]:
    """Return the sentences of 1,000 film reviews, each as lower-case words joined by a space."""
    found = []
    for _, text in data.labelled("movie_reviews_dev"):
        for sentence in _END.split(text):
            if tokens := data.words(sentence):
                found.append(" ".join(tokens))
    return found


# ----------------------------------------------------------------------------------- two tasks


@cache
def parts_of_speech() -> Mapping[str, str]:
    """Return the part of speech of every word that the Open English WordNet gives only one."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for line in data.lines(_DICTIONARY)[1:]:
        _, part, _, members, *_ = line.split("\t")
        for word in members.lower().split(" | "):
            found[word].add("a" if part == "s" else part)
    return {word: min(parts) for word, parts in found.items() if len(parts) == 1}


def same_class(table: EmbeddingTable, classes: Mapping[str, str]) -> float:
    """Return how many of the ten words nearest to a word are of its class, on the average.

    Words and neighbours are those of the table that have a class.
    """
    rows = [i for i, word in enumerate(table.vocab.tokens) if word in classes]
    if len(rows) <= _NEIGHBOURS:
        raise InputError(
            f"{len(rows)} words have a class", hint=f"more than {_NEIGHBOURS} are needed"
        )
    own = np.array([classes[table.vocab.tokens[i]] for i in rows])
    unit = table.unit[rows]
    shares = []
    for start in range(0, len(rows), 1000):
        near = unit[start : start + 1000] @ unit.T
        near[np.arange(len(near)), start + np.arange(len(near))] = -np.inf
        best = np.argpartition(-near, _NEIGHBOURS, axis=1)[:, :_NEIGHBOURS]
        shares.append(own[best] == own[start : start + 1000, None])
    return float(np.concatenate(shares).mean())


def sentiment(table: EmbeddingTable) -> float:
    """Return the share of sentences of film reviews that a classifier of their mean vectors tells.

    It is logistic regression, in five-fold cross-validation; a sentence is the mean of the unit
    vectors of its known words, divided by its length.
    """
    texts, labels = _sentences()
    ids = table.vocab.ids
    X = np.zeros((len(texts), table.shape[1]), np.float32)
    for row, words in enumerate(texts):
        known = [ids[word] for word in words if word in ids]
        if known:
            X[row] = table.unit[known].sum(axis=0)
    X /= np.maximum(np.linalg.norm(X, axis=1, keepdims=True), np.float32(1e-9))
    return float(np.mean([_right(X, labels, fold) for fold in range(_FOLDS)]))


def _right(X: Floats2d, labels: Ids, fold: int) -> float:
    """Return the accuracy on every fifth sentence, learned from the others."""
    asked = np.arange(len(X)) % _FOLDS == fold
    W = fit(X[~asked], labels[~asked], 2, C=10.0)
    return float((predict(X[asked], W) == labels[asked]).mean())


@cache
def _sentences() -> tuple[list[list[str]], Ids]:
    """Return the words of all labelled sentences, in random order, and 1 where one is positive."""
    pairs = data.labelled("mr_dev")
    order = stream(0, "sentiment").permutation(len(pairs)).tolist()
    labels = np.array([pairs[i][0] == "pos" for i in order], np.int64)
    return [data.words(pairs[i][1]) for i in order], labels


# ------------------------------------------------------------------- domain or size; when to stop


def _domain(seed: int) -> dict[str, Any]:
    """Return a setting in which a method learns from reviews, from more other text, and from both.

    What is measured is the accuracy on sentences of film reviews, over five seeds.
    """
    near, far = reviews(), data.novels(_OTHER)
    corpora = {"reviews": near, "novels": far, "both": near + far}
    given = {name: Corpus(texts, split="whitespace") for name, texts in corpora.items()}

    def run(recipe: Recipe) -> Figures:
        found: Figures = {}
        for name, corpus in given.items():
            each = [_accuracy(recipe, corpus, derive(seed, "domain", i)) for i in range(_SEEDS)]
            found |= {name: float(np.mean(each)), f"{name}_sd": float(np.std(each, ddof=1))}
        return found

    sizes = ", ".join(
        f"{name} {sum(corpus.count().values()):,} words" for name, corpus in given.items()
    )
    same: Callable[[Figures], Figures] = dict
    return {
        "run": run,
        "judge": same,
        "notes": [f"accuracy on sentences of film reviews, {_SEEDS} seeds; {sizes}"],
    }


def _stopping() -> dict[str, Any]:
    """Return a setting in which beside the tasks stands the loss on reviews that were held out."""
    texts = reviews()
    cut = len(texts) - len(texts) // _HELD_OUT
    corpus, held = (Corpus(part, split="whitespace") for part in (texts[:cut], texts[cut:]))

    def run(recipe: Recipe) -> Figures:
        own = recipe.to_dict()
        if not hasattr(recipe, "factors") or "negatives" not in own:
            raise InputError(
                f"{recipe.name} does not say what it predicts", hint="take sgns, which does"
            )
        learned: Factors = recipe.factors(corpus)
        loss = noise_loss(learned, held, negatives=own["negatives"], sample=own["sample"])
        table = EmbeddingTable(learned.vocab, learned.words, learned.counts)
        return {"training": learned.notes["loss"], "held_out": loss, **figures(table)}

    sizes = [sum(part.count().values()) for part in (corpus, held)]
    same: Callable[[Figures], Figures] = dict
    return {
        "run": run,
        "judge": same,
        "notes": [f"trained on {sizes[0]:,} words of film reviews, {sizes[1]:,} held out"],
    }


def _accuracy(recipe: Recipe, corpus: Corpus, seed: int) -> float:
    varied = {"seed": seed} if "seed" in recipe.to_dict() else {}
    return sentiment(apply(replace(recipe, **varied), {"corpus": corpus}))
