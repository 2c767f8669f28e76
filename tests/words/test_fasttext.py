"""fastText: equal to its equations in float64, a gradient step, and unknown words are known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
from literal_windows import gradient, sigmoid

from tokenspace.corpus import Corpus
from tokenspace.errors import ConfigError, NotConverged
from tokenspace.rng import stream
from tokenspace.table import EmbeddingTable
from tokenspace.vocab import Vocabulary
from tokenspace.words.fasttext import FastText, Scheme, number, skip_gram_of_parts


@dataclass
class Setting:
    """A tiny training problem: each of 12 words is the mean of some of 30 rows."""

    dim: int = 16
    window: int = 3
    negatives: int = 5
    lr: float = 0.05
    lengths: tuple[int, ...] = (9, 1, 14, 2)
    seed: int = 12345
    keep: float = 0.8
    size: int = 12
    Win: np.ndarray = field(init=False)
    Wout: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        draw = np.random.default_rng(self.dim)
        self.Win = draw.normal(0, 0.5, (30, self.dim)).astype(np.float32)
        self.Wout = draw.normal(0, 0.5, (self.size, self.dim)).astype(np.float32)
        self.offsets = np.cumsum([0, *self.lengths]).astype(np.int64)
        self.ids = draw.integers(0, self.size, self.offsets[-1]).astype(np.int32)
        self.thresholds = np.full(self.size, int(self.keep * 0xFFFFFFFF), np.uint32)
        self.noise = draw.integers(0, self.size, 256).astype(np.int32)
        # words of 1 to 6 rows, some of them twice in a word, and the last word of none
        parts = [draw.integers(0, 30, 1 + w % 6) for w in range(self.size - 1)]
        self.places = np.concatenate(parts).astype(np.int32)
        self.starts = np.cumsum([0, *map(len, parts), 0]).astype(np.int64)

    def rows(self, word: int) -> np.ndarray:
        return self.places[self.starts[word] : self.starts[word + 1]]

    def run(self) -> tuple[np.ndarray, np.ndarray, float, int]:
        Win, Wout = self.Win.copy(), self.Wout.copy()
        loss, pairs = skip_gram_of_parts(
            Win.reshape(-1), Wout.reshape(-1), self.dim, self.ids, self.offsets, 0,
            len(self.lengths), self.thresholds, self.noise, np.float32(self.lr), self.seed,
            self.window, self.negatives, self.places, self.starts,
        )  # fmt: skip
        return Win, Wout, loss, pairs

    def positions(self) -> Iterator[tuple[int, list[int], list[int]]]:
        """Yield (word, neighbours, noise words, K for each neighbour) as the kernel draws them."""
        state = self.seed

        def draw() -> int:
            nonlocal state
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            return state >> 32

        for first, last in zip(self.offsets[:-1], self.offsets[1:], strict=True):
            text = [int(i) for i in self.ids[first:last] if draw() <= self.thresholds[i]]
            for i, word in enumerate(text if len(text) > 1 else []):
                b = 1 + (draw() * self.window >> 32)
                near = text[max(0, i - b) : i] + text[i + 1 : i + 1 + b]
                noise = [
                    int(self.noise[draw() * 256 >> 32]) for _ in range(len(near) * self.negatives)
                ]
                if len(self.rows(word)):
                    yield word, near, noise

    def targets(self, near: list[int], noise: list[int]) -> tuple[np.ndarray, ...]:
        """Return ids, labels, and whether each counts: noise that is its neighbour does not."""
        T = np.array(near + noise)
        labels = np.array([1.0] * len(near) + [0.0] * len(noise))
        own = np.repeat(near, self.negatives)
        return T, labels, np.append(np.ones(len(near)), own != noise)


def literal(setting: Setting) -> tuple[np.ndarray, np.ndarray]:
    """Apply the equations of the page, position by position, eight outputs at a time."""
    Win, Wout = setting.Win.astype(np.float64), setting.Wout.astype(np.float64)
    for word, near, noise in setting.positions():
        g = setting.rows(word)
        x, dx = Win[g].mean(axis=0), np.zeros(setting.dim)
        T, labels, counts = setting.targets(near, noise)
        for start in range(0, len(T), 8):
            part = slice(start, start + 8)
            G = setting.lr * (labels[part] - sigmoid(Wout[T[part]] @ x)) * counts[part]
            for row, step in zip(T[part], G, strict=True):
                dx += step * Wout[row]
                Wout[row] += step * x
        np.add.at(Win, g, dx)
    return Win, Wout


def loss(setting: Setting, Win: np.ndarray, Wout: np.ndarray) -> float:
    total = 0.0
    for word, near, noise in setting.positions():
        T, labels, counts = setting.targets(near, noise)
        z = Wout[T] @ Win[setting.rows(word)].mean(axis=0)
        total -= float((np.log(sigmoid(np.where(labels == 1, z, -z))) * counts).sum())
    return total


def test_one_word_by_hand() -> None:
    # Text "0 1". Word 0 is the mean of rows 0 and 1: x = (1, 1); word 1 is row 2. Noise is always
    # word 1. Position 0: neighbour 1, whose noise is itself and left out: v_1 = 0, so G = 0.05,
    # v_1 = 0.05 x, and rows 0 and 1 stay. Position 1: x = row 2 = (0, 4), neighbour 0 with v_0 = 0
    # and noise v_1: G_0 = 0.05, v_0 = 0.05 (0, 4); v_1 . x = 0.2, G = -0.1 s(0.2) = -0.0549834:
    # row 2 += -0.0549834 (0.05, 0.05), v_1 -= 0.0549834 (0, 4).
    Win, Wout = np.zeros((3, 8), np.float32), np.zeros((2, 8), np.float32)
    Win[0, 0], Win[1, 1], Win[2, 1] = 2, 2, 4
    skip_gram_of_parts(
        Win.reshape(-1), Wout.reshape(-1), 8, np.array([0, 1], np.int32), np.array([0, 2]), 0, 1,
        np.full(2, 0xFFFFFFFF, np.uint32), np.array([1], np.int32), np.float32(0.1), 7, 1, 1,
        np.array([0, 1, 2], np.int32), np.array([0, 2, 3]),
    )  # fmt: skip
    np.testing.assert_allclose(Win[:2, :2], [[2, 0], [0, 2]], atol=1e-6)
    np.testing.assert_allclose(Win[2, :2], [-0.00274917, 3.99725083], atol=1e-6)
    np.testing.assert_allclose(Wout[0, :2], [0, 0.2], atol=1e-6)
    np.testing.assert_allclose(Wout[1, :2], [0.05, 0.05 - 0.2199336], atol=1e-6)


@pytest.mark.parametrize("negatives", [1, 5])
@pytest.mark.parametrize("window", [1, 3, 5])
def test_the_kernel_equals_its_equations(negatives: int, window: int) -> None:
    setting = Setting(negatives=negatives, window=window)
    Win, Wout, _, _ = setting.run()
    assert np.abs(Win - setting.Win).max() > 0.01
    for ours, theirs in zip((Win, Wout), literal(setting), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=4e-6)


def program(setting: Setting) -> tuple[np.ndarray, np.ndarray]:
    """Train as the fastText program does: for every neighbour alone, with its own noise words.

    Its ``Model::update`` takes the mean of the rows of the word, and adds the gradient to each of
    them undivided. Noise that is its neighbour is left out here, too.
    """
    Win, Wout = setting.Win.astype(np.float64), setting.Wout.astype(np.float64)
    for word, near, noise in setting.positions():
        g = setting.rows(word)
        for c, neighbour in enumerate(near):
            hidden, grad = Win[g].mean(axis=0), np.zeros(setting.dim)
            drawn = noise[c * setting.negatives : (c + 1) * setting.negatives]
            targets = [(neighbour, 1.0), *((k, 0.0) for k in drawn if k != neighbour)]
            for target, label in targets:
                alpha = setting.lr * (label - sigmoid(Wout[target] @ hidden))
                grad += alpha * Wout[target]
                Wout[target] += alpha * hidden
            np.add.at(Win, g, grad)
    return Win, Wout


def test_the_step_is_that_of_the_program_but_for_squares_of_the_rate() -> None:
    apart = {}
    for lr in (0.01, 0.005):
        setting = Setting(lr=lr, keep=1.0)
        ours = setting.run()[:2]
        apart[lr] = [
            (np.abs(a - b).max(), np.abs(b - c).max())
            for a, b, c in zip(ours, program(setting), (setting.Win, setting.Wout), strict=True)
        ]
    for (wide, step), (near, half) in zip(apart[0.01], apart[0.005], strict=True):
        assert wide < 0.06 * step
        assert near < 0.3 * wide  # a quarter, where the step itself is halved
        assert half == pytest.approx(step / 2, rel=0.1)


def test_the_step_is_the_gradient_of_the_loss() -> None:
    setting = Setting(dim=8, lengths=(3, 4), window=2, lr=1e-3, keep=1.0)
    Win, Wout, _, _ = setting.run()
    slopes = gradient(
        lambda a, b: loss(setting, a, b), setting.Win.astype(float), setting.Wout.astype(float)
    )
    np.testing.assert_allclose((setting.Wout - Wout) / setting.lr, slopes[1], atol=0.02)
    # every row takes |G_w| times its share; words of one length make that one factor
    setting.places, setting.starts = np.arange(24, dtype=np.int32), np.arange(0, 26, 2)[:13]
    Win, _, _, _ = setting.run()
    slope = gradient(lambda a: loss(setting, a, setting.Wout), setting.Win.astype(float))[0]
    np.testing.assert_allclose((setting.Win - Win) / setting.lr, 2 * slope, atol=0.02)


def test_the_sampled_loss_is_the_loss_before_the_step() -> None:
    setting = Setting(lengths=(2,), window=1, keep=1.0)
    setting.ids[:] = [0, 3]
    _, _, sampled, pairs = setting.run()
    first = next(iter(setting.positions()))
    setting.positions = lambda: iter([first])  # type: ignore[method-assign]
    assert pairs == 1
    expected = loss(setting, setting.Win.astype(float), setting.Wout.astype(float))
    assert sampled == pytest.approx(expected, rel=1e-4)


def test_rows_for_what_occurs_give_the_vectors_of_the_whole_table() -> None:
    setting = Setting()
    words = [f"wort{w}".encode() for w in range(setting.size)]
    scheme = Scheme.read("2-4/500")
    parts = number(words, scheme)
    assert parts.keys is not None
    used = np.concatenate([np.arange(setting.size), setting.size + parts.keys])
    assert parts.rows == len(used) < setting.size + 500
    whole = np.random.default_rng(0).normal(0, 0.5, (setting.size + 500, 16)).astype(np.float32)
    setting.Win, setting.places, setting.starts = (
        whole,
        used[parts.places].astype(np.int32),
        parts.starts,
    )
    full = setting.run()
    setting.Win, setting.places = whole[used], parts.places
    sparse = setting.run()
    np.testing.assert_array_equal(sparse[0], full[0][used])
    np.testing.assert_array_equal(sparse[1], full[1])
    assert sparse[2:] == full[2:]
    left = np.delete(np.arange(len(whole)), used)
    np.testing.assert_array_equal(full[0][left], whole[left])


def stems(count: int, seed: int = 0) -> list[str]:
    """Make sentences of six topics, each of two stems with twelve endings: 144 words."""
    draw = stream(seed, "stems")
    sentences = []
    for _ in range(count):
        topic = int(draw.integers(6))
        words = []
        for _ in range(8):
            stem = STEMS[2 * topic + int(draw.integers(2))]
            words.append(stem + ENDINGS[int(draw.integers(12))])
        sentences.append(" ".join(words))
    return sentences


STEMS = [
    "karmo", "lintu", "vesbe", "dorag", "hunip", "tefos",
    "ulgra", "wimek", "zobat", "jenud", "fupil", "qachy",
]  # fmt: skip
ENDINGS = ["a", "e", "is", "um", "ibus", "orum", "ant", "eret", "abo", "avi", "are", "ens"]


@pytest.mark.parametrize("ngrams", ["3-5/100000", "3-5", "3-5/2000x2"])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_word_that_never_occurred_stands_with_its_topic(ngrams: str, threads: int) -> None:
    left_out = [stem + ENDINGS[t % 12] for t, stem in enumerate(STEMS)]
    texts = [
        " ".join(word for word in text.split() if word not in left_out) for text in stems(1500)
    ]
    recipe = FastText(dim=24, epochs=4, sample=1, ngrams=ngrams, threads=threads)
    table = recipe(Corpus(texts))
    assert table.subwords is not None
    assert not set(left_out) & set(table.vocab.tokens)
    ids, _ = table.nearest_ids(table.subwords.vectors(left_out), 12)
    other = [  # neighbours that have the other stem of the same topic: no letters in common
        sum(table.vocab.tokens[i].startswith(STEMS[t ^ 1]) for i in row)
        for t, row in enumerate(ids)
    ]
    strange = [
        sum(not table.vocab.tokens[i].startswith((STEMS[t], STEMS[t ^ 1])) for i in row)
        for t, row in enumerate(ids)
    ]
    assert sum(other) > 5
    assert sum(strange) <= 2


def test_known_words_are_means_of_their_own_row_and_their_ngrams(tmp_path) -> None:
    texts = stems(60)
    table = FastText(dim=8, epochs=1, min_count=1, ngrams="2-3/300", threads=1)(Corpus(texts))
    table.save(tmp_path / "m.bin")
    again = EmbeddingTable.load(tmp_path / "m.bin")
    assert again.vocab.tokens == table.vocab.tokens
    np.testing.assert_allclose(again.vectors, table.vectors, rtol=1e-5, atol=1e-7)
    assert table.subwords is not None
    assert again.subwords is not None
    others = ["karmoni", "unlintu", "größe"]
    np.testing.assert_array_equal(again.subwords.vectors(others), table.subwords.vectors(others))


def test_in_the_compact_table_known_words_are_not_special() -> None:
    recipe = FastText(dim=8, epochs=1, min_count=1, ngrams="3-4/100x2", threads=1)
    table = recipe(Corpus(stems(60)))
    assert table.subwords is not None
    assert table.subwords.rows.shape == (100, 8)
    found = table.subwords.vectors(table.vocab.tokens)
    np.testing.assert_allclose(found, table.vectors, rtol=1e-5, atol=1e-7)


def test_exact_ngrams_share_nothing_and_one_bucket_shares_all() -> None:
    words = [b"abcd", b"bcde"]
    exact = number(words, Scheme.read("3-4"))
    # <ab abc bcd cd> <abc abcd bcd> and <bc bcd cde de> <bcd bcde cde>: bcd is shared
    assert exact.rows == 2 + 13
    assert [len(set(exact.places[a:b])) for a, b in pairwise(exact.starts)] == [8, 8]
    one = number(words, Scheme.read("3-4/1"))
    assert one.rows == 3
    assert one.places.tolist() == [0] + 7 * [2] + [1] + 7 * [2]


def test_tokens_have_the_ngrams_of_their_text() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(
        models.WordLevel({"<unk>": 0, "Ġcat": 1, "cat": 2, "Ġsat": 3}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.add_special_tokens(["<unk>"])
    recipe = FastText(dim=8, epochs=1, ngrams="3-5", threads=1)
    vocab = Vocabulary.of(tokenizer)
    table = recipe(Corpus(["cat sat cat sat"] * 9), vocab=vocab)
    assert table.subwords is not None
    grams = {gram for listed in table.subwords.grams(["cat", "sat"]).values() for gram in listed}
    assert len(table.subwords.rows) == len(grams) == 11  # "at>" is in both


@pytest.mark.parametrize(
    "ngrams",
    ["", "3", "0-3", "4-3", "3-6/0", "3-6/x2", "3-6/100x5", "3-6/4000000000", "3-65", "a-b"],
)
def test_ngrams_that_mean_nothing_are_refused(ngrams: str) -> None:
    with pytest.raises(ConfigError, match="ngrams") as caught:
        FastText(ngrams=ngrams)
    assert caught.value.hint


def test_a_rate_that_is_too_high_is_named() -> None:
    recipe = FastText(dim=8, epochs=30, lr=10.0, min_count=1, sample=1, ngrams="3-4", threads=1)
    with np.errstate(all="ignore"), pytest.raises(NotConverged, match="not finite after epoch"):
        recipe(Corpus(stems(300)))
