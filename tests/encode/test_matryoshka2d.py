"""2D Matryoshka: the loss against a loop in float64, the layers it sees, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from tokenspace.corpus import Corpus
from tokenspace.encode.matryoshka2d import Matryoshka2D
from tokenspace.encode.matryoshka2d_net import MatryoshkaLoss, compressed, divergence
from tokenspace.encode.shorten import layer_grid, shortened
from tokenspace.encode.trial import bag
from tokenspace.errors import ConfigError, InputError
from tokenspace.examples import Examples
from tokenspace.metrics import cosine, spearman
from tokenspace.nn.encoder import load_encoder
from tokenspace.nn.fresh import fresh_encoder
from tokenspace.nn.layers import final_norm, layer_vectors, network_of
from tokenspace.nn.sentence import copied, pair_loss, wrapped

GIVEN = bag(tiny=True)
PAIRS = GIVEN["examples"]
TEXTS = ["abel an", "", "the third of them is longer", "one"]


def model(kind: str = "bert", layers: int = 3):
    return fresh_encoder(PAIRS.texts, kind=kind, layers=layers)


def ranking(X: list[np.ndarray]) -> float:
    """Return InfoNCE of two sides at scale 20, by its definition."""
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in X)
    return float(-np.mean(np.diag(log_softmax(20 * a @ b.T, axis=1))))


def kl(a: np.ndarray, t: np.ndarray, T: float) -> float:
    p, q = softmax(t / T, axis=1), softmax(a / T, axis=1)
    return float(T * np.mean(np.sum(p * (np.log(p) - np.log(q)), axis=1)))


def literal(form: str, X: list[list[np.ndarray]], K: list[int], pca: str) -> float:
    """Return the module's equations for a batch of which all layers are trained."""
    N = len(X) - 1

    def l_k(x):
        return float(np.mean([ranking([side[:, :k] for side in x]) for k in K]))

    def whole_loss(x):
        return ranking(x) + l_k(x)

    def compression(x):
        x = np.concatenate(x)
        parts = []
        for k in K:
            if pca == "true":
                centred = x - x.mean(0)
                values, vectors = np.linalg.eigh(centred.T @ centred / len(x))
                P = x @ vectors[:, np.argsort(-values)[:k]]
            else:
                U, S, _ = np.linalg.svd(softmax(x.T @ x / math.sqrt(x.shape[1]), axis=1))
                P = x @ U[:, :k] @ np.diag(S[:k])
            for j in range(k):
                if np.dot(x[:, j], P[:, j]) < 0:
                    P[:, j] = -P[:, j]
            parts.append(np.mean((x[:, :k] - P) ** 2) + kl(x[:, :k], P, 1.0))
        return float(np.mean(parts))

    if form == "mrl":
        return whole_loss(X[N])
    if form == "2d":
        whole = np.concatenate(X[N])
        prior = [whole_loss(X[n]) + kl(np.concatenate(X[n]), whole, 0.3) for n in range(1, N)]
        return whole_loss(X[N]) + float(np.mean(prior))
    prior = [(l_k(X[n]) + compression(X[n])) / (1 + math.log(n)) for n in range(1, N)]
    return whole_loss(X[N]) + compression(X[N]) + float(np.mean(prior))


@pytest.mark.parametrize("form", ["mrl", "2d", "ese"])
@pytest.mark.parametrize("pca", ["softmax", "true"])
def test_the_loss_is_the_equations(form: str, pca: str) -> None:
    made = copied(model()).double().eval()
    recipe = Matryoshka2D(form=form, pca=pca, layers=0)
    loss = MatryoshkaLoss(made, pair_loss(made, PAIRS), recipe, [4, 8])
    sides = [PAIRS.columns[name][:6] for name in ("anchor", "positive")]
    features = [made.preprocess(list(side)) for side in sides]
    with torch.no_grad():
        found = float(loss(features, torch.zeros(6)))
        layers = [layer_vectors(made, column) for column in features]
    X = [[side[n].numpy() for side in layers] for n in range(4)]
    assert found == pytest.approx(literal(form, X, [4, 8], pca), rel=1e-6)


def test_a_step_takes_the_layers_it_was_told() -> None:
    made = copied(model(layers=5))
    for layers, count in ((1, 1), (2, 2), (0, 4), (9, 4)):
        loss = MatryoshkaLoss(made, pair_loss(made, PAIRS), Matryoshka2D(layers=layers), [8])
        for _ in range(5):
            chosen = loss._chosen()
            assert len(chosen) == count
            assert set(chosen) <= {1, 2, 3, 4}
    loss = MatryoshkaLoss(made, pair_loss(made, PAIRS), Matryoshka2D(form="ese"), [8])
    assert loss._chosen() == [1, 2, 3, 4]


def test_targets_by_hand() -> None:
    X = torch.tensor([[3.0, 1.0], [-3.0, 1.0], [3.0, -1.0], [-3.0, -1.0]])
    covariance = torch.diag(torch.tensor([9.0, 1.0]))
    torch.testing.assert_close(compressed(X, 1, covariance), X[:, :1])
    torch.testing.assert_close(compressed(X, 2, covariance), X)
    assert float(divergence(X, X, 0.3)) == pytest.approx(0, abs=1e-6)
    even, sure = torch.zeros(1, 2), torch.tensor([[math.log(3.0), 0.0]])
    by_hand = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert float(divergence(even, sure, 1.0)) == pytest.approx(by_hand, rel=1e-6)


def test_the_teacher_gets_no_gradient_and_the_gradient_is_right() -> None:
    draw = torch.Generator().manual_seed(0)
    X, T = (
        torch.randn(5, 8, generator=draw, dtype=torch.float64, requires_grad=True) for _ in range(2)
    )
    divergence(X, T, 0.3).backward()
    assert T.grad is None
    assert torch.autograd.gradcheck(lambda x: divergence(x, T.detach(), 0.3), (X,))


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_a_layer_vector_is_what_the_cut_model_gives(kind: str) -> None:
    whole = model(kind)
    made = copied(whole)
    assert (final_norm(network_of(made)) is None) == (kind == "bert")
    with torch.inference_mode():
        every = layer_vectors(made, made.preprocess(TEXTS[2:]))
    for layers in (1, 2, 3):
        short = shortened(whole, layers=layers)
        np.testing.assert_allclose(short.encode(TEXTS[2:]), every[layers].numpy(), atol=1e-5)


def test_shortening_is_saved_for_stock_sentence_transformers(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize

    made = copied(model())
    unit = wrapped(SentenceTransformer(modules=[*made, Normalize()], device="cpu"))
    short = shortened(unit, layers=2, dim=5)
    short.save(tmp_path / "short")
    stock = SentenceTransformer(str(tmp_path / "short"), device="cpu")
    found = stock.encode(TEXTS)
    assert found.shape == (4, 5)
    np.testing.assert_array_equal(load_encoder(str(tmp_path / "short")).encode(TEXTS), found)
    np.testing.assert_allclose(short.encode(TEXTS), found, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    cut = shortened(unit, layers=2).encode(TEXTS)[:, :5]
    expected = cut / np.linalg.norm(cut, axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_rotation_keeps_what_varies_most() -> None:
    whole, texts = model(), list(GIVEN["corpus"])[:60]
    vectors = whole.encode(texts)
    short = shortened(whole, dim=4, rotate=Corpus(texts)).encode(texts)
    centred = vectors - vectors.mean(0)
    values = np.linalg.svd(centred, compute_uv=False)
    kept = np.linalg.svd(short - short.mean(0), compute_uv=False)
    np.testing.assert_allclose(kept, values[:4], rtol=1e-4)


def test_a_grid_is_the_correlation_of_every_cut() -> None:
    whole = model()
    pairs = Examples(
        {"anchor": PAIRS.columns["anchor"][:12], "positive": PAIRS.columns["positive"][:12]},
        scores=[float(i % 5) for i in range(12)],
    )
    grid = layer_grid(whole, pairs, [4, 16], batch_size=5)
    assert grid.shape == (4, 2)
    for n in (1, 3):
        for j, dim in enumerate((4, 16)):
            short = shortened(whole, layers=n, dim=dim)
            near = cosine(*(short.encode(pairs.columns[s]) for s in ("anchor", "positive")))
            assert grid[n, j] == pytest.approx(spearman(near, pairs.scores), abs=0.01)


def test_training_changes_a_copy_and_helps_the_middle() -> None:
    whole = model()
    before = whole.encode(TEXTS)
    recipe = Matryoshka2D(steps=30, batch=16, lr=3e-3, layers=0, threads=1)
    trained = recipe(whole, examples=PAIRS)
    np.testing.assert_array_equal(whole.encode(TEXTS), before)

    def loss(encoder) -> float:
        short = shortened(encoder, layers=1, dim=8)
        sides = [PAIRS.columns[side][:40] for side in ("anchor", "positive")]
        return ranking([short.encode(side).astype(np.float64) for side in sides])

    assert loss(trained) < loss(whole)


def test_bad_input(tmp_path: Path) -> None:
    whole = model()
    for widths, says in (
        ("17", r"17 is outside \[1, 16\]"),
        ("0", "0 is outside"),
        ("a", "widths"),
    ):
        with pytest.raises(ConfigError, match=says):
            Matryoshka2D(widths=widths)(whole, examples=PAIRS)
    with pytest.raises(ConfigError, match="labelled"):
        Matryoshka2D()(whole, examples=Examples({"text": ["a"], "label": ["b"]}))
    for layers in (0, 4):
        with pytest.raises(ConfigError, match=rf"layers={layers} is outside \[1, 3\]"):
            shortened(whole, layers=layers)
    with pytest.raises(ConfigError, match=r"dim=17 is outside \[1, 16\]"):
        shortened(whole, dim=17)
    with pytest.raises(ConfigError, match="neither"):
        shortened(whole)
    with pytest.raises(ConfigError, match="rotate without dim"):
        shortened(whole, layers=1, rotate=Corpus(["a"]))
    with pytest.raises(InputError, match="3 texts do not tell 4"):
        shortened(whole, dim=4, rotate=Corpus(["a", "b", "c"]))
    with pytest.raises(InputError, match="have no scores"):
        layer_grid(whole, PAIRS, [4])
    static = GIVEN["encoder"]
    with pytest.raises(InputError, match="no pretrained network"):
        Matryoshka2D(widths="4")(static, examples=PAIRS)


def test_a_static_model_has_no_layers(tmp_path: Path) -> None:
    from tokenspace.encode.sif import SIF

    SIF()(GIVEN["corpus"], table=GIVEN["table"]).save(tmp_path / "static")
    static = load_encoder(str(tmp_path / "static"))
    with pytest.raises(InputError, match="StaticEmbedding has no layers"):
        Matryoshka2D(widths="4")(static, examples=PAIRS)
