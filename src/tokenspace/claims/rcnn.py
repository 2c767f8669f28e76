"""RCNN: contexts without an end against a window of three words, under the same maximum."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple, cast

import numpy as np

from tokenspace import data
from tokenspace.claims._documents import halves
from tokenspace.corpus import Corpus
from tokenspace.encode.rcnn import RCNN, chosen, rows_of
from tokenspace.encode.static import flat_ids
from tokenspace.labels import Labels
from tokenspace.recipe import Recipe
from tokenspace.report import Claim
from tokenspace.rng import derive, stream
from tokenspace.table import EmbeddingTable
from tokenspace.words.sgns import SGNS

__all__ = ["CLAIM", "measure"]

GROUPS = {
    "comp.": "computers",
    "rec.": "leisure",
    "talk.politics.": "politics",
    "alt.atheism": "religion",
    "soc.religion.": "religion",
    "talk.religion.": "religion",
}
CLAIM = Claim(
    says="With states of words from contexts without an end, the class of a text is found more "
    "often than with states from windows of three words, all else being equal",
    paper="AAAI 2015 (Lai, Xu, Liu, Zhao)",
    metric="f1",
    better="higher",
    baseline="a convolution over three words in place of the scans, as many units",
    margin=0.005,
    scale="paper: the four groups of 20 newsgroups, 15,000 posts, vectors of Wikipedia, 96.5 "
    "against 94.8; here: 1,500 posts of these groups, a half of them for training, and vectors of "
    "50 dimensions of one million words (this half, other groups, Brown). f1: mean F1 of the four "
    "classes on the other half; f1_mean: of a logistic regression on the mean of the same vectors. "
    "A seed divides the posts and trains. Without these files: invented texts",
    budget_s=600.0,
)


class Material(NamedTuple):
    """Texts and labels of both halves, and the vectors that every side begins with."""

    known: list[str]
    labels: list[str]
    asked: list[str]
    answers: list[str]
    table: EmbeddingTable


def measure(method: Recipe | None, seed: int, *, smoke: bool) -> dict[str, float]:
    """Return the macro ``f1`` on the unknown half, and ``f1_mean``, the same for both sides."""
    recipe = replace(cast("RCNN", method or RCNN()), seed=seed)
    if smoke:
        recipe = replace(recipe, epochs=2, context=8, hidden=8)
    given = material(seed, smoke=smoke)
    if method is None:
        found = convolution(recipe, given)
    else:
        encoder = recipe(Corpus(given.known), labels=Labels(given.labels), table=given.table)
        found = encoder.classify(given.asked)
    return {"f1": _f1(given.answers, found), "f1_mean": _mean(given)}


@lru_cache(maxsize=1)  # both sides are measured on the same
def material(seed: int, *, smoke: bool) -> Material:
    """Divide the posts at random and learn vectors of the known half and of other text."""
    names = ("newsgroups20_dev", "lm/brown_dev.tsv.gz")
    sgns = SGNS(dim=50, epochs=2 if smoke else 10, min_count=2, threads=1, seed=seed)
    if smoke or not all(data.available(name) for name in names):
        made = halves(names[0], seed, smoke=True)
        return Material(
            made.known,
            made.labels.tolist(),
            made.asked,
            made.answers.tolist(),
            sgns(Corpus(made.known)),
        )
    posts = [(_group(label), text) for label, text in data.labelled(names[0])]
    pairs = [(label, text) for label, text in posts if label]
    others = [text for label, text in posts if not label]
    others += [line.split("\t")[2] for line in data.lines(names[1])[1:]]
    order = stream(seed, "halves").permutation(len(pairs)).tolist()
    half = len(order) // 2
    (labels, known), (answers, asked) = (
        ([pairs[i][0] for i in part], [pairs[i][1] for i in part])
        for part in (order[:half], order[half:])
    )
    return Material(known, labels, asked, answers, sgns(Corpus([*known, *others])))


def _group(label: str) -> str:
    return next((name for start, name in GROUPS.items() if label.startswith(start)), "")


def convolution(recipe: RCNN, given: Material) -> list[str]:
    """Return the answers of the convolution, trained as ``recipe`` trains."""
    from tokenspace.claims._window_net import initial
    from tokenspace.encode.rcnn_net import read, train

    names = sorted(set(given.labels))
    vocab, E = rows_of(Corpus(given.known), given.table, recipe.dim, 1, recipe.seed)
    targets = np.array([names.index(label) for label in given.labels], np.int64)
    seed = derive(recipe.seed, recipe.name)
    net = initial(E, recipe.hidden, len(names), seed=seed)
    train(
        net,
        *flat_ids(vocab, given.known),
        targets,
        chosen(targets, recipe.held_out, recipe.seed),
        epochs=recipe.epochs,
        lr=recipe.lr,
        batch_size=recipe.batch_size,
        threads=recipe.threads,
        seed=seed,
    )
    W, b = (part.detach().numpy() for part in (net.out.weight, net.out.bias))
    found = [""] * len(given.asked)
    for part in read(net, *flat_ids(vocab, given.asked), 32):
        best = (part.z @ W.T + b).argmax(axis=1).tolist()
        for number, index in zip(part.numbers.tolist(), best, strict=True):
            found[number] = names[index]
    return found


def _mean(given: Material) -> float:
    """Return the F1 of a logistic regression on the means of the vectors."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    from tokenspace.encode.static import StaticEncoder

    encoder = StaticEncoder(*rows_of(Corpus(given.known), given.table, 0, 1, 0))
    grid = GridSearchCV(LogisticRegression(max_iter=1000), {"C": (1.0, 10.0, 100.0)}, cv=5)
    grid.fit(encoder.encode(given.known), given.labels)
    return _f1(given.answers, grid.predict(encoder.encode(given.asked)).tolist())


def _f1(answers: list[str], found: list[str]) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(answers, found, average="macro"))
