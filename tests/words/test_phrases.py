"""Phrases: scores and joins equal to a loop over words, pass by pass."""

from __future__ import annotations

import json
import math
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from tokenspace.corpus import Corpus
from tokenspace.data import zipf_text
from tokenspace.errors import ConfigError, FormatError, InputError
from tokenspace.words import PPMISVD, phrases
from tokenspace.words.phrases import Phrase, Phrases

NEW_YORK = [
    "we saw new york times",
    "new york is big",
    "a new idea",
    "york",
    "in new york times",
    "times",
]


def literal(
    texts: list[list[str]], score: str, threshold: float, min_count: int
) -> tuple[dict[tuple[str, str], float], list[list[str]]]:
    """Return the scores above the threshold, and the texts with these pairs joined."""
    n = Counter(word for text in texts for word in text)
    pairs = Counter(pair for text in texts for pair in pairwise(text))
    total = sum(n.values())
    found = {}
    for (a, b), times in pairs.items():
        if times < min_count:
            continue
        if score == "count":
            value = (times - min_count) * total / (n[a] * n[b])
        else:
            value = math.log(times * total / (n[a] * n[b])) / -math.log(times / total)
        if value > threshold:
            found[a, b] = value
    joined = []
    for text in texts:
        row, p = [], 0
        while p < len(text):
            if tuple(text[p : p + 2]) in found:
                row.append("_".join(text[p : p + 2]))
                p += 2
            else:
                row.append(text[p])
                p += 1
        joined.append(row)
    return found, joined


@pytest.mark.parametrize("block", [1, 100, 1 << 22])
@pytest.mark.parametrize(
    ("score", "thresholds"), [("count", (2.0, 1.5, 1.2)), ("npmi", (0.2, 0.1)), ("count", (1e9,))]
)
def test_every_pass_equals_a_loop(
    score: phrases.Score, thresholds: tuple[float, ...], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phrases, "BLOCK", block)
    corpus = Corpus(zipf_text(120, 30, 3, seed=5))
    found = Phrases.learn(corpus, thresholds=thresholds, score=score, min_count=2)
    texts = [text.split() for text in corpus]
    for threshold, own in zip(thresholds, found.passes, strict=True):
        expected, texts = literal(texts, score, threshold, 2)
        assert bool(own) == (threshold < 1e9)
        assert {(p.left, p.right): pytest.approx(p.score) for p in own} == expected
        assert [p.score for p in own] == sorted((p.score for p in own), reverse=True)
    assert [text.split() for text in found.join(corpus)] == texts


def test_new_york_by_hand() -> None:
    # 18 words; new and york 4 times each, new york 3 times: (3 - 1) 18 / 16 = 2.25. Then 15 units:
    # new_york and times 3 times each, new_york times twice: (2 - 1) 15 / 9 = 1.67.
    found = Phrases.learn(Corpus(NEW_YORK), thresholds=(2, 1.6), min_count=1)
    first, second = found.passes
    assert first == (Phrase("new", "york", 3, 2.25),)
    assert second == (Phrase("new_york", "times", 2, pytest.approx(15 / 9)),)
    assert list(found.join(Corpus(NEW_YORK))) == [
        "we saw new_york_times", "new_york is big", "a new idea", "york", "in new_york_times",
        "times",
    ]  # fmt: skip
    assert len(found) == 2


def test_a_phrase_never_reaches_into_another_text_and_no_text_is_lost() -> None:
    corpus = Corpus(["a b", "a", "b", "", "a b"])
    found = Phrases(((Phrase("a", "b", 2, 1.0),),), "+")
    assert list(found.join(corpus)) == ["a+b", "a", "b", "", "a+b"]


def test_joined_texts_are_read_again_and_trained_on() -> None:
    lines = [line.replace("a ", "a new york ", 1) for line in zipf_text(300, 30, 3)]
    joined = Phrases.learn(Corpus(lines), thresholds=(2.0,), score="count").join(Corpus(lines))
    assert list(joined) == list(joined)
    table = PPMISVD(dim=8, min_count=2)(joined)
    assert "new_york" in table.vocab.ids


def test_phrases_of_other_words_and_in_other_texts_change_nothing() -> None:
    found = Phrases(((Phrase("x", "y", 9, 9.0), Phrase("a", "z", 9, 9.0)),))
    assert list(found.join(Corpus(["a b", "y x"]))) == ["a b", "y x"]


def test_saved_phrases_are_the_same(tmp_path: Path) -> None:
    found = Phrases.learn(Corpus(NEW_YORK), thresholds=(2, 1.6), min_count=1, joiner="·")
    found.save(tmp_path / "phrases.json")
    assert Phrases.load(tmp_path / "phrases.json") == found
    (tmp_path / "phrases.json").write_text('{"passes": [["new york"]]}')
    with pytest.raises(FormatError, match="holds no phrases"):
        Phrases.load(tmp_path / "phrases.json")


def test_what_makes_no_sense_is_refused() -> None:
    corpus = Corpus(NEW_YORK)
    for thresholds in ((), (float("nan"),), (1.0, float("inf"))):
        with pytest.raises(ConfigError, match="at least one number"):
            Phrases.learn(corpus, thresholds=thresholds)
    with pytest.raises(ConfigError, match="'count', 'npmi'"):
        Phrases.learn(corpus, score="pmi")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="min_count=0"):
        Phrases.learn(corpus, min_count=0)
    for joiner in ("", " ", "a b"):
        with pytest.raises(ConfigError, match="white space"):
            Phrases.learn(corpus, joiner=joiner)
    with pytest.raises(InputError):
        Phrases.learn(Corpus(["..."]))


def test_the_command_writes_joined_lines_and_what_was_joined(cli, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("\n".join(NEW_YORK) + "\n")
    out, listed = str(tmp_path / "joined.txt"), str(tmp_path / "phrases.json")
    given = ["--corpus", str(tmp_path / "text.txt"), "--min-count", "1", "--threshold", "2"]
    ended = cli("words", "phrases", *given, "--out", out, "--phrases", listed)
    assert ended.code == 0, ended.err
    assert "pass 1: 1 phrases: new_york" in ended.out
    assert Path(out).read_text().splitlines()[1] == "new_york is big"
    assert len(Phrases.load(listed)) == 1
    ended = cli("words", "phrases", *given, "--out", out)
    assert ended.code == 2
    assert "exists" in ended.err
    ended = cli("words", "phrases", *given, "--threshold", "1.6", "--out", out, "--force", "--json")
    assert [len(each) for each in json.loads(ended.out)["passes"]] == [1, 1]
