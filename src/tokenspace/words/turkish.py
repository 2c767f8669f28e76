"""How good word vectors are for Turkish: pairs, analogies, tags, names and reviews, over seeds.

The plan is that of Sarıtaş, Öz and Güngör (2024, https://arxiv.org/abs/2405.07778): every method
learns from the same text, and is judged by what the vectors say of pairs of words and of
analogies, and by what models can read off them while they stay as they are. An agglutinating
language has many words that the text lacks, so that every figure stands beside the share that was
covered. Differences from the study: names are judged by whole entities, since the accuracy of
tokens is nearly that of the tag ``O``; taggers and the classifier of reviews are logistic
regressions, not recurrent networks; and no seed is drawn for them, only for the vectors.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple

import numpy as np

from tokenspace import data
from tokenspace.arrays import Floats2d
from tokenspace.corpus import Corpus
from tokenspace.data import Analogy
from tokenspace.errors import ConfigError, InputError, MissingEvidence
from tokenspace.logistic import fit, predict
from tokenspace.progress import track
from tokenspace.recipe import Recipe, apply
from tokenspace.report import Report
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary
from tokenspace.words.evaluation import evaluate
from tokenspace.words.evaluation.analogy import ranks
from tokenspace.words.evaluation.lookup import row_ids

__all__ = ["SEEDS", "judge", "mean_reciprocal_rank", "reviews", "study", "texts"]

SEEDS = (7, 24, 30)  # of the study
TOP = 10  # answers that count in analogies
EVERY = 5  # the reviews of one film of so many are tested on
SETS = ("tr_similarity_semantic", "tr_similarity_syntactic", "tr_boun", "tr_ner")
REVIEWS, MANUAL = "turkish/tr_movie_reviews_dev.tsv.gz", "turkish/python_docs_en_tr_dev.tsv.gz"
ANALOGIES = "turkish/tr_analogies_dev.tsv.gz"


class Reviews(NamedTuple):
    """Texts, and whether each is favourable."""

    texts: list[str]
    good: list[bool]


def reviews() -> tuple[Reviews, Reviews]:
    """Return reviews of films to learn from, and those of every fifth film, to test on."""
    parts = Reviews([], []), Reviews([], [])
    films: dict[str, int] = {}
    for line in data.lines(REVIEWS)[1:]:
        film, label, _, text = line.split("\t")
        part = parts[films.setdefault(film, len(films)) % EVERY == EVERY - 1]
        part.texts.append(text)
        part.good.append(label == "pos")
    return parts


def texts() -> Corpus:
    """Return the text to learn from: the reviews that are not tested on, and Python's manual."""
    manual = [line.split("\t")[2] for line in data.lines(MANUAL)[1:]]
    return Corpus([*reviews()[0].texts, *manual], language="tr")


def study(
    recipes: Sequence[Recipe], bag: Mapping[str, Any], *, seeds: Sequence[int] = SEEDS
) -> Report:
    """Learn from ``bag`` with every recipe and seed, and judge every table.

    ``rows`` has one row a recipe, with the mean of every figure (None where nothing is known), and
    the standard deviation over the seeds where the recipe draws anything. A recipe that lacks an
    input is left out, with a note.

    Raises :class:`InputError` where the sets are not on this machine.
    """
    begin = time.perf_counter()
    for name in (REVIEWS, ANALOGIES):
        data.find(name)
    rows, notes = [], []
    for recipe in track(recipes, "study"):
        drawn = "seed" in {field.name for field in fields(recipe)}
        runs: list[dict[str, float]] = []
        try:
            for seed in seeds if drawn else seeds[:1]:
                given = replace(recipe, **{"seed": seed}) if drawn else recipe
                runs.append(judge(apply(given, bag)))
        except (ConfigError, InputError, MissingEvidence) as fault:
            notes.append(f"left out: {recipe}: {fault}")
            continue
        row: dict[str, Any] = {"method": str(recipe), "seeds": len(runs)}
        for name in runs[0]:
            values = [run[name] for run in runs]
            row[name] = float(np.mean(values)) if np.isfinite(values).all() else None
            if len(values) > 1 and row[name] is not None and not name.startswith("known"):
                row[f"{name}_sd"] = float(np.std(values, ddof=1))
        rows.append(row)
    return Report(
        title=f"Turkish: {len(rows)} methods, seeds {', '.join(map(str, seeds))}",
        metrics={"methods": float(len(rows))},
        rows=rows,
        notes=notes,
        seconds=round(time.perf_counter() - begin, 3),
    )


def judge(table: EmbeddingTable) -> dict[str, float]:
    """Return every figure of one table, each from 0 to 1, and the shares that were known."""
    figures: dict[str, float] = {"words": float(len(table.vocab))}
    for row in evaluate({"table": table}, SETS, language="tr", resamples=2).rows:
        name = f"{row['task']} {row['set'].removeprefix('tr_similarity_')}"
        if row["task"] == "similarity":
            figures |= {name: row["value"], f"{name} pearson": row["also"]["pearson"]}
            figures[f"known {name}"] = row["used"] / row["total"]
        else:
            name = {"pos": "pos accuracy", "ner": "ner f1"}[row["task"]]
            figures |= {name: row["value"], f"known {name}": row["also"]["known"]}
    for group, questions in _questions().items():
        whole, covered, known = mean_reciprocal_rank(table, questions)
        figures |= {
            f"analogy {group}": whole,
            f"analogy {group} covered": covered,
            f"known analogy {group}": known,
        }
    figures["reviews accuracy"] = _reviews_accuracy(table)
    return figures


def _questions() -> dict[str, list[Analogy]]:
    """Return the analogies about meaning and those about forms of words."""
    found: dict[str, list[Analogy]] = {"semantic": [], "syntactic": []}
    for line in data.lines(ANALOGIES)[1:]:
        group, category, *words = line.split("\t")
        part = found["semantic" if group == "semantic" else "syntactic"]
        part.append(Analogy(category, *words))
    return found


def mean_reciprocal_rank(
    table: EmbeddingTable, questions: Sequence[Analogy], top: int = TOP
) -> tuple[float, float, float]:
    """Return the mean of 1 / rank by 3CosMul, of all and of the known questions, and their share.

    A rank below ``top`` counts as 0, and so does a question with an unknown word in the first
    mean. The question's own words are no answers.
    """
    asked = np.stack([row_ids(table, words, "tr") for words in zip(*questions, strict=True)][1:], 1)
    known = (asked >= 0).all(axis=1)
    if not known.any():
        return 0.0, 0.0, 0.0
    place = ranks(table.unit, asked[known])["3cosmul"][0]
    gain = np.where(place <= top, 1 / place, 0.0)
    return float(gain.sum() / len(questions)), float(gain.mean()), float(known.mean())


def _reviews_accuracy(table: EmbeddingTable) -> float:
    """Return how often a logistic regression on mean vectors tells whether a review is good."""
    train, test = reviews()
    W = fit(_means(table, train.texts), np.array(train.good, np.int64), 2)
    guessed = predict(_means(table, test.texts), W)
    return float(np.mean(guessed == np.array(test.good)))


def _means(table: EmbeddingTable, texts: Sequence[str]) -> Floats2d:
    """Return the mean of the unit vectors of every text's known words, (N, D)."""
    words = Vocabulary.words(table.vocab.tokens)
    stream = Corpus(texts, language="tr").encode(words, whole=True)
    means = np.zeros((len(texts), table.shape[1]), np.float32)
    for row, start, end in zip(means, stream.offsets, stream.offsets[1:], strict=False):
        if end > start:
            row[:] = table.unit[stream.ids[start:end]].mean(axis=0)
    return means
