"""What frozen word vectors alone tell about the tags of words in sentences.

The tagger is a logistic regression on the vectors of a word and of its neighbours: nothing else,
neither spelling nor the tags before it, so that the vectors decide.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from tokenspace.arrays import Floats2d, Ids
from tokenspace.errors import InputError
from tokenspace.logistic import fit, predict
from tokenspace.resampling import scored
from tokenspace.table import EmbeddingTable
from tokenspace.words.evaluation.lookup import Found, Oov, find
from tokenspace.words.evaluation.results import Result

__all__ = ["Sentence", "entities", "entity_counts", "split_sentences", "tagging"]

Sentence = tuple[tuple[str, ...], tuple[str, ...]]
"""The words of a sentence, and their tags."""

WINDOW = 2  # neighbours to each side
EVERY = 5  # one sentence of so many is tested on


def split_sentences(given: Sequence[Sentence]) -> tuple[list[Sentence], list[Sentence]]:
    """Return the sentences to learn from, and every fifth one, to test on."""
    return (
        [sentence for i, sentence in enumerate(given) if i % EVERY != EVERY - 1],
        list(given[EVERY - 1 :: EVERY]),
    )


def tagging(
    table: EmbeddingTable,
    train: Sequence[Sentence],
    test: Sequence[Sentence],
    *,
    name: str = "tags",
    task: Literal["pos", "ner"] = "pos",
    oov: Oov = "skip",
    language: str = "",
    seed: int = 0,
    resamples: int = 1000,
    C: float = 10.0,
) -> Result:
    """Return the accuracy of tags (``"pos"``) or the F1 of entities (``"ner"``) on ``test``.

    Features of a word are the vectors of length 1 of the five words around it. No word can be left
    out of a sentence: an unknown one has the zero vector, with ``oov="mean"`` the mean one. The
    interval draws words (``pos``) or sentences (``ner``). ``also`` has the accuracy on words that
    ``train`` lacks (``unseen``), that of the most frequent tag (``majority``), and for entities
    precision and recall.
    """
    if not train or not test:
        raise InputError(
            f"{name}: {len(train)} sentences to learn from, {len(test)} to test on",
            hint="give at least five tagged sentences",
        )
    words = sorted({word for part in (train, test) for own, _ in part for word in own})
    found = find(table, words, oov="mean" if oov == "mean" else "zero", language=language)
    place = {word: index for index, word in enumerate(words)}
    tags = sorted({tag for _, own in train for tag in own})
    number = {tag: index for index, tag in enumerate(tags)}
    X, y = _windows(found, train, place), _numbers(train, number)
    W = fit(X, y, len(tags), C=C, iterations=100)
    guessed = predict(_windows(found, test, place), W)
    truth = _numbers(test, number)
    right = (guessed == truth).astype(np.float64)
    seen = {word for own, _ in train for word in own}
    fresh = np.array([word not in seen for own, _ in test for word in own], np.bool_)
    also = {
        "majority": float((truth == np.bincount(y).argmax()).mean()),
        "unseen": float(right[fresh].mean()) if fresh.any() else float("nan"),
        "words": float(len(truth)),
        "known": float(np.mean([found.known[place[word]] for own, _ in test for word in own])),
    }
    if task == "pos":
        return Result(
            task=task, set=name, measure="accuracy", score=scored("share", right, seed, resamples),
            kind="share", items=right, unknown=found.unknown, also=also,
        )  # fmt: skip
    ends = np.cumsum([len(own) for own, _ in test])[:-1]
    named = [[tags[i] for i in row] for row in np.split(guessed, ends)]
    counts = np.array(
        [entity_counts(own, mine) for (_, own), mine in zip(test, named, strict=True)], np.float64
    )
    hits, predicted, given = counts.sum(axis=0).tolist()
    also["precision"] = hits / predicted if predicted else float("nan")
    also["recall"] = hits / given if given else float("nan")
    also["accuracy"] = float(right.mean())
    also["entities"] = given
    return Result(
        task=task, set=name, measure="f1", score=scored("f1", counts, seed, resamples),
        kind="f1", items=counts, unknown=found.unknown, also=also,
    )  # fmt: skip


def _windows(found: Found, sentences: Sequence[Sentence], place: dict[str, int]) -> Floats2d:
    """Return the features of every word, (N, 5 D); beyond a sentence's ends they are zero."""
    lengths = np.linalg.norm(found.vectors, axis=1, keepdims=True)
    unit = found.vectors / np.where(lengths > 0, lengths, 1)
    rows = np.concatenate([unit, np.zeros((1, unit.shape[1]))])
    none = len(found.vectors)
    ids = []
    for own, _ in sentences:
        padded = [none] * WINDOW + [place[word] for word in own] + [none] * WINDOW
        ids += [padded[i : i + 2 * WINDOW + 1] for i in range(len(own))]
    windows = np.array(ids, np.int64).reshape(-1, 2 * WINDOW + 1)
    return np.ascontiguousarray(rows[windows].reshape(len(windows), -1), np.float32)


def _numbers(sentences: Sequence[Sentence], number: dict[str, int]) -> Ids:
    """Return the number of every tag in one array; -1 for a tag that was not learned."""
    return np.array([number.get(tag, -1) for _, own in sentences for tag in own], np.int64)


def entities(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """Return the entities of a sentence: their type, first word, and last word plus one.

    As the CoNLL scorer and seqeval read tags: ``B-X`` begins an entity; ``I-X`` goes on with one of
    type X, or begins one after anything else; ``E-X`` ends one, ``S-X`` is one word; ``O`` is none.
    """
    return list(_entities(tags))


def _entities(tags: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    start, kind, former = 0, "", "O"
    for place, tag in enumerate((*tags, "O")):
        mark, _, own = tag.partition("-")
        own = "" if mark == "O" else own or "_"
        inside = mark in ("I", "E") and former in ("B", "I") and own == kind
        if kind and not inside:
            yield kind, start, place
            kind = ""
        if own and not inside:
            start, kind = place, own
        former = mark if own else "O"


def entity_counts(given: Sequence[str], predicted: Sequence[str]) -> tuple[int, int, int]:
    """Return how many entities of a sentence were found exactly, were predicted, and are there."""
    true, guessed = set(entities(given)), set(entities(predicted))
    return len(true & guessed), len(guessed), len(true)
