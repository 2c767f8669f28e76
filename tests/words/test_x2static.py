"""X2Static: gradient and step equal to torch's own in float64; what it learns; bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tokenspace.corpus import Corpus
from tokenspace.data import zipf_text
from tokenspace.errors import ConfigError, InputError
from tokenspace.toy_encoder import ToyEncoder
from tokenspace.words.trial import association, rank_correlation
from tokenspace.words.x2static import X2Static, adam, gradient, thresholds

ALL = np.full(5, 0xFFFFFFFF, np.uint32)


def batch(K: int, noise: list[int], scale: float = 1.0):
    """Run the kernel on two sentences; return (U, C, G, rows, loss, kept)."""
    rng = np.random.default_rng(3)
    U = (rng.standard_normal((5, 4)) * scale).astype(np.float32)
    C = rng.standard_normal((2, 4)).astype(np.float32)
    ids, offsets = np.array([0, 1, 1, 3], np.int32), np.array([0, 3, 4])
    G, touched, rows = np.zeros((5, 4), np.float32), np.zeros(5, np.bool_), np.zeros(5, np.int64)
    count, loss, kept = gradient(
        C, np.array([0, 1]), ids, offsets, ALL, np.array(noise, np.int32), K,
        U, G, touched, rows, np.array([9], np.uint64),
    )  # fmt: skip
    assert touched.sum() == count
    return U, C, G, sorted(rows[:count].tolist()), loss, kept


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_the_gradient_is_that_of_the_loss(scale: float) -> None:
    # noise is always word 2: the expected loss can be written down
    U, C, G, rows, loss, kept = batch(3, [2], scale)
    u = torch.tensor(U, dtype=torch.float64, requires_grad=True)
    c = torch.tensor(C, dtype=torch.float64)
    total = torch.zeros((), dtype=torch.float64)
    for sentence, word in [(0, 0), (0, 1), (0, 1), (1, 3)]:
        right = (c[sentence] @ u[word]).clamp(-20, 20)
        wrong = (c[sentence] @ u[2]).clamp(-20, 20)
        total = total + torch.log1p(torch.exp(-right)) + 3 * torch.log1p(torch.exp(wrong))
    total.backward()
    assert kept == 4
    assert rows == [0, 1, 2, 3]
    assert loss == pytest.approx(total.item(), rel=1e-5)
    np.testing.assert_allclose(G, u.grad.numpy(), rtol=1e-4, atol=1e-5)


def test_noise_that_is_the_word_is_left_out() -> None:
    _, _, G, rows, _, _ = batch(4, [1])
    alone = batch(1, [1])
    np.testing.assert_allclose(G[0], alone[2][0], rtol=1e-5)  # word 0 is never noise
    assert rows == [0, 1, 3]


def test_steps_are_those_of_sparse_adam() -> None:
    rng = np.random.default_rng(0)
    U = rng.standard_normal((5, 4)).astype(np.float32)
    peer = torch.nn.Embedding.from_pretrained(torch.tensor(U), freeze=False, sparse=True)
    optimizer = torch.optim.SparseAdam(peer.parameters(), lr=0.01)
    m, v, touched = np.zeros_like(U), np.zeros_like(U), np.zeros(5, np.bool_)
    for step, some in enumerate([[0, 1], [1, 3], [0, 4], [1, 2]], 1):
        G = np.zeros_like(U)
        G[some] = rng.standard_normal((2, 4))
        optimizer.zero_grad()
        (peer(torch.tensor(some)) * torch.tensor(G[some] / 7)).sum().backward()
        optimizer.step()
        adam(U, m, v, G, touched, np.array(some), 7, 0.01, step)
        assert not G.any()
        np.testing.assert_allclose(U, peer.weight.detach().numpy(), rtol=1e-4, atol=1e-6)


def test_words_are_kept_as_often_as_stated() -> None:
    found = thresholds(np.array([100, 1, 0]), 0.01) / 0xFFFFFFFF
    np.testing.assert_allclose(found, [np.sqrt(0.01 / (100 / 101)), 1, 1], rtol=1e-6)
    assert (thresholds(np.array([100, 1]), 0) == 0xFFFFFFFF).all()


def test_it_learns_what_sentences_are_about_and_is_the_same_again() -> None:
    texts = zipf_text(2_000, 200, 8)
    held_out = {"association": association(texts[::5])}
    corpus = Corpus([text for i, text in enumerate(texts) if i % 5])
    recipe = X2Static(sample=0, lr=0.01, seed=3)
    one, two = (recipe(corpus, encoder=ToyEncoder()) for _ in range(2))
    assert one.vectors.tobytes() == two.vectors.tobytes()
    assert rank_correlation(one, held_out)["rho"] > 0.2
    short = X2Static(sample=0, lr=0.01, seed=3, epochs=1)(corpus, encoder=ToyEncoder())
    assert one.notes["loss"] < short.notes["loss"]


def test_sentences_without_a_word_are_not_read() -> None:
    read: list[str] = []

    class Counting(ToyEncoder):
        def mean_states(self, texts, **options):
            read.extend(texts)
            return super().mean_states(texts, **options)

    X2Static(min_count=2, epochs=1)(Corpus(["a b", "zzz", "", "b c a"]), encoder=Counting())
    assert read == ["a", "a b", "b c a"]  # the first for the width


def test_unusable_input_is_refused() -> None:
    class Constant(ToyEncoder):
        def mean_states(self, texts, **options):
            return np.ones((len(texts), 8), np.float32)

    corpus, few = Corpus(["a b c", "b c", "a"]), X2Static(min_count=1)
    with pytest.raises(InputError, match="the same vector"):
        few(corpus, encoder=Constant())
    with pytest.raises(InputError, match="fewer than 2 different words"):
        few(Corpus(["a a"]), encoder=ToyEncoder())
    with pytest.raises(ConfigError, match="layer=5"):
        X2Static(min_count=1, layer=5)(corpus, encoder=ToyEncoder())
    with pytest.raises(ConfigError, match="negatives=0"):
        X2Static(negatives=0)
