"""Sets out of a dictionary of seven entries, by hand."""

from __future__ import annotations

from collections import Counter

import pytest

from tokenspace.words.evaluation import wordnet


@pytest.fixture(autouse=True)
def nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_synsets", "_categories"):
        monkeypatch.setattr(wordnet, name, getattr(wordnet, name).__wrapped__)


DICTIONARY = [
    ["s0", "n", "noun.animal", "beast", "a living thing", ""],
    ["s1", "n", "noun.animal", "cat", "a small beast", "a cat sat"],
    ["s2", "n", "noun.animal", "dog | Hound", "a large beast", "the cat saw a dog"],
    ["s3", "n", "noun.artifact", "car", "a thing with wheels", "a cat in a car"],
    ["s4", "v", "verb.motion", "dog", "to follow", "he was dogged, cat"],
    ["s5", "n", "noun.animal", "cats", "several", ""],
    ["s6", "n", "noun.artifact", "wheel", "part of a car", "a car"],
]
RELATIONS = [["s1", "hypernym", "s0"], ["s2", "hypernym", "s0"], ["s5", "hypernym", "s1"],
             ["s6", "hypernym", "s3"], ["s6", "mero_part", "s0"]]  # fmt: skip


def test_categories_out_of_a_dictionary(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = {wordnet.DEFINITIONS: DICTIONARY, wordnet.RELATIONS: RELATIONS}
    monkeypatch.setattr(wordnet, "_rows", tables.__getitem__)
    monkeypatch.setattr(wordnet, "ROOTS", {"animal": "s0", "thing": "s3"})
    # dog is a verb, too; cats is a form of cat; Hound is no small word; wheel is below car
    assert wordnet.categories() == {"animal": ("cat", "beast"), "thing": ("car", "wheel")}
    found = wordnet.supersenses(1)
    assert found.names == ("noun.animal", "noun.artifact", "verb.motion")
    share = dict(zip(found.words, found.matrix.tolist(), strict=True))
    assert share["dog"] == [0.5, 0, 0.5]
    assert share["car"] == [0, 1, 0]
    assert "wheel" not in share  # the definitions have it in the plural only


def test_outliers_come_from_other_categories(monkeypatch: pytest.MonkeyPatch) -> None:
    words = {f"k{i}": tuple(f"{i}w{j}" for j in range(20)) for i in range(12)}
    monkeypatch.setattr(wordnet, "_categories", lambda: words)
    groups = wordnet.outliers()
    assert groups == wordnet.outliers()
    for name, inside, outside in groups:
        assert inside == words[name][:8]
        kinds = Counter(word.partition("w")[0] for word in outside)
        assert len(kinds) == 8
        assert name[1:] not in kinds
