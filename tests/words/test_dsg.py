"""DSG: equal to its equations in float64, its step is the gradient, and it finds planted senses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from literal_windows import gradient

from tokenspace.corpus import Corpus
from tokenspace.data import _invented, zipf_text
from tokenspace.errors import ConfigError, InputError, NotConverged
from tokenspace.senses import SenseTable, induction
from tokenspace.words.dsg import DSG, occupancy, step


@dataclass
class Setting:
    """A tiny training problem, and the kernel's draws repeated in Python integers."""

    size: int = 30
    senses: int = 3
    dim: int = 8
    window: int = 3
    negatives: int = 4
    lengths: tuple[int, ...] = (9, 1, 14, 2)
    lr: float = 0.05
    gate_lr: float = 0.2
    T: float = 0.7
    gamma: float = 0.0
    shared: bool = False
    keep: float = 0.8
    seed: int = 12345
    arrays: list[np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        draw = np.random.default_rng(self.size + self.dim)
        gates = self.senses * (1 if self.shared else self.size)
        rows = self.size * self.senses
        shapes = [(rows, self.dim), (gates, self.dim), gates, (self.size, self.dim), self.size]
        self.arrays = [draw.normal(0, 0.7, shape).astype(np.float32) for shape in shapes]
        self.log_q = draw.normal(-3, 1, self.size).astype(np.float32)
        self.numbers = np.where(np.arange(self.size) % 4 == 3, 1, self.senses)
        self.offsets = np.cumsum([0, *self.lengths]).astype(np.int64)
        self.ids = draw.integers(0, self.size, self.offsets[-1]).astype(np.int32)
        self.thresholds = np.full(self.size, int(self.keep * 0xFFFFFFFF), np.uint32)
        self.noise = draw.integers(0, self.size, 64).astype(np.int32)

    def run(self) -> tuple[list[np.ndarray], float, int]:
        """Run the kernel on copies of E, U, c, W and b."""
        arrays = [array.copy() for array in self.arrays]
        loss, terms = step(
            *(array.reshape(-1) for array in arrays), self.log_q, self.numbers, self.senses,
            self.dim, self.ids, self.offsets, 0, len(self.lengths), self.thresholds, self.noise,
            self.lr, self.gate_lr, self.T, self.gamma, self.shared,
            self.seed, self.window, self.negatives,
        )  # fmt: skip
        return arrays, loss, terms

    def positions(self) -> Iterator[tuple[int, list[int], list[int], np.ndarray]]:
        """Yield word, neighbours, noise words and Gumbel noise of every occurrence."""
        state = self.seed

        def draw() -> int:
            nonlocal state
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            return state >> 32

        for first, last in zip(self.offsets[:-1], self.offsets[1:], strict=True):
            text = [int(i) for i in self.ids[first:last] if draw() <= self.thresholds[i]]
            noise = [int(self.noise[draw() * len(self.noise) >> 32]) for _ in text * self.negatives]
            for i, w in enumerate(text):
                near = text[max(0, i - self.window) : i] + text[i + 1 : i + 1 + self.window]
                m = int(self.numbers[w])
                if near:
                    g = np.zeros(m)
                    if m > 1 and not self.shared:
                        u = np.clip([draw() / 2**32 for _ in range(m)], 1e-9, 1 - 1e-7)
                        g = -np.log(-np.log(u))
                    yield w, near, noise[i * self.negatives : (i + 1) * self.negatives], g


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


def position_loss(
    setting: Setting, arrays: list[np.ndarray], position: tuple, held: np.ndarray
) -> float:
    """The loss of one occurrence by the page's equations; ``held`` is the W that h is made of."""
    E, U, c, W, b = arrays
    w, C, noise, g = position
    m, S = int(setting.numbers[w]), setting.senses
    h = held[C].mean(axis=0)
    gate = slice(0, m) if setting.shared else slice(w * S, w * S + m)
    logits = U[gate] @ h + c[gate] if m > 1 else np.zeros(1)
    y = softmax((logits + g) / setting.T)
    v = y @ E[w * S : w * S + m]
    z = W @ v + b - setting.log_q
    total = 0.0
    for o in C:
        others = [np.exp(z[k]) for k in noise if k != o]
        total -= np.log(np.exp(z[o]) / (np.exp(z[o]) + sum(others)))
    if m > 1:
        p = softmax(logits)
        total -= setting.gamma * len(C) * (p * np.log(p)).sum()
    return float(total)


def literal(setting: Setting) -> list[np.ndarray]:
    """Train in float64 by gradients written out with loops."""
    E, U, c, W, b = (array.astype(np.float64) for array in setting.arrays)
    for w, C, noise, g in setting.positions():
        m, S = int(setting.numbers[w]), setting.senses
        first = 0 if setting.shared else w * S
        h = W[C].mean(axis=0)
        logits = U[first : first + m] @ h + c[first : first + m] if m > 1 else np.zeros(1)
        y, p = softmax((logits + g) / setting.T), softmax(logits)
        v = sum(y[s] * E[w * S + s] for s in range(m))
        dW, db, dv = np.zeros_like(W), np.zeros_like(b), np.zeros(setting.dim)
        for o in C:
            classes = [o, *(k for k in noise if k != o)]
            q = softmax(np.array([W[k] @ v + b[k] - setting.log_q[k] for k in classes]))
            for place, k in enumerate(classes):
                error = (place == 0) - q[place]
                dW[k] += error * v
                db[k] += error
                dv += error * W[k]
        dy = np.array([E[w * S + s] @ dv for s in range(m)])
        H = -(p * np.log(p)).sum()
        dl = y * (dy - y @ dy) / setting.T + setting.gamma * len(C) * p * (np.log(p) + H)
        W += setting.lr * dW
        b += setting.lr * db
        for s in range(m):
            E[w * S + s] += setting.lr * y[s] * dv
            if m > 1:
                U[first + s] += setting.gate_lr * dl[s] * h
                c[first + s] += setting.gate_lr * dl[s]
    return [E, U, c, W, b]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"shared": True, "gamma": -0.1, "T": 1.0},
        {"senses": 9, "negatives": 20, "window": 5, "dim": 16},
        {"size": 4},  # noise words that are neighbours, and the same ones twice
    ],
)
def test_the_kernel_equals_its_equations(changes: dict) -> None:
    setting = Setting(**changes)
    found, _, _ = setting.run()
    for name, ours, theirs, before in zip(
        "EUcWb", found, literal(setting), setting.arrays, strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=2e-5, err_msg=name)
        assert np.abs(ours - before).max() > 1e-3, name


@pytest.mark.parametrize("shared", [False, True])
def test_a_step_is_minus_the_gradient_of_the_loss(shared: bool) -> None:
    # One sentence of two words is two occurrences; the second one's step is taken at weights that
    # the first has hardly moved. The Gumbel noise is what the same seed gives the kernel.
    setting = Setting(
        size=6, lengths=(4,), window=1, keep=1.0, lr=1e-3, gate_lr=1e-3, shared=shared,
        gamma=-0.3 if shared else 0.0, T=1.0 if shared else 0.6,
    )  # fmt: skip
    start = [array.astype(np.float64) for array in setting.arrays]
    held = start[3].copy()
    positions = list(setting.positions())
    found, _, _ = setting.run()

    def loss(*arrays: np.ndarray) -> float:
        return sum(position_loss(setting, list(arrays), place, held) for place in positions)

    for name, after, before, slope in zip(
        "EUcWb", found, setting.arrays, gradient(loss, *start), strict=True
    ):
        np.testing.assert_allclose((before - after) / 1e-3, slope, atol=0.02, err_msg=name)
        assert np.abs(slope).max() > 0.1, name


def test_the_sampled_loss_is_that_of_the_first_occurrence() -> None:
    setting = Setting(lengths=(5,), keep=1.0)
    _, loss, terms = setting.run()
    first = next(setting.positions())
    arrays = [array.astype(np.float64) for array in setting.arrays]
    assert terms == len(first[1])
    assert loss == pytest.approx(position_loss(setting, arrays, first, arrays[3]), rel=1e-5)


def test_one_occurrence_by_hand() -> None:
    # "0 1", E and c zero, one noise word 2, no biases. Everything is 0, so p = y = (1/2, 1/2),
    # v = 0 and the neighbour's share is 1/2: b_o rises and b_2 falls by lr / 2, and nothing else
    # moves, since v = 0 and the two senses are alike. Then the same for word 1.
    size, S, width = 3, 2, 8
    E, U, W = (np.zeros((n, width), np.float32) for n in (size * S, size * S, size))
    c, b = np.zeros(size * S, np.float32), np.zeros(size, np.float32)
    step(
        E.reshape(-1), U.reshape(-1), c, W.reshape(-1), b, np.zeros(size, np.float32),
        np.full(size, S), S, width, np.array([0, 1], np.int32), np.array([0, 2]), 0, 1,
        np.full(size, 0xFFFFFFFF, np.uint32), np.array([2], np.int32), 0.1,
        1.0, 1.0, 0.0, True, 1, 1, 1,
    )  # fmt: skip
    p = 1 / (1 + np.exp(-0.05))  # of word 0, after b_2 has fallen to -0.05
    np.testing.assert_allclose(b, [0.1 * (1 - p), 0.05, -0.05 - 0.1 * (1 - p)], atol=1e-6)
    assert not any(array.any() for array in (E, U, c, W))


def test_priors_are_the_mean_answer_of_the_gate() -> None:
    setting = Setting(keep=1.0)
    _, U, c, W, _ = setting.arrays
    total = np.zeros((setting.size, setting.senses))
    occupancy(
        U.reshape(-1), c, W.reshape(-1), setting.numbers, setting.senses, setting.dim,
        setting.ids, setting.offsets, setting.thresholds, 1, setting.window, total,
    )  # fmt: skip
    expected = np.zeros_like(total)
    for w, C, _, _ in setting.positions():
        m, first = int(setting.numbers[w]), w * setting.senses
        h = W[C].mean(axis=0)
        expected[w, :m] += softmax(U[first : first + m] @ h + c[first : first + m])
    np.testing.assert_allclose(total, expected, atol=1e-4)
    assert (total[setting.numbers == 1, 1:] == 0).all()


TOPICS = [_invented(80)[20:][number::4][:3] for number in range(2)]  # of zipf_text below


def planted() -> tuple[list[str], list[tuple[str, str, str]]]:
    """Text by topics in which words of two topics are spelled alike, and held-out occurrences."""
    name = {w: f"{a}-{b}" for a, b in zip(*TOPICS, strict=True) for w in (a, b)}
    texts, asked = [], []
    for index, text in enumerate(zipf_text(4_000, 80, 4, seed=1)):
        own = text.split()
        words = [name.get(word, word) for word in own]
        if index % 5:
            texts.append(" ".join(words))
            continue
        for place, (word, sense) in enumerate(zip(words, own, strict=True)):
            if word != sense:
                asked.append((word, " ".join(words[:place] + words[place + 1 :]), sense))
    return texts, asked


@pytest.fixture(scope="module")
def learned() -> tuple[SenseTable, list[tuple[str, str, str]]]:
    texts, asked = planted()
    recipe = DSG(senses=2, dim=16, min_count=5, sample=0, stop=0, threads=1)
    return recipe(Corpus(texts, split="whitespace")), asked


def test_planted_senses_are_found(learned: tuple) -> None:
    table, asked = learned
    found = induction(table, asked)
    assert len(found.ari) == 3
    assert found.unknown == []
    assert min(found.ari.values()) > 0.7
    for word in found.ari:  # the two are about as frequent
        assert len(table.senses(word)) == 2
        assert min(prior for _, prior in table.senses(word)) > 0.2


def test_a_gate_for_all_words_does_not_find_them(learned: tuple) -> None:
    _, asked = learned
    recipe = DSG(senses=2, dim=16, min_count=5, sample=0, stop=0, threads=1, epochs=0)
    shared = recipe(Corpus(planted()[0], split="whitespace"))
    assert induction(shared, asked).mean < 0.5
    U, c = shared.gates.U, shared.gates.c
    several = np.flatnonzero(np.diff(shared.gates.first) == 2)
    rows = shared.gates.first[several]
    both = [np.sort(np.stack([c[rows], c[rows + 1]]), axis=0), U[rows] + U[rows + 1]]
    for each in (both[0].T, both[1]):  # every word has copies of the same two gates
        np.testing.assert_array_equal(each, np.broadcast_to(each[0], each.shape))


def test_senses_of_one_word_are_near_to_their_own_topics(learned: tuple) -> None:
    table, asked = learned
    lexicon = [set(_invented(80)[20:][number::4]) for number in range(2)]
    for word in {word for word, _, _ in asked}:
        near = []
        for name, _ in table.senses(word):
            words = {row.partition("#")[0] for row, _ in table.nearest(name, 12)}
            near.append([len(words & side) for side in lexicon])
        assert (near[0][0] > near[0][1]) != (near[1][0] > near[1][1])


def test_the_same_seed_gives_the_same_bytes_and_another_one_others() -> None:
    corpus = Corpus(zipf_text(400, 60, 4))
    recipe = {"senses": 2, "dim": 12, "epochs": 2, "min_count": 1, "stop": 0, "threads": 1}
    one, two, other = (DSG(**recipe, seed=seed)(corpus) for seed in (3, 3, 4))
    for name in ("U", "c", "prior", "W", "b", "first"):
        assert getattr(one.gates, name).tobytes() == getattr(two.gates, name).tobytes()
    assert one.vectors.tobytes() == two.vectors.tobytes()
    assert one.vectors.tobytes() != other.vectors.tobytes()
    assert one.shape[1] == one.gates.W.shape[1] == 12


def test_threads_share_the_work() -> None:
    texts, asked = planted()
    recipe = DSG(senses=2, dim=16, min_count=5, sample=0, stop=0, threads=2)
    assert induction(recipe(Corpus(texts, split="whitespace")), asked).mean > 0.7


def test_rare_words_have_one_sense_and_frequent_ones_are_numbered() -> None:
    texts = ["often seldom beside others"] * 10 + ["often beside others again"] * 40
    table = DSG(senses=2, dim=8, epochs=2, min_count=1, sample=0, stop=0, threads=1)(Corpus(texts))
    tokens = table.vocab.tokens
    assert "seldom" in tokens and "seldom#2" not in tokens
    assert table.notes["single"] == 1
    assert set(table.words.tokens) == {"often", "seldom", "beside", "others", "again"}
    for word in table.words.tokens:
        names, priors = zip(*table.senses(word), strict=True)
        assert names == tuple([word, f"{word}#2"][: len(names)])
        assert sum(priors) == pytest.approx(1)
        assert list(priors) == sorted(priors, reverse=True)
        assert min(priors) >= 0.05
    assert table.counts is not None
    assert table.counts.sum() == pytest.approx(200, abs=len(tokens))
    assert len(tokens) == 9 - table.notes["dropped"]


def test_stop_words_are_left_out() -> None:
    texts = ["the river is a bank of x stone and sand"] * 60
    recipe = DSG(senses=2, dim=8, epochs=0, min_count=1, threads=1)
    assert set(recipe(Corpus(texts)).words.tokens) == {"river", "bank", "stone", "sand"}
    frequent = DSG(senses=2, dim=8, epochs=0, min_count=1, threads=1, stop=2)
    words = frequent(Corpus(["a b c d"] * 50 + ["a b"] * 9)).words.tokens
    assert set(words) == {"c", "d"}


def test_a_word_that_always_stands_alone_keeps_one_sense() -> None:
    table = DSG(senses=2, dim=8, epochs=1, min_count=1, stop=0, sample=0, threads=1)(
        Corpus(["lone"] * 60 + ["left right middle"] * 60)
    )
    assert table.senses("lone") == [("lone", 1.0)]


def test_bad_input_is_refused_with_what_is_allowed() -> None:
    with pytest.raises(ConfigError, match="senses=1"):
        DSG(senses=1)
    with pytest.raises(InputError, match="no word occurs 60 times, which 3 senses need"):
        DSG(min_count=1)(Corpus(["green grass grows"] * 50))
    with pytest.raises(InputError, match="beside stop words"):
        DSG(min_count=1)(Corpus(["the a of and word"] * 100))
    with pytest.raises(InputError, match="'word#2' is spelled like a further sense"):
        DSG(senses=2, min_count=1, dim=8, epochs=0, stop=0, sample=0, threads=1)(
            Corpus(["word word#2 other"] * 50, split="whitespace")
        )
    with pytest.raises(NotConverged, match=r"lower the learning rate \(lr=10\)|not finite"):
        DSG(senses=2, min_count=1, dim=8, lr=10.0, stop=0, threads=1)(Corpus(zipf_text(800, 60, 4)))


def test_a_saved_table_reads_texts_alike(learned: tuple, tmp_path: Path) -> None:
    table, asked = learned
    table.save(tmp_path / "senses")
    again = SenseTable.load(tmp_path / "senses")
    assert isinstance(again, SenseTable)
    text = asked[0][1]
    assert again.disambiguate(text) == table.disambiguate(text)
    assert again.notes["split"] == "whitespace"
