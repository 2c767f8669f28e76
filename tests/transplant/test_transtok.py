from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from tokenspace.errors import InputError
from tokenspace.pairs import Pairs
from tokenspace.table import EmbeddingTable
from tokenspace.transplant.transtok import TransTok, _words, align, inherit, mix, spread_count
from tokenspace.transplant.trial import bag, judge
from tokenspace.vocab import Vocabulary

HAUS = [["the", "house"], ["the", "book"], ["a", "book"]]
DAS = [["das", "Haus"], ["das", "Buch"], ["ein", "Buch"]]


def byte_level(*words: str) -> Vocabulary:
    """Return a byte-level BPE of all letters and these words, each merged letter by letter."""
    tokens = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = []
    for word in words:
        spelled = word.replace(" ", "Ġ")
        for end in range(2, len(spelled) + 1):
            if spelled[:end] not in tokens:
                merges.append((spelled[: end - 1], spelled[end - 1]))
                tokens.append(spelled[:end])
    ids = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return Vocabulary.of(tokenizer)


def found(
    left: Sequence[Sequence[str]], right: Sequence[Sequence[str]], **how: float
) -> dict[tuple[str, str], tuple[float, float]]:
    """Return (count, probability) by the two words."""
    a = align(left, right, **how)
    pairs = zip(a.source, a.target, a.counts, a.probabilities, strict=True)
    return {(a.words[0][s], a.words[1][t]): (c, p) for s, t, c, p in pairs}


def test_one_round_by_hand() -> None:
    # Knight's example: all links count 1/2 at first, and "das" has seen the twice.
    pairs = found(HAUS, DAS, iterations=1, tension=0, null=0)
    assert {key: p for key, (_, p) in pairs.items()} == pytest.approx(
        {
            ("the", "das"): 1 / 2,
            ("house", "das"): 1 / 4,
            ("book", "das"): 1 / 4,
            ("the", "Haus"): 1 / 2,
            ("house", "Haus"): 1 / 2,
            ("the", "Buch"): 1 / 4,
            ("book", "Buch"): 1 / 2,
            ("a", "Buch"): 1 / 4,
            ("a", "ein"): 1 / 2,
            ("book", "ein"): 1 / 2,
        }
    )
    # and then "the" of the first sentence goes by 1/2 to das and by 1/2 to Haus, of the second
    # by 1/2 to das and 1/4 to Buch
    assert pairs["the", "das"][0] == pytest.approx(1 / 2 + 2 / 3)


def literal(
    left: list[list[str]], right: list[list[str]], rounds: int, tension: float, null: float
) -> dict[tuple[str, str], tuple[float, float]]:
    """Transcribe the page's equations with dictionaries."""
    theta: dict[tuple[str, str], float] = defaultdict(lambda: 1.0)
    for step in range(rounds + 1):
        c: dict[tuple[str, str], float] = defaultdict(float)
        for f, e in zip(left, right, strict=True):
            for i, word in enumerate(f):
                gaps = [abs((i + 0.5) / len(f) - (j + 0.5) / len(e)) for j in range(len(e))]
                a = np.exp(-tension * np.array(gaps))
                a *= (1 - null) / a.sum()
                p = [a[j] * theta[word, other] for j, other in enumerate(e)]
                p.append(null * theta[word, ""])
                for other, share in zip([*e, ""], np.array(p) / sum(p), strict=True):
                    c[word, other] += share
        if step < rounds:
            sums: dict[str, float] = defaultdict(float)
            for (_, other), count in c.items():
                sums[other] += count
            theta = defaultdict(float, {k: v / max(sums[k[1]], 1e-300) for k, v in c.items()})
    return {key: (count, theta[key]) for key, count in c.items() if key[1]}


@pytest.mark.parametrize(("rounds", "tension", "null"), [(1, 0.0, 0.0), (4, 4.0, 0.08)])
def test_alignment_equals_the_literal_algorithm(rounds: int, tension: float, null: float) -> None:
    draw = np.random.default_rng(0)
    left, right = (
        [[f"{side}{w}" for w in draw.integers(0, 12, draw.integers(1, 7))] for _ in range(60)]
        for side in "fe"
    )
    ours = found(left, right, iterations=rounds, tension=tension, null=null)
    theirs = literal(left, right, rounds, tension, null)
    assert ours.keys() == theirs.keys()
    for key in ours:
        assert ours[key] == pytest.approx(theirs[key], rel=1e-9, abs=1e-12)


def test_more_rounds_find_the_dictionary() -> None:
    pairs = found(HAUS, DAS, iterations=50, tension=0, null=0)
    for pair in (("the", "das"), ("house", "Haus"), ("book", "Buch"), ("a", "ein")):
        assert pairs[pair][1] > 0.98


def test_great_tension_aligns_in_order() -> None:
    draw = np.random.default_rng(1)
    left = [[f"f{w}" for w in draw.integers(0, 9, 5)] for _ in range(20)]
    right = [["e" + word[1:] for word in line] for line in left]
    pairs = found(left, right, tension=100, null=0)
    met = {key for key, (count, _) in pairs.items() if count > 0.01}
    assert met == {(word, "e" + word[1:]) for line in left for word in line}


def test_a_count_is_spread_half_evenly_and_half_in_order() -> None:
    counts: dict[int, dict[int, float]] = {}
    spread_count(counts, [1, 2], [7, 8, 9], 12.0)
    # evenly: 6 / 6 to every pair; in order, stretched to 6 places: 1 1 1 2 2 2 on 7 7 8 8 9 9
    assert counts == {7: {1: 3, 2: 1}, 8: {1: 2, 2: 2}, 9: {1: 1, 2: 3}}
    spread_count(counts, [5], [7], 4.0)
    assert counts[7] == {1: 3, 2: 1, 5: 4}


def test_words_carry_their_space_and_ideographs_stand_alone() -> None:
    pairs = Pairs([("A dog's\tlife, no?", "\u72d7\u7684 x1")] * 50 + [("word " * 201, "x")] * 3)
    left, right, skipped = _words(pairs)
    assert left[0] == [" A", " dog", "'", "s", " life", ",", " no", "?"]
    assert right[0] == [" \u72d7", "\u7684", " x1"]
    assert (len(left), skipped) == (50, 3)


def spoken(
    source: Vocabulary, target: Vocabulary, **how: float
) -> tuple[EmbeddingTable, Vocabulary]:
    text = [("the dog runs", "der hund rennt"), ("the cat sleeps", "der kater schlaeft")] * 30
    text += [("a dog sleeps", "ein hund schlaeft"), ("a cat runs", "ein kater rennt")] * 30
    eye = EmbeddingTable(source, np.eye(len(source), dtype=np.float32))
    return TransTok(iterations=30, **how)(eye, target, parallel=Pairs(text)), source


def test_a_word_gets_the_row_of_its_translation() -> None:
    source = byte_level(" the", " a", " dog", " cat", " runs", " sleeps")
    target = byte_level(" der", " ein", " hund", " kater", " rennt", " schlaeft")
    table, source = spoken(source, target, null=0.0)
    for word, other in ((" hund", " dog"), (" kater", " cat"), (" rennt", " runs")):
        row = table.row(word.replace(" ", "Ġ"))
        assert row[source.id(other.replace(" ", "Ġ"))] > 0.95
        assert row.sum() == pytest.approx(1, abs=1e-5)
    # " hun" is met in no word, but " hund" begins with it
    assert table.row("Ġhun")[source.id("Ġdog")] > 0.95
    assert table.notes["aligned"] == 6
    assert table.notes["mean"] == 0


def test_inheritance_and_numbers_by_hand() -> None:
    source = byte_level(" the", " dog", " dogs", "20")
    target = byte_level(" hund", "hundx", "19", "2024")
    text = [("the dog", "hund")] * 60
    eye = EmbeddingTable(source, np.eye(len(source), dtype=np.float32))
    table = TransTok(tension=0, null=0)(eye, target, parallel=Pairs(text))
    the, dog = source.id("Ġthe"), source.id("Ġdog")
    hund = np.zeros(len(source))
    hund[[the, dog]] = 1 / 2
    np.testing.assert_allclose(table.row("Ġhund"), hund, atol=1e-6)
    # "hund" is a suffix of " hund"; "hundx" is in nothing, and holds no token with counts but
    # its letters, which stand for themselves (each 1000 of its own, none of which starts a word)
    np.testing.assert_allclose(table.row("hund"), hund, atol=1e-6)
    spelled = np.zeros(len(source))
    spelled[[source.id(letter) for letter in "hundx"]] = 1 / 5
    np.testing.assert_allclose(table.row("hundx"), spelled, atol=1e-6)
    year = np.zeros(len(source))
    year[[source.id("20"), source.id("2"), source.id("4")]] = 1 / 3
    np.testing.assert_allclose(table.row("2024"), year, atol=1e-6)
    notes = table.notes
    assert notes["numbers"] == 3  # 19, 202, 2024
    assert notes["words"] == 2


def test_a_translation_that_starts_a_word_counts_twice() -> None:
    source = byte_level(" dog", "s")
    target = byte_level(" dogz")
    text = [("dogs", "dogz")] * 60
    eye = EmbeddingTable(source, np.eye(len(source), dtype=np.float32))
    table = TransTok(min_count=1)(eye, target, parallel=Pairs(text))
    even = table.row("Ġdogz")
    assert even[source.id("Ġdog")] == pytest.approx(1 / 2)
    # " do" is copied from the source; "Ġdog" too: nothing inherits here but by letters
    assert table.notes["longer"] == table.notes["contained"] == 0


def test_counts_become_rows_by_hand() -> None:
    source, target = byte_level(" dog", "pup"), byte_level(" hund")
    dog, pup = source.id("Ġdog"), source.id("pup")
    hund, short, letter = target.id("Ġhund"), target.id("Ġhun"), target.id("x")
    counts = {hund: {dog: 1.0, pup: 3.0}}
    assert inherit(counts, target, [short, letter], source) == (1, 0)
    # 1000 of its counts, of which those of " dog", which starts a word, twice: 500 and 750
    assert counts[short] == pytest.approx({dog: 500, pup: 750})
    rows = np.full((len(target), 2), 9, np.float32)
    E = np.zeros((len(source), 2), np.float32)
    E[dog], E[pup] = (1, 0), (0, 1)
    assert mix(rows, counts, [short, hund, letter], E) == [short, hund]
    np.testing.assert_allclose(rows[[hund, short, letter]], [[0.25, 0.75], [0.4, 0.6], [9, 9]])


def test_the_trials_dictionary_is_found() -> None:
    given = bag(tiny=True)
    table = TransTok()(given["source"], given["target"], parallel=given["parallel"])
    mean = np.broadcast_to(given["source"].vectors.mean(axis=0), table.shape).copy()
    assert judge(table, given)["cosine"] > judge(table.replace(vectors=mean), given)["cosine"] + 0.1


def test_bad_input_is_refused() -> None:
    given = bag(tiny=True)
    few = Pairs([("one two", "eins zwei")] * 49 + [("  \t ", "leer")] * 9)
    with pytest.raises(InputError, match="49 of 58 sentence pairs are usable, it needs 50"):
        TransTok()(given["source"], given["target"], parallel=few)


def test_matrices_side_by_side_get_the_rows_that_each_would_get() -> None:
    given = bag(tiny=True)
    source, other = given["source"], np.sqrt(np.abs(given["source"].vectors))
    both = source.replace(vectors=np.concatenate([source.vectors, other], axis=1))
    rows = [
        TransTok()(table, given["target"], parallel=given["parallel"]).vectors
        for table in (source, source.replace(vectors=other), both)
    ]
    np.testing.assert_allclose(rows[2], np.concatenate(rows[:2], axis=1), atol=1e-6)
