"""The difference of two models' weights: every figure by its definition, and what can go wrong."""

from __future__ import annotations

import json
import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from tokenspace.checkpoint import weights
from tokenspace.cli import root
from tokenspace.encode import diff
from tokenspace.encode.diff import difference, layer_of, role_of
from tokenspace.encode.trial import bag
from tokenspace.encode.tvec import TVEC
from tokenspace.errors import FormatError, InputError

RNG = np.random.default_rng(0)


def folder(path: Path, tensors: dict[str, np.ndarray], name: str = "model.safetensors") -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text("{}")
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, path / name)
    return path


def drawn(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def literal(W: np.ndarray, V: np.ndarray) -> dict[str, float]:
    """Return the module's figures of one tensor, entry by entry."""
    W, V = W.astype(np.float64), V.astype(np.float64)
    D = V - W
    rank = math.nan
    if W.ndim == 2 and D.any():
        s = np.linalg.svd(D, compute_uv=False)
        p = [x / s.sum() for x in s if x > 1e-12 * s[0]]
        rank = math.exp(-sum(x * math.log(x) for x in p))
    pairs = list(zip(W.ravel(), V.ravel(), strict=True))
    return {
        "relative": math.sqrt(sum((v - w) ** 2 for w, v in pairs) / sum(w * w for w, _ in pairs)),
        "largest": max(abs(v - w) for w, v in pairs),
        "cosine": float((W * V).sum() / math.sqrt((W * W).sum() * (V * V).sum())),
        "rank": rank,
        "flipped": sum(np.sign(w) * np.sign(v) == -1 for w, v in pairs) / len(pairs),
        "unchanged": sum(v == w for w, v in pairs) / len(pairs),
    }


def changed(W: np.ndarray) -> np.ndarray:
    """Return the tensor with noise on half of its entries."""
    mask = RNG.random(W.shape) < 0.5
    return W + mask * drawn(*W.shape)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path, dict[str, np.ndarray], dict[str, np.ndarray]]:
    base = {
        "embeddings.word_embeddings.weight": drawn(30, 8),
        "encoder.layer.0.attention.self.query.weight": drawn(8, 8),
        "encoder.layer.0.output.dense.weight": drawn(8, 20),
        "encoder.layer.0.output.LayerNorm.weight": drawn(8),
        "encoder.layer.1.attention.self.query.weight": drawn(8, 8),
        "encoder.layer.1.attention.self.query.bias": drawn(8),
    }
    tuned = {name: changed(W) for name, W in base.items()}
    tuned["encoder.layer.1.attention.self.query.bias"] = base[
        "encoder.layer.1.attention.self.query.bias"
    ]
    return folder(tmp_path / "base", base), folder(tmp_path / "tuned", tuned), base, tuned


@pytest.mark.parametrize("block", [1, 20, 1 << 22])
def test_every_figure_is_its_definition(pair, monkeypatch, block: int) -> None:
    monkeypatch.setattr(diff, "_BLOCK", block)
    first, second, base, tuned = pair
    found = difference(first, second)
    assert {t.name for t in found.tensors} == set(base)
    for tensor in found.tensors:
        expected = literal(base[tensor.name], tuned[tensor.name])
        assert tensor.change.figures == pytest.approx(expected, rel=1e-6, nan_ok=True)
    assert found.changed == 5
    assert not (found.missing or found.unexpected or found.reshaped or found.tied)


def test_groups_are_all_their_weights_together(pair) -> None:
    first, second, base, tuned = pair
    found = difference(first, second)
    assert list(found.by_layer()) == ["emb", "0", "1"]
    assert list(found.by_role()) == ["norm", "emb", "q", "mlp"]
    queries = [name for name in base if "query" in name]

    def flat(tensors) -> np.ndarray:
        return np.concatenate([tensors[name].ravel() for name in queries])

    figures = found.by_role()["q"].figures
    expected = literal(flat(base), flat(tuned))
    ranks = [literal(base[n], tuned[n])["rank"] for n in queries if n.endswith("weight")]
    expected["rank"] = float(np.mean(ranks))
    assert figures == pytest.approx(expected, rel=1e-6)
    assert found.whole.size == sum(W.size for W in base.values())


def test_the_rank_of_known_changes(tmp_path: Path) -> None:
    W = drawn(12, 6)
    equal = np.zeros((12, 6), np.float32)
    equal[:6, :6] = np.eye(6)
    changes = {"one": np.outer(drawn(12), drawn(6)), "all": equal, "none": np.zeros((12, 6))}
    base = folder(tmp_path / "a", dict.fromkeys(changes, W))
    tuned = folder(tmp_path / "b", {n: (W + D).astype(np.float32) for n, D in changes.items()})
    ranks = {t.name: t.change.figures["rank"] for t in difference(base, tuned).tensors}
    assert ranks["one"] == pytest.approx(1, abs=1e-3)
    assert ranks["all"] == pytest.approx(6, rel=1e-5)
    assert math.isnan(ranks["none"])


@pytest.mark.parametrize("shape", [(90, 120), (120, 90)])
def test_a_large_matrix_is_looked_at_by_its_first_singular_values(
    tmp_path: Path, monkeypatch, shape: tuple[int, int]
) -> None:
    W, D = drawn(*shape), drawn(shape[0], 5) @ drawn(5, shape[1])
    base, tuned = folder(tmp_path / "a", {"w": W}), folder(tmp_path / "b", {"w": W + D})
    exact = difference(base, tuned).whole.figures
    monkeypatch.setattr(diff, "EXACT", 40)
    assert difference(base, tuned).whole.figures == pytest.approx(exact, rel=1e-2)
    noise = folder(tmp_path / "c", {"w": W + drawn(*shape)})
    s = np.linalg.svd(_delta(base, noise), compute_uv=False)[:64]
    p = s / s.sum()
    expected = math.exp(-float(np.sum(p * np.log(p))))
    assert difference(base, noise).whole.figures["rank"] == pytest.approx(expected, rel=0.02)


def _delta(base: Path, tuned: Path) -> np.ndarray:
    from safetensors.numpy import load_file

    first, second = (load_file(f / "model.safetensors")["w"] for f in (base, tuned))
    return second.astype(np.float64) - first


def test_new_rows_are_apart(tmp_path: Path) -> None:
    W = drawn(10, 4)
    V = np.concatenate([changed(W), drawn(3, 4)])
    base, tuned = folder(tmp_path / "a", {"embed": W}), folder(tmp_path / "b", {"embed": V})
    (tensor,) = difference(base, tuned).tensors
    assert tensor.added == 3
    assert tensor.change.figures == pytest.approx(literal(W, V[:10]), rel=1e-6)
    lengths = np.linalg.norm(V, axis=1)
    assert tensor.added_norm == pytest.approx(lengths[10:].mean() / lengths[:10].mean(), rel=1e-5)
    (back,) = difference(tuned, base).tensors
    assert back.added == -3
    assert math.isnan(back.added_norm)


def test_names_that_one_side_lacks_and_other_shapes(tmp_path: Path) -> None:
    W = drawn(4, 4)
    base = folder(tmp_path / "a", {"x": W, "gone": W, "y": drawn(4, 4), "z": drawn(4)})
    tuned = folder(tmp_path / "b", {"x": W, "new": W, "y": drawn(4, 5), "z": drawn(5)})
    found = difference(base, tuned)
    assert (found.missing, found.unexpected, found.reshaped) == (("gone",), ("new",), ("y", "z"))
    assert found.changed == 0
    assert found.whole.figures == pytest.approx(
        {"relative": 0, "largest": 0, "cosine": 1, "rank": math.nan, "flipped": 0, "unchanged": 1},
        nan_ok=True,
    )


def test_a_prefix_and_the_former_names_of_norms_are_no_difference(tmp_path: Path) -> None:
    W, g = drawn(4, 4), drawn(4)
    base = folder(
        tmp_path / "a",
        {"bert.layer.0.w": W, "bert.layer.0.LayerNorm.gamma": g, "cls.bias": g},
    )
    tuned = folder(tmp_path / "b", {"layer.0.w": W, "layer.0.LayerNorm.weight": g})
    for one, other in ((base, tuned), (tuned, base)):
        found = difference(one, other)
        assert {t.name for t in found.tensors} == {"layer.0.w", "layer.0.LayerNorm.weight"}
    assert difference(base, tuned).missing == ("cls.bias",)


def test_half_precision_is_widened_and_tied_tensors_count_once(tmp_path: Path) -> None:
    W = torch.from_numpy(drawn(6, 4))
    places = [tmp_path / "a", tmp_path / "b"]
    for place, dtype in zip(places, (torch.float32, torch.bfloat16), strict=True):
        folder(place, {})
        tensors = {n: W.to(dtype).clone() for n in ("embed_tokens.weight", "lm_head.weight")}
        save_torch({**tensors, "ids": torch.arange(3)}, place / "model.safetensors")
    found = difference(*places)
    assert found.tied == ("lm_head.weight",)
    (tensor,) = found.tensors
    assert tensor.dtype == "F32 -> BF16"
    expected = literal(W.numpy(), W.to(torch.bfloat16).float().numpy())
    assert tensor.change.figures == pytest.approx(expected, rel=1e-5)


def test_weights_of_zero_have_no_relative_change(tmp_path: Path) -> None:
    base = folder(tmp_path / "a", {"b": np.zeros(3, np.float32)})
    tuned = folder(tmp_path / "b", {"b": np.ones(3, np.float32)})
    figures = difference(base, tuned).whole.figures
    assert math.isnan(figures["relative"])
    assert math.isnan(figures["cosine"])
    assert figures["largest"] == 1.0


def test_shards_and_modules_after_the_first(tmp_path: Path) -> None:
    for name, tensors in (("a", [drawn(3, 3)] * 3), ("b", [drawn(3, 3)] * 3)):
        place = folder(tmp_path / name, {"layers.0.w": tensors[0]}, "model-1.safetensors")
        folder(place, {"layers.1.w": tensors[1]}, "model-2.safetensors")
        index = {"layers.0.w": "model-1.safetensors", "layers.1.w": "model-2.safetensors"}
        (place / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
        folder(place / "2_Dense", {"linear.weight": tensors[2]})
        listing = [{"path": path} for path in ("", "1_Pooling", "2_Dense")]
        (place / "modules.json").write_text(json.dumps(listing))
    found = difference(tmp_path / "a", tmp_path / "b")
    assert [(t.name, t.layer) for t in found.tensors] == [
        ("layers.0.w", 0),
        ("layers.1.w", 1),
        ("2_Dense.linear.weight", None),
    ]


def test_roles_and_layers_of_real_names() -> None:
    for name, role, layer in (
        ("embeddings.position_embeddings.weight", "emb", None),
        ("embeddings.LayerNorm.weight", "norm", None),
        ("encoder.layer.11.attention.self.value.bias", "v", 11),
        ("encoder.layer.3.attention.output.dense.weight", "o", 3),
        ("encoder.layer.3.attention.output.LayerNorm.bias", "norm", 3),
        ("encoder.layer.3.intermediate.dense.weight", "mlp", 3),
        ("pooler.dense.weight", "head", None),
        ("model.layers.27.self_attn.k_proj.weight", "k", 27),
        ("model.layers.27.self_attn.q_norm.weight", "norm", 27),
        ("model.layers.27.self_attn.o_proj.weight", "o", 27),
        ("model.layers.27.mlp.down_proj.weight", "mlp", 27),
        ("model.embed_tokens.weight", "emb", None),
        ("lm_head.weight", "head", None),
        ("h.4.attn.c_attn.weight", "qkv", 4),
        ("h.4.attn.c_proj.weight", "o", 4),
        ("h.4.mlp.c_proj.weight", "mlp", 4),
        ("h.4.ln_1.weight", "norm", 4),
        ("wte.weight", "emb", None),
        ("transformer.layer.2.attention.q_lin.weight", "q", 2),
        ("transformer.layer.2.attention.out_lin.weight", "o", 2),
        ("transformer.layer.2.ffn.lin1.weight", "mlp", 2),
        ("encoder.block.5.layer.0.SelfAttention.q.weight", "q", 5),
        ("encoder.block.5.layer.0.SelfAttention.o.weight", "o", 5),
        ("encoder.block.5.layer.1.DenseReluDense.wi_0.weight", "mlp", 5),
        ("shared.weight", "emb", None),
        ("2_Dense.linear.weight", "other", None),
    ):
        assert (role_of(name), layer_of(name)) == (role, layer), name


def test_a_model_that_was_adapted(tmp_path: Path) -> None:
    given = bag(tiny=True)
    given["model"].save(tmp_path / "base")
    tuned = TVEC(steps=2, batch=8, lr=1e-3)(given["model"], examples=given["examples"])
    tuned.save(tmp_path / "tuned")
    ran = CliRunner().invoke(
        root, ["encode", "diff", str(tmp_path / "base"), str(tmp_path / "tuned"), "--json"]
    )
    assert ran.exit_code == 0, ran.output
    told = json.loads(ran.output)
    assert list(told["layers"]) == ["emb", "head", "norm", "0", "1"]
    assert {"q", "k", "v", "o", "mlp", "norm", "emb"} <= set(told["roles"])
    assert told["layers"]["1"]["relative"] > 0
    assert told["layers"]["head"]["rank"] is None
    assert not told["missing"]
    assert not told["unexpected"]


def test_the_command_prints_and_draws(pair, tmp_path: Path) -> None:
    first, second, *_ = pair
    svg = tmp_path / "change.svg"
    arguments = ["encode", "diff", str(first), str(second), "--svg", str(svg)]
    ran = CliRunner().invoke(root, arguments)
    assert ran.exit_code == 0, ran.output
    assert "5 of 6 tensors changed" in ran.output
    assert "mlp" in ran.output
    assert svg.read_text().startswith("<svg")
    again = CliRunner().invoke(root, arguments)
    assert again.exit_code != 0
    assert CliRunner().invoke(root, [*arguments, "--force"]).exit_code == 0


def test_two_tensors_are_held_at_most(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(diff, "_BLOCK", 1 << 12)
    monkeypatch.setattr(weights, "_BLOCK", 1 << 14)
    for name in ("a", "b"):
        folder(tmp_path / name, {f"layers.{i}.w": drawn(4096, 64).astype("f2") for i in range(8)})
    one = 4096 * 64 * 4  # bytes of a tensor that is widened
    difference(tmp_path / "a", tmp_path / "b")  # what is imported on the way is no part of it
    tracemalloc.start()
    difference(tmp_path / "a", tmp_path / "b")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert one < peak < 2.5 * one


def test_bad_input(tmp_path: Path) -> None:
    base = folder(tmp_path / "a", {"x": drawn(3, 3)})
    with pytest.raises(InputError, match="no tensor in common"):
        difference(base, folder(tmp_path / "b", {"y": drawn(3, 3)}))
    with pytest.raises(InputError, match="no tensor has the same shape"):
        difference(base, folder(tmp_path / "g", {"x": drawn(3, 4)}))
    broken = drawn(3, 3)
    broken[1, 1] = np.nan
    with pytest.raises(FormatError, match="x: a weight is not finite"):
        difference(base, folder(tmp_path / "c", {"x": broken}))
    with pytest.raises(InputError):
        difference(base, tmp_path / "nothing" / "there")
    folder(tmp_path / "d", {})
    (tmp_path / "d" / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{broken")
    with pytest.raises(FormatError, match="not a whole safetensors"):
        difference(base, tmp_path / "d")
    folder(tmp_path / "e", {}, "adapter_x.safetensors")
    (tmp_path / "e" / "adapter_x.safetensors").unlink()
    (tmp_path / "e" / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises((FormatError, InputError), match="pickle"):
        difference(base, tmp_path / "e")
    with pytest.raises(FormatError, match=r"modules\.json: not whole"):
        place = folder(tmp_path / "f", {"x": drawn(3, 3)})
        (place / "modules.json").write_text("[{}]")
        difference(base, place)
