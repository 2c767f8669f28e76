"""DefSent+: a small network of masked words, before and after it read a dictionary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple, cast

import numpy as np

from tokenspace import data
from tokenspace.claims import _glosses
from tokenspace.claims._settings import brown
from tokenspace.corpus import Corpus
from tokenspace.definitions import Definitions
from tokenspace.encode import trial
from tokenspace.encode.defsent import DefSent, task_of
from tokenspace.examples import Examples
from tokenspace.recipe import Recipe, make
from tokenspace.report import Claim
from tokenspace.rng import stream

SEVERAL, SINGLE, ASKED = 3_500, 2_000, 1_000  # entries of several definitions, of one; asked for
STEPS, BATCH, LONGEST, LR = 1_000, 64, 24, 1e-3
CLAIM = Claim(
    says="A network of masked words, trained by DefSent+ on a dictionary alone, ranks pairs of "
    "sentences more as people do than before",
    paper="arXiv:2405.16153",
    metric="points",
    better="higher",
    baseline="the network as it came, the mean of its states",
    margin=0.5,
    scale="paper: BERT and RoBERTa, 7 sets of STS; here: one network of 2 layers, 128 numbers and "
    "8,000 pieces, 1,000 steps of 64 texts by masked words on the Brown corpus and WordNet's "
    "definitions, then two rounds without independent components on some 12,000 definitions of "
    "5,400 entries (rate and rounds chosen on another network and the train set of SICK). points: "
    "Spearman x 100, mean of the trial set of SICK and the STS benchmark's development set; "
    "accuracy: percent of 1,000 definitions, held out, whose entry is among the ten nearest of all "
    "by the mean of its other definitions; words: points of DefSent (form=words) on the same "
    "dictionary; unlearned: points of the random weights (without these files: an untrained "
    "network, halves of invented texts)",
    budget_s=600.0,
)


class Material(NamedTuple):
    """What is learned from, and what is judged by; all but the network is one for all seeds."""

    texts: tuple[str, ...]
    definitions: Definitions
    asked: tuple[tuple[str, str], ...]
    judged: tuple[Examples, ...]


class Network(NamedTuple):
    """A network after masked words, the mean of its states, and the points of its first weights."""

    model: Any
    plain: Any
    unlearned: float


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return the correlation with people, and how often a definition finds its entry."""
    real = not smoke and at_hand()
    given, start = material(real), network(real)
    encoder = start.plain
    if method is not None:
        recipe = replace(cast("DefSent", method), rounds=2, lr=LR, pooling="mean", seed=seed)
        encoder = recipe(start.model, definitions=given.definitions)
    return {
        "points": _glosses.points(encoder, given.judged),
        "accuracy": 100 * found_entries(encoder, given.definitions, given.asked),
        "words": words_points(real, seed),
        "unlearned": start.unlearned,
    }


def at_hand() -> bool:
    """Tell whether the dictionary, the rated pairs and the corpus are on this machine."""
    return _glosses.at_hand() and data.available("lm/brown_dev.tsv.gz")


@lru_cache(maxsize=1)
def material(real: bool) -> Material:
    """Return the same for both sides and every seed."""
    if not real:
        bag = trial.bag(tiny=True)
        given = bag["definitions"]
        some = [(entry, texts[0]) for entry, texts in given][:20]
        judged = (_glosses.rated_halves(bag["examples"]),)
        return Material(tuple(bag["corpus"]), given, tuple(some), judged)
    every = Definitions.load(data.find("oewn_definitions_dev"))
    kept, asked = divided(every)
    texts = (*brown(), *dict.fromkeys(text for _, meanings in kept for text in meanings))
    return Material(texts, kept, asked, tuple(map(_glosses.rated, _glosses.SETS)))


def divided(every: Definitions) -> tuple[Definitions, tuple[tuple[str, str], ...]]:
    """Return entries to learn from, and a definition of some that none of what is learned has."""
    several, single = (
        [(entry, texts) for entry, texts in every if (len(texts) > 1) == more]
        for more in (True, False)
    )
    draw = stream(0, "entries")
    chosen = [several[i] for i in draw.permutation(len(several))[:SEVERAL]]
    chosen += [single[i] for i in draw.permutation(len(single))[:SINGLE]]
    asked = {entry: texts[int(draw.integers(len(texts)))] for entry, texts in chosen[:ASKED]}
    away = set(asked.values())
    rows = [(entry, text) for entry, texts in chosen for text in texts if text not in away]
    kept = Definitions(rows)
    left = set(kept.entries)
    return kept, tuple((entry, text) for entry, text in asked.items() if entry in left)


@lru_cache(maxsize=1)
def network(real: bool, seed: int = 0) -> Network:
    """Return what both sides start from at every seed."""
    from tokenspace.encode.defsent_net import with_pooling
    from tokenspace.nn.fresh import fresh_encoder
    from tokenspace.nn.sentence import copied, wrapped

    given = material(real)
    shape = {"vocab": 8000, "width": 128, "layers": 2, "heads": 4} if real else {}
    fresh = fresh_encoder(given.texts, longest=64, seed=seed, **shape)
    masked: Any = make(
        "dupmae", form="mlm", steps=STEPS if real else 20, batch=BATCH, lr=1e-3, longest=LONGEST,
        seed=seed,
    )  # fmt: skip
    model = masked(fresh, corpus=Corpus(given.texts))
    plain = wrapped(with_pooling(copied(model), "mean"))
    return Network(model, plain, _glosses.points(fresh, given.judged))


@lru_cache(maxsize=1)  # for both sides
def words_points(real: bool, seed: int) -> float:
    """Return the points of DefSent's form, which names single tokens."""
    given = material(real)
    recipe = DefSent(form="words", pooling="mean", lr=LR, batch=16, seed=seed)
    encoder = recipe(network(real).model, definitions=given.definitions)
    return _glosses.points(encoder, given.judged)


def found_entries(
    encoder: Any, definitions: Definitions, asked: Sequence[tuple[str, str]]
) -> float:
    """Return the share of definitions whose entry is among the ten nearest by cosine."""
    task = task_of(definitions)
    vectors = encoder.encode(task.texts).astype(np.float64)
    E = np.zeros((len(task.names), vectors.shape[1]))
    np.add.at(E, task.entry, vectors[task.text])
    E /= np.linalg.norm(E, axis=1, keepdims=True)
    place = {word: number for number, words in enumerate(task.names) for word in words}
    scores = encoder.encode([text for _, text in asked]).astype(np.float64) @ E.T
    own = scores[np.arange(len(asked)), [place[entry] for entry, _ in asked]]
    return float(np.mean((scores > own[:, None]).sum(axis=1) < 10))
