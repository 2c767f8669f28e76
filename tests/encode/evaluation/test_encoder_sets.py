"""The sets of encoders: cut by a seed, always the same, and on this machine where data are."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tokenspace import data
from tokenspace.encode.evaluation import choose
from tokenspace.encode.evaluation.sets import (
    ANSWERS,
    BUILT_IN,
    CANDIDATES,
    SETS,
    Chosen,
    _cut_search,
    _matched,
    _with_candidates,
)
from tokenspace.encode.evaluation.tasks import FAMILIES, Labelled, Scored, Search
from tokenspace.significance import needed

EVERY = [Chosen(family, name) for family, sets in {**SETS}.items() for name in sets]
OWN = [Chosen(family, name) for family, sets in BUILT_IN.items() for name in sets]


def test_every_family_has_sets_enough_for_two_models_and_a_built_in_one() -> None:
    assert list(SETS) == list(BUILT_IN) == list(FAMILIES)
    for sets in SETS.values():
        assert len(sets) >= needed(1)
    known = {source.name for source in data.sources()}
    assert {file for sets in SETS.values() for file, _ in sets.values()} <= known


def check(item: Chosen, limit: int) -> None:
    given = item.load(limit=limit)
    again = item.load(limit=limit)
    assert given == again
    if isinstance(given, Scored):
        assert len(given.scores) == len(set(zip(given.first, given.second, strict=True))) <= limit
        assert len(set(given.scores)) > 1
        assert item.family != "pair_classification" or set(given.scores) == {0.0, 1.0}
    elif isinstance(given, Labelled):
        assert len(given.texts) == len(given.labels) <= limit
        assert len(set(given.labels)) > 1
        assert all(text.strip() for text in given.texts)
    else:
        assert isinstance(given, Search)
        assert len(given.docs) <= limit
        assert all(right for right in given.relevant)
        assert (given.candidates is not None) == (item.family == "reranking")
        for own, right in zip(
            given.candidates or [], given.relevant, strict=bool(given.candidates)
        ):
            assert right < set(own)
            assert len(own) <= len(right) + CANDIDATES


@pytest.mark.parametrize("item", OWN, ids=lambda item: item.family)
def test_built_in_sets(item: Chosen) -> None:
    assert item.available
    check(item, 80)
    assert item.load(limit=80) != item.load(limit=80, seed=1)


@pytest.mark.data
def test_local_sets() -> None:
    for item in EVERY:
        if item.available:
            check(item, 40)


@pytest.mark.data
def test_no_pair_is_asked_in_two_sets() -> None:
    seen: set[frozenset[str]] = set()
    for item in EVERY:
        if item.family == "sts" and item.available:
            given = item.load(limit=10_000)
            own = {frozenset(pair) for pair in zip(given.first, given.second, strict=True)}
            assert not own & seen, item.name
            seen |= own


def test_a_cut_collection_has_no_answer_that_is_not_marked() -> None:
    draw = np.random.default_rng(0)
    docs = [f"d{i}" for i in range(200)]
    relevant = [set(draw.choice(200, 15, replace=False).tolist()) for _ in range(20)]
    cut = _cut_search([f"q{i}" for i in range(20)], docs, relevant, draw, 60)
    assert len(cut.docs) == 60
    assert 0 < len(cut.queries) <= 12
    for query, right in zip(cut.queries, cut.relevant, strict=True):
        truth = {f"d{i}" for i in relevant[int(query[1:])]}
        assert {cut.docs[i] for i in right} == truth & set(cut.docs)
        assert len(right) >= ANSWERS


def test_candidates_are_the_answers_and_what_bm25_puts_first() -> None:
    docs = [f"word{i} word{i + 1} filler" for i in range(60)]
    search = Search(["word5 word6", "nothing known"], docs, [frozenset({40}), frozenset({1})])
    found = _with_candidates(search).candidates
    assert {5, 6, 40} <= set(found[0])
    assert [len(own) for own in found] == [1 + CANDIDATES] * 2


def test_matched_pairs_hold_no_wrong_zero() -> None:
    groups = {"g": [("a", "x"), ("b", "y"), ("a", "z"), ("c", "y")], "h": [("d", "w")]}
    for seed in range(20):
        rows = list(_matched(groups, np.random.default_rng(seed)))
        own = {(text, right) for group in groups.values() for text, right in group}
        counts = Counter(score for *_, score in rows)
        assert counts[1.0] == 5
        assert all(((text, other) in own) == (score == 1.0) for text, other, score in rows)


def test_names_resolve_to_sets() -> None:
    assert choose(["sts:sts2017"]) == [Chosen("sts", "sts2017")]
    assert choose(["ag_news"]) == [
        Chosen("classification", "ag_news"), Chosen("clustering", "ag_news"),
    ]  # fmt: skip
    assert choose(["cran", "retrieval:cran"])[0] == Chosen("retrieval", "cran")
    assert len(choose(["cran", "retrieval:cran"])) == 2
    assert {item.name for item in choose(["python"])} == {"python"}
