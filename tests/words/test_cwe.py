"""CWE: equal to its equations in float64, its step is the gradient, and characters teach words."""

from __future__ import annotations

import numpy as np
import pytest
from literal_windows import Setting, gradient, sigmoid, targets

from tokenspace import sgd
from tokenspace.corpus import Corpus
from tokenspace.data import zipf_text
from tokenspace.errors import InputError
from tokenspace.vocab import Vocabulary
from tokenspace.words.cbow import CBOW
from tokenspace.words.cwe import (
    CWE,
    SENSES,
    SETTLED,
    Parts,
    Senses,
    beginning,
    composed,
    sense_rows,
    step,
)

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
    Win, Wout, _, _ = setting.run(step, *parts[:3], *beginning(parts, "CWE"))
    assert np.abs(Win - setting.Win).max() > 0.003
    for ours, theirs in zip((Win, Wout), literal(setting, parts), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=3e-6)


def test_a_step_is_minus_the_gradient_of_the_loss() -> None:
    setting, parts = composed_setting(size=12, dim=8, lengths=(3, 4), window=2, lr=1e-3, keep=1.0)
    Win, Wout, _, _ = setting.run(step, *parts[:3], *beginning(parts, "CWE"))
    slopes = gradient(
        lambda a, b: loss(setting, parts, a, b),
        setting.Win.astype(float),
        setting.Wout.astype(float),
    )
    for after, before, slope in zip((Win, Wout), (setting.Win, setting.Wout), slopes, strict=True):
        np.testing.assert_allclose((before - after) / setting.lr, slope, atol=0.01)
        assert np.abs(slope).max() > 0.1


def chosen(setting: Setting, parts: Parts, senses: Senses) -> dict[int, np.ndarray]:
    """Choose the rows of every word of the only sentence, and note in ``senses`` what was taken."""
    Win, words = setting.Win.astype(np.float64), len(parts.starts) - 1
    own = {w: slice(*parts.starts[w : w + 2]) for w in setting.ids.tolist()}
    first = sense_rows(parts, senses)
    x = [parts.weights[own[w]] @ Win[first[own[w]]] for w in setting.ids.tolist()]
    rows = {}
    for j, w in enumerate(setting.ids.tolist()):
        v = np.sum(x[max(0, j - setting.window) : j + setting.window + 1], axis=0)
        rows[w] = first[own[w]].copy()
        for k in range(1, len(rows[w])):
            p = parts.starts[w] + k
            m = parts.places[p] - words
            cosines = [
                Win[words + m * SENSES + s]
                @ v
                / (np.linalg.norm(Win[words + m * SENSES + s]) * np.linalg.norm(v))
                for s in range(senses.live[m])
            ]
            best = int(np.argmax(cosines)) if cosines else 0
            if senses.grown and (not cosines or cosines[best] < 1e-3):
                if not cosines or (senses.used[m] >= SETTLED and senses.live[m] < SENSES):
                    best = senses.live[m]
                    senses.live[m] += 1
                    senses.used[m] = 0
                elif senses.used[m] < SETTLED:
                    best = senses.live[m] - 1
            senses.used[m] += best == senses.live[m] - 1
            senses.taken[p * SENSES + best] += 1
            rows[w][k] = words + m * SENSES + best
    return rows


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("variant", ["L", "LP", "N"])
def test_senses_are_chosen_as_the_equations_say(variant: str, seed: int) -> None:
    setting, parts = composed_setting(window=2, lengths=(9,), keep=1.0)
    draw = np.random.default_rng(seed)
    setting.ids[:] = draw.permutation(setting.size)[:9]  # no word twice: a word is a position
    state = beginning(parts, variant)
    state.taken[:] = draw.integers(0, 4, len(state.taken))
    if variant == "N":
        state.live[:] = draw.integers(0, SENSES + 1, len(state.live))
        state.used[:] = draw.integers(SETTLED - 1, SETTLED + 2, len(state.used))
    words = len(parts.starts) - 1
    rows = words + (parts.rows - words) * SENSES
    setting.Win = draw.normal(0, 0.5, (rows, setting.dim)).astype(np.float32)
    ours, theirs = (Senses(*state[:2], *(part.copy() for part in state[2:])) for _ in range(2))
    Win, Wout, _, _ = setting.run(step, *parts[:3], *ours)
    own = chosen(setting, parts, theirs)
    for mine, other in zip(ours[2:], theirs[2:], strict=True):
        np.testing.assert_array_equal(mine, other)
    flat = np.concatenate([own.get(w, parts.places[slice(*parts.starts[w : w + 2])])
                           for w in range(words)])  # fmt: skip
    for mine, other in zip((Win, Wout), literal(setting, parts._replace(places=flat)), strict=True):
        np.testing.assert_allclose(mine, other, atol=3e-6)
    assert (state.taken != ours.taken).any()


def two_subjects() -> Corpus:
    """Two subjects of five characters each, and one that stands in words of both."""
    draw = np.random.default_rng(0)
    texts = []
    for _ in range(1500):
        own = list(("水江河湖海", "火炎烧烤灰")[int(draw.integers(2))])
        words = [a + ("道" if i % 3 == 0 else "") for i, a in enumerate(draw.choice(own, 9))]
        texts.append(" ".join(words))
    return Corpus(texts, split="whitespace")


def test_a_character_of_two_subjects_takes_two_senses() -> None:
    stream = two_subjects().encode(min_count=1)
    words = [surface.decode() for surface in stream.vocab.surfaces]
    parts = composed(words, False)
    state = beginning(parts, "L")
    sgd.train(
        step, stream, label="cwe", dim=64, epochs=20, sample=0, lr=0.1, threads=1,
        seed=1,  # of every second seed: else the first vectors give all to one
        options=(5, 5, *parts[:3], *state), rows=len(words) + (parts.rows - len(words)) * SENSES,
    )  # fmt: skip
    rows = dict(zip(words, np.split(sense_rows(parts, state), parts.starts[1:-1]), strict=True))
    taken = [{int(rows[a + "道"][-1]) for a in side} for side in ("水江河湖海", "火炎烧烤灰")]
    assert not taken[0] & taken[1], taken


def test_only_the_character_of_two_subjects_grows() -> None:
    knobs = {"dim": 16, "min_count": 1, "epochs": 20, "sample": 0, "threads": 1}
    assert CWE(**knobs, variant="N")(two_subjects()).notes["characters"] == 10 + SENSES


def test_a_little_text_gives_every_character_one_vector() -> None:
    corpus = Corpus(planted()[:50], split="whitespace")  # too few to settle
    knobs = {"dim": 8, "min_count": 1, "epochs": 1, "threads": 1}
    grown = CWE(**knobs, variant="N")(corpus)
    assert grown.notes["characters"] == 10


@pytest.mark.parametrize("variant", ["CWE", "P", "L", "LP", "N"])
def test_without_characters_it_is_cbow(variant: str) -> None:
    corpus = Corpus(zipf_text(300, 60, 4))
    knobs = {"dim": 16, "min_count": 1, "epochs": 2, "threads": 1, "seed": 5}
    ours, cbow = CWE(**knobs, variant=variant)(corpus), CBOW(**knobs)(corpus)
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


@pytest.mark.parametrize(
    ("variant", "vectors"), [("CWE", 10), ("P", 22), ("L", 30), ("LP", 66), ("N", None)]
)
def test_a_rare_word_is_like_the_words_that_share_its_characters(
    variant: str, vectors: int | None
) -> None:
    knobs = {"dim": 16, "min_count": 1, "epochs": 20, "sample": 0, "threads": 1}
    table = CWE(**knobs, variant=variant)(Corpus(planted(), split="whitespace"))
    for rare, own in (("水水水", "水江河湖海"), ("火火火", "火炎烧烤灰")):
        near = [word for word, _ in table.nearest(rare, 10)]
        assert sum(word[0] in own for word in near) >= 9, near
    assert vectors is None or table.notes["characters"] == vectors


@pytest.mark.parametrize("variant", ["CWE", "N"])
def test_the_same_seed_gives_the_same_bytes(variant: str) -> None:
    corpus = Corpus(planted(), split="whitespace")
    one, two, other = (
        CWE(dim=8, min_count=1, threads=1, seed=seed, variant=variant)(corpus).vectors.tobytes()
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
