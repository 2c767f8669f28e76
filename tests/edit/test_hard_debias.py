"""HardDebias by hand in the plane and in space, against the authors' steps, and its pitfalls."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tokenspace.edit import HardDebias
from tokenspace.edit._subspace import subspace, unit
from tokenspace.edit.trial import bag
from tokenspace.errors import ConfigError, InputError
from tokenspace.metrics import cosine
from tokenspace.recipe import apply
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary
from tokenspace.word_sets import WordSets


def table(**rows: list[float]) -> EmbeddingTable:
    return EmbeddingTable(Vocabulary.words(list(rows)), np.array(list(rows.values()), np.float32))


PLANE = table(
    she=[0.6, 0.8, 0], he=[-0.6, 0.8, 0], her=[0.8, 0, 0.6], his=[-0.8, 0, 0.6],
    queen=[0.6, 0, 0.8], king=[-0.36, 0.48, 0.8], nurse=[1.2, 1.6, 0], beard=[-1, 0, 0],
)  # fmt: skip
PAIRS = WordSets([["she", "he"], ["her", "his"]])


def test_neutralise_and_equalise_by_hand() -> None:
    made = HardDebias()(
        PLANE, definitional=PAIRS, equalize=WordSets([["queen", "king"]]),
        specific=WordSets(["beard"]),
    )  # fmt: skip
    rows = dict(zip(made.vocab.tokens, made.vectors, strict=True))
    np.testing.assert_allclose(rows["nurse"], [0, 2, 0], atol=1e-6)  # its length is still 2
    for word in ("beard", "she", "he", "her", "his"):
        np.testing.assert_array_equal(rows[word], PLANE.row(word))
    nu = np.array([0, 0.24, 0.8])  # the middle of queen and king without its first number
    z = np.sqrt(1 - nu @ nu)
    np.testing.assert_allclose(rows["queen"], nu + z * np.eye(3)[0], atol=1e-6)
    np.testing.assert_allclose(rows["king"], nu - z * np.eye(3)[0], atol=1e-6)
    assert made.notes["report"]["metrics"]["direct_bias_after"] < 1e-7


def test_every_neutral_word_is_as_near_to_both_sides() -> None:
    given = bag(tiny=True)
    made = apply(HardDebias(), given)
    ids = made.vocab.ids
    for first, second in given["equalize"]:
        words = made.vectors[24:-1]
        left, right = (np.tile(made.row(w), (len(words), 1)) for w in (first, second))
        np.testing.assert_allclose(cosine(words, left), cosine(words, right), atol=1e-6)
    assert ids == given["source"].vocab.ids


def test_against_the_authors_steps() -> None:
    """The steps of their code in float64; every equalised word is in its list of specific ones."""
    given = bag(tiny=True)
    source, pairs = given["source"], [*given["definitional"]]
    W = {w: v / np.linalg.norm(v) for w, v in zip(source.vocab.tokens, source.vectors, strict=True)}
    W = {w: v.astype(np.float64) for w, v in W.items()}
    matrix = []
    for a, b in pairs:
        matrix += [W[a] - (W[a] + W[b]) / 2, W[b] - (W[a] + W[b]) / 2]
    g = np.linalg.eigh(np.array(matrix).T @ matrix)[1][:, -1]
    specific = {*given["specific"].words, *given["equalize"].words}
    for word in W.keys() - specific:
        W[word] = W[word] - (W[word] @ g) * g
        W[word] /= np.linalg.norm(W[word])
    for a, b in given["equalize"]:
        y = (W[a] + W[b]) / 2
        y = y - (y @ g) * g
        z = np.sqrt(1 - y @ y) * (-1 if (W[a] - W[b]) @ g < 0 else 1)
        W[a], W[b] = z * g + y, -z * g + y
    made = apply(HardDebias(unit=True), given)
    np.testing.assert_allclose(made.vectors, [W[w] for w in made.vocab.tokens], atol=1e-6)


def test_several_classes_lie_on_one_sphere_around_their_middle() -> None:
    draw = np.random.default_rng(0)
    words = [f"w{i}" for i in range(40)]
    source = EmbeddingTable(
        Vocabulary.words(words), draw.standard_normal((40, 8)).astype(np.float32)
    )
    sets = WordSets([words[0:3], words[3:6], words[6:9]])
    made = HardDebias(k=2, unit=True)(source, definitional=sets)
    basis = subspace([unit(source.vectors[i : i + 3]) for i in (0, 3, 6)], 2).basis
    np.testing.assert_allclose(made.vectors[9:] @ basis.T, 0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(made.vectors, axis=1), 1, atol=1e-6)
    for i in (0, 3, 6):
        cosines = made.vectors[9:] @ made.vectors[i : i + 3].T
        np.testing.assert_allclose(cosines, cosines[:, :1] + np.zeros(3), atol=1e-6)


def test_equalise_words_are_never_neutralised_first() -> None:
    """Were they, king and queen would have nothing left that tells their sides."""
    made = HardDebias()(PLANE, definitional=PAIRS, equalize=WordSets([["king", "queen"]]))
    assert made.row("queen")[0] > 0 > made.row("king")[0]


def test_sets_are_equalised_in_all_casings_and_in_the_order_of_the_file() -> None:
    rows = {w: PLANE.row(w).tolist() for w in PLANE.vocab.tokens}
    more = table(**rows, Queen=[0.6, 0, 0.8], King=[-0.6, 0.8, 0], QUEEN=[0, 0, 1])
    made = HardDebias()(
        more, definitional=PAIRS, equalize=WordSets([["queen", "king"], ["queen", "beard"]])
    )
    assert made.row("Queen")[0] == pytest.approx(-made.row("King")[0])
    assert abs(made.row("queen")[0]) == pytest.approx(-made.row("beard")[0], abs=1e-6)
    lines = " ".join(made.notes["report"]["notes"])
    assert "3 sets of words are equalised" in lines
    assert "in several sets, with the values of the last: queen" in lines


def test_a_set_without_sides_and_a_word_that_is_all_bias_are_named() -> None:
    rows = {w: PLANE.row(w).tolist() for w in PLANE.vocab.tokens}
    more = table(**rows, twin=[0.6, 0.8, 0], boyish=[-3, 0, 0])
    made = HardDebias()(more, definitional=PAIRS, equalize=WordSets([["she", "twin"]]))
    np.testing.assert_array_equal(made.row("twin"), more.row("twin"))
    np.testing.assert_array_equal(made.row("boyish"), 0)
    lines = " ".join(made.notes["report"]["notes"])
    assert "left as they are: she/twin" in lines
    assert "nothing but bias, now zero: 2" in lines  # boyish, and beard without its list


def test_it_is_done_once(tmp_path: Path) -> None:
    given = bag(tiny=True)
    once = apply(HardDebias(), given)
    again = apply(HardDebias(), {**given, "source": once})
    neutral = np.arange(12, len(once.vocab) - 1)
    np.testing.assert_allclose(again.vectors[neutral], once.vectors[neutral], atol=1e-5)


def test_missing_words_are_named_and_two_sets_are_needed() -> None:
    sets = WordSets([["she", "he"], ["her", "his"], ["Mary", "John"], ["gal", "guy"]])
    made = HardDebias()(PLANE, definitional=sets, equalize=PAIRS, specific=WordSets(["nun"]))
    assert made.notes["missing"] == {
        "definitional": ["Mary", "John", "gal", "guy"], "specific": ["nun"]
    }  # fmt: skip
    assert "2 of 4 definitional sets are in the table" in made.notes["report"]["notes"]
    with pytest.raises(InputError, match=r"1 of 2 definitional .* Mary, John") as caught:
        HardDebias()(PLANE, definitional=WordSets([["she", "he"], ["Mary", "John"]]))
    assert "--definitional" in str(caught.value.hint)
    with pytest.raises(ConfigError, match="k=3"):
        HardDebias(k=3)(PLANE, definitional=PAIRS)


def test_without_lists_and_without_data_the_file_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import urllib.error
    import urllib.request

    def no_network(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("TOKENSPACE_DATA", raising=False)
    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    with pytest.raises(InputError, match="definitional_pairs") as caught:
        HardDebias()(PLANE)
    assert "--definitional" in str(caught.value.hint)


def test_lists_of_the_command_line(tmp_path: Path, cli) -> None:
    PLANE.save(tmp_path / "in.vec")
    (tmp_path / "pairs.json").write_text(json.dumps([*PAIRS, ["Mary", "John"]]))
    (tmp_path / "equal.txt").write_text("queen\tking\n")
    done = cli(
        "edit", "hard_debias", "--source", tmp_path / "in.vec", "--out", tmp_path / "out.vec",
        "--definitional", tmp_path / "pairs.json", "--equalize", tmp_path / "equal.txt",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "definitional: not in the table: Mary, John" in done.out
    np.testing.assert_allclose(
        EmbeddingTable.load(tmp_path / "out.vec").row("nurse"), [0, 2, 0], atol=1e-5
    )
