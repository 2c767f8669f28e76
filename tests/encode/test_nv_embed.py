"""NV-Embed: latent attention against loops in float64, its folding, its stages, its directory."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tokenspace.encode.nv_embed import NVEmbed
from tokenspace.encode.nv_embed_net import LatentAttention
from tokenspace.encode.trial import bag
from tokenspace.errors import ConfigError, InputError
from tokenspace.examples import Examples
from tokenspace.nn.attention import sees_ahead
from tokenspace.nn.encoder import load_encoder
from tokenspace.nn.fresh import fresh_encoder
from tokenspace.nn.layers import layer_list, network_of

GIVEN = bag(tiny=True)
TEXTS = [*list(GIVEN["corpus"])[:3], "", "one"]
QUICK = NVEmbed(r=4, steps=2, batch=8, lr=1e-3, threads=1)


def net(dim: int = 8, r: int = 3, heads: int = 2, head_dim: int | None = None) -> LatentAttention:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        made = LatentAttention(dim, r, heads, head_dim).double()
        for parameter in made.parameters():
            parameter.data.add_(0.3 * torch.randn_like(parameter))
    return made


def states(B: int = 3, T: int = 5, D: int = 8) -> torch.Tensor:
    return torch.randn(B, T, D, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def literal(made: LatentAttention, X: np.ndarray, m: np.ndarray) -> np.ndarray:
    """Return the page's equations, token by token and head by head."""
    W = {name: p.detach().numpy() for name, p in made.named_parameters()}

    def norm(x, which):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return x * W[f"norm_{which}.weight"] + W[f"norm_{which}.bias"]

    def gelu(x):
        return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))

    h, d, D = made.heads, made.head_dim, made.dim
    KV = norm(W["Z"], "z") @ W["Wkv.weight"].T
    K, V = KV[:, : h * d], KV[:, h * d :]
    out = np.zeros((len(X), D))
    for b in range(len(X)):
        U = []
        for x in X[b]:
            q = norm(x, "x") @ W["Wq.weight"].T
            heads = []
            for i in range(h):
                part = slice(i * d, (i + 1) * d)
                a = np.exp(K[:, part] @ q[part] / math.sqrt(d))
                heads.append((a / a.sum()) @ V[:, part])
            y = W["Wo.weight"] @ np.concatenate(heads) + x
            inner = W["ff_in.weight"] @ norm(y, "y") + W["ff_in.bias"]
            gate = inner[: 4 * D] * gelu(inner[4 * D :])
            U.append(W["ff_out.weight"] @ gate + W["ff_out.bias"] + y)
        out[b] = sum(mi * u for mi, u in zip(m[b], U, strict=True)) / max(1, m[b].sum())
    return out


def encoded(made: LatentAttention, X: torch.Tensor, mask: torch.Tensor, **more) -> torch.Tensor:
    given = {"token_embeddings": X, "attention_mask": mask, **more}
    return made(given)["sentence_embedding"]


MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 0, 1, 1, 1]])


@pytest.mark.parametrize(("r", "head_dim"), [(3, None), (3, 8), (40, None)])
def test_it_is_the_equations_however_it_is_computed(r: int, head_dim: int | None) -> None:
    made, X = net(r=r, head_dim=head_dim), states()
    expected = literal(made, X.numpy(), MASK.numpy())
    with torch.no_grad():
        made.train()
        np.testing.assert_allclose(encoded(made, X, MASK).numpy(), expected, rtol=1e-9)
        made.eval()
        for _ in range(2):  # the second time from what was prepared
            np.testing.assert_allclose(encoded(made, X, MASK).numpy(), expected, rtol=1e-9)
    folds = made._ready[0].ndim == 2
    d = made.head_dim
    assert folds == (made.heads * made.dim * r < made.dim * made.heads * d + made.heads * d * r)


def test_both_ways_are_tried_above() -> None:
    made = net(r=3, head_dim=8).eval()
    with torch.no_grad():
        encoded(made, states(), MASK)
    assert made._ready[0].shape == (8, 6)
    other = net(r=40).eval()
    with torch.no_grad():
        encoded(other, states(), MASK)
    assert other._ready[0].shape == (2, 40, 4)


def test_new_weights_forget_what_was_prepared() -> None:
    made, X = net().eval(), states()
    with torch.no_grad():
        before = encoded(made, X, MASK)
        made.load_state_dict({k: v * 1.5 for k, v in made.state_dict().items()})
        after = encoded(made, X, MASK)
        assert not torch.allclose(before, after)
        np.testing.assert_allclose(after, literal(made, X.numpy(), MASK.numpy()), rtol=1e-9)
        made.train()
        assert made._ready is None


def test_memory_is_bounded_by_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    from tokenspace.encode import nv_embed_net

    made, X = net().eval(), states()
    with torch.no_grad():
        whole = encoded(made, X, MASK)
        monkeypatch.setattr(nv_embed_net, "_HELD", 12)  # two tokens
        torch.testing.assert_close(encoded(made, X, MASK), whole)


def test_padding_and_prompt_do_not_count() -> None:
    made, X = net().eval(), states()
    with torch.no_grad():
        alone = encoded(made, X[2:, 2:], MASK[2:, 2:])
        torch.testing.assert_close(encoded(made, X, MASK)[2:], alone)
        without = encoded(made, X[2:, 3:], MASK[2:, 3:])
        torch.testing.assert_close(encoded(made, X, MASK, prompt_length=1)[2:], without)
        nothing = encoded(made, X, MASK, prompt_length=torch.tensor([9]))
        assert not nothing.any()


def test_padding_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    made, seen = net(), []
    whole = LatentAttention._whole
    monkeypatch.setattr(
        LatentAttention, "_whole", lambda self, X: seen.append(len(X)) or whole(self, X)
    )
    encoded(made, states(), MASK)
    encoded(made, states(), MASK, prompt_length=1)
    assert seen == [int(MASK.sum()), int(MASK.sum()) - len(MASK)]


def test_gradients() -> None:
    made = net()
    assert torch.autograd.gradcheck(lambda x: encoded(made, x, MASK), (states().requires_grad_(),))


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_the_directory_runs_without_this_package(tmp_path: Path, kind: str) -> None:
    from sentence_transformers import SentenceTransformer

    model = fresh_encoder(GIVEN["examples"].texts, kind=kind)
    trained = QUICK(model, examples=GIVEN["examples"])
    vectors = trained.encode(TEXTS)
    trained.save(tmp_path / "out")
    listing = json.loads((tmp_path / "out" / "modules.json").read_text())
    assert listing[1]["type"] == "nv_embed_net.LatentAttention"
    source = (tmp_path / "out" / "nv_embed_net.py").read_text()
    assert "tokenspace." not in source.replace("tokenspace\n(", "")
    again = load_encoder(str(tmp_path / "out"))  # runs our class, not the directory's
    np.testing.assert_array_equal(again.encode(TEXTS), vectors)
    (tmp_path / "out" / "nv_embed_net.py").write_text(source + "\nraise SystemExit\n")
    np.testing.assert_array_equal(load_encoder(str(tmp_path / "out")).encode(TEXTS), vectors)
    (tmp_path / "out" / "nv_embed_net.py").write_text(source)
    with pytest.raises(ValueError, match="trust_remote_code"):
        SentenceTransformer(str(tmp_path / "out"))
    shutil.copytree(tmp_path / "out", tmp_path / f"alone_{kind}")
    stock = SentenceTransformer(
        str(tmp_path / f"alone_{kind}"), trust_remote_code=True, device="cpu"
    )
    assert type(stock[1]).__module__.startswith("transformers_modules")
    np.testing.assert_allclose(stock.encode(TEXTS), vectors, atol=1e-6)


def test_a_decoder_sees_all_of_the_text() -> None:
    decoder = fresh_encoder(GIVEN["examples"].texts, kind="llama")
    trained = QUICK(decoder, examples=GIVEN["examples"])
    assert sees_ahead(network_of(trained.body.model))
    assert not sees_ahead(decoder.body.network)


def test_stages() -> None:
    model, pairs, tasks = (GIVEN[name] for name in ("model", "examples", "tasks"))
    recipe = replace(QUICK, steps=5)
    (first, few), (both, rest) = recipe._stages(model, pairs, tasks)
    assert (few, rest) == (2, 3)
    assert both[: len(first)] == first
    assert all(others for *_, others in first)
    assert not any(others for *_, others in both[len(first) :])
    assert all(len(negatives) == 1 for _, _, negatives, _ in both)
    assert len(recipe._stages(model, tasks, None)) == 1
    everywhere = replace(recipe, in_batch="on")._stages(model, pairs, tasks)[1][0]
    assert all(others for *_, others in everywhere)
    nowhere = replace(recipe, in_batch="off")._stages(model, pairs, tasks)[1][0]
    assert not any(others for *_, others in nowhere)


def test_frozen_layers_stay() -> None:
    model = GIVEN["model"]
    before = {k: v.clone() for k, v in model.body.network.state_dict().items()}
    trained = replace(QUICK, frozen=1)(model, examples=GIVEN["examples"])
    network = network_of(trained.body.model)
    stack = layer_list(network)
    after = network.state_dict()
    changed = {k for k, v in before.items() if k in after and not torch.equal(v, after[k])}
    assert changed
    assert all(k.startswith("encoder.layer.1.") for k in changed)
    assert len(stack) == 2


def test_bad_input() -> None:
    model, pairs = GIVEN["model"], GIVEN["examples"]
    with pytest.raises(ConfigError, match=r"frozen=3 is outside \[0, 2\]"):
        replace(QUICK, frozen=3)(model, examples=pairs)
    with pytest.raises(InputError, match="the loss would be 0"):
        replace(QUICK, in_batch="off", negatives=0)(model, examples=pairs)
    with pytest.raises(InputError, match="have the label"):
        QUICK(model, examples=Examples({"text": ["a", "b"], "label": ["x", "x"]}))
    with pytest.raises(ConfigError, match="two stages"):
        replace(QUICK, steps=1)(model, examples=pairs, tasks=GIVEN["tasks"])
    with pytest.raises(ValueError, match="heads do not divide"):
        LatentAttention(9, 4, 2)
