"""CharWord: equal to its equations in float64, its step is the gradient, and its limit is SGNS."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from literal_windows import Setting, gradient, sigmoid, targets

from tokenspace.corpus import Corpus
from tokenspace.data import zipf_text
from tokenspace.errors import InputError
from tokenspace.vocab import Vocabulary
from tokenspace.words.charword import CharWord, Spelling, spelled, step
from tokenspace.words.sgns import SGNS

LETTERS = "天地玄黄宇宙洪"


def test_a_word_of_one_character_is_that_character() -> None:
    spelling = spelled(["智能", "能", "x", "沙x", "能能"], 5)
    assert spelling.others == ["智", "沙"]
    rows = np.split(spelling.rows, spelling.starts[1:-1])
    assert [part.tolist() for part in rows] == [[5, 1], [1], [], [6], [1, 1]]


def test_of_a_word_without_a_row_the_characters_have_some() -> None:
    spelling = spelled(["智能", "x", "能", "沙x"], 2)
    assert spelling.others == ["智", "能", "沙"]
    rows = np.split(spelling.rows, spelling.starts[1:-1])
    assert [part.tolist() for part in rows] == [[2, 3], [], [3], [4]]


def written(setting: Setting, known: int) -> tuple[Spelling, np.ndarray]:
    """Give every word of a tiny problem up to three characters out of seven, and noise for them."""
    draw = np.random.default_rng(3)
    words = ["".join(draw.choice(list(LETTERS), size=i % 4)) or "x" for i in range(setting.size)]
    spelling = spelled(words, known)
    setting.noise %= known
    shape = (known + len(spelling.others), setting.dim)
    setting.Win = draw.normal(0, 0.5, shape).astype(np.float32)
    setting.Wout = draw.normal(0, 0.5, shape).astype(np.float32)
    noise = draw.choice(np.unique(spelling.rows), 128).astype(np.int32)
    return spelling, noise


Term = tuple[list[int], int, list[int]]


def terms(
    setting: Setting, known: int, spelling: Spelling, letter_noise: np.ndarray
) -> Iterator[Term]:
    """Yield (inputs, output, noise), with the draws that the kernel makes."""
    state = setting.seed

    def draw(n: int) -> int:
        nonlocal state
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (state >> 32) * n >> 32

    K, w = setting.negatives, setting.window
    for first, last in zip(setting.offsets[:-1], setting.offsets[1:], strict=True):
        text = [int(i) for i in setting.ids[first:last] if draw(2**32) <= setting.thresholds[i]]
        noise = [int(setting.noise[draw(len(setting.noise))]) for _ in range(len(text) * K)]
        own = [spelling.rows[slice(*spelling.starts[i : i + 2])].tolist() for i in text]
        all_letters = [(c, j) for j, part in enumerate(own) for c in part]
        other = [int(letter_noise[draw(len(letter_noise))]) for _ in range(len(all_letters) * K)]
        at = 0
        for i, centre in enumerate(text):
            b = 1 + draw(w)
            near = [j for j in range(len(text)) if 0 < abs(j - i) <= b]
            words = [text[j] for j in near if text[j] < known]
            if centre < known:
                yield words + [c for j in near for c in own[j]], centre, noise[i * K : (i + 1) * K]
            for letter in own[i]:
                b = 1 + draw(w)
                beside = [c for d, (c, _) in enumerate(all_letters) if 0 < abs(d - at) <= b]
                yield words + beside, letter, other[at * K : (at + 1) * K]
                at += 1


def literal(
    setting: Setting, known: int, spelling: Spelling, noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    Win, Wout = setting.Win.astype(np.float64), setting.Wout.astype(np.float64)
    for P, centre, drawn in terms(setting, known, spelling, noise):
        T, labels, counts = targets(centre, drawn)
        X, W = Win[P], Wout[T]
        G = setting.lr * (labels - sigmoid(X @ W.T)) * counts
        np.add.at(Win, P, G @ W)
        np.add.at(Wout, T, G.T @ X)
    return Win, Wout


def loss(
    setting: Setting,
    known: int,
    spelling: Spelling,
    noise: np.ndarray,
    Win: np.ndarray,
    Wout: np.ndarray,
) -> float:
    total = 0.0
    for P, centre, drawn in terms(setting, known, spelling, noise):
        T, labels, counts = targets(centre, drawn)
        z = Win[P] @ Wout[T].T
        total -= float((np.log(sigmoid(np.where(labels == 1, z, -z))) * counts).sum())
    return total


@pytest.mark.parametrize("known", [40, 25])  # of 40 words
@pytest.mark.parametrize(("window", "negatives"), [(1, 1), (3, 5), (5, 12)])
def test_the_kernel_equals_its_equations(window: int, negatives: int, known: int) -> None:
    setting = Setting(window=window, negatives=negatives)
    spelling, noise = written(setting, known)
    Win, Wout, _, _ = setting.run(step, known, spelling.rows, spelling.starts, noise)
    assert np.abs(Win - setting.Win).max() > 0.01
    for ours, theirs in zip((Win, Wout), literal(setting, known, spelling, noise), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_step_is_minus_the_gradient_of_the_loss() -> None:
    setting = Setting(size=12, dim=8, lengths=(3, 4), window=2, lr=1e-4, keep=1.0)
    spelling, noise = written(setting, 9)
    Win, Wout, _, _ = setting.run(step, 9, spelling.rows, spelling.starts, noise)
    slopes = gradient(
        lambda a, b: loss(setting, 9, spelling, noise, a, b),
        setting.Win.astype(float),
        setting.Wout.astype(float),
    )
    for after, before, slope in zip((Win, Wout), (setting.Win, setting.Wout), slopes, strict=True):
        np.testing.assert_allclose((before - after) / setting.lr, slope, atol=0.02)
        assert np.abs(slope).max() > 0.5


def test_the_sampled_loss_is_that_of_the_first_position() -> None:
    setting = Setting(lengths=(2,), window=2, keep=1.0, lr=1e-6)
    spelling, noise = written(setting, setting.size)
    setting.ids[:] = [6, 7]  # of two and of three characters
    _, _, sampled, pairs = setting.run(step, 40, spelling.rows, spelling.starts, noise)
    own = list(terms(setting, 40, spelling, noise))[:3]  # the word and its characters
    assert pairs == sum(len(P) for P, _, _ in own)
    total = 0.0
    for P, centre, drawn in own:
        T, labels, counts = targets(centre, drawn)
        z = setting.Win[P].astype(float) @ setting.Wout[T].T
        total -= float((np.log(sigmoid(np.where(labels == 1, z, -z))) * counts).sum())
    assert sampled == pytest.approx(total, rel=1e-3)


def test_one_pair_by_hand() -> None:
    # Text "天地", one word of two characters, alone: only the characters predict each other. With
    # x_天 = (1, 0 ...), x_地 = (0, 2 ...), u = 0, noise always 天, lr 0.1:
    # 天 is predicted by 地 (noise 天 is left out): G = 0.05, u_天 = 0.05 x_地 = (0, 0.1), x stays.
    # 地 is predicted by 天: x_天.u_地 = 0 and x_天.u_天 = 0, G = (0.05, -0.05):
    # x_天 += -0.05 u_天 = (0, -0.005); u_地 = 0.05 x_天 = (0.05, 0), u_天 -= 0.05 x_天.
    spelling = spelled(["天地", "x"], 2)
    assert spelling.rows.tolist() == [2, 3]
    Win, Wout = np.zeros((4, 8), np.float32), np.zeros((4, 8), np.float32)
    Win[2, 0], Win[3, 1] = 1, 2
    step(
        Win.reshape(-1), Wout.reshape(-1), 8, np.array([0], np.int32), np.array([0, 1]), 0, 1,
        np.full(2, 0xFFFFFFFF, np.uint32), np.array([1], np.int32), np.float32(0.1), 7, 1, 1, 2,
        spelling.rows, spelling.starts, np.array([2], np.int32),
    )  # fmt: skip
    np.testing.assert_allclose(Win[2, :2], [1, -0.005], atol=1e-6)
    np.testing.assert_allclose(Win[3, :2], [0, 2], atol=1e-6)
    np.testing.assert_allclose(Wout[2, :2], [-0.05, 0.1], atol=1e-6)
    np.testing.assert_allclose(Wout[3, :2], [0.05, 0], atol=1e-6)
    assert not Win[:2].any()
    assert not Wout[:2].any()


def test_without_characters_it_is_sgns() -> None:
    corpus = Corpus(zipf_text(300, 60, 4))
    knobs = {"dim": 16, "min_count": 1, "epochs": 2, "threads": 1, "seed": 5}
    ours, theirs = CharWord(**knobs)(corpus), SGNS(**knobs)(corpus)
    assert ours.vocab.tokens == theirs.vocab.tokens
    np.testing.assert_allclose(ours.vectors, theirs.vectors, atol=1e-4)
    assert ours.notes["characters"] == 0


def planted() -> Corpus:
    """Two subjects, of words of one to three characters each."""
    draw = np.random.default_rng(0)
    texts = []
    for _ in range(600):
        own = list(("水江河湖海", "火炎烧烤灰")[int(draw.integers(2))])
        sizes = draw.integers(1, 4, 8)
        texts.append(" ".join("".join(draw.choice(own, size)) for size in sizes))
    return Corpus(texts, split="whitespace")


def test_words_and_characters_of_a_subject_come_together() -> None:
    knobs = {"dim": 16, "min_count": 3, "epochs": 10, "sample": 0, "threads": 1}
    table = CharWord(**knobs)(planted())
    for own in ("水江河湖海", "火炎烧烤灰"):
        for token in (own[0], own[:2]):  # a character, and a word of two
            near = [word for word, _ in table.nearest(token, 10)]
            assert sum(word[0] in own for word in near) >= 9, near
    assert table.notes["characters"] == 10


def test_rows_are_words_and_then_characters_with_their_counts() -> None:
    table = CharWord(dim=8, min_count=1, threads=1)(
        Corpus(["智能 能 x 智能", "能 智慧"], split="whitespace")
    )
    assert table.counts is not None
    counts = dict(zip(table.vocab.tokens, table.counts.tolist(), strict=True))
    assert counts == {"智能": 2, "能": 4, "x": 1, "智慧": 1, "智": 3, "慧": 1}
    assert sorted(table.vocab.tokens[-2:]) == ["慧", "智"]


def test_characters_of_rare_words_are_learned() -> None:
    texts = ["智能 能 x 智能", "能 智慧 智能 能"]
    table = CharWord(dim=8, min_count=2, threads=1)(Corpus(texts, split="whitespace"))
    assert table.counts is not None
    counts = dict(zip(table.vocab.tokens, table.counts.tolist(), strict=True))
    assert counts == {"智能": 3, "能": 6, "智": 4, "慧": 1}
    with pytest.raises(InputError, match="charword: 0 words occur 9 times") as caught:
        CharWord(dim=8, min_count=9)(Corpus(texts, split="whitespace"))
    assert "min_count" in str(caught.value.hint)


def test_the_same_seed_gives_the_same_bytes() -> None:
    one, two, other = (
        CharWord(dim=8, min_count=1, threads=1, seed=seed)(planted()).vectors.tobytes()
        for seed in (1, 1, 2)
    )
    assert one == two != other


def test_tokens_of_a_vocabulary_keep_their_rows() -> None:
    vocab = Vocabulary.words(["江河", "不在", "水江"])
    table = CharWord(dim=8, threads=1)(planted(), vocab=vocab)
    assert table.vocab.tokens == vocab.tokens
    assert np.isfinite(table.vectors).all()


def test_text_without_spaces_is_refused() -> None:
    clauses = ["话说大宋仁宗天子在位，嘉佑三年三月三日五更三点，天子驾坐紫宸殿，受百官朝贺。"] * 20
    with pytest.raises(InputError, match="charword: the text is not segmented") as caught:
        CharWord(min_count=1)(Corpus(clauses, split="whitespace"))
    assert "segmenter" in str(caught.value.hint)
