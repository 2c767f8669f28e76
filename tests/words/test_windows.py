"""What the window trainers share: instructions, thinning, noise, chunks, and stopping."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from tokenspace import sgd, simd
from tokenspace.corpus import Corpus
from tokenspace.errors import InputError
from tokenspace.jit import kernel
from tokenspace.progress import Meter
from tokenspace.simd import add, fma, load, mul, prefetch, sigmoid, splat, store, sub, sums
from tokenspace.words import SGNS


@kernel(cache=False)
def _every_instruction(x: np.ndarray, out: np.ndarray) -> None:
    a, b, c = load(x, 0), load(x, 8), load(x, 16)
    prefetch(x, 24)
    store(out, 0, add(a, b))
    store(out, 8, sub(a, b))
    store(out, 16, mul(a, b))
    store(out, 24, fma(a, b, c))
    store(out, 32, sigmoid(a))
    store(out, 40, splat(x[3]))
    store(out, 48, sums(a, b, c, a, b, c, a, b))


def test_instructions_do_what_their_numpy_functions_do() -> None:
    x = np.random.default_rng(0).normal(0, 3, 32).astype(np.float32)
    out = np.zeros(56, np.float32)
    _every_instruction(x, out)
    a, b, c = x[:8], x[8:16], x[16:24]
    expected = [a + b, a - b, a * b, a * b + c, simd.sigmoid(a), np.full(8, x[3])]
    np.testing.assert_allclose(out[:48], np.concatenate(expected), atol=2e-5)
    np.testing.assert_allclose(out[48:], simd.sums(a, b, c, a, b, c, a, b), atol=1e-5)


@kernel(cache=False)
def _sigmoids(x: np.ndarray) -> None:
    for i in range(0, len(x), 8):
        store(x, i, sigmoid(load(x, i)))


def test_the_sigmoid_is_exact_to_five_digits() -> None:
    x = np.linspace(-20, 20, 4000).astype(np.float32)
    expected = 1 / (1 + np.exp(-x.astype(np.float64)))
    _sigmoids(x)
    np.testing.assert_allclose(x, expected, atol=1e-5)


def test_thinning_keeps_what_the_formula_says() -> None:
    counts = np.array([900, 99, 1])
    keep = sgd.keep_thresholds(counts, 0.01) / 0xFFFFFFFF
    f = counts / 1000
    np.testing.assert_allclose(keep, np.minimum(1, np.sqrt(0.01 / f) + 0.01 / f), rtol=1e-6)
    assert (sgd.keep_thresholds(counts, 0) == 0xFFFFFFFF).all()


def test_noise_follows_counts_to_the_three_quarters() -> None:
    counts = np.array([10_000, 0, 16, 1])
    table = sgd.noise_table(counts)
    share = np.bincount(table, minlength=4) / len(table)
    np.testing.assert_allclose(share, counts**0.75 / (counts**0.75).sum(), atol=1e-6)
    assert share[1] == 0
    assert len(table) == 2**20


def test_the_rarest_word_is_in_the_noise() -> None:
    table = sgd.noise_table(np.array([10**10, 1]))
    assert len(table) > 2**20
    assert 1 in table


@pytest.mark.parametrize("words", [1, 3, 10, 1000])
def test_chunks_cover_every_sentence_once(words: int) -> None:
    offsets = np.array([0, 2, 3, 9, 10, 11, 30])
    parts = sgd.chunks(offsets, words)
    assert [i for first, last in parts for i in range(first, last)] == list(range(6))


def visits(mixed: bool, epochs: int = 2) -> list[tuple[int, int, float]]:
    """Train with a step that notes the sentences it is given and the rate; 3 words a sentence."""
    seen: list[tuple[int, int, float]] = []

    def step(*given: Any) -> tuple[float, int]:
        seen.append((given[5], given[6], float(given[9])))
        return 0.0, 1

    stream = Corpus(["a b c"] * 10_000).encode(min_count=1)
    sgd.train(
        step, stream, label="test", dim=8, epochs=epochs, sample=0, lr=0.1, threads=1, seed=0,
        options=(), mixed=mixed,
    )  # fmt: skip
    return seen


def test_text_is_read_in_its_order() -> None:
    seen = visits(mixed=False)
    assert [first for first, _, _ in seen] == 2 * [0, 3334, 6667]
    np.testing.assert_allclose(
        [rate for *_, rate in seen],
        [0.1 * (1 - (epoch * 10_000 + at) / 20_000) for epoch in (0, 1) for at in (0, 3334, 6667)],
        rtol=1e-6,
    )


def test_mixed_text_is_read_once_an_epoch_in_another_order_with_falling_rates() -> None:
    seen = visits(mixed=True)
    assert len(seen) == 60
    orders = [[part[:2] for part in seen[start : start + 30]] for start in (0, 30)]
    for order in orders:
        pieces = sorted(order)
        assert order != pieces
        assert [i for first, last in pieces for i in range(first, last)] == list(range(10_000))
    assert orders[0] != orders[1]
    done = np.cumsum([0] + [3 * (last - first) for first, last, _ in seen[:-1]])
    np.testing.assert_allclose([rate for *_, rate in seen], 0.1 * (1 - done / 60_000), rtol=1e-6)


@pytest.mark.parametrize("spread", [0.5, 1.0])
def test_first_vectors_fill_their_range(spread: float) -> None:
    stream = Corpus(["a b c d"] * 9).encode(min_count=1)
    first = sgd.train(
        lambda *_: (0.0, 1), stream, label="test", dim=50, epochs=1, sample=0, lr=0.1, threads=1,
        seed=0, options=(), rows=200, spread=spread,
    )  # fmt: skip
    assert 0.99 * spread / 50 < abs(first.inputs).max() <= spread / 50
    assert abs(first.inputs.mean()) < 0.02 * spread / 50
    assert not first.outputs.any()


def test_an_error_in_one_thread_stops_all() -> None:
    done: list[int] = []
    lock = threading.Lock()

    def work(epoch: int, index: int) -> int:
        if index == 3:
            raise KeyboardInterrupt
        with lock:
            done.append(index)
        return 1

    with pytest.raises(KeyboardInterrupt), Meter("test", 10) as meter:
        sgd.share(work, 0, 100_000, 2, meter)
    assert len(done) < 100_000


def test_a_long_sentence_is_learned_from_to_its_end() -> None:
    table = SGNS(dim=8, epochs=1, min_count=1, threads=1)(Corpus(["a b " * 30_000 + "c d c d"]))
    assert dict(zip(table.vocab.tokens, table.counts, strict=True))["c"] == 2  # type: ignore[arg-type]


def test_too_little_text_is_refused() -> None:
    with pytest.raises(InputError, match="fewer than 2 different words"):
        SGNS()(Corpus(["a " * 100]))
    with pytest.raises(InputError, match="no word that occurs 5 times"):
        SGNS()(Corpus(["one two three"]))
