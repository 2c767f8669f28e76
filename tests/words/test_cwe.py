"""CWE: equal to its equations in float64, its step is the gradient, and characters teach words."""

from __future__ import annotations

import numpy as np
import pytest
from literal_windows import Setting, gradient, sigmoid, targets

from tokenspace.corpus import Corpus
from tokenspace.data import zipf_text
from tokenspace.errors import InputError
from tokenspace.vocab import Vocabulary
from tokenspace.words.cbow import CBOW
from tokenspace.words.cwe import CWE, Parts, composed, step

WORDS = ["智能", "能", "沙发x", "abc", "智慧能力", "𠀀慧"]


def test_words_are_composed_of_their_characters() -> None:
    parts = composed(WORDS, False)
    rows = [
        parts.places[a:b].tolist() for a, b in zip(parts.starts, parts.starts[1:], strict=False)
    ]
    # characters in the order of their first occurrence, from row 6: 智 能 沙 发 慧 力 𠀀
    assert rows == [[0, 6, 7], [1, 7], [2, 8, 9], [3], [4, 6, 10, 7, 11], [5, 12, 10]]
    assert parts.rows == 13
    weights = [
        parts.weights[a:b].tolist() for a, b in zip(parts.starts, parts.starts[1:], strict=False)
    ]
    assert weights[0] == [0.5, 0.25, 0.25]
    assert weights[1] == [0.5, 0.5]
    assert weights[3] == [1.0]
    assert weights[4] == [0.5, *[0.125] * 4]


def test_places_tell_characters_apart() -> None:
    parts = composed(["能", "能能", "能能能能"], True)
    assert parts.places.tolist() == [0, 3, 1, 4, 5, 2, 4, 6, 6, 5]
    assert parts.rows == 7


def composed_setting(**changes: object) -> tuple[Setting, Parts]:
    """Give every word of a tiny problem up to three characters out of seven."""
    setting = Setting(**changes)  # type: ignore[arg-type]
    letters = "天地玄黄宇宙洪"
    draw = np.random.default_rng(3)
    words = ["".join(draw.choice(list(letters), size=i % 4)) or "x" for i in range(setting.size)]
    parts = composed(words, False)
    setting.Win = draw.normal(0, 0.5, (parts.rows, setting.dim)).astype(np.float32)
    return setting, parts


def rows_of(parts: Parts, Win: np.ndarray, word: int) -> np.ndarray:
    own = slice(parts.starts[word], parts.starts[word + 1])
    return parts.weights[own].astype(np.float64) @ Win[parts.places[own]]


def loss(setting: Setting, parts: Parts, Win: np.ndarray, Wout: np.ndarray) -> float:
    total = 0.0
    for centre, C, noise in setting.positions():
        h = np.mean([rows_of(parts, Win, a) for a in C], axis=0)
        T, labels, counts = targets(centre, noise)
        z = Wout[T] @ h
        total -= float((np.log(sigmoid(np.where(labels == 1, z, -z))) * counts).sum())
    return total


def literal(setting: Setting, parts: Parts) -> tuple[np.ndarray, np.ndarray]:
    Win, Wout = setting.Win.astype(np.float64), setting.Wout.astype(np.float64)
    for centre, C, noise in setting.positions():
        h = np.mean([rows_of(parts, Win, a) for a in C], axis=0)
        T, labels, counts = targets(centre, noise)
        G = setting.lr * (labels - sigmoid(Wout[T] @ h)) * counts
        dh = G @ Wout[T]
        np.add.at(Wout, T, G[:, None] * h)
        for a in C:
            for p in range(parts.starts[a], parts.starts[a + 1]):
                Win[parts.places[p]] += parts.weights[p] / len(C) * dh
    return Win, Wout


@pytest.mark.parametrize(("window", "negatives"), [(1, 1), (3, 5), (5, 12)])
def test_the_kernel_equals_its_equations(window: int, negatives: int) -> None:
    setting, parts = composed_setting(window=window, negatives=negatives)
    Win, Wout, _, _ = setting.run(step, *parts[:1], parts.weights, parts.starts)
    assert np.abs(Win - setting.Win).max() > 0.003
    for ours, theirs in zip((Win, Wout), literal(setting, parts), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=3e-6)


def test_a_step_is_minus_the_gradient_of_the_loss() -> None:
    setting, parts = composed_setting(size=12, dim=8, lengths=(3, 4), window=2, lr=1e-3, keep=1.0)
    Win, Wout, _, _ = setting.run(step, parts.places, parts.weights, parts.starts)
    slopes = gradient(
        lambda a, b: loss(setting, parts, a, b),
        setting.Win.astype(float),
        setting.Wout.astype(float),
    )
    for after, before, slope in zip((Win, Wout), (setting.Win, setting.Wout), slopes, strict=True):
        np.testing.assert_allclose((before - after) / setting.lr, slope, atol=0.01)
        assert np.abs(slope).max() > 0.1


def test_without_characters_it_is_cbow() -> None:
    corpus = Corpus(zipf_text(300, 60, 4))
    knobs = {"dim": 16, "min_count": 1, "epochs": 2, "threads": 1, "seed": 5}
    ours, cbow = CWE(**knobs)(corpus), CBOW(**knobs)(corpus)
    np.testing.assert_allclose(ours.vectors, cbow.vectors, atol=5e-3)  # its sigmoid is to 1e-5
    assert ours.notes["characters"] == 0


def planted() -> list[str]:
    """Two subjects, of words of two characters each; two words are rare."""
    draw = np.random.default_rng(0)
    sides = ["水江河湖海", "火炎烧烤灰"]
    texts = []
    for _ in range(600):
        own = sides[int(draw.integers(2))]
        words = ["".join(draw.choice(list(own), 2)) for _ in range(8)]
        texts.append(" ".join(words))
    rare = ["水水水", "火火火"]  # spelled like their side, and beside it once only
    return [*texts, f"{rare[0]} 江河", f"{rare[1]} 炎烧"]


@pytest.mark.parametrize("positions", [False, True])
def test_a_rare_word_is_like_the_words_that_share_its_characters(positions: bool) -> None:
    knobs = {"dim": 16, "min_count": 1, "epochs": 20, "sample": 0, "threads": 1}
    table = CWE(**knobs, positions=positions)(Corpus(planted(), split="whitespace"))
    for rare, own in (("水水水", "水江河湖海"), ("火火火", "火炎烧烤灰")):
        near = [word for word, _ in table.nearest(rare, 10)]
        assert sum(word[0] in own for word in near) >= 9, near
    assert table.notes["characters"] == (10 * 2 + 2 if positions else 10)


def test_the_same_seed_gives_the_same_bytes() -> None:
    corpus = Corpus(planted(), split="whitespace")
    one, two, other = (
        CWE(dim=8, min_count=1, threads=1, seed=seed)(corpus).vectors.tobytes()
        for seed in (1, 1, 2)
    )
    assert one == two != other


def test_tokens_of_a_vocabulary_keep_their_rows() -> None:
    vocab = Vocabulary.words(["江河", "不在", "水江"])
    table = CWE(dim=8, threads=1)(Corpus(planted(), split="whitespace"), vocab=vocab)
    assert table.vocab.tokens == vocab.tokens
    assert np.isfinite(table.vectors).all()


def test_text_without_spaces_is_refused() -> None:
    clauses = ["话说大宋仁宗天子在位，嘉佑三年三月三日五更三点，天子驾坐紫宸殿，受百官朝贺。"] * 20
    with pytest.raises(
        InputError, match=r"not segmented: its words have \d\.\d characters"
    ) as caught:
        CWE(min_count=1)(Corpus(clauses))
    assert "segmenter" in str(caught.value.hint)
    with pytest.raises(InputError, match="not segmented"):
        CWE(min_count=1)(Corpus(clauses, split="whitespace"))
