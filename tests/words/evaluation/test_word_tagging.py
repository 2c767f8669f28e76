"""Entities by hand and against a literal scorer; taggers on tags that vectors tell."""

from __future__ import annotations

import numpy as np
import pytest

from tokenspace.errors import InputError
from tokenspace.words.evaluation import tagging
from tokenspace.words.evaluation.tagging import entities, entity_counts, split_sentences


@pytest.mark.parametrize(
    ("tags", "wanted"),
    [
        ("O B-PER I-PER O", [("PER", 1, 3)]),
        ("I-PER I-PER I-LOC", [("PER", 0, 2), ("LOC", 2, 3)]),
        ("B-PER B-PER", [("PER", 0, 1), ("PER", 1, 2)]),
        ("B-PER I-LOC", [("PER", 0, 1), ("LOC", 1, 2)]),
        ("S-ORG I-ORG", [("ORG", 0, 1), ("ORG", 1, 2)]),
        ("B-ORG E-ORG I-ORG", [("ORG", 0, 2), ("ORG", 2, 3)]),
        ("O E-ORG O", [("ORG", 1, 2)]),
        ("O O", []),
        ("", []),
    ],
)
def test_entities_by_hand(tags: str, wanted: list) -> None:
    assert entities(tags.split()) == wanted


def literal(tags: list[str]) -> set[tuple[str, int, int]]:
    """conlleval's two questions, asked between all neighbours, as its script words them."""

    def ends(p: str, t: str, p_type: str, t_type: str) -> bool:
        return p != "O" and (
            (p, t) in {("E", x) for x in "BIOES"} | {("S", x) for x in "BIOES"}
            | {(x, y) for x in "BI" for y in "BSO"} or p_type != t_type
        )  # fmt: skip

    def begins(p: str, t: str, p_type: str, t_type: str) -> bool:
        return t != "O" and (
            t in "BS" or (p in "ESO" and t in "EI") or p_type != t_type
        )  # fmt: skip

    found, start, before, kind = set(), 0, "O", ""
    for i, tag in enumerate([*tags, "O"]):
        mark, own = tag[0], tag[2:]
        if ends(before, mark, kind, own):
            found.add((kind, start, i))
        if begins(before, mark, kind, own):
            start = i
        before, kind = mark, own
    return found


def test_entities_are_those_of_the_conll_scorer() -> None:
    draw = np.random.default_rng(0)
    tags = ["O", *(f"{mark}-{kind}" for mark in "BIES" for kind in ("X", "Y"))]
    for _ in range(2000):
        row = [str(t) for t in draw.choice(tags, draw.integers(1, 9))]
        assert set(entities(row)) == literal(row), row


def test_counts_by_hand() -> None:
    assert entity_counts(["B-P", "I-P", "O", "B-L"], ["B-P", "I-P", "O", "B-P"]) == (1, 2, 2)


def corpus(count: int, seed: int) -> list:
    """Sentences whose tags follow from the word alone: animals, actions, and a particle."""
    draw = np.random.default_rng(seed)
    kinds = {"N": ["cat", "dog", "cow"], "V": ["eats", "sees"], "P": ["not"]}
    out = []
    for _ in range(count):
        tags = draw.choice(list(kinds), draw.integers(2, 6))
        out.append((tuple(str(draw.choice(kinds[t])) for t in tags), tuple(map(str, tags))))
    return out


def test_tags_that_vectors_tell_are_learned(make) -> None:
    words = ["cat", "dog", "cow", "eats", "sees", "not"]
    table = make(words, [[1, 0, 0.1], [1, 0, 0], [1, 0.1, 0], [0, 1, 0], [0.1, 1, 0], [0, 0, 1]])
    found = tagging(table, corpus(60, 0), corpus(20, 1), C=100.0)
    assert found.score.value == 1.0
    assert found.score.used == found.also["words"] == sum(len(w) for w, _ in corpus(20, 1))
    assert found.also["majority"] < 0.9
    assert np.isnan(found.also["unseen"])
    blind = tagging(make(["x"]), corpus(60, 0), corpus(20, 1))
    assert blind.score.value < 0.8  # nothing is known
    assert blind.also["known"] == 0
    assert len(blind.unknown) == 6


def test_entities_are_scored_whole(make) -> None:
    train = [(("ann", "lee", "met", "bob"), ("B-P", "I-P", "O", "B-P"))] * 20
    train += [(("bob", "met", "ann", "lee"), ("B-P", "O", "B-P", "I-P"))] * 20
    test = [*train[:1], (("bob", "met", "ann", "lee"), ("B-P", "O", "B-P", "I-L"))]
    table = make(["ann", "lee", "met", "bob"], np.eye(4))
    found = tagging(table, train, test, task="ner", C=100.0)
    # found: (ann lee), (bob); then (bob), (ann lee) where (ann) and (lee) were meant
    assert found.also["entities"] == 5
    assert found.also["precision"] == pytest.approx(3 / 4)
    assert found.also["recall"] == pytest.approx(3 / 5)
    assert found.score.value == pytest.approx(2 * 3 / (4 + 5))
    assert found.kind == "f1"


def test_every_fifth_sentence_is_tested() -> None:
    given = corpus(12, 0)
    train, test = split_sentences(given)
    assert test == [given[4], given[9]]
    assert len(train) == 10
    with pytest.raises(InputError, match="0 to test on"):
        tagging(None, given, [])  # type: ignore[arg-type]
