from __future__ import annotations

import numpy as np
import pytest

from tokenspace import rng
from tokenspace.corpus import Corpus
from tokenspace.errors import ConfigError, InputError
from tokenspace.table import EmbeddingTable
from tokenspace.transplant._hull import hull_check, max_logit_violation
from tokenspace.transplant.cw2v import CW2V, _noise, _standard, learn
from tokenspace.transplant.trial import bag
from tokenspace.vocab import Vocabulary

OLD = [f"old{i}" for i in range(30)]
NEW = ["first", "second", "rare"]


def gaussian(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def sentences(seed: int = 0, count: int = 300, extra: tuple[str, ...] = ()) -> Corpus:
    """``first`` stands beside the first ten old words, ``second`` beside the last ten."""
    draw = np.random.default_rng(seed)
    text = []
    for _ in range(count):
        for word, near in (
            ("first", draw.integers(0, 10, 4)),
            ("second", draw.integers(20, 30, 4)),
        ):
            text.append(" ".join([*(OLD[i] for i in near[:2]), word, *(OLD[i] for i in near[2:])]))
        text.append(" ".join(OLD[i] for i in draw.integers(10, 20, 4)))
    return Corpus([*text, *extra], split="whitespace")


def two_camps(seed: int = 1) -> EmbeddingTable:
    """Return old rows in three groups of ten, each around a direction of its own."""
    rows = np.repeat(3 * np.eye(3, 12, dtype=np.float32), 10, axis=0) + 0.3 * gaussian(seed, 30, 12)
    return EmbeddingTable(Vocabulary.words(OLD), rows)


def test_one_step_by_hand() -> None:
    # Two atoms (1, 0) and (0, 1), one neighbour (2, 0), no noise, as all of it is the neighbour
    # itself. Weights start near 1/2, x = (.5, .5), so that the score is 1 and the error
    # σ(1) - 1 = -.2689; g = (-.5379, 0), and a_0 rises by lr * .5379.
    vocab = Vocabulary.words(["near", "new"])
    stream = Corpus(["new near"]).encode(vocab)
    rows = np.array([[2, 0], [9, 9]], np.float32)
    z = np.eye(2, dtype=np.float32)
    weights = learn(z, rows, np.array([1]), np.array([[0, 1]]), stream, epochs=1, lr=0.5, threads=1)
    start = 0.02 * rng.stream(0, "weights").standard_normal((1, 2))[0]
    share = np.exp(start) / np.exp(start).sum()
    score = 2 * share[0]
    start[0] -= 0.5 * (1 / (1 + np.exp(-score)) - 1) * 2
    np.testing.assert_allclose(weights[0], np.exp(start) / np.exp(start).sum(), atol=1e-6)
    assert weights[0, 0] == pytest.approx(0.567, abs=0.02)


def literal(
    z: np.ndarray,
    rows: np.ndarray,
    new: list[int],
    supports: np.ndarray,
    text: list[list[int]],
    noise: np.ndarray,
    names: list[str],
    lr: float,
    epochs: int,
) -> np.ndarray:
    """Transcribe the page in float64, with the generator's draws in their order."""
    a = 0.02 * rng.stream(0, "weights").standard_normal(supports.shape)
    states = {i: rng.derive(0, "draws", name) for i, name in zip(new, names, strict=True)}

    def draw(i: int) -> int:
        states[i] = (states[i] * 6364136223846793005 + 1442695040888963407) % 2**64
        return states[i] >> 32

    def softmax(v: np.ndarray) -> np.ndarray:
        return np.exp(v) / np.exp(v).sum()

    def sigmoid(v: float) -> float:
        return float(1 / (1 + np.exp(-v)))

    for epoch in range(epochs):
        x = rows.astype(np.float64)
        for n, i in enumerate(new):
            x[i] = softmax(a[n]) @ z[supports[n]]
        for n, i in enumerate(new):
            places = [(s, p) for s, line in enumerate(text) for p, t in enumerate(line) if t == i]
            for o, (s, p) in enumerate(places):
                if draw(i) / 2**32 >= np.sqrt(3 / len(places)) or len(text[s]) < 2:
                    continue
                own = softmax(a[n]) @ z[supports[n]]
                near = [q for q in range(max(0, p - 5), min(len(text[s]), p + 6)) if q != p]
                g = np.zeros(z.shape[1])
                for q in near:
                    c = text[s][q]
                    g += (sigmoid(own @ x[c]) - 1) * x[c]
                    for _ in range(5):
                        t = noise[draw(i) * len(noise) >> 32]
                        if t not in (c, i):
                            g += sigmoid(own @ x[t]) * x[t]
                rate = lr * (1 - (epoch + o / len(places)) / epochs)
                a[n] -= rate * z[supports[n]] @ g / len(near)
    return np.array([softmax(row) for row in a])


def test_equals_the_literal_algorithm() -> None:
    vocab = Vocabulary.words([*OLD, *NEW])
    lines = sentences(2, 40, ("first", "first second first"))
    stream = lines.encode(vocab)
    z, rows = gaussian(3, 25, 8), gaussian(4, 33, 8)
    new, supports = np.array([31, 30]), np.stack([np.arange(5, 17), np.arange(12)])
    ours = learn(z, rows, new, supports, stream, epochs=2, lr=0.7)
    text = [[vocab.ids[word] for word in line.split()] for line in lines]
    names = ["second", "first"]
    theirs = literal(z, rows, [31, 30], supports, text, _noise(stream), names, 0.7, 2)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert np.abs(ours - 1 / 12).max() > 0.02


def test_a_step_of_zero_leaves_almost_equal_weights() -> None:
    given = bag(tiny=True)
    table = CW2V(lr=0, support=4096, min_count=1)(
        given["source"], given["target"], corpus=given["corpus"]
    )
    assert table.notes["rebuilt"] > 20
    assert np.array(table.notes["entropy"]).min() > 0.999 * len(given["source"].vocab)
    mean = given["source"].vectors.mean(axis=0)
    spread = given["source"].vectors.std()
    assert np.abs(table.vectors[table.notes["tokens"]] - mean).max() < 0.02 * spread


def test_new_rows_move_to_their_company() -> None:
    source = two_camps()
    table = CW2V(epochs=20)(source, Vocabulary.words([*OLD, *NEW]), corpus=sentences())
    middle = source.vectors.reshape(3, 10, 12).mean(axis=1)
    middle /= np.linalg.norm(middle, axis=1, keepdims=True)
    np.testing.assert_array_equal(table.vectors[:30], source.vectors)
    assert (table.row("first") @ middle.T).argmax() == 0
    assert (table.row("second") @ middle.T).argmax() == 2
    np.testing.assert_allclose(table.row("rare"), source.vectors.mean(axis=0), atol=1e-6)
    assert (table.notes["rebuilt"], table.notes["mean"]) == (2, 1)


def test_every_row_is_in_the_hull_and_never_wins() -> None:
    source = two_camps()
    table = CW2V(epochs=20, lr=1)(source, Vocabulary.words([*OLD, *NEW]), corpus=sentences())
    new = table.vectors[30:]
    assert all(hull_check(row, source.vectors).inside for row in new)
    hidden = np.random.default_rng(6).standard_normal((20_000, 12))
    assert max_logit_violation(new, source.vectors, hidden).max() <= 1e-6
    outside = source.vectors.mean(0) + source.vectors.std(0) * gaussian(7, 3, 12)
    assert max_logit_violation(outside, source.vectors, hidden).max() > 1e-3


def test_weights_are_convex_and_the_same_on_any_number_of_threads() -> None:
    vocab = Vocabulary.words([*OLD, *NEW])
    stream = sentences().encode(vocab)
    source = two_camps()
    z, rows = _standard(source.vectors, np.zeros((33, 12), np.float32))
    new, supports = np.array([30, 31]), np.tile(np.arange(30), (2, 1))
    one, two = (learn(z, rows, new, supports, stream, threads=t) for t in (1, 2))
    np.testing.assert_array_equal(one, two)
    assert one.min() >= 0
    np.testing.assert_allclose(one.sum(axis=1), 1, atol=1e-12)


def test_scale_and_offset_of_the_source_change_no_weight() -> None:
    source, target = two_camps(), Vocabulary.words([*OLD, *NEW])
    far = source.replace(vectors=7 * source.vectors + 5)
    near, moved = (CW2V()(t, target, corpus=sentences()) for t in (source, far))
    np.testing.assert_allclose(moved.vectors, 7 * near.vectors + 5, atol=1e-3)


def test_standard_units() -> None:
    E = gaussian(8, 400, 16) * np.linspace(1, 3, 16, dtype=np.float32) + 2
    z, rows = _standard(E, E[:5])
    np.testing.assert_array_equal(rows, z[:5])
    products = z.astype(float) @ z.T
    apart = products[~np.eye(400, dtype=bool)]
    assert apart.std() == pytest.approx(1, abs=0.02)


def test_extensions_are_checked_where_asked() -> None:
    source = two_camps()
    CW2V(extension=True)(source, Vocabulary.words([*OLD, *NEW]), corpus=sentences())
    order = [*OLD[:4], "first", *OLD[4:]]
    with pytest.raises(InputError, match="id 4 is 'old4' in the source and 'first' in the target"):
        CW2V(extension=True)(source, Vocabulary.words(order), corpus=sentences())
    with pytest.raises(InputError, match="id 29 is 'old29' in the source and missing"):
        CW2V(extension=True)(source, Vocabulary.words(OLD[:29]), corpus=sentences())


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="no word of the vocabulary"):
        CW2V()(two_camps(), Vocabulary.words([*OLD, *NEW]), corpus=Corpus(["nothing known"]))
    with pytest.raises(ConfigError, match="support=0 is outside"):
        CW2V(support=0)
