"""Multi-layer trainable pooling: the equations in float64, the designs, the directory."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tokenspace.encode.mltp import MLTP
from tokenspace.encode.mltp_net import LayerPooling
from tokenspace.encode.trial import bag
from tokenspace.errors import ConfigError, InputError
from tokenspace.examples import Examples
from tokenspace.nn.attention import sees_ahead
from tokenspace.nn.encoder import load_encoder
from tokenspace.nn.fresh import fresh_encoder
from tokenspace.nn.layers import network_of

GIVEN = bag(tiny=True)
TEXTS = [*list(GIVEN["corpus"])[:3], "", "one"]
QUICK = MLTP(r=4, steps=2, batch=8, lr=1e-3, threads=1)
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 0, 1, 1, 1]])


def net(over: str = "layers", summary: str = "mean") -> LayerPooling:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        made = LayerPooling(8, 3, r=4, heads=2, head_dim=3, over=over, summary=summary).double()
        for parameter in made.parameters():
            parameter.data.add_(0.3 * torch.randn_like(parameter))
    return made


def layers(count: int = 4) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(2)
    return [torch.randn(3, 5, 8, generator=draw, dtype=torch.float64) for _ in range(count)]


def encoded(made: LayerPooling, every: list[torch.Tensor], mask: torch.Tensor, **more):
    given = {"token_embeddings": every[-1], "all_layer_embeddings": every, "attention_mask": mask}
    return made({**given, **more})["sentence_embedding"]


def literal(made: LayerPooling, every: list[np.ndarray], m: np.ndarray) -> np.ndarray:
    """Return the page's equations, text by text and head by head."""
    W = {name: p.detach().numpy() for name, p in made.named_parameters()}

    def norm(x, which):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return x * W[f"norm_{which}.weight"] + W[f"norm_{which}.bias"]

    def gelu(x):
        return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))

    h, d = made.heads, made.head_dim
    out = []
    for b in range(len(m)):
        own = np.flatnonzero(m[b])
        if made.over == "layers":
            rows = [
                H[b, own[-1]] if made.summary == "last" else H[b, own].mean(0) for H in every[1:]
            ]
            S = np.stack(rows) + W["P"]
        else:
            S = every[-1][b, own[-1:] if made.summary == "last" else own]
        Q = norm(W["Z"], "z") @ W["Wq.weight"].T
        KV = norm(S, "s") @ W["Wkv.weight"].T
        K, V = KV[:, : h * d], KV[:, h * d :]
        U = np.zeros((made.r, h * d))
        for i in range(h):
            part = slice(i * d, (i + 1) * d)
            for j in range(made.r):
                a = np.exp(K[:, part] @ Q[j, part] / math.sqrt(d))
                U[j, part] = (a / a.sum()) @ V[:, part]
        U = U @ W["Wo.weight"].T + W["Z"]
        inner = norm(U, "u") @ W["ff_in.weight"].T + W["ff_in.bias"]
        U = (inner[:, :32] * gelu(inner[:, 32:])) @ W["ff_out.weight"].T + W["ff_out.bias"] + U
        out.append(U.mean(0))
    return np.stack(out)


@pytest.mark.parametrize("over", ["layers", "tokens"])
@pytest.mark.parametrize("summary", ["mean", "last"])
def test_it_is_the_equations(over: str, summary: str) -> None:
    made, every = net(over, summary), layers()
    expected = literal(made, [H.numpy() for H in every], MASK.numpy())
    with torch.no_grad():
        np.testing.assert_allclose(encoded(made, every, MASK).numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize("over", ["layers", "tokens"])
@pytest.mark.parametrize("summary", ["mean", "last"])
def test_padding_and_prompt_do_not_count(over: str, summary: str) -> None:
    made, every = net(over, summary), layers()
    with torch.no_grad():
        whole = encoded(made, every, MASK)
        cut = [H[2:, 2:] for H in every]
        torch.testing.assert_close(whole[2:], encoded(made, cut, MASK[2:, 2:]))
        after = [H[2:, 3:] for H in every]
        torch.testing.assert_close(
            encoded(made, every, MASK, prompt_length=1)[2:], encoded(made, after, MASK[2:, 3:])
        )
        assert not encoded(made, every, MASK, prompt_length=9).any()


def test_over_one_key_attention_is_a_linear_map() -> None:
    made, every = net("tokens", "last"), layers()
    with torch.no_grad():
        S = every[-1][:, -1:]
        V = made.Wkv(made.norm_s(S)).chunk(2, dim=-1)[1]
        expected = made.Wo(V).expand(-1, made.r, -1)
        found = made._attention(S, torch.ones(3, 1, dtype=torch.bool))
    torch.testing.assert_close(found, expected)


def test_gradients() -> None:
    made, every = net(), layers()
    first = every[1].requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: encoded(made, [every[0], x, *every[2:]], MASK), (first,)
    )


@pytest.mark.parametrize("pooling", ["mltp", "tokens", "mean", "eos"])
@pytest.mark.parametrize("attention", ["bidirectional", "causal"])
def test_every_design_trains_and_opens_again(tmp_path: Path, pooling: str, attention: str) -> None:
    from sentence_transformers import SentenceTransformer

    decoder = fresh_encoder(GIVEN["examples"].texts, kind="llama")
    recipe = replace(QUICK, pooling=pooling, attention=attention)
    trained = recipe(decoder, examples=GIVEN["examples"])
    assert sees_ahead(network_of(trained.body.model)) == (attention == "bidirectional")
    vectors = trained.encode(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(vectors[0]), 1, atol=1e-5)
    trained.save(tmp_path / "out")
    again = load_encoder(str(tmp_path / "out"))
    np.testing.assert_allclose(again.encode(TEXTS), vectors, atol=1e-6)
    stock = SentenceTransformer(
        str(tmp_path / "out"), device="cpu", trust_remote_code=pooling in ("mltp", "tokens")
    )
    np.testing.assert_allclose(stock.encode(TEXTS), vectors, atol=1e-5)


def test_bad_input() -> None:
    model, pairs = GIVEN["model"], GIVEN["examples"]
    with pytest.raises(ConfigError, match="encoder"):
        replace(QUICK, attention="causal")(model, examples=pairs)
    with pytest.raises(ConfigError, match=r"frozen=3"):
        replace(QUICK, frozen=3)(model, examples=pairs)
    with pytest.raises(ConfigError, match="labelled"):
        QUICK(model, examples=Examples({"text": ["a"], "label": ["b"]}))
    with pytest.raises(InputError, match="no pretrained network"):
        QUICK(GIVEN["encoder"], examples=pairs)
    with pytest.raises(ValueError, match="2 layers, and the pooling is of 3"):
        encoded(net(), layers(3), MASK)
    with pytest.raises(ValueError, match="over="):
        LayerPooling(8, 3, over="words")
