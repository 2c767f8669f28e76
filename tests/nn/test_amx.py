"""Linear layers as three products in bfloat16: near float32, and only where that is meant.

The kernels run here as the plain Python that they are written in, so every machine tests the same
arithmetic; where the processor has the registers, the compiled ones are compared with it.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tokenspace.nn import amx
from tokenspace.nn.encoder import load_encoder

PLAIN = {name: getattr(amx, name) for name in ("begin", "end", "_block")}


@pytest.fixture
def python(monkeypatch):
    """Run the kernels as Python; compiling one changes the names that it calls."""
    for name, function in PLAIN.items():
        monkeypatch.setattr(amx, name, function)
    for name in ("_split", "_multiply"):
        monkeypatch.setattr(amx, name, getattr(amx, name).python)


def halves(values):
    """Return the nearest bfloat16, and that of what is left, in float64."""
    high = torch.from_numpy(values).bfloat16().float()
    low = (torch.from_numpy(values) - high).bfloat16()
    return high.double().numpy(), low.double().numpy()


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def in_order(tiles):
    """Return rows again out of registers (blocks, steps, 16, 32)."""
    wide = (tiles.astype(np.uint32) << 16).view(np.float32)
    return wide.transpose(0, 2, 1, 3).reshape(len(tiles) * 16, -1)


def test_a_number_is_the_sum_of_its_halves(python):
    x = numbers(32, 64) * np.float32(10) ** numbers(32, 64, seed=1)
    high, low = (np.zeros((2, 2, 16, 32), np.uint16) for _ in range(2))
    amx._split(x, high, low)
    want = halves(x)
    np.testing.assert_array_equal(in_order(high), want[0])
    np.testing.assert_array_equal(in_order(low), want[1])
    rest = np.abs(in_order(high).astype(np.float64) + in_order(low) - x)
    assert (rest <= 2.0**-17 * np.abs(x)).all()


def test_the_layer_is_the_three_products_and_nothing_else(python):
    x, w, b = numbers(40, 64), numbers(96, 64, seed=1), numbers(96, seed=2)
    layer = nn.Linear(64, 96)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(w))
        layer.bias.copy_(torch.from_numpy(b))
    with torch.inference_mode(), amx.SplitLinear():
        found = layer(torch.from_numpy(x)).numpy()
    (xh, xl), (wh, wl) = halves(x), halves(w)
    np.testing.assert_allclose(found, xh @ wh.T + xl @ wh.T + xh @ wl.T + b, atol=1e-5)
    exact = x.astype(np.float64) @ w.T.astype(np.float64) + b
    assert np.abs(found - exact).max() < 1e-3
    assert np.abs(xh @ wh.T + b - exact).max() > 0.01  # what bfloat16 alone would give


@pytest.mark.parametrize("bias", [True, False])
def test_batches_of_any_shape_and_layers_without_a_bias(python, bias):
    layer, x = nn.Linear(32, 64, bias=bias), torch.from_numpy(numbers(3, 13, 32))
    with torch.inference_mode():
        want = layer(x)
        with amx.SplitLinear():
            found = layer(x)
    assert found.shape == want.shape
    np.testing.assert_allclose(found.numpy(), want.numpy(), atol=1e-4)


def test_changed_weights_are_split_again_and_a_shared_one_keeps_its_biases(python):
    first, second, x = nn.Linear(32, 32), nn.Linear(32, 32), torch.from_numpy(numbers(32, 32))
    second.weight = first.weight
    for _ in range(2):
        with torch.inference_mode(), amx.SplitLinear():
            found = [layer(x).numpy() for layer in (first, second, first)]
        for got, layer in zip(found, (first, second, first), strict=True):
            with torch.no_grad():
                np.testing.assert_allclose(got, layer(x).numpy(), atol=1e-4)
        with torch.no_grad():
            first.weight.mul_(-2)


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (nn.Linear(31, 32), torch.ones(64, 31)),
        (nn.Linear(32, 33), torch.ones(64, 32)),
        (nn.Linear(32, 32), torch.ones(31, 32)),
        (nn.Linear(32, 32, dtype=torch.float64), torch.ones(64, 32, dtype=torch.float64)),
        (nn.Linear(32, 32, dtype=torch.bfloat16), torch.ones(64, 32, dtype=torch.bfloat16)),
    ],
)
def test_other_layers_are_computed_as_ever(monkeypatch, layer, x):
    monkeypatch.setattr(amx, "_product", None)  # a call would raise
    with torch.inference_mode():
        want = layer(x)
        with amx.SplitLinear():
            assert torch.equal(layer(x), want)


def test_what_gradients_flow_through_is_computed_as_ever(monkeypatch):
    monkeypatch.setattr(amx, "_product", None)
    layer = nn.Linear(32, 32)
    with amx.SplitLinear():
        layer(torch.ones(64, 32)).sum().backward()
    assert layer.weight.grad is not None


def test_the_split_weights_go_with_the_layer(python):
    layer = nn.Linear(32, 32)
    with torch.inference_mode(), amx.SplitLinear():
        layer(torch.ones(32, 32))
    count = len(amx._kept)
    assert count
    del layer
    assert len(amx._kept) == count - 1


def test_compiled_it_is_the_same_layer():
    layer, x = nn.Linear(96, 64), torch.from_numpy(numbers(100, 96))
    with torch.inference_mode():
        want = layer(x)
        if amx.available():
            with amx.SplitLinear():
                found = layer(x)
            assert not torch.equal(found, want)
            np.testing.assert_allclose(found.numpy(), want.numpy(), atol=1e-4)
            threads = torch.get_num_threads()
            torch.set_num_threads(2)
            try:
                with amx.SplitLinear():
                    assert torch.equal(layer(x), found)
            finally:
                torch.set_num_threads(threads)
    assert amx.worthwhile(10, 1 << 20) == amx.available()


def test_few_tokens_and_great_networks_are_not_worth_it(monkeypatch):
    monkeypatch.setattr(amx, "available", lambda: True)
    assert amx.worthwhile(1000, 1 << 14)
    assert not amx.worthwhile(1000, (1 << 14) - 1)
    assert not amx.worthwhile(0, 1 << 20)
    assert not amx.worthwhile((1 << 28) + 1, 1 << 20)


def test_an_encoder_uses_it_for_many_tokens(bert, python, monkeypatch):
    monkeypatch.setattr(amx, "_LEAST", 1)
    monkeypatch.setattr(amx, "available", lambda: True)
    calls = []
    linear = amx.SplitLinear._linear
    monkeypatch.setattr(
        amx.SplitLinear, "_linear", lambda self, *a, **k: calls.append(1) or linear(self, *a, **k)
    )
    encoder, texts = load_encoder(str(bert), device="cpu"), ["the sea is blue"] * 3
    found = encoder.encode(texts)
    assert calls
    halved = encoder.in_bfloat16()
    calls.clear()
    halved.encode(texts)
    assert not calls
    monkeypatch.setattr(amx, "_LEAST", 10**9)
    np.testing.assert_allclose(found, encoder.encode(texts), atol=1e-5)
    assert not calls


def test_all_texts_count_and_not_those_of_a_slice(bert, monkeypatch):
    encoder, asked = load_encoder(str(bert), device="cpu"), []
    monkeypatch.setattr("tokenspace.nn.encoder._SLICE", 2)
    monkeypatch.setattr(amx, "worthwhile", lambda weights, tokens: asked.append(tokens) or False)
    texts = ["the sea is blue"] * 5
    encoder.encode(texts)
    length = len(encoder.body.tokenizer.encode(texts[0]))
    assert asked == [5 * length] * 3  # of slices of 2, 2 and 1
