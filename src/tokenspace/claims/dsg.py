"""Disambiguated skip-gram: a gate for every word tells senses apart that one gate for all does not.

Pseudo-words have known senses: two words that have nothing to do with each other are written as
one, and the sense of an occurrence is which of them stood there.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple, cast

import numpy as np

from tokenspace import data
from tokenspace.arrays import Floats2d, Ids
from tokenspace.corpus import Corpus
from tokenspace.metrics import adjusted_rand
from tokenspace.recipe import Recipe
from tokenspace.report import Claim
from tokenspace.rng import stream
from tokenspace.senses import SenseTable, induction
from tokenspace.words.dsg import DSG, STOP

PAIRS, HELD_OUT = 20, 0.15
PASSES = 3  # of the running means
RARITY = 1e-3  # a of the weights a / (a + p) of Arora, Liang and Ma
SENSEVAL = ("hard", "line", "serve")

CLAIM = Claim(
    says="A gate for every word tells the halves of pseudo-words apart better than the one gate "
    "for all words that it starts from, by 0.05 of adjusted Rand index",
    paper="EMNLP 2018 (D18-1174)",
    metric="ari",
    better="higher",
    baseline="the first stage alone: the same model with one gate for all words",
    margin=0.05,
    scale="paper: a billion words of Wikipedia, three SemEval sets and one of Wikipedia pages; "
    "here: 4.4 million words of novels and 21,772 contexts of SemEval-2010 and Senseval without "
    "their labels, 100 dimensions, 3 senses; 20 pseudo-words a seed, judged on sentences held out. "
    "Rows carry the real words too, and what 3-means and MSSG's running means of the same contexts "
    "give, over which nothing is claimed (without these files: Python's own text, pseudo-words "
    "only)",
    budget_s=600.0,
)

Occurrence = tuple[str, str, str]
"""A word, the text around it without it, and its sense."""


class Trial(NamedTuple):
    """Texts to learn from, and by set the occurrences that are in them and those to judge by."""

    texts: list[str]
    seen: dict[str, list[Occurrence]]
    asked: dict[str, list[Occurrence]]


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return the mean adjusted Rand index on pseudo-words as ``ari``, and on the other sets."""
    trial = material(seed, smoke)
    recipe = replace(cast("DSG", method or DSG()), threads=1, seed=seed)
    if method is None:
        recipe = replace(recipe, epochs=0)
    begin = time.process_time()
    table = recipe(Corpus(trial.texts, split="whitespace"))
    figures = {"cpu_seconds": time.process_time() - begin}
    for name, asked in trial.asked.items():
        figures["ari" if name == "pseudo" else name] = induction(table, asked).mean
        for other in ("means", "mssg"):
            figures[f"{other}_{name}"] = clustered(other, table, trial.seen[name], asked, seed)
    if all(name in figures for name in SENSEVAL):
        figures["senseval"] = float(np.mean([figures[name] for name in SENSEVAL]))
    return figures


@lru_cache(maxsize=1)  # both sides of a seed learn from the same texts
def material(seed: int, smoke: bool) -> Trial:
    """Return the texts with pseudo-words and the contexts of real ones."""
    names = ("novels", "semeval2010_task14_contexts", *(f"senseval_{name}" for name in SENSEVAL))
    if smoke:
        return pseudo(data.zipf_text(3_000, 120, 6, seed=seed), 100, 3_000, 4, seed)
    if not all(data.available(name) for name in names):
        from tokenspace.stdlib_text import documents

        pages = (data.words(part) for page in documents() for part in page.text.split(". "))
        return pseudo([" ".join(page) for page in pages if page], 100, 3_000, PAIRS, seed)
    trial = pseudo(data.novels(), 400, 3_000, PAIRS, seed)
    for name in ("semeval2010", *SENSEVAL):
        contexts = data.wsi(name)
        sides = [[" ".join(data.words(t)) for t in (c.left, c.right)] for c in contexts]
        trial.texts.extend(f"{a} {c.word} {b}" for c, (a, b) in zip(contexts, sides, strict=True))
        known = [
            (c.word, " ".join(side), c.senses[0])
            for c, side in zip(contexts, sides, strict=True)
            if len(c.senses) == 1
        ]
        trial.seen[name] = trial.asked[name] = known
    return trial


def pseudo(texts: Sequence[str], fewest: int, most: int, pairs: int, seed: int) -> Trial:
    """Write ``pairs`` of words of that many occurrences as one, and hold some texts out."""
    counts = Counter(word for text in texts for word in text.split())
    fit = [
        word
        for word, count in counts.items()
        if fewest <= count <= most and len(word) > 2 and word not in STOP
    ]
    draw = stream(seed, "pseudo-words")
    chosen = [fit[i] for i in draw.permutation(len(fit))[: 2 * pairs]]
    name = {w: f"{a}_{b}" for a, b in zip(chosen[::2], chosen[1::2], strict=True) for w in (a, b)}
    out = draw.random(len(texts)) < HELD_OUT
    trial = Trial([], {"pseudo": []}, {"pseudo": []})
    for text, held in zip(texts, out.tolist(), strict=True):
        plain = text.split()
        words = [name.get(word, word) for word in plain]
        if not held:
            trial.texts.append(" ".join(words))
        for place, (word, sense) in enumerate(zip(words, plain, strict=True)):
            if word != sense:
                around = " ".join(words[:place] + words[place + 1 :])
                (trial.asked if held else trial.seen)["pseudo"].append((word, around, sense))
    return trial


def clustered(
    how: str, table: SenseTable, seen: list[Occurrence], asked: list[Occurrence], seed: int
) -> float:
    """Return the mean adjusted Rand index of as many clusters of weighted context means."""
    found = []
    for word in dict.fromkeys(word for word, _, _ in asked):
        given, gold = zip(*((text, s) for w, text, s in asked if w == word), strict=True)
        rows = contexts(table, [text for w, text, _ in seen if w == word])
        senses = int(table.notes["senses"])
        if len(rows) >= senses:
            centres = (means if how == "means" else running)(rows, senses, seed)
            clusters = (contexts(table, given) @ centres.T).argmax(axis=1)
            found.append(adjusted_rand(gold, clusters.tolist()))
    return float(np.mean(found))


def contexts(table: SenseTable, texts: Sequence[str]) -> Floats2d:
    """Return for every text the mean of its words' W, rare words weighing more, of length 1."""
    first = table.gates.first
    n = np.add.reduceat(table.counts, first[:-1]) if table.counts is not None else np.diff(first)
    weight = RARITY / (RARITY + n / n.sum())
    rows = [(weight[ids, None] * table.gates.W[ids]).sum(axis=0) for ids in table.encode(texts)]
    found = np.array(rows, np.float32).reshape(len(texts), -1)
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    return np.asarray(found / np.maximum(lengths, 1e-12), np.float32)


def means(rows: Floats2d, k: int, seed: int) -> Floats2d:
    """Return the unit centres of k-means."""
    from sklearn.cluster import KMeans

    centres = KMeans(k, n_init=10, random_state=seed).fit(rows).cluster_centers_
    return _unit(centres)


def running(rows: Floats2d, k: int, seed: int) -> Floats2d:
    """Return the unit centres that MSSG keeps: each row moves the nearest one."""
    start: Ids = stream(seed, "running means").permutation(len(rows))[:k]
    sums = rows[start].astype(np.float64)
    for row in np.tile(rows, (PASSES, 1)):
        sums[(_unit(sums) @ row).argmax()] += row
    return _unit(sums)


def _unit(rows: np.ndarray) -> Floats2d:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, 1e-12), np.float32)
